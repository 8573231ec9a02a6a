"""The labelers of ``parts`` and ``garments``: which parser, trained on what, and its reports."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reid_core import evenly, write_json
from reid_core.contract.fields import SHARED_FIELDS, FieldSpec
from reid_core.data.decoding import read_field
from reid_core.data.geometry import Geometry, transform_labels
from reid_core.images import read_image
from reid_core.machine.devices import autocast_of, memory_format_of
from reid_parsing.fields import SILHOUETTE
from reid_parsing.inference import BodyParser, LabelMaps
from reid_parsing.joints import correct_joints
from reid_parsing.metrics import Confusion, PlaceFrequency
from reid_parsing.pictures import overlay_sheet

if TYPE_CHECKING:
    from reid_core import StageResult
    from reid_core.contract.context import RunContext
    from reid_core.contract.samples import Sample
    from reid_parsing.sources import Labelled

_SHEET = 12
"""Images of a contact sheet."""

_PRIOR_ROWS = 2000
"""Label maps from which the frequency of classes is estimated."""


def label_maps(
    ctx: RunContext, parser: BodyParser, samples: Sequence[Sample], field: str, mirror: bool
) -> LabelMaps:
    """Return the label maps of samples, made on the run's device while they are gone through."""
    engine = ctx.config.engine
    network = parser.network.to(ctx.device)
    network.to(memory_format=memory_format_of(engine))  # type: ignore[call-overload]
    return LabelMaps(
        parser,
        samples,
        field,
        ctx.device,
        mirror=mirror,
        threads=ctx.config.data.threads,
        memory_format=memory_format_of(engine),
        autocast=autocast_of(engine, ctx.device),
    )


def measure(
    ctx: RunContext,
    parser: BodyParser,
    samples: Sequence[Sample],
    spec: FieldSpec,
    mirror: bool = True,
) -> Confusion:
    """Compare a parser's labels with the truth that samples carry.

    Args:
        ctx: the run.
        parser: whose labels.
        samples: with the field.
        spec: the field.
        mirror: see `parse`.
    """
    maps = label_maps(ctx, parser, samples, spec.name, mirror)
    return compared(maps, (read_field(s.fields[spec.name], spec) for s in samples), spec)


def compared(
    maps: Iterable[NDArray[np.uint8]], truth: Iterable[NDArray[np.uint8]], spec: FieldSpec
) -> Confusion:
    """Compare label maps with true ones, each at the true one's size.

    Args:
        maps: uint8 ``h w`` each.
        truth: as many.
        spec: the field.
    """
    confusion = Confusion(spec.classes)
    for found, true in zip(maps, truth, strict=True):
        confusion.add(true, transform_labels(found, Geometry.plain(true.shape)))
    return confusion


def true_silhouettes(samples: Iterable[Sample]) -> Iterator[NDArray[np.uint8]]:
    """Yield where people are in pictures with the field ``silhouette`` or ``parts``: 1, else 0."""
    for sample in samples:
        name = SILHOUETTE if SILHOUETTE in sample.fields else "parts"
        yield (read_field(sample.fields[name], SHARED_FIELDS[name]) > 0).astype(np.uint8)


def measure_joints(
    joints: Iterable[NDArray[np.float32]], samples: Sequence[Sample]
) -> dict[str, float]:
    """Return the shares of true joints near which they are found.

    Args:
        joints: float32 ``17 3`` of each sample.
        samples: with the field ``keypoints``.

    Returns:
        ``PCK@0.1``: within a tenth of the longer side of the box around the true joints;
        ``PCK@0.2 torso``: within a fifth of the way from shoulders to hips, of pictures whose
        shoulders and hips have a place. In 0..1; hidden joints count, too. What no picture can
        be measured by is left out, see `joints_told`.
    """
    spec = SHARED_FIELDS["keypoints"]
    figure, torso = [], []
    for found, sample in zip(joints, samples, strict=True):
        truth = read_field(sample.fields[spec.name], spec)
        figure.append(correct_joints(found, truth))
        torso.append(correct_joints(found, truth, 0.2, "torso"))
    pairs = (("PCK@0.1", figure), ("PCK@0.2 torso", torso))
    return {n: float(np.concatenate(near).mean()) for n, near in pairs if any(map(len, near))}


def joints_told(near: Mapping[str, float]) -> str:
    """Return in a line what `measure_joints` found, in %, and why something is left out."""
    lacking = {
        "PCK@0.1": "no joint has a place",
        "PCK@0.2 torso": "no picture has a place for both shoulders and both hips",
    }
    return ", ".join(
        f"{name} {100 * near[name]:.1f}" if name in near else f"no {name} ({reason})"
        for name, reason in lacking.items()
    )


def frequency_guess(labelled: Labelled, size: tuple[int, int]) -> Confusion:
    """Measure the guess that every pixel has the class most frequent at its place.

    Args:
        labelled: the frequencies are those of its training images.
        size: height and width of the grid of places.
    """
    spec = labelled.spec
    prior = PlaceFrequency(len(spec.classes), size)
    samples = labelled.train.samples
    step = max(1, len(samples) // _PRIOR_ROWS)
    for sample in samples[::step]:
        prior.add(
            transform_labels(read_field(sample.fields[spec.name], spec), Geometry.plain(size))
        )
    confusion, guess = Confusion(spec.classes), prior.guess
    for sample in labelled.held_out:
        truth = read_field(sample.fields[spec.name], spec)
        confusion.add(truth, transform_labels(guess, Geometry.plain(truth.shape)))
    return confusion


def report_training(
    ctx: RunContext, stage: StageResult, parser: BodyParser, labelled: Labelled, mirror: bool
) -> dict[str, Any] | None:
    """Measure a freshly trained parser on what was held out, once, and say so.

    Returns:
        The scores, kept as ``held_out.json`` in the stage's folder; None where nothing was held
        out.
    """
    if not labelled.held_out:
        return None
    path = stage.folder / "held_out.json"
    if path.is_file():
        scores: dict[str, Any] = json.loads(path.read_text("utf-8"))
    else:
        found = measure(ctx, parser, labelled.held_out, labelled.spec, mirror)
        guess = frequency_guess(labelled, parser.size)
        scores = {
            "data": labelled.name,
            "field": labelled.spec.name,
            "images": len(labelled.held_out),
            **found.to_json(),
            "frequency_guess": guess.to_json(),
        }
        write_json(path, scores)
    ctx.say(f"[{stage.name}] {summary(scores)}")
    return scores


def summary(scores: dict[str, Any]) -> str:
    """Return scores in one line."""
    guess = scores["frequency_guess"]
    return (
        f"on {scores['images']} held-out images of {scores['data']}: pixel accuracy "
        f"{100 * scores['pixel_accuracy']:.1f} %, mIoU {100 * scores['mean_iou']:.1f} (the most "
        f"frequent class of each place: {100 * guess['pixel_accuracy']:.1f} %, "
        f"{100 * guess['mean_iou']:.1f})"
    )


def draw_sheet(
    ctx: RunContext, parser: BodyParser, samples: Sequence[Sample], spec: FieldSpec, mirror: bool
) -> None:
    """Draw some images with their labels into the run's folder, where it has one."""
    if ctx.folder is None or not samples:
        return
    chosen = evenly(samples, _SHEET)
    maps = list(label_maps(ctx, parser, chosen, spec.name, mirror))
    images = [read_image(sample.path) for sample in chosen]
    overlay_sheet(images, maps, spec.classes, ctx.folder / "parsing" / f"{spec.name}.png")

"""Write the labels of many images as files that people look at, correct and bring back."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from reid_core import checked_folder, evenly, frames_of
from reid_core.contract.fields import FieldSpec
from reid_core.contract.samples import Sample, Source
from reid_core.data.decoding import read_field
from reid_core.data.encoding import array_bytes, label_bytes, write_whole
from reid_core.data.sidecars import files_below, names_of
from reid_core.errors import ConfigError, DataError
from reid_core.images import read_image
from reid_core.runs.assembly.labelling import make_field
from reid_parsing.fields import JOINTS, SILHOUETTE
from reid_parsing.labelling import compared, joints_told, label_maps, measure_joints
from reid_parsing.pictures import overlay_sheet

if TYPE_CHECKING:
    from reid_core.contract.context import RunContext
    from reid_parsing.plugin import Parsing

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
"""Suffixes of what counts as a picture."""

_SHOWN = 3
_SHEET = 24


def export_labels(
    ctx: RunContext,
    plugin: Parsing,
    field: str,
    samples: Sequence[Sample],
    specs: Mapping[str, FieldSpec],
    out: Path,
) -> Iterator[str]:
    """Label images and write ``OUT/NAME.png`` for each, and a contact sheet ``OUT.png``.

    Joints become ``OUT/NAME.npy``, without a sheet.

    ``NAME`` is the image's path below the folder of all images of the data set, so that names may
    repeat from one folder to another.

    Args:
        ctx: the surroundings of a run.
        plugin: whose parser labels.
        field: ``parts``, ``garments``, ``keypoints`` or ``silhouette``.
        samples: the images; of tracklets all frames are labelled.
        specs: fields that they carry; the truth, where it is among them, measures the labels.
        out: a folder that is not there, or empty.

    Yields:
        Lines for the user.

    Raises:
        ConfigError: the folder holds something or cannot be written to, or the parser makes other
            fields.
        DataError: there are no images, or two have one name.
    """
    checked_folder(out)
    if not samples:
        raise DataError(f"'{ctx.dataset.name}' has no such images to label")
    samples, known = frames_of(samples, specs), names_of(ctx.dataset)
    names = {sample.path: "/".join(known[sample.path]) for sample in samples}
    twice = [name for name, count in Counter(names.values()).items() if count > 1]
    if twice:
        raise DataError(
            f"{len(twice)} names belong to several images that differ in their suffix alone, so "
            f"one folder cannot hold their labels, first {', '.join(twice[:_SHOWN])}"
        )
    offered = {labeler.spec.name: labeler for labeler in plugin.reid_pseudo_labels(ctx)}
    if field not in offered:
        detector = {JOINTS: "parsing.joints", SILHOUETTE: "parsing.silhouettes"}.get(field)
        remedy = f"; -s {detector}=FILE names a detector" if detector else ""
        raise ConfigError(f"this parser makes {', '.join(offered)}, not '{field}'{remedy}")
    spec = offered[field].spec
    truth = [sample.fields[field] for sample in samples] if field in specs else []
    source = make_field(ctx, plugin.name, offered[field], Source("main", samples, specs))
    out.mkdir(parents=True, exist_ok=True)
    files = [cast(Path, sample.fields[field]) for sample in source.samples]
    for sample, made in zip(samples, files, strict=True):
        target = out / f"{names[sample.path]}{made.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made, target)
    made_of = "label maps" if spec.classes else "arrays of joints"
    advice = f"bring them into a run with --field {field}={out}"
    if all(sample.split != "train" for sample in samples):
        advice = (
            "a run needs those of its training images, too: --split all writes all into one folder"
        )
    yield f"{len(files)} {made_of}: {out}; {advice}"
    if not spec.classes:
        if truth:
            near = measure_joints((read_field(file, spec) for file in files), samples)
            yield f"against the truth that the data set carries: {joints_told(near)}"
        return
    yield f"contact sheet: {_sheet(samples, files, spec, sheet_beside(out))}"
    if truth:
        made_maps, true_maps = ((read_field(one, spec) for one in of) for of in (files, truth))
        scores = compared(made_maps, true_maps, spec)
        yield (
            f"against the truth that the data set carries: pixel accuracy "
            f"{100 * scores.pixel_accuracy:.1f} %, mIoU {100 * scores.mean_iou:.1f}"
        )


def export_pictures(
    ctx: RunContext, plugin: Parsing, folder: Path, fields: Sequence[str], out: Path
) -> Iterator[str]:
    """Find parts, joints and the like in all pictures below a folder: ``OUT/FIELD/NAME``.

    Args:
        ctx: the surroundings of a run.
        plugin: whose parser labels.
        folder: of pictures; folders in it are kept.
        fields: ``keypoints`` become ``NAME.npy``, ``parts`` and the like ``NAME.png``.
        out: a folder that is not there, or empty.

    Yields:
        Lines for the user.

    Raises:
        DataError: there are no pictures, or two would have one name.
        ConfigError: nothing is there that finds joints, or silhouettes.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder")
    paths = sorted(path for path in files_below(folder) if path.suffix.lower() in PICTURES)
    if not paths:
        raise DataError(f"{folder} holds no pictures ({', '.join(PICTURES)})")
    names = Counter(path.with_suffix("") for path in paths)
    twice = [str(name) for name, count in names.items() if count > 1]
    if twice:
        raise DataError(f"pictures differ in their suffix alone, first {twice[0]}")
    checked_folder(out)
    samples = [Sample(path, -1, -1, -1, "query") for path in paths]
    for field in fields:
        made: Iterator[bytes]
        if field == JOINTS:
            made, suffix = map(array_bytes, plugin.joints_in(ctx, samples)), ".npy"
        elif field == SILHOUETTE:
            made, suffix = map(label_bytes, plugin.silhouettes_in(ctx, samples)), ".png"
        else:
            parser = plugin.parser(ctx, field)
            maps = label_maps(ctx, parser, samples, field, plugin.settings.mirror)
            made, suffix = map(label_bytes, maps), ".png"
        for path, content in zip(paths, made, strict=True):
            target = out / field / path.relative_to(folder).with_suffix(suffix)
            target.parent.mkdir(parents=True, exist_ok=True)
            write_whole(target, content)
        pictures = "1 picture" if len(paths) == 1 else f"{len(paths)} pictures"
        yield f"{field} of {pictures}: {out / field}"


def sheet_beside(folder: Path) -> Path:
    """Return where the contact sheet of a folder of labels is drawn."""
    return folder.parent / f"{folder.name}.png"


def _sheet(samples: Sequence[Sample], files: Sequence[Path], spec: FieldSpec, path: Path) -> Path:
    images = [read_image(sample.path) for sample in evenly(samples, _SHEET)]
    maps = [read_field(file, spec) for file in evenly(files, _SHEET)]
    return overlay_sheet(images, maps, spec.classes, path)

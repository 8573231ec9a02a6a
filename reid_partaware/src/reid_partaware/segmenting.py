"""What the head sees: part maps of unseen people, measured where the truth is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from reid_core import Batch, Sample, clean_batches, evenly, frames_of, pixels_of
from reid_core.loop.assembly import Assembly
from reid_parsing.lookup import GRANULARITIES, GRANULARITY_CLASSES
from reid_parsing.metrics import Confusion, PlaceFrequency
from reid_partaware.plugin import Partaware

Labels = NDArray[np.uint8]
"""A label map ``H W``."""


def predict(assembly: Assembly, samples: Sequence[Sample]) -> list[tuple[Labels, Labels]]:
    """Return images, uint8 ``H W 3``, and the head's part maps, ``H W``, at the network's size.

    Args:
        assembly: a run with the head, restored.
        samples: what to look at.
    """
    pairs: list[tuple[Labels, Labels]] = []
    for batch in batches_of(assembly, samples):
        maps = part_maps(assembly, batch).cpu().numpy().astype(np.uint8)
        pairs += zip(pixels_of(batch.image).numpy(), maps, strict=True)
    return pairs


def part_maps(assembly: Assembly, batch: Batch) -> Tensor:
    """Return the head's classes at the size of the images, int64 ``B H W``.

    Logits of several maps are averaged, and enlarged before the most likely class is taken.
    """
    plugin = _plugin(assembly)
    with torch.inference_mode():
        outputs = assembly.model.run(batch.image, {}, "main", ("*",))
        logits = [outputs[name] for name in sorted(outputs) if plugin.predicts(name)]
        size = (batch.image.shape[2], batch.image.shape[3])
        mean = torch.stack(logits).mean(0).float()
        return F.interpolate(mean, size, mode="bilinear", align_corners=False).argmax(1)


def measure(assembly: Assembly) -> dict[str, Confusion]:
    """Compare the head with the truth on query and gallery images, which carry ``parts``.

    The prediction is measured at the network's input size, beside what is guessed without looking:
    at every place the most frequent class of the training labels.

    Returns:
        Confusions by name: ``head`` and ``constant``.
    """
    dataset, settings = assembly.ctx.dataset, _plugin(assembly).settings
    classes = classes_of(assembly)
    table = np.array(GRANULARITIES[settings.granularity], np.uint8)
    frequency = PlaceFrequency(len(classes), assembly.config.data.size)
    for batch in batches_of(assembly, assembly.ctx.main.samples, "parts"):
        for labels in batch.fields["parts"].cpu().numpy():
            frequency.add(table[labels])
    found = {"head": Confusion(classes), "constant": Confusion(classes)}
    for batch in batches_of(assembly, [*dataset.query, *dataset.gallery], "parts"):
        maps = part_maps(assembly, batch).cpu().numpy().astype(np.uint8)
        for labels, guess in zip(batch.fields["parts"].cpu().numpy(), maps, strict=True):
            found["head"].add(table[labels], guess)
            found["constant"].add(table[labels], frequency.guess)
    return found


def classes_of(assembly: Assembly) -> tuple[str, ...]:
    """Return the names of the classes that the head of a run tells apart, background first."""
    return GRANULARITY_CLASSES[_plugin(assembly).settings.granularity]


def some_images(assembly: Assembly, count: int) -> list[Sample]:
    """Return some query images, or training images where there are none; of tracklets frames."""
    shown = assembly.ctx.dataset.query or assembly.ctx.main.samples
    return evenly(frames_of(shown, {}), count)


def batches_of(assembly: Assembly, samples: Sequence[Sample], *fields: str) -> Iterator[Batch]:
    """Yield samples as a run's evaluation sees them.

    Args:
        assembly: the run.
        samples: what to look at; of tracklets every frame.
        fields: names of those to load.
    """
    config, ctx = assembly.config, assembly.ctx
    known = {**ctx.fields, **ctx.dataset.query_fields}
    specs = {name: known[name] for name in fields}
    return clean_batches(
        frames_of(samples, specs),
        config.data.size,
        ctx.device,
        fields=specs,
        batch_size=config.evaluation.batch_size,
        threads=config.data.threads,
    )


def _plugin(assembly: Assembly) -> Partaware:
    return next(plugin for plugin in assembly.plugins.values() if isinstance(plugin, Partaware))

"""What the head sees: part maps of unseen people, measured where the truth is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from reid_core import Batch, ConfigError, DataError, Sample, Source
from reid_core.data.augmentation import DeviceAugmentation
from reid_core.data.draws import in_order
from reid_core.data.loading import BatchLoader
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
    for images, batch in _batches(assembly, samples, ()):
        maps = part_maps(assembly, batch).cpu().numpy().astype(np.uint8)
        pairs += zip(images.permute(0, 2, 3, 1).numpy(), maps, strict=True)
    return pairs


def part_maps(assembly: Assembly, batch: Batch) -> Tensor:
    """Return the head's classes at the size of the images, int64 ``B H W``.

    Logits of several maps are averaged, and enlarged before the most likely class is taken.
    """
    plugin = _plugin(assembly)
    with torch.inference_mode():
        outputs = assembly.model.run(batch.image, {}, "main", ("*",), lambda name: nullcontext())
        logits = [outputs[name] for name in sorted(outputs) if plugin.predicts(name)]
        size = (batch.image.shape[2], batch.image.shape[3])
        mean = torch.stack(logits).mean(0).float()
        return F.interpolate(mean, size, mode="bilinear", align_corners=False).argmax(1)


def measure(assembly: Assembly) -> dict[str, Confusion]:
    """Compare the head with the truth on query and gallery images.

    The prediction is measured at the network's input size, beside what is guessed without looking:
    at every place the most frequent class of the training labels.

    Returns:
        Confusions by name: ``head`` and ``constant``.

    Raises:
        DataError: the test images carry no parts.
    """
    dataset, settings = assembly.ctx.dataset, _plugin(assembly).settings
    if "parts" not in dataset.query_fields:
        raise DataError(
            f"the test images of '{dataset.name}' carry no parts: nothing to measure the head by"
        )
    classes = classes_of(assembly)
    table = np.array(GRANULARITIES[settings.granularity], np.uint8)
    frequency = PlaceFrequency(len(classes), assembly.config.data.size)
    for _, batch in _batches(assembly, assembly.ctx.main.samples, ("parts",)):
        for labels in batch.fields["parts"].cpu().numpy():
            frequency.add(table[labels])
    found = {"head": Confusion(classes), "constant": Confusion(classes)}
    for _, batch in _batches(assembly, [*dataset.query, *dataset.gallery], ("parts",)):
        maps = part_maps(assembly, batch).cpu().numpy().astype(np.uint8)
        for labels, guess in zip(batch.fields["parts"].cpu().numpy(), maps, strict=True):
            found["head"].add(table[labels], guess)
            found["constant"].add(table[labels], frequency.guess)
    return found


def classes_of(assembly: Assembly) -> tuple[str, ...]:
    """Return the names of the classes that the head of a run tells apart, background first."""
    return GRANULARITY_CLASSES[_plugin(assembly).settings.granularity]


def evenly(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Return some of the samples, evenly spread over all."""
    places = np.linspace(0, len(samples) - 1, min(count, len(samples))).astype(int)
    return [samples[place] for place in places]


def normalised(assembly: Assembly, samples: Sequence[Sample]) -> tuple[Labels, Tensor]:
    """Return images at the network's size: uint8 ``B H W 3``, and normalised on the device."""
    images, batches = zip(*_batches(assembly, samples, ()), strict=True)
    shown = torch.cat(images).permute(0, 2, 3, 1).numpy()
    return shown, torch.cat([batch.image for batch in batches])


def _batches(
    assembly: Assembly, samples: Sequence[Sample], fields: tuple[str, ...]
) -> Iterator[tuple[Tensor, Batch]]:
    """Yield images as uint8 ``B 3 H W``, and the batch on the device."""
    config, ctx = assembly.config, assembly.ctx
    known = {**ctx.fields, **ctx.dataset.query_fields}
    source = Source("shown", tuple(samples), {name: known[name] for name in fields})
    loader = BatchLoader(source, config.data.size, fields, threads=config.data.threads)
    prepare = DeviceAugmentation().prepare
    for host in loader.load(in_order(len(samples), config.evaluation.batch_size, 0, 1), epoch=0):
        yield host.image.clone(), prepare(host, ctx.device)


def _plugin(assembly: Assembly) -> Partaware:
    for plugin in assembly.plugins.values():
        if isinstance(plugin, Partaware):
            return plugin
    raise ConfigError("this run has no part head: it was made without --plugins partaware")

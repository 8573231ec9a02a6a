"""Regress images of samples with a trained decoder, and read the truth of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from reid_core import FieldSpec, RunContext, Sample, Source
from reid_core.contract.encoder import TrainedModel
from reid_core.data.augmentation import DeviceAugmentation
from reid_core.data.decoding import read_field
from reid_core.data.draws import in_order
from reid_core.data.loading import BatchLoader
from reid_core.model.graph import ReidModel
from reid_core.model.modes import evaluating
from reid_san.names import DECODER, REGRESSED

Pixels = NDArray[np.uint8]
"""``3 H W``."""

_ESTIMATED = 250
"""Samples from which the mean of a field is estimated, at most."""


def regress(
    ctx: RunContext, model: TrainedModel, samples: Sequence[Sample], batch_size: int = 64
) -> Iterator[tuple[Pixels, Tensor]]:
    """Yield each sample's image at the network's size, uint8 ``3 H W``, and what is regressed.

    The model is looked at in evaluation mode and left as it was.

    Args:
        ctx: the run, for input size, device and threads.
        model: with the decoder; a run's, or a stage's.
        samples: what to look at.
        batch_size: images per forward.

    Returns:
        Pairs; the regressed image is float32 ``3 h w`` on the CPU, about -1 .. 1.
    """
    # The loop's model also runs single branches.
    network = cast("ReidModel", model)
    source = Source("regressed", tuple(samples))
    loader = BatchLoader(source, ctx.image_size, threads=ctx.config.data.threads)
    prepare = DeviceAugmentation().prepare
    for host in loader.load(in_order(len(samples), batch_size), epoch=0):
        images = host.image.numpy().copy()
        batch = prepare(host, ctx.device)
        with evaluating(network):
            outputs = network.run(batch.image, {}, "main", (DECODER,), lambda name: nullcontext())
        yield from zip(images, outputs[REGRESSED].float().cpu(), strict=True)


def to_pixels(regressed: Tensor, size: tuple[int, int] | None = None) -> Pixels:
    """Return a regressed image as uint8 ``3 H W``.

    Args:
        regressed: float ``3 h w``, -1 .. 1; beyond that it is clamped.
        size: height and width wanted; None keeps them.
    """
    if size is not None and tuple(regressed.shape[1:]) != size:
        regressed = F.interpolate(regressed[None], size, mode="bilinear", align_corners=False)[0]
    pixels: Pixels = ((regressed.clamp(-1, 1) + 1) * 127.5).round().byte().numpy()
    return pixels


def truth(sample: Sample, spec: FieldSpec, size: tuple[int, int]) -> Tensor:
    """Return a sample's field as what is regressed should be: float32 ``3 H W``, -1 .. 1."""
    unit = torch.from_numpy(np.ascontiguousarray(read_field(sample.fields[spec.name], spec)))
    unit = unit.float()[None] / 255
    if tuple(unit.shape[2:]) != size:
        unit = F.interpolate(unit, size, mode="area")
    return unit[0] * 2 - 1


def mean_field(samples: Sequence[Sample], spec: FieldSpec, size: tuple[int, int]) -> Tensor:
    """Return the mean of a field over samples, float32 ``3 H W``, -1 .. 1."""
    total = torch.zeros(3, *size, dtype=torch.float64)
    for sample in samples:
        total += truth(sample, spec, size)
    return (total / len(samples)).float()


def mean_of(source: Source, spec: FieldSpec, size: tuple[int, int]) -> Tensor:
    """Return the mean of a source's field, estimated from some samples."""
    return mean_field(evenly(source.samples, _ESTIMATED), spec, size)


def evenly(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Return some of the samples, evenly spread over all."""
    places = np.linspace(0, len(samples) - 1, min(count, len(samples))).astype(int)
    return [samples[place] for place in places]

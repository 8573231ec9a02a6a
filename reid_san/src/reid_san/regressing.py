"""Regress images of samples with a trained decoder, and read the truth of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from reid_core import FieldSpec, RunContext, Sample, Source, clean_batches, evenly, pixels_of
from reid_core.contract.encoder import TrainedModel
from reid_core.data.decoding import read_field
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
    threads = ctx.config.data.threads
    for batch in clean_batches(
        samples, ctx.image_size, ctx.device, batch_size=batch_size, threads=threads
    ):
        images = pixels_of(batch.image).permute(0, 3, 1, 2).numpy()
        with evaluating(network):
            outputs = network.run(batch.image, {}, "main", (DECODER,))
        yield from zip(images, outputs[REGRESSED].float().cpu(), strict=True)


def to_pixels(regressed: Tensor) -> Pixels:
    """Return a regressed image, float ``3 H W`` in about -1 .. 1, as uint8 ``3 H W``."""
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

"""Statistics of batch normalisation of images as they are: of all together, or of each camera."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from reid_core.config import EngineSection
from reid_core.contract.fields import FieldSpec
from reid_core.contract.samples import Sample, Source
from reid_core.data.augmentation import DeviceAugmentation
from reid_core.data.clips import ClipPolicy
from reid_core.data.loading import BatchLoader
from reid_core.data.sampling import shard
from reid_core.errors import DataError
from reid_core.machine.devices import autocast_of, memory_format_of
from reid_core.machine.ranks import world
from reid_core.model.embedder import Embedder
from reid_core.model.modes import evaluating

LEAST = 16
"""Images of a camera: by fewer, features are worse than by the model's own statistics."""

_MOST = 4096
"""Images that are enough: a mean over so many is off by a sixtieth of a standard deviation."""

_BATCH = 128
"""Images per batch, frames of clips included: fixed, for it decides about the statistics."""


def estimate(
    embedder: Embedder,
    norms: Sequence[_BatchNorm],
    source: Source,
    clips: ClipPolicy | None,
    *,
    threads: int = 2,
    engine: EngineSection | None = None,
    unknown: Collection[str] = (),
) -> None:
    """Replace statistics of batch normalisation by means over batches; the rest of it stays.

    The result depends on the weights and the images alone, not on the statistics before.

    Args:
        embedder: what the images are shown to.
        norms: those of its modules that are concerned.
        source: has the images.
        clips: how frames of tracklets are drawn; None where there are none.
        threads, engine, unknown: as of `reid_core.evaluation.extraction.extract`.
    """
    device = embedder.mean.device
    engine = engine or EngineSection(precision="fp32", channels_last=False)
    read = [name for name in embedder.fields if name in source.fields]
    loader = BatchLoader(source, embedder.size, read, threads=threads, clips=clips)
    prepare = DeviceAugmentation(memory_format=memory_format_of(engine)).prepare
    computing, (rank, ranks) = autocast_of(engine, device), world()
    batch_size = max(2, _BATCH // (clips.frames if clips else 1))
    rows = batches_of(len(source), batch_size, ranks)
    with evaluating(embedder), _estimating(norms):
        for host in loader.load(shard(rows, rank, ranks), epoch=0):
            batch = prepare(host, device)
            known = {n: value for n, value in batch.readable.items() if n not in unknown}
            with computing():
                embedder.vectors(batch.image, known, batch.frames)


def batches_of(images: int, batch_size: int, ranks: int = 1) -> list[NDArray[np.int64]]:
    """Return rows in batches of one size, always the same ones, in a drawn order.

    Images lie in the order of people and cameras; batches of neighbours would vary too little.

    Args:
        images: how many there are.
        batch_size: rows of a batch, where there are so many.
        ranks: what the size of a batch is a multiple of.
    """
    size = max(ranks, min(images, batch_size) // ranks * ranks)
    drawn = np.random.default_rng(0).permutation(images)[:_MOST]
    return [drawn[k : k + size] for k in range(0, len(drawn) - size + 1, size)]


def norms_of(module: nn.Module) -> list[_BatchNorm]:
    """Return the batch normalisations of a module that keep statistics."""
    found = (part for part in module.modules() if isinstance(part, _BatchNorm))
    return [norm for norm in found if norm.running_mean is not None]


def images_by_camera(samples: Sequence[Sample], name: str) -> dict[int, list[Sample]]:
    """Return test images by camera.

    Args:
        samples: queries and gallery.
        name: of the data set.

    Raises:
        DataError: there is one camera alone, or one has too few images.
    """
    cameras = sorted({sample.camid for sample in samples})
    found = {one: [sample for sample in samples if sample.camid == one] for one in cameras}
    few = min(cameras, key=lambda one: len(found[one]))
    if len(cameras) == 1 or len(found[few]) < LEAST:
        raise DataError(
            f"evaluation.batch_norm = 'camera' needs {LEAST} test images of each of several "
            f"cameras, and '{name}' has {len(found[few])} of camera {few}"
            f"{', where all are' if len(cameras) == 1 else ''}; take 'running'"
        )
    return found


def of_cameras(
    embedder: Embedder,
    cameras: Mapping[int, Sequence[Sample]],
    specs: Mapping[str, FieldSpec] | None = None,
    **how: Any,
) -> Generator[int]:
    """Yield every camera while batch normalisation has the statistics of its images.

    Camera-based batch normalisation at test (Zhuang et al., ECCV 2020). No label but the camera is
    looked at. Statistics are what they were when the generator ends or is closed.

    Args:
        embedder: what the images are shown to.
        cameras: see `images_by_camera`.
        specs: fields that the images carry, for embedders that read some.
        how: see `estimate`; ``batch_size``, of features, does not count.
    """
    how.pop("batch_size", None)
    with keeping(norms := norms_of(embedder)):
        for camera, own in cameras.items():
            source = Source("test", tuple(own), specs or {})
            clips = ClipPolicy(embedder.clip or 1) if source.tracklets else None
            estimate(embedder, norms, source, clips, **how)
            yield camera


@contextmanager
def keeping(norms: Iterable[_BatchNorm]) -> Iterator[None]:
    """Run a block after which statistics of batch normalisation are what they were."""
    kept = [(value, value.clone()) for norm in norms for value in norm.buffers()]
    try:
        yield
    finally:
        for value, before in kept:
            value.copy_(before)


@contextmanager
def _estimating(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Let modules forget their statistics and take the mean over all batches of the block."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum, norm.training = None, True
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

"""Re-estimate the statistics of batch normalisation on real images, as they are.

Running statistics are those of training's batches: augmented, and where a plugin joins generated
images to a batch, mostly of those. What is evaluated, clustered and deployed sees none of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.modules.batchnorm import _BatchNorm

from reid_core.data.augmentation import DeviceAugmentation
from reid_core.data.clips import clips_of
from reid_core.data.loading import BatchLoader
from reid_core.data.sampling import shard
from reid_core.loop.assembly import Assembly
from reid_core.machine.devices import memory_format_of
from reid_core.machine.ranks import world
from reid_core.model.embedder import embedder_of
from reid_core.model.modes import evaluating

_MOST = 4096
"""Images that are enough: a mean over so many is off by a sixtieth of a standard deviation."""


@torch.no_grad()
def recalibrate(assembly: Assembly) -> None:
    """Replace the statistics of batch normalisation by those of real training images.

    Concerned are encoder, branches and necks that lead to embeddings of the run; what is frozen or
    kept in evaluation mode by its owner stays. The result depends on the weights and the images
    alone, not on the statistics before.

    Args:
        assembly: the run, its model in training mode.
    """
    config, ctx, truth = assembly.config, assembly.ctx, assembly.truth
    wanted = {*assembly.model.criteria, *assembly.embedder().heads}
    embedder = embedder_of(assembly.model, config.data.size, sorted(wanted))
    norms = [m for m in embedder.modules() if isinstance(m, _BatchNorm) and m.training]
    rank, ranks = world()
    rows = batches_of(len(truth), config.evaluation.batch_size, ranks)
    read = [name for name in embedder.fields if name in truth.fields]
    clips = clips_of(config, truth)
    loader = BatchLoader(truth, embedder.size, read, threads=config.data.threads, clips=clips)
    prepare = DeviceAugmentation(memory_format=memory_format_of(config.engine)).prepare
    with evaluating(embedder), _estimating(norms):
        for host in loader.load(shard(rows, rank, ranks), epoch=0):
            batch = prepare(host, ctx.device)
            with assembly.parts.autocast():
                embedder.vectors(batch.image, batch.readable, batch.frames)


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

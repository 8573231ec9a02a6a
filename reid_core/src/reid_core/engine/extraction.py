"""Features of many images, by the current model in evaluation mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from numpy.typing import NDArray

from reid_core.data.augmentation import DeviceAugmentation
from reid_core.data.draws import in_order
from reid_core.data.fields import FieldSpec
from reid_core.data.loading import BatchLoader
from reid_core.data.samples import Sample, Source
from reid_core.model.embedder import Embedder


@torch.inference_mode()
def extract(
    embedder: Embedder,
    samples: Sequence[Sample],
    device: torch.device,
    *,
    specs: Mapping[str, FieldSpec] | None = None,
    batch_size: int = 128,
    flip: bool = False,
    threads: int = 2,
    memory_format: torch.memory_format = torch.contiguous_format,
    autocast: Callable[[], AbstractContextManager[None]] | None = None,
    advance: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Return features ``N D`` of the samples, in their order.

    Args:
        embedder: its modules' training modes are restored afterwards.
        samples: what to embed.
        device: where the embedder is.
        specs: fields that the samples carry, for embedders that read some.
        batch_size: images per forward.
        flip: add the mirrored image's feature; not possible where the embedder reads fields.
        threads: decoding threads.
        memory_format: of the images.
        autocast: opens mixed precision.
        advance: is told how many more images are done.
    """
    if not samples:
        return np.empty((0, embedder.dim), np.float32)
    source = Source("test", tuple(samples), dict(specs or {}))
    loader = BatchLoader(source, embedder.size, embedder.fields, threads=threads)
    prepare = DeviceAugmentation(memory_format=memory_format).prepare
    modes = {module: module.training for module in embedder.modules()}
    embedder.eval()
    rows = np.empty((len(samples), embedder.dim), np.float32)
    done = 0
    try:
        for host in loader.load(in_order(len(samples), batch_size), epoch=0):
            batch = prepare(host, device)
            with autocast() if autocast else torch.autocast(device.type, enabled=False):
                features = embedder.embed_normalised(batch.image, batch.fields)
                if flip:
                    mirrored = embedder.embed_normalised(batch.image.flip(3), batch.fields)
                    features = features + mirrored
            rows[done : done + len(batch)] = features.float().cpu().numpy()
            done += len(batch)
            if advance:
                advance(len(batch))
    finally:
        for module, training in modes.items():
            module.training = training
    return rows

"""Vectors of what is asked for: pictures by the gallery's embedder, or another gallery's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_search.embedding.inputs import Inputs, Item
from reid_search.embedding.worker import Worker, in_shards
from reid_search.gallery.gallery import DESCRIPTION, Gallery


def asked(
    gallery: Gallery,
    texts: Sequence[str],
    *,
    model: str | None = None,
    every: int = 1,
    device: str = "auto",
) -> tuple[list[Item], NDArray[np.float32], list[str]]:
    """Return items and vectors of queries, and why others could not be read.

    Args:
        gallery: what will be searched.
        texts: pictures as `Inputs` takes them, or galleries.
        model: where the gallery's embedder is; None takes what made it.
        every: of a video, every so many frames.
        device: where to compute.

    Raises:
        CheckpointError: the vectors are of another embedder than the gallery's.
        DataError: there are no such pictures.
    """
    items: list[Item] = []
    vectors: list[NDArray[np.float32]] = [np.empty((0, gallery.description.dim), np.float32)]
    unread: list[str] = []
    if model is not None:
        gallery.use(model)
    pictures: list[Any] = []
    for text in texts:
        if not (Path(text) / DESCRIPTION).is_file():
            pictures.append(text)
            continue
        other = Gallery.open(text)
        gallery.require_fingerprint(other.description.fingerprint, text)
        with other.steady():
            shown, rows = list(other.items()), np.asarray(other.features)
            count = min(len(shown), len(rows))  # somebody may be adding some
            items += shown[:count]
            vectors.append(rows[:count])
    if pictures:
        inputs = Inputs(pictures, every)
        inputs.check()
        worker = Worker(gallery.model.embedder, device)
        for shard in worker.embed(in_shards(inputs)):
            items += shard.items
            vectors.append(shard.features)
            unread += shard.unread
    return items, np.concatenate(vectors), unread

"""What embeds: items in, vectors out, a shard at a time; the same whoever asks for which shard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, tee
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from reid_core.config import EngineSection
from reid_core.machine.devices import autocast_of, choose_device, memory_format_of
from reid_search.embedding.inputs import Item
from reid_search.embedding.loading import PixelLoader

if TYPE_CHECKING:
    from reid_core import Embedder

SHARD = 1024
"""Items that are embedded and written together. A row's vector depends, in its last digits, on the
batch that it is in, and so on this number alone, not on who embeds or where one was interrupted."""

BATCH = 64
"""Items per forward, for the same reason not to be chosen."""


@dataclass(frozen=True)
class Embedded:
    """A shard that is done.

    Args:
        items: those that could be read.
        features: float32 ``n D``, theirs.
        unread: why the others could not, ready to be printed.
    """

    items: list[Item]
    features: NDArray[np.float32]
    unread: list[str]

    @property
    def count(self) -> int:
        """How many items it had."""
        return len(self.items) + len(self.unread)


class Worker:
    """Embed items with one embedder on one device.

    Args:
        embedder: put on the device and into evaluation mode.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``fp32``, ``bf16`` or ``auto``, as ``engine.precision`` of a run.
        threads: that decode pictures.
    """

    def __init__(
        self,
        embedder: Embedder,
        device: str = "auto",
        precision: str = "fp32",
        threads: int = 2,
    ) -> None:
        engine = EngineSection.model_validate({"device": device, "precision": precision})
        self._device = choose_device(device)
        self._autocast = autocast_of(engine, self._device)
        self._format = memory_format_of(engine)
        self._embedder = embedder.to(self._device).eval()
        self._loader = PixelLoader(embedder.size, threads)

    def embed(
        self,
        shards: Iterable[Sequence[Item]],
        advance: Callable[[int], None] = lambda count: None,
    ) -> Iterator[Embedded]:
        """Yield every shard with its vectors, in order.

        Args:
            shards: items; asked for a little ahead.
            advance: is told how many more items are done.
        """
        ahead, behind = tee(shards)
        batches = self._loader.load(chain.from_iterable(map(_batches, ahead)))
        for shard in behind:
            items: list[Item] = []
            rows = [np.empty((0, self._embedder.dim), np.float32)]
            unread: list[str] = []
            for pixels in islice(batches, -(-len(shard) // BATCH)):
                found = self._features(pixels.images)
                good = [row for row in range(len(pixels.items)) if row not in pixels.unread]
                rows.append(found[good])
                items += (pixels.items[row] for row in good)
                unread += (pixels.unread[row] for row in sorted(pixels.unread))
                advance(len(pixels.items))
            yield Embedded(items, np.concatenate(rows), unread)

    @torch.inference_mode()
    def _features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        tensor = torch.from_numpy(images).permute(0, 3, 1, 2).to(self._device)
        with self._autocast():
            found = self._embedder(tensor.contiguous(memory_format=self._format))
        features: NDArray[np.float32] = found.float().cpu().numpy()
        return features


def in_shards(items: Iterable[Item], size: int = SHARD) -> Iterator[list[Item]]:
    """Yield items in lists of ``size``; the last may be shorter."""
    source = iter(items)
    while shard := list(islice(source, size)):
        yield shard


def _batches(shard: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(shard), BATCH):
        yield shard[start : start + BATCH]

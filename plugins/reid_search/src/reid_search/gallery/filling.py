"""Fill a gallery: what is in it already is left out, what is done is written, what failed is named.

A gallery is extended by whole shards in the order of the inputs, so that an interrupted filling
goes on where it stopped when the same command is called again, and several processes write what
one would have written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from reid_core import ConfigError
from reid_core.machine.ranks import barrier, gather_objects, world
from reid_search.embedding.inputs import Inputs, Item
from reid_search.embedding.worker import Embedded, Worker, in_shards
from reid_search.gallery.gallery import Gallery
from reid_search.gallery.items import JSON_LINES
from reid_search.models import OpenModel


@dataclass(frozen=True)
class Filling:
    """What came of it.

    Args:
        added: pictures that were embedded.
        there: pictures that the gallery had before, or that were named twice.
        unread: pictures that could not be read, or whose names the gallery cannot keep.
    """

    added: int
    there: int
    unread: int


class NewItems:
    """The items of some inputs that a gallery does not have yet, each once.

    Two items are one where path, frame and box are the same. Of every item eight bytes of a hash
    are remembered.

    Args:
        inputs: what is asked for.
        gallery: what is there.

    Attributes:
        there: how many the gallery had before, or were named twice.
        unfit: why others cannot be written to it.
    """

    def __init__(self, inputs: Iterable[Item], gallery: Gallery) -> None:
        self._inputs, self._gallery = inputs, gallery
        self.unfit: list[str] = []
        self._seen = {_key(item) for item in gallery.items()}
        self.there = 0

    def __iter__(self) -> Iterator[Item]:
        for item in self._inputs:
            key = _key(item)
            if key in self._seen:
                self.there += 1
            elif (reason := self._gallery.unfit(item)) is not None:
                self.unfit.append(reason)
            else:
                self._seen.add(key)
                yield item


def open_or_create(folder: Path, model: OpenModel, items: str | None = None) -> Gallery:
    """Return a gallery that vectors of a model can be added to; an empty one where there is none.

    Args:
        folder: the gallery's.
        model: whose vectors are added.
        items: format of a new gallery's items; another one than a gallery has is refused.

    Raises:
        ConfigError: the folder holds something else, or the format is another one.
        CheckpointError: the gallery is of another embedder.
    """
    if (folder / "gallery.json").exists():
        gallery = Gallery.open(folder)
        gallery.require(model)
        if items is not None and items != gallery.description.items:
            raise ConfigError(
                f"{folder} keeps its items as {gallery.description.items}, not as {items}: embed "
                "into a new folder"
            )
        return gallery
    return Gallery.create(folder, model, items=items or JSON_LINES)


Shards = Iterator[list[Item]]


def fill(
    gallery: Gallery,
    inputs: Inputs,
    embed: Callable[[Shards], Iterator[Embedded]],
    *,
    say: Callable[[str], None] = print,
) -> Filling:
    """Embed what a gallery lacks of some inputs.

    Args:
        gallery: is extended shard by shard.
        inputs: what shall be in it.
        embed: returns all shards in order with vectors of the gallery's embedder: `Worker.embed`,
            `over_ranks`, or an engine's.
        say: is told every picture that cannot be read, or be kept.
    """
    new = NewItems(inputs, gallery)
    # Every rank has seen the same gallery before rank 0 adds to it.
    barrier()
    return _written(gallery, embed(in_shards(new)), new, say)


def over_ranks(
    shards: Shards, worker: Worker, advance: Callable[[int], None] = lambda count: None
) -> Iterator[Embedded]:
    """Yield all shards in order, on every rank, each embedded by one of them.

    Args:
        shards: the same on every rank.
        worker: this rank's.
        advance: is told how many more pictures are done, by all ranks.
    """
    rank, ranks = world()
    if ranks == 1:
        yield from worker.embed(shards, advance)
        return
    own = worker.embed(islice(shards, rank, None, ranks))
    while True:
        found = [part for part in gather_objects(next(own, None)) if part is not None]
        if not found:
            return
        for part in found:
            yield part
            advance(part.count)


def _written(
    gallery: Gallery, done: Iterable[Embedded], new: NewItems, say: Callable[[str], None]
) -> Filling:
    added = unread = 0
    for shard in done:
        if world()[0] == 0:
            gallery.append(shard.features, shard.items)
            for reason in shard.unread:
                say(f"unreadable: {reason}")
        added += len(shard.items)
        unread += len(shard.unread)
    if world()[0] == 0:
        for reason in new.unfit:
            say(f"unreadable: {reason}")
    return Filling(added, new.there, unread + len(new.unfit))


def _key(item: Item) -> int:
    text = json.dumps([item.get("path"), item.get("frame"), item.get("box")])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")

"""A gallery in a Qdrant collection: filled, asked, and compared with the exact search."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_core import CheckpointError, ConfigError, DataError
from reid_core.errors import reason_of
from reid_search.embedding.inputs import printable
from reid_search.engines.exporting import require_engine, unit_blocks
from reid_search.gallery.gallery import Description, Found, Gallery

_AT_ONCE = 256
"""Points or queries that are sent together."""

_ROWS_AT_ONCE = 65536


@dataclass(frozen=True)
class Address:
    """Where a collection is.

    Args:
        host: of the server; empty where ``folder`` is a database of the local mode.
        port: of the server.
        folder: of the local mode.
        collection: its name.
    """

    host: str
    port: int
    folder: str
    collection: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``qdrant://HOST[:PORT]/COLLECTION`` or ``qdrant:///FOLDER/COLLECTION``.

        Raises:
            ConfigError: it is neither.
        """
        server = re.fullmatch(r"qdrant://([^/:]+)(?::(\d+))?/([^/]+)", text)
        if server:
            return cls(server[1], int(server[2] or 6333), "", server[3])
        local = re.fullmatch(r"qdrant://(/.+)/([^/]+)", text)
        if local:
            return cls("", 0, local[1], local[2])
        raise ConfigError(
            f"{text}: expected qdrant://HOST[:PORT]/COLLECTION, or qdrant:///FOLDER/COLLECTION for "
            "a database in a folder"
        )


class Collection:
    """A gallery's collection; see `opened`.

    Points are numbered by the gallery's rows, their payload is the item. The collection's metadata
    hold the embedder's hash, how much of the gallery is in it, a hash of these vectors and items,
    which tells another gallery of the same embedder, and where points end that an interrupted
    filling may have sent. They are written before the first point and after the last.

    Args:
        client: of the ``qdrant_client``.
        name: the collection's.
        local: whether the client is one of the local mode, which always searches exactly.
    """

    def __init__(self, client: Any, name: str, local: bool) -> None:
        self._client, self._name, self._local = client, name, local

    def fill(self, gallery: Gallery, advance: Callable[[int], None] = lambda count: None) -> int:
        """Send what the collection lacks of a gallery, and return how many rows that were.

        Raises:
            CheckpointError: the collection holds another embedder's vectors, or who knows whose.
            DataError: it takes other vectors, or rows of the gallery were removed meanwhile.
        """
        with gallery.steady():
            return self._fill(gallery, gallery.description, advance)

    def _fill(self, gallery: Gallery, found: Description, advance: Callable[[int], None]) -> int:
        from qdrant_client import models

        there = self._there(gallery)
        begin, sent = int(there.get("count", 0)), int(there.get("sent_up_to", 0))
        end = max(begin, sent, found.count)
        digest = _digest(gallery, begin) if begin <= found.count else None
        if digest is None or there.get("rows") != digest:
            begin, digest = 0, _digest(gallery, 0)
        if begin == end == found.count:
            return 0
        self._say(gallery, begin, digest, end)
        items = (_as_text(item) for item in islice(gallery.items(), begin, found.count))
        for rows, vectors in unit_blocks(gallery, begin, found.count):
            for first in range(0, len(rows), _AT_ONCE):
                some = slice(first, first + _AT_ONCE)
                points = [
                    models.PointStruct(id=int(row), vector=vector.tolist(), payload=item)
                    for row, vector, item in zip(rows[some], vectors[some], items, strict=False)
                ]
                self._client.upsert(self._name, points, wait=True)
                advance(len(points))
        if end > found.count:
            extra: list[Any] = list(range(found.count, end))
            self._client.delete(self._name, models.PointIdsList(points=extra), wait=True)
        self._say(gallery, found.count, _digest(gallery, found.count), found.count)
        return found.count - begin

    def _say(self, gallery: Gallery, count: int, digest: str, end: int) -> None:
        """Write into the metadata how many points are a gallery's, and where others may end."""
        said = {
            "fingerprint": gallery.description.fingerprint,
            "model": gallery.description.model,
            "count": count,
            "rows": digest,
            "sent_up_to": end,
        }
        self._client.update_collection(self._name, metadata=said)

    def _there(self, gallery: Gallery) -> dict[str, Any]:
        """Return the metadata of the collection, which is made where there is none."""
        from qdrant_client import models

        found = gallery.description
        if not self._client.collection_exists(self._name):
            vectors = models.VectorParams(size=found.dim, distance=models.Distance.COSINE)
            self._client.create_collection(self._name, vectors_config=vectors)
            return {}
        config = self._client.get_collection(self._name).config
        vectors = config.params.vectors
        size, distance = getattr(vectors, "size", None), getattr(vectors, "distance", None)
        if (size, distance) != (found.dim, models.Distance.COSINE):
            raise DataError(
                f"the collection '{self._name}' takes vectors of {size} values and "
                f"{getattr(distance, 'value', 'no')} distance, not {found.dim} and Cosine: name "
                "another one"
            )
        said = dict(config.metadata or {})
        if "fingerprint" in said:
            gallery.require_fingerprint(said["fingerprint"], f"the collection '{self._name}'")
        elif self._client.count(self._name).count:
            raise CheckpointError(
                f"the collection '{self._name}' holds vectors of an embedder that it does not "
                "name: name another one"
            )
        return said

    def nearest(
        self, queries: NDArray[np.float32], top: int, *, exact: bool = True
    ) -> list[list[Found]]:
        """Return the closest points of every query, the closest first.

        Args:
            queries: float32 ``Q D``.
            top: answers per query.
            exact: compare with all points, or ask the collection's index.
        """
        from qdrant_client import models

        params = None if self._local else models.SearchParams(exact=exact)
        found = []
        for first in range(0, len(queries), _AT_ONCE):
            requests = [
                models.QueryRequest(
                    query=query.tolist(), limit=top, with_payload=True, params=params
                )
                for query in queries[first : first + _AT_ONCE]
            ]
            for answer in self._client.query_batch_points(self._name, requests):
                found.append([Found(int(p.id), p.score, p.payload or {}) for p in answer.points])
        return found


def _digest(gallery: Gallery, count: int) -> str:
    """Return a hash of the first rows of a gallery, their vectors and items."""
    digest = hashlib.blake2b(digest_size=16)
    features = gallery.features
    for first in range(0, count, _ROWS_AT_ONCE):
        digest.update(features[first : min(first + _ROWS_AT_ONCE, count)].tobytes())
    for item in islice(gallery.items(), count):
        digest.update(json.dumps(item, sort_keys=True).encode())
    return digest.hexdigest()


def _as_text(item: dict[str, Any]) -> dict[str, Any]:
    """Return an item without bytes in a file's name that are no text, which no server takes."""
    line = json.dumps(item, ensure_ascii=False)
    return item if printable(line) == line else json.loads(line.encode("utf-8", "replace"))


@contextmanager
def opened(text: str) -> Iterator[Collection]:
    """Open the collection of an address.

    A key for the server is read from the environment variable ``QDRANT_API_KEY``.

    Raises:
        ConfigError: qdrant-client is missing, the address is none, or nobody answers there.
    """
    address = Address.parse(text)
    module = require_engine("qdrant")
    from qdrant_client.http.exceptions import ApiException

    if address.folder:
        folder = Path(address.folder)
        try:
            client = module.QdrantClient(path=str(folder))
        except (OSError, RuntimeError) as error:
            raise ConfigError(f"{text}: cannot be opened ({error})") from None
    else:
        key = os.environ.get("QDRANT_API_KEY")
        # Without the check of versions, which only warns, an absent server is named once.
        client = module.QdrantClient(
            host=address.host, port=address.port, api_key=key, check_compatibility=False
        )
    try:
        yield Collection(client, address.collection, bool(address.folder))
    except ApiException as error:
        reason = reason_of(error, 160)
        raise ConfigError(f"{text}: Qdrant does not answer ({reason})") from None
    finally:
        client.close()


def recall(found: Sequence[Sequence[Found]], exact: Sequence[Sequence[Found]]) -> float:
    """Return which share of the exact answers an engine gave, 0 to 1."""
    wanted = sum(len(answers) for answers in exact)
    given = sum(
        len({f.row for f in ours} & {f.row for f in theirs})
        for ours, theirs in zip(exact, found, strict=True)
    )
    return given / wanted if wanted else 1.0

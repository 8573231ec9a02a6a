"""Hand a gallery over as an index that FAISS or USearch loads, with its items beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_core import ConfigError, DataError, whole_file
from reid_search.gallery.gallery import Gallery
from reid_search.gallery.items import json_line

SUFFIXES = {"faiss": (".faiss", ".index"), "usearch": (".usearch",)}
"""What the file of an index may be called, by engine."""

PACKAGES = {"faiss": "faiss", "usearch": "usearch.index", "qdrant": "qdrant_client"}
"""What is imported, by engine; the engines' names are those of the extras."""

_ROWS_AT_ONCE = 65536


def require_engine(name: str) -> Any:
    """Import an engine.

    Raises:
        ConfigError: it is not installed; with the line that installs it.
    """
    try:
        return import_module(PACKAGES[name])
    except ImportError:
        raise ConfigError(f"{name} is not installed: pip install 'reid-search[{name}]'") from None


def export_index(
    gallery: Gallery,
    engine: str,
    path: Path,
    advance: Callable[[int], None] = lambda count: None,
) -> Path:
    """Write an index of a gallery's unit vectors, by whose inner product the cosine is had.

    Keys are the gallery's rows. FAISS gets an exact ``IndexFlatIP``, from which its users make
    others (``index.reconstruct_n``); USearch its own graph of cosines. Both keep float32.

    Args:
        gallery: what to hand over.
        engine: ``faiss`` or ``usearch``.
        path: the file of the index.
        advance: is told how many more rows are done.

    Returns:
        The table of the items, JSON lines in the order of the keys, beside the index.

    Raises:
        ConfigError: the engine is not installed.
        DataError: the gallery is empty, or rows of it were removed meanwhile.
    """
    module = require_engine(engine)
    if not len(gallery):
        raise DataError(f"{gallery.folder}: the gallery is empty; there is nothing to export")
    table = path.with_suffix(".items.jsonl")
    with whole_file(path) as part, gallery.steady():
        count = len(gallery)
        if engine == "faiss":
            index = module.IndexFlatIP(gallery.description.dim)
            for rows, vectors in unit_blocks(gallery, 0, count):
                index.add(vectors)
                advance(len(rows))
            module.write_index(index, str(part))
        else:
            index = module.Index(ndim=gallery.description.dim, metric="cos", dtype="f32")
            for rows, vectors in unit_blocks(gallery, 0, count):
                index.add(rows, vectors)
                advance(len(rows))
            index.save(str(part))
        with whole_file(table) as items, items.open("wb") as file:
            file.writelines(json_line(item) for item in islice(gallery.items(), count))
    return table


def unit_blocks(
    gallery: Gallery, start: int = 0, stop: int | None = None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Yield rows of a gallery from ``start`` up to ``stop`` with their vectors, made one long."""
    features = gallery.features[:stop]
    for first in range(start, len(features), _ROWS_AT_ONCE):
        block = np.asarray(features[first : first + _ROWS_AT_ONCE])
        lengths = np.maximum(np.linalg.norm(block, axis=1, keepdims=True), 1e-12)
        yield np.arange(first, first + len(block)), (block / lengths).astype(np.float32)

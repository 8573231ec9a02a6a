"""reid-retrieval: exact retrieval for re-identification, from features and labels alone.

`evaluate` scores rankings under a protocol, `search` finds nearest neighbours, `rerank` changes
distances, `jaccard` and `cluster` make pseudo-identities; `RetrievalMetric` collects the features
of a training loop. Protocols are data (`Protocol`, `find_protocol`). Modules are imported on first
use: whoever declares protocols does not wait for NumPy.
"""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "reid_retrieval.accumulating": ("RetrievalMetric",),
    "reid_retrieval.errors": ("ConfigError", "DataError", "RetrievalError"),
    "reid_retrieval.finding": ("find_protocol",),
    "reid_retrieval.files": ("read_features",),
    "reid_retrieval.labels": ("Labels",),
    "reid_retrieval.neighbours": ("Gallery", "Neighbours"),
    "reid_retrieval.protocols": ("EveryGallery", "JunkRule", "Protocol", "SingleShot", "Subset"),
    "reid_retrieval.public": (
        "cluster",
        "evaluate",
        "evaluate_distances",
        "jaccard",
        "rerank",
        "search",
    ),
    "reid_retrieval.reranking": ("rerank_distances",),
    "reid_retrieval.results": ("QueryScores", "RetrievalResult"),
}

_HOME = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = sorted(_HOME)
__version__ = metadata.version("reid-retrieval")


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'reid_retrieval' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


if TYPE_CHECKING:
    from reid_retrieval.accumulating import RetrievalMetric as RetrievalMetric
    from reid_retrieval.errors import (
        ConfigError as ConfigError,
        DataError as DataError,
        RetrievalError as RetrievalError,
    )
    from reid_retrieval.files import read_features as read_features
    from reid_retrieval.finding import find_protocol as find_protocol
    from reid_retrieval.labels import Labels as Labels
    from reid_retrieval.neighbours import Gallery as Gallery, Neighbours as Neighbours
    from reid_retrieval.protocols import (
        EveryGallery as EveryGallery,
        JunkRule as JunkRule,
        Protocol as Protocol,
        SingleShot as SingleShot,
        Subset as Subset,
    )
    from reid_retrieval.public import (
        cluster as cluster,
        evaluate as evaluate,
        evaluate_distances as evaluate_distances,
        jaccard as jaccard,
        rerank as rerank,
        search as search,
    )
    from reid_retrieval.reranking import rerank_distances as rerank_distances
    from reid_retrieval.results import (
        QueryScores as QueryScores,
        RetrievalResult as RetrievalResult,
    )

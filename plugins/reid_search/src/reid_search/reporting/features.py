"""Features of some of the test people: for maps, histograms and curves of a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from reid_core import ConfigError, DataSet
from reid_core.errors import did_you_mean

METHODS = ("pca", "tsne", "umap")
"""How features are laid out in the plane; ``umap`` needs the distribution umap-learn."""


def some_people(dataset: DataSet, images: int, seed: int = 0) -> DataSet:
    """Return a data set with the test images of so many people drawn at random.

    Args:
        dataset: with query and gallery.
        images: at most so many of both together, but two people or more; all where it has fewer.
        seed: of the drawing.
    """
    test = (*dataset.query, *dataset.gallery)
    if len(test) <= images:
        return dataset
    asked = np.array(sorted({sample.pid for sample in dataset.query}))
    counts = {int(pid): 0 for pid in asked}
    for sample in test:
        if sample.pid in counts:
            counts[sample.pid] += 1
    kept: set[int] = set()
    room = images
    for pid in np.random.default_rng(seed).permutation(asked).tolist():
        if counts[pid] > room and len(kept) >= 2:
            break
        kept.add(pid)
        room -= counts[pid]
    return replace(
        dataset,
        query=tuple(s for s in dataset.query if s.pid in kept),
        gallery=tuple(s for s in dataset.gallery if s.pid in kept),
    )


def available_methods(wanted: Sequence[str] | None) -> list[str]:
    """Return the layouts to draw: those asked for, otherwise all that are installed.

    Raises:
        ConfigError: an unknown one, or one that is not installed.
    """
    there = [name for name in METHODS if name != "umap" or find_spec("umap") is not None]
    for name in wanted or ():
        if name not in METHODS:
            raise ConfigError(
                f"there is no map '{name}'{did_you_mean(name, METHODS)} (there are: "
                f"{', '.join(METHODS)})"
            )
        if name not in there:
            raise ConfigError("the map 'umap' needs umap-learn: pip install umap-learn")
    return list(wanted) if wanted else there


def laid_out(features: NDArray[np.float32], method: str, seed: int = 0) -> NDArray[np.float64]:
    """Return features ``N D`` as points ``N 2``.

    Args:
        features: compared by their cosine; three or more.
        method: one of `METHODS`.
        seed: of what is random.
    """
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.maximum(norms, 1e-12)
    make: dict[str, Callable[[], NDArray[np.float64]]] = {
        "pca": lambda: _pca(unit),
        "tsne": lambda: _tsne(unit, seed),
        "umap": lambda: _umap(unit, seed),
    }
    return np.asarray(make[method](), np.float64)


def _pca(unit: NDArray[np.float32]) -> NDArray[np.float64]:
    from sklearn.decomposition import PCA

    return np.asarray(PCA(2, svd_solver="full").fit_transform(unit.astype(np.float64)))


def _tsne(unit: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    from sklearn.manifold import TSNE

    # Its perplexity must be below the number of points; a third of it is the usual bound.
    perplexity = min(30.0, max((len(unit) - 1) / 3, 1.0))
    made = TSNE(2, perplexity=perplexity, init="pca", random_state=seed, max_iter=500)
    return np.asarray(made.fit_transform(unit))


def _umap(unit: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    from umap import UMAP

    neighbours = min(15, len(unit) - 1)
    made = UMAP(n_components=2, n_neighbors=neighbours, random_state=seed, n_jobs=1)
    return np.asarray(made.fit_transform(unit))

"""Re-ranking and pseudo-labels: sparse against the dense form in which they are usually written.

    python benchmarks/reranking.py [--part PART ...] [--rounds N] [--json FILE]

1. `rerank`: k-reciprocal re-ranking of 3 368 queries and 15 913 gallery images (Market-1501's
   counts), k1 20, k2 6, lambda 0.3;
2. `labels`: Jaccard distances (k1 30, k2 6) and DBSCAN at three thresholds, of 12 936 and of
   32 621 images (the training sets of Market-1501 and MSMT17);
3. `large-rerank`, `large-labels`: ours alone, re-ranking 11 659 queries and 82 161 gallery images
   (MSMT17's counts), and labels of as many.

Features are synthetic, 2048-d: identity, camera and instance noise in a subspace of 96 dimensions.
The alternative is plain NumPy with N x N matrices and a loop over images, and scikit-learn's DBSCAN
on the dense matrix. Ours multiplies with NumPy's library, which the alternative uses, and with
oneDNN where that is exact in float32 (a run would choose by itself), and for labels also screens in
bfloat16, which finds the same neighbours. Every contender runs in a
process of its own, in turns; figures are CPU seconds of one thread and the peak of resident memory
above the loaded features, medians over the rounds. "search" is inner products and neighbours,
"rest" everything else.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before NumPy is imported: more threads on a shared machine measure the neighbours.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch  # so that its libraries are tried for products, as in a run
from numpy.typing import NDArray

from reid_retrieval import encodings
from reid_retrieval.clustering import TOLERANCE, dbscan
from reid_retrieval.distances import jaccard_distances
from reid_retrieval.precision import Precision, multiplies_bfloat16
from reid_retrieval.products import products_by, trials
from reid_retrieval.reranking import k_reciprocal
from reid_retrieval.similarities import Similarities, cosine

Floats = NDArray[np.float32]
Size = tuple[int, int, int]
"""Queries, gallery images and identities."""

DIMENSIONS = 2048
"""Of the features, unless asked otherwise."""
PARTS = ("rerank", "labels", "large-rerank", "large-labels")
EPS = (0.4, 0.5, 0.6)
MIN_SAMPLES = 4
BLOCK = 256
MARKET = (3368, 15913, 750)
MSMT17 = (11659, 82161, 3060)
TRAINING = {12936: 751, 32621: 1041}
MEASURED = ("seconds", "search", "rest", "gigabytes")
FACTS = ("difference", "beyond", "same_nearest", "clusters", "outliers", "labels_differ")
CLOSE = 1e-5
"""Distances that differ by more than this do so because two libraries round differently: of two
images within 1e-6 of each other, another one is the last in a neighbourhood."""
WITH_MATRIX = 12936
"""Up to this many images the dense Jaccard matrix is kept on disk to be compared entry by entry."""


def synthetic(count: int, identities: int, dim: int, seed: int = 0) -> Floats:
    """Return unit features of people seen by six cameras."""
    rng = np.random.default_rng(seed)
    basis = rng.normal(size=(96, dim)).astype(np.float32)
    codes = rng.normal(size=(identities, 96))[rng.integers(identities, size=count)]
    codes += 0.5 * rng.normal(size=(6, 96))[rng.integers(6, size=count)]
    codes += 0.9 * rng.normal(size=(count, 96))
    features = codes.astype(np.float32) @ basis
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features


class DenseEncoding:
    """k-reciprocal encoding with full matrices and a loop over images.

    Args:
        squared: gives the squared distances of an image to some others, as they are weighed.
        ranking: int ``N K``, nearest first.
        size, half: images of the neighbourhood and of the smaller one.
        k2: nearest images that are averaged.
    """

    def __init__(
        self,
        squared: Callable[[int, NDArray[Any]], Floats],
        ranking: NDArray[Any],
        size: int,
        half: int,
        k2: int,
    ) -> None:
        self._ranking = ranking
        count = len(ranking)
        weights = np.zeros((count, count), np.float32)
        for image in range(count):
            own = self._reciprocal(image, size)
            expanded = own
            for candidate in own:
                other = self._reciprocal(candidate, half)
                if len(np.intersect1d(other, own)) > 2 / 3 * len(other):
                    expanded = np.append(expanded, other)
            expanded = np.unique(expanded)
            weight = np.exp(-squared(image, expanded))
            weights[image, expanded] = weight / weight.sum()
        averaged = np.empty_like(weights)
        for image in range(count):
            averaged[image] = weights[ranking[image, :k2]].mean(axis=0)
        self._weights = averaged
        self._holders = [np.flatnonzero(averaged[:, column]) for column in range(count)]

    def _reciprocal(self, image: int, size: int) -> NDArray[Any]:
        forward = self._ranking[image, :size]
        return forward[(self._ranking[forward, :size] == image).any(axis=1)]

    def jaccard(self, count: int) -> Floats:
        """Return the Jaccard distances of the first images to all, ``count N``."""
        distances = np.empty((count, len(self._weights)), np.float32)
        for image in range(count):
            shared = np.zeros(len(self._weights), np.float32)
            for column in np.flatnonzero(self._weights[image]):
                rows = self._holders[column]
                shared[rows] += np.minimum(
                    self._weights[image, column], self._weights[rows, column]
                )
            distances[image] = 1 - shared / (2 - shared)
        return distances


def dense_rerank(features: Floats, queries: int, spent: dict[str, float]) -> Floats:
    """Return final distances ``Q G`` from a matrix of all distances and a full sort of it."""
    began = time.process_time()
    squared = features @ features.T
    spent["search"] = time.process_time() - began
    squared *= -2
    squared += 2
    np.maximum(squared, 0, out=squared)
    squared /= squared.max(axis=1, keepdims=True)
    ranking = np.argsort(squared, axis=1).astype(np.int32)

    def of_pairs(image: int, others: NDArray[Any]) -> Floats:
        return squared[image, others]

    jaccard = DenseEncoding(of_pairs, ranking, 21, 11, 6).jaccard(queries)
    return (0.7 * jaccard + 0.3 * squared[:queries])[:, queries:]


def dense_labels(features: Floats, spent: dict[str, float], keep: Path | None) -> list[Any]:
    """Return the clusters at every threshold from a matrix of all Jaccard distances."""
    from sklearn.cluster import DBSCAN

    began = time.process_time()
    ranking = np.empty((len(features), 30), np.int32)
    for start in range(0, len(features), BLOCK):
        similarities = features[start : start + BLOCK] @ features.T
        near = np.argpartition(-similarities, 30, axis=1)[:, :30]
        order = np.argsort(-np.take_along_axis(similarities, near, axis=1), axis=1)
        ranking[start : start + BLOCK] = np.take_along_axis(near, order, axis=1)
    spent["search"] = time.process_time() - began

    def of_pairs(image: int, others: NDArray[Any]) -> Floats:
        return 2 - 2 * (features[others] @ features[image])

    encoding = DenseEncoding(of_pairs, ranking, 30, 16, 6)
    distances = np.maximum(encoding.jaccard(len(features)), 0)
    del encoding
    if keep:
        np.save(keep, distances)
    fit = {"min_samples": MIN_SAMPLES, "metric": "precomputed"}
    return [DBSCAN(eps=eps + TOLERANCE, **fit).fit_predict(distances) for eps in EPS]


class Timed:
    """A function that adds its CPU seconds to ``search``."""

    def __init__(self, work: Callable[..., Any], spent: dict[str, float]) -> None:
        self._work = work
        self._spent = spent

    def __call__(self, *args: Any, **options: Any) -> Any:
        began = time.process_time()
        result = self._work(*args, **options)
        self._spent["search"] += time.process_time() - began
        return result


class Measure:
    """CPU seconds and the peak of resident memory from here on."""

    def __init__(self) -> None:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
        self._resident = resident("VmRSS")
        self._began = time.process_time()

    def figures(self, spent: dict[str, float]) -> dict[str, Any]:
        """Return what was measured; ``spent`` has the seconds of searching neighbours."""
        seconds = time.process_time() - self._began
        return {
            "seconds": seconds,
            "search": spent["search"],
            "rest": seconds - spent["search"],
            "gigabytes": resident("VmHWM") - self._resident,
        }


def resident(key: str) -> float:
    """Return a line of the process's memory status in GB: ``VmRSS`` or the peak ``VmHWM``."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024 / 1e9


def run_one(task: str, contender: str, folder: Path, queries: int) -> dict[str, Any]:
    """Run one contender on the features of a folder, and compare it to what the dense one left."""
    features = np.load(folder / "features.npy")
    spent = {"search": 0.0}
    if contender == "dense":
        return run_dense(task, features, queries, folder, spent)
    encodings.nearest = Timed(encodings.nearest, spent)
    how = contender.removeprefix("sparse, ")
    if how == "bf16":
        return sparse_labels(features, folder, spent, precision="bf16")
    with products_by(how):
        if task == "rerank":
            return sparse_rerank(features, queries, folder, spent)
        return sparse_labels(features, folder, spent)


def run_dense(
    task: str, features: Floats, queries: int, folder: Path, spent: dict[str, float]
) -> dict[str, Any]:
    """Measure the dense form of a task and leave its result in the folder."""
    measure = Measure()
    if task == "rerank":
        final = dense_rerank(features, queries, spent)
        figures = measure.figures(spent)
        np.save(folder / "final.npy", final)
    else:
        keep = folder / "jaccard.npy" if len(features) <= WITH_MATRIX else None
        labels = dense_labels(features, spent, keep)
        figures = measure.figures(spent)
        np.save(folder / "labels.npy", np.stack(labels))
    return figures


def sparse_rerank(
    features: Floats, queries: int, folder: Path, spent: dict[str, float]
) -> dict[str, Any]:
    """Measure re-ranking in blocks, as the evaluation asks for them."""
    measure = Measure()
    similarities = k_reciprocal()(features[:queries], features[queries:])
    block = np.empty((BLOCK, len(features) - queries), np.float32)
    fill_all(similarities, block)
    figures = measure.figures(spent)
    # The blocks' plain similarities are a product in the dense form, too: they count as search.
    again = Measure()
    fill_all(cosine(features[:queries], features[queries:]), block)
    plain = again.figures(spent)["seconds"]
    figures |= {"search": figures["search"] + plain, "rest": figures["rest"] - plain}
    if (folder / "final.npy").exists():
        figures |= compare_final(similarities, np.load(folder / "final.npy", mmap_mode="r"))
    return figures


def fill_all(similarities: Similarities, block: Floats) -> None:
    """Fill a block with the similarities of some queries after the others."""
    count = similarities.shape[0]
    for start in range(0, count, len(block)):
        stop = min(start + len(block), count)
        similarities.fill(start, stop, block[: stop - start])


def sparse_labels(
    features: Floats, folder: Path, spent: dict[str, float], precision: Precision = "fp32"
) -> dict[str, Any]:
    """Measure sparse Jaccard distances, made once, and clusters at every threshold."""
    measure = Measure()
    distances = jaccard_distances(features, at_most=max(EPS), precision=precision)
    clustering = Measure()
    labels = [dbscan(distances, eps, MIN_SAMPLES) for eps in EPS]
    figures = {"clustering": clustering.figures(spent)["seconds"], **measure.figures(spent)}
    figures["clusters"] = [int(found.max()) + 1 for found in labels]
    figures["outliers"] = [int((found < 0).sum()) for found in labels]
    figures["entries_per_image"] = distances.nnz / len(features)
    if (folder / "labels.npy").exists():
        pairs = zip(labels, np.load(folder / "labels.npy"), strict=True)
        figures["labels_differ"] = [int((ours != dense).sum()) for ours, dense in pairs]
    if (folder / "jaccard.npy").exists():
        figures |= compare_jaccard(features, np.load(folder / "jaccard.npy", mmap_mode="r"))
    return figures


def compare_final(similarities: Any, expected: Floats) -> dict[str, Any]:
    """Return by how much final distances differ, and how many nearest images are the same."""
    difference, same, beyond = 0.0, 0, 0
    for start in range(0, len(expected), BLOCK):
        rows = np.asarray(expected[start : start + BLOCK])
        block = np.empty(rows.shape, np.float32)
        similarities.fill(start, start + len(rows), block)
        gaps = np.abs(block + rows)
        difference, beyond = max(difference, float(gaps.max())), beyond + int((gaps > CLOSE).sum())
        same += int((block.argmax(axis=1) == rows.argmin(axis=1)).sum())
    return {"difference": difference, "beyond": beyond / expected.size, "same_nearest": same}


def compare_jaccard(features: Floats, expected: Floats) -> dict[str, float]:
    """Return the largest difference of Jaccard distances of all pairs, and the share beyond."""
    distances = jaccard_distances(features)
    difference, beyond = 0.0, 0
    for image, row in enumerate(expected):
        dense = np.ones(len(row), np.float32)
        here = slice(distances.indptr[image], distances.indptr[image + 1])
        dense[distances.indices[here]] = distances.data[here]
        gaps = np.abs(dense - row)
        difference, beyond = max(difference, float(gaps.max())), beyond + int((gaps > CLOSE).sum())
    return {"difference": difference, "beyond": beyond / expected.size}


def in_processes(
    task: str, contenders: tuple[str, ...], features: Floats, queries: int, rounds: int
) -> dict[str, Any]:
    """Run contenders in turns, each in a process of its own; return medians and ratios."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "features.npy", features)
        del features
        for _ in range(rounds):
            for name in contenders:
                command = [sys.executable, "-P", __file__, "--task", task, "--contender", name]
                command += ["--folder", folder, "--queries", str(queries)]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                runs[name].append(json.loads(done.stdout.splitlines()[-1]))
    found: dict[str, Any] = {}
    for name, figures in runs.items():
        found[name] = dict(figures[-1])
        for key in MEASURED:
            found[name][key] = statistics.median(run[key] for run in figures)
        if "dense" in found and name != "dense":
            found[name]["ratio"] = {
                key: found["dense"][key] / found[name][key] for key in MEASURED if key != "search"
            }
    return found


def machine() -> dict[str, Any]:
    """Describe the machine and what does the work."""
    import platform

    import scipy
    import sklearn

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")
    return {
        "cpu": model,
        "cpus": os.cpu_count(),
        "threads": 1,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "scikit-learn": sklearn.__version__,
        "torch": torch.__version__,
    }


def show(title: str, found: dict[str, Any]) -> None:
    """Print the figures of one comparison."""
    print(f"{title}\n  {'':18}{'CPU s':>15}{'search':>9}{'rest':>17}{'GB above features':>23}")
    for name, row in found.items():
        ratio = {key: f" ({value:.1f}x)" for key, value in row.get("ratio", {}).items()}
        cells = {key: f"{row[key]:.2f}{ratio.get(key, '')}" for key in MEASURED}
        print(
            f"  {name:18}{cells['seconds']:>15}{cells['search']:>9}{cells['rest']:>17}"
            f"{cells['gigabytes']:>23}"
        )
        facts = [f"{key} {row[key]}" for key in FACTS if key in row]
        if facts:
            print(f"    {', '.join(facts)}")
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", action="append", choices=list(PARTS))
    parser.add_argument("--sizes", type=int, nargs="*", default=list(TRAINING), help="for labels")
    parser.add_argument("--dimensions", type=int, default=DIMENSIONS)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path, help="add the figures to this file")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--queries", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        figures = run_one(options.task, options.contender, options.folder, options.queries)
        print(json.dumps(figures))
        return
    results = json.loads(options.json.read_text()) if _exists(options.json) else {}
    results["machine"] = machine()

    def compare(title: str, task: str, contenders: tuple[str, ...], size: Size) -> None:
        queries, gallery, identities = size
        features = synthetic(queries + gallery, identities, options.dimensions)
        title += "" if options.dimensions == DIMENSIONS else f", {options.dimensions}-d"
        found = in_processes(task, contenders, features, queries, options.rounds)
        show(title, found)
        results[title] = found
        if options.json:
            options.json.write_text(json.dumps(results, indent=2) + "\n")

    libraries = [name for name in ("numpy", "onednn") if not trials()[name].problem]
    everyone = ("dense", *(f"sparse, {name}" for name in libraries))
    ours = everyone[-1:]
    # Without the instructions bfloat16 is emulated, many times slower than float32.
    screened = ("sparse, bf16",) if multiplies_bfloat16() else ()
    parts = options.part or PARTS
    if "rerank" in parts:
        compare("re-ranking, 3368 x 15913", "rerank", everyone, MARKET)
    if "labels" in parts:
        for count in options.sizes:
            size = (0, count, TRAINING[count])
            compare(f"pseudo-labels, {count} images", "labels", (*everyone, *screened), size)
    if "large-rerank" in parts:
        compare("re-ranking, 11659 x 82161", "rerank", ours, MSMT17)
    if "large-labels" in parts:
        whole = (0, MSMT17[0] + MSMT17[1], MSMT17[2])
        compare("pseudo-labels, 93820 images", "labels", screened or ours, whole)


def _exists(path: Path | None) -> bool:
    return path is not None and path.exists()


if __name__ == "__main__":
    main()

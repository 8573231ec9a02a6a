"""Evaluation and search against plain dense references and peers: ratios and memory in one run.

    python benchmarks/retrieval.py [--sets NAME ...] [--gallery N] [--torchreid DIR] [--json FILE]

1. Evaluation at the size of Market-1501 and of MSMT17, on synthetic features: by every library for
   inner products, against a full matrix and a full argsort; the ranking part alone; peak memory.
2. The ten nearest of a million images: exact in float32, screened in bfloat16, against products and
   top-k of every block, and against faiss-cpu and usearch where they are installed.

Times are those of some queries (``--many``, of the dense forms ``--few``), scaled to all of them:
the cost of a query does not depend on how many there are, and the dense forms of all do not fit in
memory. torchreid's own Python ranking is a contender where its source is installed, its compiled
one where ``--torchreid`` names its repository; that needs Cython, a compiler, and memory for the
matrix of ``--many`` queries and the gallery. Figures are CPU seconds of one thread
(`process_time`), measured in turns (A B A B), medians. Memory is what a forked process adds to its
peak (``VmHWM``) beyond the features.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

# Before torch is imported: more threads on a shared machine measure the neighbours.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from numpy.typing import NDArray

from reid_retrieval.features import FeatureSet
from reid_retrieval.labels import Labels
from reid_retrieval.neighbours import Gallery, nearest
from reid_retrieval.precision import Precision, multiplies_bfloat16, screens
from reid_retrieval.products import chosen_library, trials
from reid_retrieval.protocols import STANDARD
from reid_retrieval.retrieval import evaluate
from reid_retrieval.scoring import Compared, Scorer
from reid_retrieval.searching import Search

Contenders = dict[str, Callable[[], Any]]
Floats = NDArray[np.float32]

SETS = {
    # Queries, gallery images, identities, cameras; weights of cameras and of noise.
    "market": (3368, 15913, 750, 6, 0.45, 1.0),
    "msmt17": (11659, 82161, 3060, 15, 0.55, 0.92),
}
"""Sizes of two public test sets, and how hard their synthetic features are made."""

SCREENED = "screened in bf16"
ALL = "as chosen, all queries"

POSSIBLE = [name for name, trial in trials().items() if not trial.problem]


def synthetic(name: str, dim: int) -> tuple[FeatureSet, FeatureSet]:
    """Return unit features of identity, camera and noise in a subspace of 96 dimensions."""
    queries, images, identities, cameras, of_camera, noise = SETS[name]
    rng = np.random.default_rng(0)
    people, places = (rng.standard_normal((n, 96), np.float32) for n in (identities, cameras))
    spread = rng.standard_normal((96, dim), np.float32) / dim**0.5

    def side(count: int) -> FeatureSet:
        pids, camids = rng.integers(0, identities, count), rng.integers(0, cameras, count)
        rows = people[pids] + of_camera * places[camids]
        rows += noise * rng.standard_normal((count, 96), np.float32)
        rows = rows @ spread
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return FeatureSet(rows, Labels(pids, camids))

    return side(queries), side(images)


def dense_distances(queries: FeatureSet, gallery: FeatureSet) -> Floats:
    """Return the whole matrix of cosine distances."""
    return 1 - queries.features @ gallery.features.T


def dense_scores(
    distances: Floats, queries: Labels, gallery: Labels, loops: bool = False
) -> tuple[float, float]:
    """Return mAP and rank 1 from a full argsort, as most published code does.

    Args:
        distances: all of them.
        queries, gallery: labels.
        loops: divide the precisions by their ranks in a Python loop over the gallery.
    """
    order = np.argsort(distances, axis=1)
    matches = (gallery.pids[order] == queries.pids[:, None]).astype(np.int32)
    cameras = queries.column("camid"), gallery.column("camid")
    averages, firsts = [], []
    for query, row in enumerate(order):
        junk = (gallery.pids[row] == queries.pids[query]) & (cameras[1][row] == cameras[0][query])
        hits = matches[query][~junk]
        if not hits.any():
            continue
        found = hits.cumsum()
        if loops:
            precision = np.asarray([count / (i + 1.0) for i, count in enumerate(found)])
        else:
            precision = found / np.arange(1, len(found) + 1)
        averages.append(float((precision * hits).sum() / hits.sum()))
        firsts.append(int(hits[0]))
    return float(np.mean(averages)), float(np.mean(firsts))


def torchreid_ranking() -> Callable[..., Any] | None:
    """Return torchreid's `eval_market1501` in Python, read from its file alone; None without it."""
    spec = importlib.util.find_spec("torchreid")
    if spec is None or not spec.submodule_search_locations:
        return None
    (path, *_) = Path(spec.submodule_search_locations[0]).rglob("metrics/rank.py")
    source = importlib.util.spec_from_file_location("torchreid_rank", path)
    if source is None or source.loader is None:
        return None
    module = importlib.util.module_from_spec(source)
    source.loader.exec_module(module)
    return getattr(module, "eval_market1501", None)


def torchreid_cython(source: Path, folder: Path) -> Callable[..., Any]:
    """Return torchreid's compiled ranking, `evaluate_cy`, built with -O3 from its repository.

    Args:
        source: the repository, which holds ``rank_cy.pyx``.
        folder: where to build it; nothing is written to the repository.
    """
    found = sorted(source.rglob("rank_cy.pyx"))
    if not found:
        raise SystemExit(f"{source}: there is no rank_cy.pyx below")
    written = folder / "rank_cy.c"
    library = folder / f"rank_cy{sysconfig.get_config_var('EXT_SUFFIX')}"
    words = [sys.executable, "-m", "cython", str(found[0]), "-o", str(written)]
    subprocess.run(words, check=True)
    includes = [f"-I{sysconfig.get_paths()['include']}", f"-I{np.get_include()}"]
    options = ["-O3", "-shared", "-fPIC", *includes, str(written), "-o", str(library)]
    subprocess.run([os.environ.get("CC", "cc"), *options], check=True)
    spec = importlib.util.spec_from_file_location("rank_cy", library)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ranking: Callable[..., Any] = module.evaluate_cy
    return ranking


def in_turns(
    contenders: Contenders,
    rounds: int,
    results: dict[str, Any] | None = None,
    walls: dict[str, float] | None = None,
) -> dict[str, float]:
    """Return the median CPU seconds of each contender, measured in turns.

    Args:
        contenders: what to measure, by name.
        rounds: how often.
        results: is given what each of them returned.
        walls: is given the shortest wall time of each.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, work in contenders.items():
            began, clock = time.process_time(), time.perf_counter()
            result = work()
            times[name].append(time.process_time() - began)
            if walls is not None:
                walls[name] = min(time.perf_counter() - clock, walls.get(name, np.inf))
            if results is not None:
                results[name] = result
    return {name: statistics.median(values) for name, values in times.items()}


def peak_of(work: Callable[[], Any]) -> float:
    """Return the MiB by which a forked process exceeds, at its peak, what it had before."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            # What earlier work has freed would otherwise be used again, unseen.
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
            before = _status("VmRSS")
            work()
            os.write(write, f"{_status('VmHWM') - before}".encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return float(said) / 1024 if said else float("nan")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def evaluations(
    name: str,
    dim: int,
    rounds: int,
    many: int,
    few: int,
    compiled: Callable[..., Any] | None = None,
) -> dict[str, Any]:
    """Compare evaluations of ``many`` queries, and dense forms of ``few``; per query.

    Args:
        name, dim, rounds, many, few: what is compared.
        compiled: torchreid's `evaluate_cy`, given the distances of at most 512 of the queries.
    """
    queries, gallery = synthetic(name, dim)
    many = min(many, len(queries))
    asked, some = queries.take(np.arange(many)), queries.take(np.arange(few))

    def ours(form: str) -> Callable[[], Any]:
        if form == SCREENED:
            return lambda: evaluate(asked, gallery, precision="bf16")
        return lambda: evaluate(asked, gallery, products=form, precision="fp32")

    def dense(loops: bool) -> Callable[[], Any]:
        return lambda: dense_scores(
            dense_distances(some, gallery), some.labels, gallery.labels, loops
        )

    own_forms = [*POSSIBLE, SCREENED] if multiplies_bfloat16() else POSSIBLE
    whole = evaluate(queries, gallery)
    # What is done once for all queries must not be charged to some of them.
    work: Contenders = {ALL: lambda: evaluate(queries, gallery)}
    work |= {form: ours(form) for form in own_forms}
    counts = {ALL: len(queries), **dict.fromkeys(own_forms, many)}
    if compiled:
        # As torchreid does: the whole matrix of squared distances, 64-bit labels, 50 ranks.
        theirs = asked.take(np.arange(min(many, 512)))
        all_labels = [
            column(side.labels)
            for column in (lambda labels: labels.pids, lambda labels: labels.column("camid"))
            for side in (theirs, gallery)
        ]
        work["torchreid (Cython)"] = lambda: compiled(
            2 - 2 * (theirs.features @ gallery.features.T), *all_labels, 50
        )
        counts["torchreid (Cython)"] = len(theirs)
    times = {form: time / counts[form] for form, time in in_turns(work, rounds).items()}
    forms = {"dense": dense(False), "dense, Python loops": dense(True)}
    peer = torchreid_ranking()
    if peer:
        pids = some.labels.pids, gallery.labels.pids
        camids = some.labels.column("camid"), gallery.labels.column("camid")
        forms["torchreid (Python)"] = lambda: peer(
            dense_distances(some, gallery), *pids, *camids, 50
        )
    times |= {form: seconds / few for form, seconds in in_turns(forms, rounds).items()}
    expected, found = dense(False)(), evaluate(some, gallery)
    share = len(queries) / few
    return {
        "scores": {"mAP": whole.mean_ap, "rank1": whole.cmc[0], "mINP": whole.mean_inp},
        "difference_to_dense": [abs(found.mean_ap - expected[0]), abs(found.cmc[0] - expected[1])],
        "chosen": SCREENED if screens("auto", queries=len(queries)) else chosen_library(),
        "seconds": {form: seconds * len(queries) for form, seconds in times.items()},
        "ratio_to_chosen": {form: seconds / times[ALL] for form, seconds in times.items()},
        "memory_mib": {
            **{form: peak_of(ours(form)) for form in own_forms},
            "dense (extrapolated)": peak_of(dense(False)) * share,
        },
        "ranking_ms_per_query": ranking(some, gallery, rounds, few),
    }


def ranking(queries: FeatureSet, gallery: FeatureSet, rounds: int, few: int) -> dict[str, float]:
    """Compare the ranking alone, from similarities that are there."""
    distances = dense_distances(queries, gallery)
    block = 1 - distances
    search = Search(STANDARD, queries.labels, gallery.labels)

    def ours() -> None:
        scorer = Scorer(search)
        for query, row in enumerate(block):
            scorer.add(query, row)
        scorer.result(Compared("cosine", "none", "none"), False, None)

    contenders: Contenders = {
        "ours": ours,
        "dense": lambda: dense_scores(distances, queries.labels, gallery.labels),
        "dense, Python loops": lambda: dense_scores(
            distances, queries.labels, gallery.labels, True
        ),
        "argsort alone": lambda: np.argsort(distances, axis=1),
    }
    times = in_turns(contenders, rounds)
    found = {form: 1e3 * seconds / few for form, seconds in times.items()}
    return {**found, "ratio to dense": times["dense"] / times["ours"]}


def blockwise_topk(queries: Floats, gallery: Floats, k: int) -> NDArray[np.int64]:
    """Return neighbours by products and top-k of blocks of 65 536, merged."""
    asked, offered = torch.from_numpy(queries), torch.from_numpy(gallery)
    values, indices = [], []
    for start in range(0, len(offered), 65536):
        found = (asked @ offered[start : start + 65536].T).topk(k, 1)
        values.append(found.values)
        indices.append(found.indices + start)
    best = torch.cat(values, 1).topk(k, 1).indices
    return np.asarray(torch.cat(indices, 1).gather(1, best).numpy())


def search(images: int, count: int, rounds: int, threads: int) -> dict[str, Any]:
    """Compare exact searches for ten neighbours of many queries, and of 20."""
    rng = np.random.default_rng(1)
    spread = rng.standard_normal((96, 512), np.float32)
    gallery = np.empty((images, 512), np.float32)
    for start in range(0, images, 65536):
        part = gallery[start : start + 65536]
        part[:] = rng.standard_normal((len(part), 96), np.float32) @ spread
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    noise = 0.5 * rng.standard_normal((count, 512), np.float32) / 512**0.5
    queries = gallery[rng.integers(0, images, count)] + noise
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    # Without the instructions bfloat16 is emulated, many times slower than float32.
    precisions: list[Precision] = ["fp32", "bf16"] if multiplies_bfloat16() else ["fp32"]
    prepared = {name: Gallery(gallery, precision=name) for name in precisions}
    forms: dict[str, Callable[[Floats], Any]] = {
        **{f"nearest, {name}": _searching(gallery, name) for name in POSSIBLE},
        **{f"Gallery, {name}": _prepared(prepared[name]) for name in precisions},
        "top-k per block": lambda some: blockwise_topk(some, gallery, 10),
    }
    if "bf16" in precisions:
        forms["nearest, bf16"] = _screening(gallery)
    with suppress(ImportError):
        import faiss

        index = faiss.IndexFlatIP(512)
        index.add(gallery)
        forms["faiss flat"] = lambda some: index.search(some, 10)[1]
        faiss.omp_set_num_threads(threads)
    with suppress(ImportError):
        from usearch.index import search as usearch

        # What it takes for the metric "cos" is one minus the inner product of the normalised.
        forms["usearch exact"] = lambda some: (
            usearch(gallery, some, 10, "ip", exact=True, threads=threads).keys
        )
    truth = nearest(queries, gallery, 10, products="numpy").indices
    found: dict[str, Any] = {"images": images, "threads": threads}
    for asked in (count, 20):
        some = queries[:asked]
        answers: dict[str, Any] = {}
        asking: Contenders = {form: partial(work, some) for form, work in forms.items()}
        walls: dict[str, float] = {}
        times = in_turns(asking, rounds, answers, walls)
        alternative = times.get("faiss flat", times["top-k per block"])
        found[f"{asked} queries"] = {
            form: {
                "seconds": seconds,
                "wall_seconds": walls[form],
                "ratio": alternative / seconds,
                "recall": _recall(answers[form], truth[:asked]),
            }
            for form, seconds in times.items()
        }
    if threads > 1:  # a forked process has no threads to share the work with, and waits for them
        return found
    measured = ["nearest, numpy", "nearest, bf16", "top-k per block"]
    found["memory_mib"] = {
        form: peak_of(partial(forms[form], queries)) for form in measured if form in forms
    }
    if "bf16" in precisions:
        found["memory_mib"]["Gallery, bf16"] = peak_of(
            lambda: Gallery(gallery, precision="bf16").nearest(queries, 10)
        )
    return found


def _prepared(gallery: Gallery) -> Callable[[Floats], Any]:
    return lambda some: gallery.nearest(some, 10).indices


def _screening(gallery: Floats) -> Callable[[Floats], Any]:
    return lambda some: nearest(some, gallery, 10, precision="bf16").indices


def _searching(gallery: Floats, library: str) -> Callable[[Floats], Any]:
    return lambda some: nearest(some, gallery, 10, products=library).indices


def _recall(found: NDArray[Any], truth: NDArray[Any]) -> float:
    same = [len(np.intersect1d(a, b)) for a, b in zip(found, truth, strict=True)]
    return float(np.mean(same) / truth.shape[1])


def machine() -> dict[str, Any]:
    """Describe the machine and what multiplies on it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "")
    return {
        "processor": f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores",
        "instructions": [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in flags],
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "libraries": {
            name: {"error": t.error, "gflops": 2 * 256 * 2048 * 512 / t.seconds / 1e9}
            for name, t in trials().items()
        },
    }


def show(title: str, rows: dict[str, Any]) -> None:
    """Print figures, nested ones below their name."""
    print(f"\n{title}")
    for name, value in rows.items():
        text = json.dumps(value, indent=2) if isinstance(value, dict) else f"{value}"
        print(f"  {name}: {text}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run everything and print the ratios."""
    parser = argparse.ArgumentParser(description="Evaluation and search at scale.")
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--dims", nargs="*", type=int, default=[512, 2048])
    parser.add_argument("--many", type=int, default=2048, help="queries of ours")
    parser.add_argument("--few", type=int, default=128, help="queries of the dense forms")
    parser.add_argument("--gallery", type=int, default=1_000_000, help="0 leaves search out")
    parser.add_argument("--asked", type=int, default=1000, help="queries of the search")
    parser.add_argument("--threads", type=int, default=1, help="of the search")
    parser.add_argument("--torchreid", type=Path, help="its repository: adds its Cython ranking")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    results: dict[str, Any] = {"machine": machine(), "evaluation": {}}
    show("machine", results["machine"])
    with tempfile.TemporaryDirectory() as folder:
        compiled = None
        if options.torchreid:
            compiled = torchreid_cython(options.torchreid, Path(folder))
    for name in options.sets:
        for dim in options.dims:
            found = evaluations(name, dim, options.rounds, options.many, options.few, compiled)
            results["evaluation"][f"{name} {dim}-d"] = found
            show(f"evaluation, {name}, {dim} dimensions", found)
    if options.gallery:
        torch.set_num_threads(options.threads)
        results["search"] = search(options.gallery, options.asked, options.rounds, options.threads)
        show("search", results["search"])
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

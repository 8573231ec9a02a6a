"""What groups of factors of `synthpeople/street` teach a linear metric, on photographs.

    EVIDENCE_WARD=DIR python benchmarks/street.py [--each] [--work DIR] [--json results/street.json]

The arms are those of the study `street` (`studies/declared/street.toml`) that differ in their data.
No network is trained: the features of `people/osnet_x0_25` stay as they are, and of each arm's
training people a linear discriminant analysis (Ledoit and Wolf's shrinkage) learns which of their
directions tell people apart and which follow camera, light and clothes. WARD is searched by the
cosine of what it leaves. Seconds of one core, and no luck of a training; it says what pictures show
about the nuisances of photographs, and not all that a network could learn from them.

Effects are of all training people. Intervals of 95 % come from 1999 resamples of WARD's people and,
apart from them, of 20 bootstrap draws of the training people, the same ones in both arms where both
have the same people. ``--each`` leaves out single factors, too: 13 further sets of pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # python -P leaves it out

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis  # noqa: E402
from studies.declaring import load_studies  # noqa: E402
from studies.elsewhere import ward  # noqa: E402
from ward import CPU, RESAMPLES, Photographs  # noqa: E402

from reid_core import load_embedder  # noqa: E402
from reid_core.evaluation.extraction import extract  # noqa: E402
from reid_core.runs.finding import open_context, open_dataset  # noqa: E402
from reid_core.runs.recipes import merged_layers  # noqa: E402
from reid_synthpeople.names import FACTORS  # noqa: E402

DRAWS, STUDY, START = 20, "street", "people/osnet_x0_25"
MEASURES = ("rank1", "mAP")

Array = NDArray[np.float32]
Scores = NDArray[np.float64]
"""``1+DRAWS 2 Q``: of all training people and of each draw, both measures of every query."""


def learnt(features: Array, people: NDArray[np.int64], seed: int | None) -> Any:
    """Return an analysis of all people, or of as many drawn with replacement."""
    names = np.unique(people)
    rows = np.arange(len(people)), people
    if seed is not None:
        drawn = np.random.default_rng(seed).integers(len(names), size=len(names))
        chosen = [np.flatnonzero(people == names[one]) for one in drawn]
        # Somebody drawn twice is two people: otherwise they would count once.
        labels = np.repeat(np.arange(len(drawn)), [len(one) for one in chosen])
        rows = np.concatenate(chosen), labels
    analysis = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto")
    return analysis.fit(features[rows[0]], rows[1])


def scores(data: Photographs, photographs: Array, features: Array, people: Any) -> Scores:
    """Return what the metrics of an arm reach."""
    found = []
    for seed in (None, *range(DRAWS)):
        seen = learnt(features, people, seed).transform(photographs).astype(np.float32)
        found.append(np.stack([data.each(seen)[measure] for measure in MEASURES]))
    return np.stack(found)


def interval(values: Scores, people: NDArray[np.int64]) -> list[list[float]]:
    """Return, by measure, the value of all training people and its interval, in points.

    Args:
        values: an arm's, or the difference of two.
        people: ``Q``, whose queries.
    """
    _, whose, counts = np.unique(people, return_inverse=True, return_counts=True)
    sums = np.stack(
        [np.bincount(whose, row, len(counts)) for row in values.reshape(-1, len(whose))]
    )
    sums = sums.reshape(*values.shape[:2], len(counts))[1:]
    rng, means = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        chosen = rng.integers(len(counts), size=len(counts))
        means.append(sums[rng.integers(DRAWS)][:, chosen].sum(1) / counts[chosen].sum())
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    columns = zip(values[0].mean(1), low, high, strict=True)
    return [[round(100 * float(one), 2) for one in column] for column in columns]


def arms(each: bool) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the arms that differ in their data, and their configurations."""
    (study,) = (one for one in load_studies() if one.name == STUDY)
    whole = study.arms[STUDY].flags
    for name, arm in study.arms.items():
        if arm.flags["augment"] == whole["augment"]:
            yield name, arm.flags
    for factor in FACTORS if each else ():
        others = [one for one in FACTORS if one != factor]
        own = {"plugins": {"synthpeople": {"factors": others}}}
        yield f"no {factor}", merged_layers(whole, own)


def compared(found: Mapping[str, Scores], people: NDArray[np.int64]) -> Iterator[dict[str, Any]]:
    """Yield what the whole of the factors does against every other arm."""
    for name, values in found.items():
        if name == STUDY:
            continue
        rank1, ap = interval(found[STUDY] - values, people)
        yield {"of": STUDY, "against": name, "rank1": rank1, "mAP": ap}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", action="store_true", help="leave out single factors, too")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/evidence"), help="its cache is used"
    )
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    dataset, embedder = open_dataset("market1501", ward()), load_embedder(START)
    data, found, rows = Photographs(dataset.query, dataset.gallery), dict[str, Scores](), []
    photographs = extract(embedder, data.samples, CPU, threads=1)
    queries = np.array([sample.pid for sample in data.query])
    for name, flags in arms(given.each):
        ctx, _ = open_context(dict(flags), cache=given.work / "cache", say=lambda line: None)
        samples = ctx.dataset.train.samples
        features = extract(embedder, samples, CPU, threads=1)
        people = np.array([sample.pid for sample in samples])
        found[name] = scores(data, photographs, features, people)
        rank1, ap = interval(found[name], queries)
        row = {"arm": name, "images": len(people), "people": len(np.unique(people))}
        rows.append({**row, "rank1": rank1, "mAP": ap})
        print(f"{name}: rank-1 {rank1}, mAP {ap}", flush=True)
    content = {"start": START, "arms": rows, "comparisons": list(compared(found, queries))}
    for one in content["comparisons"]:
        print(f"{one['of']} against {one['against']}: rank-1 {one['rank1']}, mAP {one['mAP']}")
    if given.json:
        given.json.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()

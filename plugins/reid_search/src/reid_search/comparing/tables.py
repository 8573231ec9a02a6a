"""Where models differ: by person, by pair of cameras, by query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_search.comparing.models import Model

FOUND_BY = 10
"""A match counts as found where it ranks among so many."""


@dataclass(frozen=True)
class IdentityRow:
    """The queries of one person.

    Args:
        pid: who.
        queries: how many.
        average_precision: mean over them, one per model.
    """

    pid: int
    queries: int
    average_precision: tuple[float, ...]


@dataclass(frozen=True)
class CameraRow:
    """Queries of one camera whose match another camera took.

    Args:
        query, gallery: the cameras.
        queries: how many.
        found: share of them with a match from that camera among the first `FOUND_BY`, one per
            model; the ranks are those in the whole gallery.
    """

    query: int
    gallery: int
    queries: int
    found: tuple[float, ...]


@dataclass(frozen=True)
class Change:
    """A query whose average precision changed.

    Args:
        query: its place among the records.
        file, pid: its image and person.
        before, after: its average precision.
    """

    query: int
    file: str
    pid: int
    before: float
    after: float


def by_identity(models: Sequence[Model], label: str) -> list[IdentityRow]:
    """Return a row per person, in the order of their numbers; means over the seeds of a model."""
    queries = models[0].result(label).queries
    people = np.array([one["pid"] for one in queries])
    scores = np.stack([_average_precision(model, label) for model in models])
    rows = []
    for pid in np.unique(people):
        own = people == pid
        means = tuple(scores[:, own].mean(axis=1).tolist())
        rows.append(IdentityRow(int(pid), int(own.sum()), means))
    return rows


def by_camera_pair(models: Sequence[Model], label: str) -> list[CameraRow]:
    """Return a row per pair of cameras with a match; means over the seeds of a model.

    Where there is one camera alone, nothing tells cameras apart, and there are no rows.
    """
    counts: dict[tuple[int, int], int] = {}
    found: dict[tuple[int, int], list[float]] = {}
    for number, model in enumerate(models):
        for run in model.runs:
            for one in run.result(label).queries:
                for camera, rank in one["cameras"].items():
                    pair = (int(one["camid"]), int(camera))
                    hits = found.setdefault(pair, [0.0] * len(models))
                    hits[number] += (rank <= FOUND_BY) / len(model.runs)
                    counts[pair] = counts.get(pair, 0) + (number == 0 and run is model.runs[0])
    if len({camera for pair in found for camera in pair}) < 2:
        return []
    return [
        CameraRow(*pair, counts[pair], tuple(hits / counts[pair] for hits in found[pair]))
        for pair in sorted(found)
    ]


def most_changed(before: Model, after: Model, label: str, count: int) -> list[Change]:
    """Return the queries that changed most: half that lost, half that gained, most of all first.

    Args:
        before, after: the models; means over their seeds.
        label: of the protocol.
        count: at most so many; a query that scores the same is not among them.
    """
    old, new = (_average_precision(model, label) for model in (before, after))
    order = np.argsort(new - old, kind="stable")
    lost = [row for row in order if new[row] < old[row]][: count - count // 2]
    gained = [row for row in order[::-1] if new[row] > old[row]][: count // 2]
    queries = before.result(label).queries
    return [
        Change(
            int(row), queries[row]["file"], queries[row]["pid"], float(old[row]), float(new[row])
        )
        for row in [*lost, *gained]
    ]


def rows_as_data(
    identities: Sequence[IdentityRow], cameras: Sequence[CameraRow], names: Sequence[str]
) -> dict[str, list[Mapping[str, Any]]]:
    """Return both tables as plain data."""
    return {
        "identities": [
            {
                "pid": row.pid,
                "queries": row.queries,
                "AP": dict(zip(names, row.average_precision, strict=True)),
            }
            for row in identities
        ],
        "cameras": [
            {
                "query": row.query,
                "gallery": row.gallery,
                "queries": row.queries,
                f"found_by_{FOUND_BY}": dict(zip(names, row.found, strict=True)),
            }
            for row in cameras
        ],
    }


def _average_precision(model: Model, label: str) -> NDArray[np.float64]:
    """Return the plain average precision of single queries, ``Q``; a mean over seeds."""
    runs = [[one["AP"] for one in run.result(label).queries] for run in model.runs]
    return np.asarray(np.array(runs, np.float64).mean(axis=0))

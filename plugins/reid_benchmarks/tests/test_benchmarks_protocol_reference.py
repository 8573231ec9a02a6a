"""Every named protocol against a plain loop that is written from its publication, not its data."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from reid_benchmarks.protocols import PROTOCOL_NAMES, PROTOCOLS
from reid_retrieval.errors import DataError
from reid_retrieval.features import FeatureSet
from reid_retrieval.labels import Labels
from reid_retrieval.protocols import Protocol
from reid_retrieval.retrieval import evaluate


class Image(NamedTuple):
    """One image, its feature included."""

    pid: int
    camid: int
    clothes: int
    tracklet: int
    drawn: bool
    feature: tuple[float, ...]


def is_junk(name: str, query: Image, image: Image) -> bool:
    same_camera = query.camid == image.camid
    same_clothes = query.clothes == image.clothes
    if name.startswith("cuhk03/classic") and "pooled-views" not in name:
        return view_of(query) == view_of(image)
    if query.pid != image.pid or name.startswith(
        ("prcc", "partial", "occluded-reid", "celeb-reid", "last")
    ):
        return False
    if name.startswith(("ltcc/cc", "ccvid/cc")):
        return same_camera or same_clothes
    if name == "ltcc/sc":
        return same_camera or not same_clothes
    if name == "deepchange/tracklet":
        return query.tracklet == image.tracklet
    return same_camera


def view_of(image: Image) -> int:
    """Return CUHK03's view: cameras 0 and 1 are the two of one pair, 2 and 3 of the next."""
    return image.camid % 2 + 1


def asks(name: str, image: Image) -> bool:
    if name.startswith("market1501"):
        return image.drawn == (name == "market1501/multi-query")
    if name.startswith("prcc"):
        return image.camid == {"cc": 2, "sc": 1}[name.split("/")[1]]
    return takes_part(name, image)


def is_shown(name: str, image: Image) -> bool:
    if name.startswith("prcc"):
        return image.pid != -1 and image.camid == 0
    if name == "mars" and image.drawn:  # stands for a query's tracklet
        return False
    return image.pid != -1 and takes_part(name, image)


def takes_part(name: str, image: Image) -> bool:
    cameras = {"vcclothes/sc": (1, 2), "vcclothes/cc": (2, 3)}.get(name, (0, 1, 2, 3))
    changing = image.pid % 2 == 1 or name != "ltcc/cc/identity-filter"
    return image.camid in cameras and changing


def squared_distance(query: Image, image: Image) -> float:
    return sum((a - b) ** 2 for a, b in zip(query.feature, image.feature, strict=True))


def galleries(name: str, query: Image, gallery: list[Image]) -> Iterator[list[int]]:
    """Yield the galleries in which a query is searched for, junk left out."""
    kept = [i for i, g in enumerate(gallery) if is_shown(name, g) and not is_junk(name, query, g)]
    by_pid: dict[int, list[int]] = {}
    for i in kept:
        by_pid.setdefault(gallery[i].pid, []).append(i)
    if name.endswith("/single-shot@10"):
        offered = [i for i, g in enumerate(gallery) if is_shown(name, g)]
        for seed in range(10):
            stream = random.Random(seed)
            keys = {i: stream.random() for i in offered}
            yield [min(images, key=keys.__getitem__) for images in by_pid.values()]
    elif name.endswith("/single-shot@all"):
        yield from (list(choice) for choice in itertools.product(*by_pid.values()))
    else:
        yield kept


def queries_of(name: str, images: list[Image]) -> list[Image]:
    asking = [q for q in images if asks(name, q)]
    if name == "mars/frames":
        return pooled_frames(asking)
    if name != "market1501/multi-query":
        return asking
    pooled = []
    for key in dict.fromkeys((q.pid, q.camid) for q in asking):
        group = [q for q in asking if (q.pid, q.camid) == key]
        columns = zip(*(q.feature for q in group), strict=True)
        pooled.append(group[0]._replace(feature=tuple(sum(c) / len(group) for c in columns)))
    return pooled


def pooled_frames(images: list[Image]) -> list[Image]:
    """Return one image of each tracklet, with the largest value of every column."""
    groups: dict[str, list[Image]] = {}
    for frame in images:
        groups.setdefault(tracklet_of(frame), []).append(frame)
    return [
        group[0]._replace(feature=tuple(map(max, zip(*(f.feature for f in group), strict=True))))
        for group in groups.values()
    ]


def tracklet_of(frame: Image) -> str:
    """Return the name of a tracklet, which shows one person before one camera."""
    return f"{frame.pid} {frame.camid} {frame.tracklet}"


def reference(
    name: str, images: list[Image], gallery: list[Image]
) -> tuple[int, list[list[tuple[int, Fraction, Fraction, Fraction]]]]:
    """Return the number of queries; of the valid ones first hit, AP, trapezoid AP and INP in every
    gallery."""
    scores = []
    queries = queries_of(name, images)
    if name == "mars/frames":
        gallery = pooled_frames(gallery)
    for query in queries:
        found = []
        for shown in galleries(name, query, gallery):
            ranked = sorted(shown, key=lambda i: (squared_distance(query, gallery[i]), i))
            hits = [gallery[i].pid == query.pid for i in ranked]
            ranks = [rank for rank, hit in enumerate(hits, 1) if hit]
            if not ranks:
                continue
            count = len(ranks)
            after = [Fraction(n, rank) for n, rank in enumerate(ranks, 1)]
            before = [
                Fraction(n - 1, rank - 1) if rank > 1 else Fraction(1)
                for n, rank in enumerate(ranks, 1)
            ]
            trapezoid = (sum(after) + sum(before)) / 2 / count
            found.append((ranks[0], sum(after) / count, trapezoid, Fraction(count, ranks[-1])))
        if found:
            scores.append(found)
    return len(queries), scores


def labels_of(name: str, images: list[Image], side: str) -> Labels:
    raw = [str("ABCD"[i.camid]) if name.startswith("prcc") else i.camid + 1 for i in images]
    splits = ["multi-query" if i.drawn and side == "query" else side for i in images]
    return Labels(
        [i.pid for i in images],
        [i.camid for i in images],
        [i.clothes for i in images],
        splits,
        {
            "camera": raw,
            "asked": [int(i.drawn) for i in images],
            "view": [view_of(i) for i in images],
            "cloth_changing": [int(i.pid % 2 == 1) for i in images],
            "tracklet": [tracklet_of(i) if name == "mars/frames" else i.tracklet for i in images],
        },
    )


def image(lowest_pid: int) -> st.SearchStrategy[Image]:
    # Multiples of 12: means of up to four images are whole numbers, distances exact in float32.
    coordinate = st.integers(-1, 2).map(lambda value: 12.0 * value)
    return st.builds(
        Image,
        st.integers(lowest_pid, 3),
        st.integers(0, 3),
        st.integers(0, 2),
        st.integers(0, 2),
        st.booleans(),
        st.tuples(coordinate, coordinate),
    )


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.name)
@settings(max_examples=30, deadline=None)
@given(
    images=st.lists(image(0), min_size=1, max_size=4),
    gallery=st.lists(image(-1), min_size=1, max_size=12),
)
def test_equals_the_plain_loop(
    protocol: Protocol, images: list[Image], gallery: list[Image]
) -> None:
    total, scores = reference(protocol.name, images, gallery)
    queries, offered = (
        FeatureSet(np.array([i.feature for i in rows]), labels_of(protocol.name, rows, side))
        for rows, side in ((images, "query"), (gallery, "gallery"))
    )
    if not scores:
        with pytest.raises(DataError, match=r"no query has a match|is empty|there is no query"):
            evaluate(queries, offered, protocol, distance="euclidean")
        return
    result = evaluate(queries, offered, protocol, distance="euclidean")
    assert (result.valid_queries, result.total_queries) == (len(scores), total)
    # Of a query all galleries count alike, and so do all queries.
    means = [
        [sum(one[k] for one in found) / Fraction(len(found)) for k in range(4)] for found in scores
    ]
    for key, value in enumerate((result.mean_ap, result.mean_ap_trapezoid, result.mean_inp), 1):
        expected = sum(mean[key] for mean in means) / len(scores)
        assert value == pytest.approx(float(expected), abs=1e-9)
    for k in range(1, 13):
        reached = sum(Fraction(sum(one[0] <= k for one in found), len(found)) for found in scores)
        assert result.cmc[k - 1] == pytest.approx(float(reached / len(scores)), abs=1e-9)
    assert len(result.cmc) == 50


def test_names_are_unique_and_every_set_reports_some() -> None:
    names = [protocol.name for protocol in PROTOCOLS]
    assert len(set(names)) == len(names)
    assert len({protocol.text for protocol in PROTOCOLS}) == len(names)
    for owner, reported in PROTOCOL_NAMES.items():
        assert reported
        for name in reported:
            assert name == owner or name.startswith(f"{owner}/")
    silent = set(names) - {name for reported in PROTOCOL_NAMES.values() for name in reported}
    assert silent == {"market1501/multi-query", "ltcc/cc/identity-filter", "mars/frames"}

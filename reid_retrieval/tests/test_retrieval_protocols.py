"""Protocols as data, and how they select samples and draw galleries."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import FrozenInstanceError, asdict, dataclass, replace
from typing import Any

import numpy as np
import pytest

from reid_retrieval.errors import ConfigError, DataError
from reid_retrieval.labels import Labels
from reid_retrieval.protocols import (
    CROSS_CLOTHES,
    GENERIC_PROTOCOLS,
    NO_CAMERA,
    SAME_CLOTHES,
    STANDARD,
    JunkRule,
    Protocol,
    SingleShot,
    Subset,
    every_gallery_variant,
    single_shot_variant,
)
from reid_retrieval.searching import Search, random_orders


def test_declaring_protocols_imports_nothing_heavy() -> None:
    code = (
        "import sys, reid_retrieval.protocols\n"
        "heavy = {'torch', 'numpy', 'PIL', 'rich', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_generic_protocols_and_their_lines() -> None:
    rest = "pid -1 dropped; means over valid queries"
    everyone = "query all; gallery all; multi-shot; junk"
    assert [p.text for p in GENERIC_PROTOCOLS] == [
        f"standard v1: {everyone} same pid & same camid; {rest}",
        f"cross-clothes v1: {everyone} same pid & (same camid or same clothes); {rest}",
        f"same-clothes v1: {everyone} same pid & (same camid or other clothes); {rest}",
        f"no-camera v1: {everyone} none; {rest}",
        "standard/tracklet-pools v1: query all, mean unit feature per tracklet; gallery all, mean "
        f"unit feature per tracklet; multi-shot; junk same pid & same camid; {rest}",
        "standard/camera-pools v1: query all; gallery all, mean unit feature per pid & camid; "
        f"multi-shot; junk same pid & same camid; {rest}",
    ]


def test_line_of_a_protocol_that_uses_everything() -> None:
    protocol = Protocol(
        "prcc/cc/single-shot@10",
        query=Subset(cameras=(2,), splits=("query", "val")),
        gallery=Subset(cameras=(0,), pids=tuple(range(9)), extra=(("weather", ("sun", 3)),)),
        junk=JunkRule(same=("tracklet",), apart=("camid",)),
        single_shot=SingleShot(10, 3),
        denominator="all",
        pool=("pid", "camid", "tracklet"),
        version=3,
    )
    assert protocol.text == (
        "prcc/cc/single-shot@10 v3: query camid=2 & split=query,val, "
        "mean feature per pid & camid & tracklet; "
        "gallery camid=0 & pid=[9 values #0fac6463] & weather=sun,3; single-shot x10 seed 3; "
        "junk same camid of any pid or same pid & same tracklet; pid -1 dropped; "
        "means over all queries"
    )
    assert "\n" not in protocol.text


def test_the_mean_over_all_galleries_is_named_and_told() -> None:
    protocol = every_gallery_variant(NO_CAMERA)
    assert protocol.name == "no-camera/single-shot@all"
    assert "; single-shot, mean over all galleries; " in protocol.text


def test_different_lists_of_identities_give_different_lines() -> None:
    first, second = (Subset(pids=tuple(range(n, n + 45))) for n in (0, 1))
    assert first.text != second.text


def test_protocols_are_plain_frozen_data() -> None:
    protocol = single_shot_variant(CROSS_CLOTHES, trials=5, seed=7)
    assert protocol.name == "cross-clothes/single-shot@5"
    data = json.loads(json.dumps(asdict(protocol)))
    assert data["junk"] == {"same": ["camid", "clothes"], "different": [], "apart": []}
    assert data["single_shot"] == {"trials": 5, "seed": 7}
    assert len({STANDARD, CROSS_CLOTHES, SAME_CLOTHES, NO_CAMERA, protocol}) == 5
    with pytest.raises(FrozenInstanceError):
        protocol.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ranks": (5, 1)}, r"protocol 'standard': ranks must be ascending and positive"),
        ({"ranks": (0, 1)}, "ranks must be ascending and positive"),
        ({"ranks": ()}, "ranks must be ascending and positive"),
        ({"max_rank": 10}, "max_rank 10 is below the last rank 20"),
        ({"denominator": "some"}, r"denominator must be one of \('valid', 'all'\), not some"),
        ({"single_shot": SingleShot(0)}, "trials must be 1 or more, not 0"),
        (
            {"pool": ("pid",), "pooling": "median"},
            r"pooling must be one of \('mean', 'unit-mean', 'max'\), not median",
        ),
        ({"pool": ("pid", "pid")}, "pool names a label twice: pid, pid"),
        ({"gallery_pool": ("pid", "pid")}, "gallery_pool names a label twice: pid, pid"),
        ({"pooling": "max"}, "pooling 'max' needs labels to pool by: pool, gallery_pool"),
    ],
)
def test_values_out_of_range(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(STANDARD, **change)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Image:
    pid: int
    camid: int
    clothes: int
    split: str
    extra: dict[str, object]


def sample(pid: int, camid: int, split: str = "gallery", **extra: object) -> Image:
    return Image(pid, camid, pid * 10, split, extra)


def test_labels_of_samples() -> None:
    samples = [sample(1, 0, day=3, view="a"), sample(2, 5, "val", day="x")]
    labels = Labels.of_samples(samples)
    assert len(labels) == 2
    assert labels.pids.tolist() == [1, 2]
    assert labels.column("camid").tolist() == [0, 5]
    assert labels.column("clothes").tolist() == [10, 20]
    assert labels.column("split").tolist() == ["gallery", "val"]
    assert labels.column("day").tolist() == ["3", "x"]
    with pytest.raises(DataError, match="label 'view' is not known for every image; known are cam"):
        labels.column("view")
    assert len(Labels.of_samples([])) == 0


def test_wrong_labels() -> None:
    with pytest.raises(DataError, match="2 pids, but 3 values of label 'camid'"):
        Labels([1, 2], [1, 2, 3])
    with pytest.raises(DataError, match="label 'pid' must be one integer per image, not float64"):
        Labels([1.5], [0])
    with pytest.raises(DataError, match=r"'camid' must be one integer .* shape \(1, 2\)"):
        Labels([1], [[0, 1]])
    with pytest.raises(DataError, match="2 pids, but 1 values of label 'day'"):
        Labels([1, 2], [0, 0], extra={"day": [1]})


WHOLE = [7, -3, 2**60]


@pytest.mark.parametrize(
    "column",
    [WHOLE, np.array(WHOLE, np.float32), np.array(WHOLE, np.float64), ["7.0", "-3", f"{2**60}.00"]],
    ids=["int", "float32", "float64", "text"],
)
def test_a_number_is_one_label_of_whatever_type(column: Any) -> None:
    labels = Labels(WHOLE, extra={"tracklet": column})
    assert labels.column("tracklet").tolist() == ["7", "-3", str(2**60)]
    assert labels.matching("tracklet", ["7.0", 2**60]).tolist() == [True, False, True]


def test_junk_does_not_depend_on_the_type_of_a_column() -> None:
    rule = Protocol("views", junk=JunkRule(same=("view",)))
    whole, floating = (
        Labels([1, 1, 2], extra={"view": np.array([7, 8, 7], kind)}) for kind in (int, float)
    )
    for query, gallery in ((whole, whole), (whole, floating), (floating, whole)):
        own, junk = Search(rule, query, gallery).own(0)
        assert (own.tolist(), junk.tolist()) == ([0, 1], [True, False])
    # Others are themselves.
    texts = [1.5, "01", "1.0.0", True, "7.0a"]
    assert Labels([0] * 5, extra={"x": texts}).column("x").tolist() == [*map(str, texts)]


def test_a_label_with_gaps_is_not_known_for_every_image() -> None:
    """Two unknown ones would agree, and be junk to each other."""
    labels = Labels([1, 2], extra={"a": [np.nan, 1.0], "b": [None, "x"], "c": ["nan", "x"]})
    assert labels.keys == {"pid", "clothes", "c"}
    with pytest.raises(DataError, match="needs the label 'a' of every query image"):
        Search(Protocol("gaps", junk=JunkRule(same=("a",))), labels, labels)


def test_numbers_of_a_floating_type_are_whole() -> None:
    labels = Labels(np.array([5.0, -1.0]), np.array([0, 1], np.float32), [3.0, -1.0])
    assert labels.pids.dtype == np.int64
    assert [labels.column(key).tolist() for key in ("pid", "camid", "clothes")] == [
        [5, -1],
        [0, 1],
        [3, -1],
    ]
    for wrong in (np.array([1.0, np.nan]), np.array([1.0, 1e300]), np.array([1, 2**63], np.uint64)):
        with pytest.raises(DataError, match=r"'clothes' must be one integer .* of which row 1 is"):
            Labels([1, 2], clothes=wrong)


def test_large_numbers_stay_apart() -> None:
    # Beyond 2 ** 24 neighbouring integers would be equal as float32.
    search = Search(STANDARD, Labels([2**24 + 1], [0]), Labels([2**24, 2**24 + 1], [1, 1]))
    own, _ = search.own(0)
    assert own.tolist() == [1]


@pytest.mark.parametrize(
    ("subset", "rows"),
    [
        (Subset(), [0, 1, 2, 3]),
        (Subset(cameras=(0, 2)), [0, 2]),
        (Subset(pids=(1,)), [0, 1]),
        (Subset(splits=("val",)), [3]),
        (Subset(extra=(("day", (1, 2)),)), [0, 2, 3]),
        (Subset(cameras=(1, 2), extra=(("day", ("2",)),)), [2]),
    ],
)
def test_subsets_select_samples(subset: Subset, rows: list[int]) -> None:
    samples = [
        sample(1, 0, day=1),
        sample(1, 1, day=3),
        sample(2, 2, day=2),
        sample(3, 3, "val", day=1),
    ]
    labels = Labels.of_samples(samples)
    for side in ("query", "gallery"):
        search = Search(replace(NO_CAMERA, **{side: subset}), labels, labels)  # type: ignore[arg-type]
        assert getattr(search, f"{side}_rows").tolist() == rows


def test_a_subset_of_an_unknown_label() -> None:
    labels = Labels([1], [0])
    with pytest.raises(DataError) as error:
        Search(replace(STANDARD, query=Subset(splits=("query",))), labels, labels)
    assert str(error.value) == (
        "protocol 'standard' needs the label 'split' of every query image, but they carry camid, "
        "pid; choose a protocol that fits them"
    )
    tracklets = Labels([1], [0], extra={"tracklet": [7]})
    with pytest.raises(DataError, match=r"label 'tracklet' of every gallery image"):
        Search(Protocol("tracks", junk=JunkRule(same=("tracklet",))), tracklets, labels)


def test_pooled_queries_stand_for_their_first_image() -> None:
    protocol = replace(STANDARD, pool=("pid", "camid"), query=Subset(splits=("drawn",)))
    queries = Labels([1, 2, 1, 2, 1], [0, 0, 0, 1, 0], splits=["query", *["drawn"] * 4])
    search = Search(protocol, queries, Labels([1, 2], [1, 1]))
    assert search.query_rows.tolist() == [1, 2, 3]
    assert search.queries.pids.tolist() == [2, 1, 2]
    assert search.queries.column("camid").tolist() == [0, 0, 1]
    features = np.array([[99, 99], [1, 2], [3, 4], [5, 6], [5, 0]], np.float32)
    assert search.asked(features).tolist() == [[1, 2], [4, 2], [5, 6]]
    plain = Search(replace(protocol, pool=()), queries, Labels([1, 2], [1, 1]))
    assert plain.asked(features).tolist() == features[1:].tolist()


def test_draws_do_not_fit_the_mean_over_every_gallery() -> None:
    labels = Labels([1], [0])
    with pytest.raises(DataError, match="searches in single-shot, mean over all galleries, but 1"):
        Search(every_gallery_variant(NO_CAMERA), labels, labels, draws=[[0]])


def test_random_galleries_are_reproducible_and_differ() -> None:
    gallery = Labels(np.repeat(np.arange(5), 4), np.ones(20, int))
    protocol = single_shot_variant(NO_CAMERA, trials=6, seed=3)
    search = Search(protocol, Labels([2], [0]), gallery)
    draws = [shown.tolist() for shown in search.galleries(0)]
    assert len(draws) == 6
    assert len({tuple(draw) for draw in draws}) > 1
    for trial, draw in enumerate(draws):
        # The definition in so many words: of every identity the image of the lowest key.
        stream = random.Random(3 + trial)
        keys = [stream.random() for _ in range(20)]
        assert draw == [min(range(4 * i, 4 * i + 4), key=keys.__getitem__) for i in range(5)]


def test_random_orders_never_change() -> None:
    # Published single-shot numbers rest on this stream.
    orders = [order.tolist() for order in random_orders(8, SingleShot(2, 0))]
    assert orders == [[3, 7, 5, 2, 4, 1, 6, 0], [0, 3, 5, 4, 6, 2, 7, 1]]


def test_a_single_shot_gallery_keeps_the_match_that_is_not_junk() -> None:
    # Of pid 1 only row 3 is from another camera; whatever is drawn, the query must see it.
    gallery = Labels([1, 1, 1, 1, 2, 2], [0, 0, 0, 1, 1, 1])
    search = Search(single_shot_variant(STANDARD, 8), Labels([1, 1], [0, 1]), gallery)
    for shown in search.galleries(0):
        assert 3 in shown.tolist()
        assert len(shown) == 2
    for shown in search.galleries(1):
        assert 3 not in shown.tolist()

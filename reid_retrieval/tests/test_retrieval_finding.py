"""Protocols by name, from other distributions, and from files of rules."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reid_retrieval import finding
from reid_retrieval.errors import ConfigError
from reid_retrieval.finding import PUBLISHED, find_protocol, protocol_of
from reid_retrieval.protocols import (
    CROSS_CLOTHES,
    GENERIC_PROTOCOLS,
    STANDARD,
    EveryGallery,
    JunkRule,
    Protocol,
    SingleShot,
    Subset,
)


@pytest.fixture
def offers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What distributions offer, by the name of the entry point; a test fills it."""
    found: dict[str, Any] = {}

    def load(name: str) -> Any:
        if isinstance(found[name], Exception):
            raise found[name]
        return found[name]

    def entry_points(group: str) -> list[Any]:
        assert group == "reid.protocols"
        return [
            SimpleNamespace(
                name=name,
                load=lambda name=name: load(name),
                dist=SimpleNamespace(name=f"reid-{name}"),
            )
            for name in found
        ]

    monkeypatch.setattr(finding.metadata, "entry_points", entry_points)
    return found


@pytest.mark.usefixtures("offers")
@pytest.mark.parametrize("protocol", GENERIC_PROTOCOLS)
def test_generic_rules_have_names(protocol: Protocol) -> None:
    assert find_protocol(protocol.name) is protocol


def test_what_a_distribution_offers_comes_before_the_rule(offers: dict[str, Any]) -> None:
    assert find_protocol("market1501") is STANDARD
    assert find_protocol("ltcc/cc") is CROSS_CLOTHES
    exact = Protocol("market1501", query=Subset(splits=("query",)), junk=STANDARD.junk)
    offers["sets"] = [exact]
    assert find_protocol("market1501") is exact
    offers["rival"] = (Protocol("standard"), Protocol("own"))
    assert find_protocol("standard") is STANDARD
    assert find_protocol("own") == Protocol("own")


def test_protocols_that_cannot_be_imported(offers: dict[str, Any]) -> None:
    offers["sets"] = ImportError("no torch")
    with pytest.raises(
        ConfigError, match=r"protocols of reid-sets cannot .*: ImportError: no torch"
    ):
        find_protocol("own")
    assert find_protocol("standard").name == "standard", "a generic rule needs nobody else's"


@pytest.mark.usefixtures("offers")
def test_an_unknown_name() -> None:
    with pytest.raises(ConfigError, match=r"no protocol 'market150'; did you mean 'market1501'\?"):
        find_protocol("market150")
    with pytest.raises(ConfigError, match=r"known: celeb-reid, .*standard.*; reid-benchmarks has"):
        find_protocol("nothing-like-it")


def test_every_published_name_has_a_generic_rule() -> None:
    assert set(PUBLISHED.values()) <= {protocol.name for protocol in GENERIC_PROTOCOLS}


FILE = """
ranks = [1, 5]
max_rank = 5
denominator = "all"
version = 3
pool = ["pid", "camid"]
gallery_pool = ["tracklet"]
pooling = "max"
single_shot = { trials = 4, seed = 2 }

[query]
splits = ["query"]
cameras = [0, 2]

[gallery]
pids = [1, 2]
extra = { view = ["front", 3] }

[junk]
same = ["camid"]
different = []
apart = []
"""


def test_a_file_of_rules_says_everything_that_a_protocol_can(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(FILE, "utf-8")
    expected = Protocol(
        "mine",
        query=Subset(splits=("query",), cameras=(0, 2)),
        gallery=Subset(pids=(1, 2), extra=(("view", ("front", 3)),)),
        junk=JunkRule(same=("camid",)),
        pool=("pid", "camid"),
        gallery_pool=("tracklet",),
        pooling="max",
        single_shot=SingleShot(4, 2),
        ranks=(1, 5),
        max_rank=5,
        denominator="all",
        version=3,
    )
    assert find_protocol(file) == find_protocol(str(file)) == expected
    file.write_text('name = "other"\nsingle_shot = "all"\n', "utf-8")
    assert find_protocol(file) == Protocol("other", single_shot=EveryGallery())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rank = [1]", "a protocol has no key 'rank'; did you mean 'ranks'"),
        ("junk = 1", "junk must be a table, not 1"),
        ("[junk]\nsam = []", "junk has no key 'sam'; did you mean 'same'"),
        ('[junk]\nsame = "camid"', "junk: 'same' must be a list, not 'camid'"),
        ("max_rank = [1]", r"'max_rank' must be a single value, not \[1\]"),
        ('ranks = ["1", "5"]', "'ranks' must be a list of int, not '1'"),
        ("[junk]\nsame = [1]", "junk: 'same' must be a list of str, not 1"),
        ("[gallery]\ncameras = [true]", "gallery: 'cameras' must be a list of int, not True"),
        ('[query.extra]\ncamid = ["a"]', "query: 'camid' is chosen by 'cameras', not by 'extra'"),
        ('max_rank = "9"', "'max_rank' must be int, not '9'"),
        ("version = true", "'version' must be int, not True"),
        ("denominator = 1", "'denominator' must be str, not 1"),
        ('denominator = "some"', "denominator must be one of"),
        ("ranks = [5, 1]", "ranks must be ascending"),
        ("query = []", "query must be a table"),
        ("[gallery]\nextra = [1]", "gallery: 'extra' must be a table"),
        ("single_shot = 3", "single_shot must be a table"),
        ("name = 3\nversion = 2", "needs a name, which is text"),
        ("ranks = [", "cannot read the protocol"),
        ("", "says nothing of who is searched for"),
        ('name = "mine"', "says nothing of who is searched for"),
        ('name = "standard"\npool = ["split"]', "'standard' is a known protocol with other rules"),
        ('name = "market1501"\nranks = [1]', "'market1501' is a known protocol with other rules"),
    ],
)
def test_what_is_no_rule_names_the_file(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=message) as found:
        find_protocol(file)
    assert "wrong.toml" in str(found.value)


def test_a_file_may_repeat_a_known_protocol(tmp_path: Path) -> None:
    file = tmp_path / "standard.toml"
    file.write_text('junk.same = ["camid"]', "utf-8")
    assert find_protocol(file) == find_protocol("standard")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the protocol"):
        find_protocol(tmp_path / "none.toml")


def test_plain_data_needs_a_name() -> None:
    with pytest.raises(ConfigError, match="a protocol needs a name"):
        protocol_of({})

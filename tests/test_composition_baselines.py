"""The baselines beside the papers and each other: two steps, or the line that says why not."""

from __future__ import annotations

import importlib.util
import math
import re
import sys
from importlib.metadata import distribution
from importlib.util import find_spec
from itertools import combinations, product
from pathlib import Path

import pytest
from house import ROOT

from reid_core.errors import ConflictError
from reid_core.testing.tiny import Recorder

_spec = importlib.util.spec_from_file_location("docs_pairs", ROOT / "docs" / "composition.py")
assert _spec
assert _spec.loader
composition = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = composition  # dataclasses look their module up
_spec.loader.exec_module(composition)

PAGE = composition.PAGE.read_text("utf-8")
README = (ROOT / "plugins" / "reid_baselines" / "README.md").read_text("utf-8")
PAPERS = ("dgnet", "fsam", "partaware", "san", "unsup_cc")
BASELINES = ("agw", "bot", "cal", "ema", "ibn", "meanteacher", "metric")

REFUSED = {
    ("agw", "san"): "-s san.start=none",
    ("agw", "unsup_cc"): "-s model.start=random",
    ("bot", "unsup_cc"): "-s bot.centre_weight=0",
    ("cal", "unsup_cc"): "leave one of them out",
    ("metric", "unsup_cc"): "--own identity=unsup_cc",
}
"""Pairs that do not go as they are, and the remedy that the message names."""


@pytest.mark.parametrize("pair", list(product(BASELINES, PAPERS)), ids=",".join)
def test_a_baseline_trains_beside_a_paper_or_says_why_not(
    pair: tuple[str, str], reid_cache: Path
) -> None:
    if "metric" in pair:
        pytest.importorskip("pytorch_metric_learning", reason="the extra `metric` brings it")
    said = re.sub(r"\s+", " ", PAGE)
    if pair in REFUSED:
        with pytest.raises(ConflictError) as caught:
            composition.assemble_together(pair, reid_cache, composition.FURTHER[pair[0]])
        assert f"- `{pair[0]}`, `{pair[1]}`: refused: {caught.value}" in said
        for word in (f"'{pair[0]}'", f"'{pair[1]}'", REFUSED[pair]):
            assert word in str(caught.value)
        return
    assert f"- `{pair[0]}`, `{pair[1]}`: trains;" in said
    trainer = Recorder(
        composition.assemble_together(pair, reid_cache, composition.FURTHER[pair[0]])
    )
    trainer.fit()
    assert len(trainer.trace) == 2
    assert all(math.isfinite(value) for step in trainer.trace for value in step.values())


def test_the_readme_says_which_pairs_need_a_setting() -> None:
    for name in BASELINES:
        row = re.search(rf"^\| `{name}` \|((?: [^|]+ \|){{5}})$", README, re.M)
        assert row, name
        cells = [cell.strip() for cell in row[1].strip("|").split("|")]
        for paper, cell in zip(PAPERS, cells, strict=True):
            remedy = REFUSED.get((name, paper))
            assert cell == (f"`{remedy}`" if (remedy or "").startswith("-") else remedy or "trains")


def of_the_page() -> tuple[set[tuple[str, str]], dict[tuple[str, str], str], list[tuple[str, ...]]]:
    """Return what the page says of baselines beside each other: pairs, refusals and groups."""
    section = PAGE.partition(f"\n{composition.BESIDE_HEADING}\n")[2].partition("\n## ")[0]
    told, go = {}, set()
    for one, other, why in re.findall(r"^- `(\w+)`, `(\w+)`: ((?:.|\n  )+)$", section, re.M):
        told[one, other] = re.sub(r"\s+", " ", why)
    for row, cells in re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.M):
        words = zip(composition.BASELINES[1:], cells.split(" | "), strict=True)
        go |= {(row, column) for column, word in words if word.strip() == "trains"}
    listed = re.sub(r"\n  +", " ", section)
    groups = re.findall(r"^- (`\w+`(?:, `\w+`)+)$", listed, re.M)
    return go, told, [tuple(re.findall(r"`(\w+)`", group)) for group in groups]


GO, TOLD, GROUPS = of_the_page()


def test_the_page_tells_of_every_two_baselines() -> None:
    assert sorted([*GO, *TOLD]) == list(combinations(composition.BASELINES, 2))
    assert composition.groups_of(sorted(GO)) == GROUPS
    assert {pair for group in GROUPS for pair in combinations(group, 2)} == GO
    offered = {entry.name for entry in distribution("reid-baselines").entry_points}
    assert {*composition.BASELINES} == offered


@pytest.mark.parametrize("group", GROUPS, ids=",".join)
def test_a_group_of_baselines_trains_at_once(group: tuple[str, ...], reid_cache: Path) -> None:
    if "metric" in group:
        pytest.importorskip("pytorch_metric_learning", reason="the extra `metric` brings it")
    trainer = Recorder(composition.assemble_baselines(group, reid_cache))
    trainer.fit()
    assert len(trainer.trace) == 2
    assert all(math.isfinite(value) for step in trainer.trace for value in step.values())


def test_what_the_page_says_of_two_baselines_is_what_the_message_says(reid_cache: Path) -> None:
    for pair, why in TOLD.items():
        if "metric" not in pair or find_spec("pytorch_metric_learning"):
            assert composition.refusal(pair, reid_cache) == why

"""The baselines beside the five papers: two steps of every pair, or the line that says why not."""

from __future__ import annotations

import importlib.util
import math
import re
import sys
from itertools import product
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
    pair: tuple[str, str], reid_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "metric" in pair:
        pytest.importorskip("pytorch_metric_learning", reason="the extra `metric` brings it")
    monkeypatch.setitem(composition.SETTINGS, "cal", {"begin": 0})
    monkeypatch.setitem(composition.ENCODERS, "ibn", "test_resnet_ibn_a")
    if pair in REFUSED:
        with pytest.raises(ConflictError) as caught:
            composition.assemble_together(pair, reid_cache)
        for word in (f"'{pair[0]}'", f"'{pair[1]}'", REFUSED[pair]):
            assert word in str(caught.value)
        return
    trainer = Recorder(composition.assemble_together(pair, reid_cache))
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

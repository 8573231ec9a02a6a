"""Masks of trained runs, compared: with each other, with the coarse ones, with the truth."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomli_w
import torch
from click.testing import CliRunner
from fsam_runs import TINY, fsam
from PIL import Image

from reid_core import run
from reid_core.runs.resolve import resolve
from reid_core.testing.tiny import tiny_assembly, tiny_flags
from reid_fsam import Fsam
from reid_fsam.commands import fsam as command
from reid_fsam.comparing import measure_masks, parser_of


def trained(folder: Path, **settings: object) -> Path:
    flags = tiny_flags(("fsam",), {"plugins": {"fsam": {**TINY, **settings}}})
    recipe = folder.with_suffix(".toml")
    recipe.write_text(tomli_w.dumps(flags), encoding="utf-8")
    run(recipe=str(recipe), out=folder, say=lambda line: None)
    return folder


def test_runs_are_drawn_below_each_other_and_measured(reid_cache: Path, tmp_path: Path) -> None:
    first = trained(tmp_path / "kept")
    second = trained(tmp_path / "free", keep_weight=0.0)
    out = tmp_path / "masks.png"
    done = CliRunner().invoke(command, ["masks", str(first), str(second), "--out", str(out)])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert [line.partition(":")[0] for line in lines[:2]] == [str(first), str(second)]
    assert all("drift 0.0" in line and "fine agrees 0." in line for line in lines[:2])
    with Image.open(out) as picture, Image.open(first / "fsam" / "masks.png") as own:
        # Image, coarse masks and one row per run: as in a run's own picture, and one more.
        assert picture.height > own.height
        assert picture.width == own.width


def test_a_run_without_a_live_parser_is_refused(reid_cache: Path, tmp_path: Path) -> None:
    folder = trained(tmp_path / "frozen", stream="coarse")
    done = CliRunner().invoke(command, ["masks", str(folder), "--out", str(tmp_path / "m.png")])
    assert f"{folder} is no run of FSAM with a parser that learns" in str(done.exception)


def test_a_run_without_the_plugin_is_refused_before_its_data_is_made(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(resolve(tiny_flags()).config.to_toml())
    done = CliRunner().invoke(command, ["masks", str(tmp_path), "--out", str(tmp_path / "m.png")])
    assert "this run was made without reid_fsam's Fsam (its plugins: none)" in str(done.exception)


def test_a_plugin_is_found_by_its_class(reid_cache: Path) -> None:
    classes = {"mine": Fsam}
    layers = {"plugins": {"mine": TINY}}
    assembly = tiny_assembly(("mine",), layers, cache=reid_cache, classes=classes)
    live = parser_of(assembly, reid_cache, "parser")
    assert live is assembly.model.branches["mine/parser"]


def test_masks_that_drift_are_seen_to(reid_cache: Path) -> None:
    assembly = fsam(reid_cache)
    live, coarse = (assembly.model.branches[f"fsam/{name}"] for name in ("parser", "coarse"))
    plain = measure_masks(assembly, live, coarse)
    assert plain["drift"] == 0
    assert plain["fine agrees"] == plain["coarse agrees"] > 0.2
    with torch.no_grad():
        live.network.classifier.bias[3] += 20
    moved = measure_masks(assembly, live, coarse)
    assert moved["drift"] > 0.5
    assert moved["coarse agrees"] == pytest.approx(plain["coarse agrees"])
    assert moved["fine agrees"] < 0.2

"""Every pair of plugins, and all that go together, do what docs/composition.md says."""

from __future__ import annotations

import importlib.util
import math
import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from house import DISTRIBUTIONS, ROOT, Distribution

from reid_core.errors import ConfigError, ConflictError
from reid_core.loop.state import trainable_state
from reid_core.testing.tiny import Recorder
from reid_core.testing.toy.making import make_toy

_spec = importlib.util.spec_from_file_location("docs_composition", ROOT / "docs" / "composition.py")
assert _spec
assert _spec.loader
composition = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = composition  # dataclasses look their module up
_spec.loader.exec_module(composition)

PAGE = composition.PAGE.read_text(encoding="utf-8")
BEHIND = "composition.md is behind the plugins: run python docs/composition.py"

REFUSED = {
    ("dgnet", "mgn"): "both claim the slot 'embedding'",
    ("dgnet", "pcb"): "both claim the slot 'embedding'",
    ("dgnet", "unsup_cc"): "needs identities that stay the same",
    ("mgn", "osnet"): "splits a ResNet of timm",
    ("mgn", "pcb"): "both claim the slot 'embedding'",
    ("mgn", "san"): "starts the encoder from SAN-PG's",
    ("mgn", "unsup_cc"): "starts the encoder from the stage 'core/contrastive'",
    ("san", "unsup_cc"): "both start 'encoder.*' from a stage",
}
"""Pairs that do not go as they are, and what their message says about why."""

MIXED_REFUSED = {"unsup_cc": "'unsup_cc' makes the identities at each epoch's start"}
"""Those that several training sets cannot be mixed for in shares, and why."""

APART = ("agw", "bot", "cal", "ema", "ibn", "meanteacher", "metric")
"""Further baselines whose pairs have a file of their own."""

FURTHER_REFUSED = {
    ("clipreid", "dgnet"),
    ("clipreid", "unsup_cc"),
    ("cluster_contrast", "dgnet"),
    ("cluster_contrast", "unsup_cc"),
    ("globalpool", "dgnet"),
    ("spcl", "dgnet"),
    ("spcl", "unsup_cc"),
    ("tracklets", "dgnet"),
    ("tracklets", "fsam"),
    ("tracklets", "san"),
    ("tracklets", "unsup_cc"),
    ("transreid", "dgnet"),
    ("transreid", "san"),
    ("transreid", "unsup_cc"),
}
"""Further baselines that do not go beside a paper as they are."""

ALL_AT_ONCE = range(len(composition.TOGETHER))


@lru_cache
def alone(name: str, cache: Path) -> Any:
    return composition.measure(composition.assemble_together([name], cache))


def check_finite(trace: list[dict[str, float]]) -> None:
    """Two steps were trained, and all losses are finite."""
    assert len(trace) == 2
    for step in trace:
        assert all(math.isfinite(value) for value in step.values()), step


def check_training(run: Any) -> None:
    """Two steps were trained, all losses are finite, and every parameter learns."""
    check_finite(run.trace)
    model = run.assembly.model
    idle = tuple(
        f"branches.{branch.name}.{prefix}"
        for branch in model.declarations.values()
        for prefix in branch.may_be_idle
    )
    wanted = {
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not name.startswith(idle or ("\0",))
    }
    reached = set().union(*(reach.parameters for reach in run.reach if reach.weight))
    assert not wanted - reached, f"nothing trains {sorted(wanted - reached)[:3]}"


def own_terms(run: Any, name: str) -> dict[str, set[str]]:
    """Return a plugin's own terms with those of its own parts and the encoder that they train."""
    found: dict[str, set[str]] = {}
    for reach in run.reach:
        # Identity criteria and their terms, <embedding>/<term>, belong to who fills the slot.
        if reach.weight and reach.term.startswith(f"{name}/") and reach.term.count("/") == 1:
            own = (p for p in reach.parts if p == "encoder" or p.startswith(f"{name}/"))
            parts = {part for part in own if not part.endswith("/identity")}
            found.setdefault(reach.term, set()).update(parts)
    return found


@pytest.mark.parametrize("pair", composition.pairs(), ids=",".join)
def test_a_pair_does_what_the_page_says(pair: tuple[str, str], reid_cache: Path) -> None:
    first, *others = outcomes = composition.try_pair(pair, reid_cache)
    for outcome in outcomes:
        if outcome.run is not None:
            check_training(outcome.run)
    if pair in REFUSED:
        assert first.run is None, f"{pair} train together"
        for word in (f"'{pair[0]}'", f"'{pair[1]}'", REFUSED[pair]):
            assert word in first.message
        assert any(outcome.run is not None for outcome in others), "no choice leads to a run"
    else:
        assert first.run is not None, first.message
        for name in pair:
            assert own_terms(first.run, name) == own_terms(alone(name, reid_cache), name)
    for outcome in others:
        assert outcome.choice.flag in first.message
    section = re.search(rf"^### {', '.join(pair)}\n.*?(?=\n\n##)", PAGE, re.DOTALL | re.MULTILINE)
    assert section, f"{', '.join(pair)} are not in composition.md"
    assert section[0] == composition.describe_pair(pair, outcomes), BEHIND


@pytest.mark.parametrize(
    ("name", "paper"),
    # Beside fsam and san, whose stages take their time, the page alone says what was found.
    sorted(
        {*FURTHER_REFUSED, *((name, "partaware") for name in composition.FURTHER)}
        - {(name, "partaware") for name in APART}
    ),
)
def test_a_further_baseline_does_beside_a_paper_what_the_page_says(
    name: str, paper: str, reid_cache: Path
) -> None:
    line = composition.try_further(name, paper, reid_cache)
    refused = "refused:" in line
    assert refused == ((name, paper) in FURTHER_REFUSED), line
    assert f"\n{line}\n" in PAGE, BEHIND


@pytest.mark.parametrize("number", ALL_AT_ONCE)
def test_all_that_go_together_train_at_once_in_any_order(number: int, reid_cache: Path) -> None:
    run = composition.measure(composition.assemble_all(number, reid_cache))
    check_training(run)
    assert f"{composition.describe_together(number, run)}\n" in PAGE, BEHIND
    reversed_run = Recorder(composition.assemble_all(number, reid_cache, reverse=True))
    reversed_run.fit()
    assert reversed_run.trace == run.trace


@pytest.mark.parametrize("number", ALL_AT_ONCE)
def test_nothing_more_goes_together(number: int, reid_cache: Path) -> None:
    names, choices = composition.TOGETHER[number]
    sections = [choice.sections for choice in choices]
    for name in set(composition.NAMES) - set(names):
        with pytest.raises(ConflictError, match=f"'{name}'"):
            composition.assemble_together([*names, name], reid_cache, *sections)


@pytest.fixture(scope="module")
def second_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of other people with all fields, for ``--also``."""
    folder = tmp_path_factory.mktemp("second") / "shop"
    make_toy(folder, "tiny", seed=1)
    return folder


@pytest.mark.parametrize("name", composition.NAMES)
def test_each_trains_and_is_tested_on_several_sets(
    name: str, reid_cache: Path, second_set: Path
) -> None:
    names = ["toy:tiny", "folder"]
    sections: list[dict[str, Any]] = [
        {"data": {"also": [f"folder={second_set}"], "mixture": "balanced"}},
        {"evaluation": {"data": names}},
    ]
    if name in MIXED_REFUSED:
        with pytest.raises(ConfigError, match=MIXED_REFUSED[name]):
            composition.assemble_together([name], reid_cache, *sections)
        sections[0]["data"]["mixture"] = "natural"
    assembly = composition.assemble_together([name], reid_cache, *sections)
    trainer = Recorder(assembly)
    trainer.fit()
    check_finite(trainer.trace)
    drawn = assembly.ctx.main.samples
    rows = next(assembly.samplers["main"].epoch(0, 1))
    shares = [drawn[row].extra.get("set", 0) for row in rows]
    if name not in MIXED_REFUSED:
        assert shares.count(0) == shares.count(1)
    found = trainer.evaluate("final")
    assert found is not None
    assert [one.results[0].label for one in found.every] == [f"{n}/standard" for n in names]
    assert found.results[0].metrics() != found.further[0].results[0].metrics()


def test_most_of_them_resume_bit_by_bit(reid_cache: Path, tmp_path: Path) -> None:
    number = max(ALL_AT_ONCE, key=lambda n: len(composition.TOGETHER[n][0]))
    longer = {"schedule": {"epochs": 2}}

    def trainer(*, reverse: bool) -> Recorder:
        assembly = composition.assemble_all(number, reid_cache, longer, reverse=reverse)
        return Recorder(assembly, tmp_path / "resume.pt")

    # The run that is saved goes on, as the suite's own check has it: one stands for two.
    whole, second = (trainer(reverse=reverse) for reverse in (False, True))
    whole.train_epoch()
    whole.assembly.ctx.progress.epoch, whole.assembly.ctx.progress.step = 1, 0
    whole.save()
    whole.checkpoint = None
    whole.fit()
    second.resume()
    second.checkpoint = None
    second.fit()
    assert second.trace == whole.trace[-len(second.trace) :]
    resumed = trainable_state(second.assembly.model)
    for name, value in trainable_state(whole.assembly.model).items():
        assert torch.equal(value, resumed[name]), f"'{name}' differs after resuming"


def test_a_frozen_encoder_stays_frozen_under_every_update(reid_cache: Path) -> None:
    sections = {"plugins": {"osnet": {"frozen_epochs": 1}}, "schedule": {"epochs": 2}}
    assembly = composition.assemble_together(["osnet", "san"], reid_cache, sections)
    sharing = [update.name for update in assembly.parts.plan.updates if update.shares]
    assert sharing == ["san/reconstruct"]
    trainer, encoder = Recorder(assembly), assembly.model.encoder

    def moved(before: list[torch.Tensor]) -> list[bool]:
        pairs = zip(before, encoder.parameters(), strict=True)
        return [not torch.equal(old, new) for old, new in pairs]

    before = [parameter.detach().clone() for parameter in encoder.parameters()]
    trainer.train_epoch()
    assert not any(moved(before))
    assembly.ctx.progress.epoch, assembly.ctx.progress.step = 1, 0
    trainer.train_epoch()
    assert any(moved(before))


def test_the_page_has_a_section_for_every_pair_and_a_reason_in_every_cell() -> None:
    headings = re.findall(r"^### (.*)$", PAGE, re.MULTILINE)
    assert headings == [", ".join(pair) for pair in composition.pairs()]
    assert composition.matrix() in PAGE, BEHIND
    for pair in composition.pairs():
        reason = composition.REASONS[pair]
        assert len(reason.why) > 30
        assert all(len(choice.why) > 30 for choice in reason.choices)
        assert (pair in REFUSED) == bool(reason.choices)


def test_the_page_tells_what_every_plugin_does_alone(reid_cache: Path) -> None:
    runs = [alone(name, reid_cache) for name in composition.NAMES]
    for run in runs:
        check_training(run)
    assert f"\n{composition.describe_alone(runs)}\n" in PAGE, BEHIND


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
def test_every_plugin_of_a_distribution_runs_the_conformance_suite(
    distribution: Distribution,
) -> None:
    tests = "".join(path.read_text("utf-8") for path in distribution.folder.glob("tests/test_*.py"))
    for name in distribution.project.get("entry-points", {}).get("reid.plugins", {}):
        assert f'conformance_suite("{name}"' in re.sub(r"\(\s+", "(", tests), name

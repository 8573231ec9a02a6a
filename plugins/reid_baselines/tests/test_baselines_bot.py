"""The bag of tricks: each trick on and off, and the centre loss by hand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from whole_models import Run

from reid_baselines.bot import TRICKS
from reid_core import ConflictError, RunConfig
from reid_core.loop.step import train_step
from reid_core.runs.resolve import resolve
from reid_core.testing import conformance_suite
from reid_core.testing.probe_plugins import PROBES
from reid_core.testing.tiny import tiny_assembly

README = Path(__file__).parents[1] / "README.md"

test_conforms = conformance_suite("bot")


def value(config: RunConfig, key: str) -> Any:
    section, name = key.split(".")
    if section == "bot":
        return config.plugins[section][name]
    return getattr(getattr(config, section), name)


def test_every_trick_is_on_in_the_recipe_and_can_be_turned_off_alone() -> None:
    keys = {key for key, _, _ in TRICKS.values()}
    whole = resolve({}, recipe="bot/market1501").config
    for trick, (key, on, off) in TRICKS.items():
        assert value(whole, key) == on, trick
        section, name = key.split(".")
        flags = {"plugins": {"bot": {name: off}}} if section == "bot" else {section: {name: off}}
        without = resolve(flags, recipe="bot/market1501").config
        assert {k for k in keys if value(without, k) != value(whole, k)} == {key}, trick
        assert value(without, key) == off


def test_the_readme_tells_what_turns_every_trick_off() -> None:
    text = README.read_text("utf-8")
    for trick, (key, on, off) in TRICKS.items():
        row = re.search(rf"^\| {trick} \| `{key}` \| (\S+) \| `-s {key}=(\S+)` \|", text, re.M)
        assert row, trick
        assert (row[1], row[2]) == (f"{on}", f"{off}"), trick


def test_the_plugin_alone_brings_what_the_quick_recipe_lacks() -> None:
    config = resolve({"run": {"plugins": ["bot"]}}).config
    assert (config.augment.erasing, config.identity.label_smoothing) == (0.5, 0.1)
    assert (config.model.neck, config.model.last_stride) == ("bn", "auto")


def test_the_centre_loss_pulls_features_and_moves_centres(reid_cache: Path) -> None:
    run = Run(reid_cache, ("bot",), {"loss_weights": {"bot/pull": 0.0}})
    (main,) = run.assembly.parts.plan.updates
    batches = run.trainer.batches(run.streams)
    step, terms = run.assembly.parts.forward.terms(main, batches)
    pids, raw = step.main.batch.pid, step.main.output("deployed:raw")
    table = run.model.branches["bot/centres"].weight
    assert table.shape == (run.assembly.ctx.num_identities, raw.shape[1])
    apart = (raw - table[pids]).detach().square().sum(1).tolist()
    for name, weight in (("bot/pull", 5e-4), ("bot/move", 1.0)):
        assert terms[name].value.item() == pytest.approx(sum(apart) / len(apart), rel=1e-5)
        assert terms[name].weight == weight
    for name, there in (("bot/pull", False), ("bot/move", True)):
        (found,) = torch.autograd.grad(
            terms[name].value, [table], retain_graph=True, allow_unused=True
        )
        assert (found is not None) is there, name
    before, pid = table.detach().clone(), int(pids[0])
    own = raw.detach()[pids == pid]
    train_step(run.assembly.parts, batches, 0.0)
    wanted = before[pid] - 0.5 * 2 * (before[pid] - own).sum(0) / len(pids)
    assert torch.allclose(table[pid], wanted, atol=1e-5), "its rate is the centres' own"


def test_identities_that_change_have_no_centres(reid_cache: Path) -> None:
    with pytest.raises(ConflictError, match=r"'bot' needs identities.*-s bot\.centre_weight=0"):
        tiny_assembly(("bot", "clustering"), cache=reid_cache, classes=PROBES)
    off = {"plugins": {"bot": {"centre_weight": 0.0}}}
    assert tiny_assembly(("bot", "clustering"), off, cache=reid_cache, classes=PROBES)

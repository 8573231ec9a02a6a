"""After the optimisers' step: who is called, what is kept, which weights are evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from reid_core import (
    Branch,
    ConfigError,
    DeclarationError,
    Embedding,
    Pass,
    Plugin,
    PluginError,
    Schedule,
    UpdateReport,
    Weights,
    hookimpl,
)
from reid_core.loop.weights import chosen_weights
from reid_core.testing.tiny import Recorder, tiny_assembly


class Pooled(nn.Module):
    """A little network on the image."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.layer(image).mean((2, 3))

    def deploy_spec(self) -> dict[str, Any]:
        return {"factory": "test_core_after_step:Pooled", "kwargs": {}}


class Ant(Plugin):
    """A student and its mean teacher, and a count of the steps."""

    steps = 0
    seen: tuple[str, ...] = ()
    rows = 0

    @hookimpl
    def reid_auxiliary_branches(self, ctx: Any, taps: Any) -> list[Branch]:
        student = Pooled()
        shape = Embedding("ant/student", "ant/vector", at_test=False)
        taught = Embedding("ant/teacher", "ant/taught", "none", at_test=False, supervision=None)
        image, kinds = ("image",), {"frozen": True, "moving": True}
        return [
            Branch("ant/student", student, image, ("ant/vector",), (shape,)),
            Branch("ant/teacher", deepcopy(student), image, ("ant/taught",), (taught,), **kinds),  # type: ignore[arg-type]
        ]

    @hookimpl
    def reid_after_step(self, ctx: Any, reports: Mapping[str, UpdateReport]) -> None:
        self.steps += 1
        self.seen = tuple(reports)
        self.rows = len(reports["main"].embedded["ant/student"].unit)
        assert not torch.is_grad_enabled()
        teacher, student = ctx.module("ant/teacher"), ctx.module("ant/student")
        for ours, theirs in zip(teacher.parameters(), student.parameters(), strict=True):
            ours.lerp_(theirs, 0.5)

    def checkpoint_state(self) -> Mapping[str, Any]:
        return {"steps": self.steps}

    def load_checkpoint_state(self, state: Mapping[str, Any]) -> None:
        self.steps = state["steps"]

    @hookimpl
    def reid_weights(self, ctx: Any) -> list[Weights]:
        zeros = {n: torch.zeros_like(v) for n, v in ctx.model.state_dict().items() if "conv1" in n}
        return [
            Weights("ant/zeros", zeros),
            Weights("ant/unknown", {"encoder.con": torch.zeros(1)}),
            Weights("ant/shape", {next(iter(zeros)): torch.zeros(1)}),
        ]


def made(cache: Path, weights: str = "none", checkpoint: Path | None = None) -> Recorder:
    chosen = {"evaluation": {"weights": weights}}
    return Recorder(tiny_assembly(["ant"], chosen, cache=cache, classes={"ant": Ant}), checkpoint)


def test_it_is_called_after_every_step_and_its_state_resumes(
    reid_cache: Path, tmp_path: Path
) -> None:
    whole = made(reid_cache, checkpoint=tmp_path / "whole.pt")
    whole.fit()
    ant = whole.assembly.plugins["ant"]
    assert isinstance(ant, Ant)
    assert (ant.steps, ant.seen, ant.rows) == (4, ("main",), 8)
    half = made(reid_cache, checkpoint=tmp_path / "half.pt")
    half.train_epoch()
    half.assembly.ctx.progress.epoch, half.assembly.ctx.progress.step = 1, 0
    half.save()
    rest = made(reid_cache, checkpoint=tmp_path / "half.pt")
    rest.resume()
    rest.fit()
    assert rest.assembly.plugins["ant"].steps == 4  # type: ignore[attr-defined]
    again = rest.assembly.model.state_dict()
    for name, value in whole.assembly.model.state_dict().items():
        assert value.equal(again[name]), name


def test_the_teacher_moves_without_gradient_and_is_deployed_on_request(
    reid_cache: Path, tmp_path: Path
) -> None:
    trainer = made(reid_cache)
    teacher = trainer.assembly.ctx.module("ant/teacher")
    assert isinstance(teacher, nn.Module)
    before = deepcopy(teacher.state_dict())
    trainer.fit()
    moved = teacher.state_dict()
    assert not any(value.equal(before[name]) for name, value in moved.items())
    assert not any(name.startswith("ant/teacher") for name in trainer.assembly.parts.plan.groups)
    from reid_core.model.embedder import embedder_of

    one = embedder_of(trainer.assembly.model, (64, 32), ["ant/teacher"])
    assert all(v.equal(moved[n.rpartition("ant/teacher.")[2]])
               for n, v in one.state_dict().items() if n.startswith("branches."))  # fmt: skip


def test_chosen_weights_take_their_place_and_give_it_back(reid_cache: Path) -> None:
    trainer = made(reid_cache, "ant/zeros")
    model = trainer.assembly.model
    trained = deepcopy(model.state_dict())
    with chosen_weights(trainer.assembly):
        assert not any(v.any() for n, v in model.state_dict().items() if "conv1" in n)
        model.state_dict()["heads.core/global.neck.running_mean"].fill_(7)
    assert all(value.equal(trained[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("weights", "kind", "said"),
    [
        ("ant/zero", ConfigError, r"none of this name; did you mean 'ant/zeros'\? \(there are:"),
        ("ant/unknown", PluginError, "the model has no 'encoder.con'; did you mean"),
        ("ant/shape", PluginError, r"has shape \(1,\), the model's \("),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    weights: str, kind: type[Exception], said: str, reid_cache: Path
) -> None:
    with pytest.raises(kind, match=said), chosen_weights(made(reid_cache, weights).assembly):
        pass


def test_weights_of_nobody_are_refused_before_the_training(reid_cache: Path) -> None:
    with pytest.raises(ConfigError, match=r"no plugin 'gnu' of this run offers .*do: ant\)"):
        made(reid_cache, "gnu/average")


def test_only_a_frozen_branch_moves() -> None:
    with pytest.raises(DeclarationError, match="moving is for a branch that is frozen"):
        Branch("ant/x", nn.Identity(), moving=True)


class Bee(Ant):
    """Sees the batch with weights of its own, or with somebody's."""

    weights = "bee/zeros"

    @hookimpl
    def reid_auxiliary_branches(self, ctx: Any, taps: Any) -> list[Branch]:
        return []

    @hookimpl
    def reid_after_step(self, ctx: Any, reports: Mapping[str, UpdateReport]) -> None:
        return

    @hookimpl
    def reid_schedule(self, ctx: Any, params: Any) -> Schedule:
        return Schedule(passes=(Pass("bee/other", weights=self.weights),))

    @hookimpl
    def reid_weights(self, ctx: Any) -> list[Weights]:
        state = ctx.model.state_dict().items()
        return [Weights("bee/zeros", {n: v * 0 for n, v in state if "neck.weight" in n})]


def bee(cache: Path, weights: str) -> Recorder:
    classes = {"bee": type("Bee", (Bee,), {"weights": weights})}
    return Recorder(tiny_assembly(["bee"], cache=cache, classes=classes))


def test_a_pass_sees_the_batch_with_other_weights_and_without_a_graph(reid_cache: Path) -> None:
    trainer = bee(reid_cache, "bee/zeros")
    trainer.begin_epoch()
    streams = trainer.streams(1)
    batches, (main,) = trainer.batches(streams), trainer.assembly.parts.plan.updates
    forward: Any = trainer.assembly.parts.forward
    step, terms = forward.terms(main, batches)
    ours, other = (
        step.main.embedded["core/global"],
        step.passes["bee/other"].embedded["core/global"],
    )
    assert torch.equal(other.raw, ours.raw)
    assert other.neck.abs().max() == 0 < ours.neck.abs().max()
    assert not other.raw.requires_grad
    assert ours.neck.requires_grad
    assert step.passes["bee/other"].logits["core/global"].shape[0] == len(other.raw)
    assert set(terms) == {"core/global/ce", "core/global/triplet"}, "its criteria sum nothing"
    for stream in streams.values():
        stream.close()


def test_weights_that_nobody_offers_are_as_they_are_trained_or_refused(reid_cache: Path) -> None:
    trainer = bee(reid_cache, "bee/later")
    trainer.train_epoch()
    with pytest.raises(ConfigError, match=r"pass 'bee/other': weights = 'ant/zeros': no plugin"):
        bee(reid_cache, "ant/zeros")


def test_a_pass_with_weights_supervises_nothing() -> None:
    with pytest.raises(DeclarationError, match=r"Pass 'bee/other': with weights it has no graph"):
        Pass("bee/other", weights="bee/zeros", shared=True)
    with pytest.raises(DeclarationError, match=r"leave shared and of out"):
        Pass("bee/other", weights="bee/zeros", of="main", detached=True)

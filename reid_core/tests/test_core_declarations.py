"""What plugins declare is checked where it is declared: one line, with the nearest right word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from reid_core import (
    Branch,
    ConfigError,
    DataProvider,
    DeclarationError,
    Embedding,
    FieldKind,
    FieldSpec,
    Group,
    Labeler,
    LossTerm,
    Need,
    Optimiser,
    Pass,
    Plugin,
    PluginError,
    Schedule,
    SourceRequest,
    Stage,
    Start,
    Supervision,
    Synthetic,
    UnknownNameError,
    Update,
    hookimpl,
)
from reid_core.plugins.slots import assign_slots
from reid_core.testing.tiny import Recorder, tiny_assembly

ROWS = torch.zeros(1, dtype=torch.int64)
SPEC = FieldSpec("ant/x", FieldKind.SCALAR)


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda: Optimiser("SGD", lr=1), "name = 'SGD' is none of .*; did you mean 'sgd'"),
        (lambda: Embedding("a/b", "a/c", test_vector="feat"), "test_vector = 'feat' .*raw, neck"),  # type: ignore[arg-type]
        (lambda: Embedding("a/b", "a/c", neck="bnn"), "neck = 'bnn' .*did you mean 'bn'"),
        (lambda: Supervision(triplet="unti"), "triplet = 'unti' .*did you mean 'unit'"),  # type: ignore[arg-type]
        (lambda: Supervision(cross_entropy=""), "cross_entropy = '' is none of raw"),  # type: ignore[arg-type]
        (lambda: Pass("a/b", bn="eval"), "Pass 'a/b': bn = 'eval' is none of update, batch, run"),  # type: ignore[arg-type]
        (lambda: Pass("a/b", image="dirty"), "image = 'dirty' is none of auto, clean, erased"),  # type: ignore[arg-type]
        (lambda: Labeler(SPEC, len, when="epochs"), "when = 'epochs' .*did you mean 'epoch'"),  # type: ignore[arg-type]
        (lambda: FieldSpec("a/b", "scaler"), "FieldSpec 'a/b': .*did you mean 'scalar'"),  # type: ignore[arg-type]
        (lambda: DataProvider("a", len, kind="set"), "kind = 'set' is none of dataset, source"),  # type: ignore[arg-type]
        (lambda: Synthetic("a/b", ROWS, ROWS, ROWS, "joined"), "did you mean 'join'"),  # type: ignore[arg-type]
        (lambda: Branch("a/b", len, reads="image"), r"Branch 'a/b'.*reads=\('image',\)"),  # type: ignore[arg-type]
        (lambda: Branch("a/b", len, writes="a/c"), r"writes=\('a/c',\)"),  # type: ignore[arg-type]
        (lambda: Branch("a/b", len, embeddings=Embedding("a/b", "a/c")), "bare Embedding"),  # type: ignore[arg-type]
        (lambda: Group("a/b", "a/c"), r"parameters=\('a/c',\)"),  # type: ignore[arg-type]
        (lambda: Pass("a/b", branches="*"), r"branches=\('\*',\)"),  # type: ignore[arg-type]
        (lambda: Update("a/b", terms="*"), r"terms=\('\*',\)"),  # type: ignore[arg-type]
        (lambda: Update("a/b", passes=Pass("a/c")), "passes is a bare Pass"),  # type: ignore[arg-type]
        (lambda: Update("a/b", every=(2, 2)), "period must be 1 or more"),
        (lambda: Schedule(groups=Group("a/b", ())), "groups is a bare Group"),  # type: ignore[arg-type]
        (lambda: Start(Stage("a/b"), "encoder.*"), r"entries=\('encoder\.\*',\)"),  # type: ignore[arg-type]
        (lambda: SourceRequest("a/b", "parts"), r"fields=\('parts',\)"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_word_is_refused_where_it_is_written(
    declare: Callable[[], object], said: str
) -> None:
    with pytest.raises(DeclarationError, match=said) as caught:
        declare()
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError), "what a dataclass refuses is a ValueError"


def test_a_kind_may_be_written_as_its_word() -> None:
    assert FieldSpec("ant/x", "scalar").kind is FieldKind.SCALAR  # type: ignore[arg-type]


def ant(**members: Any) -> dict[str, type[Plugin]]:
    return {"ant": type("Ant", (Plugin,), members)}


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"claims": "identity"}, r"'ant': claims is a bare 'identity'; write claims = \('id"),
        ({"needs": Need("parts")}, r"'ant': needs is a bare Need\(\.\.\.\); write needs = "),
        ({"needs": ("parts",)}, r"'ant': needs must hold Need alone, got 'parts'"),
        ({"needs": 3}, r"'ant': needs must be a tuple of Need, got 3"),
        ({"sources": SourceRequest("ant/x")}, r"'ant': sources is a bare SourceRequest"),
    ],
)
def test_a_bare_one_in_place_of_several_is_named(
    members: dict[str, Any], said: str, reid_cache: Path
) -> None:
    with pytest.raises(DeclarationError, match=said):
        tiny_assembly(["ant"], cache=reid_cache, classes=ant(**members))


@pytest.mark.parametrize(
    ("branches", "refused"),
    [(("cora/*",), True), (("core/*",), False), (("ant/*", "gnu/*"), False), ((), False)],
)
def test_patterns_of_branches_that_are_nobodys_are_refused(
    branches: tuple[str, ...], refused: bool, reid_cache: Path
) -> None:
    def plan(self: Plugin, ctx: Any, params: Any) -> Schedule:
        return Schedule(passes=(Pass("ant/again", branches=branches),))

    classes = ant(reid_schedule=hookimpl(plan))
    if refused:
        with pytest.raises(PluginError, match=r"pass 'ant/again'.*did you mean 'core/\*'"):
            tiny_assembly(["ant"], cache=reid_cache, classes=classes)
    else:
        tiny_assembly(["ant"], cache=reid_cache, classes=classes)


def failing(answer: Callable[[Any, Any], Any], cache: Path) -> str:
    """Train with a loss that asks for something; return what the error says."""

    def losses(self: Plugin, ctx: Any, step: Any) -> list[LossTerm]:
        answer(ctx, step)
        return []

    trainer = Recorder(
        tiny_assembly(["ant"], cache=cache, classes=ant(reid_losses=hookimpl(losses)))
    )
    with pytest.raises(UnknownNameError) as caught:
        trainer.fit()
    assert isinstance(caught.value, KeyError), "a plugin may expect a KeyError of a mapping"
    return str(caught.value)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda ctx, step: step.passes["ant/x"], "update 'main' has no pass 'ant/x' (there are: m"),
        (lambda ctx, step: step.main.embedded["core/globe"], "no embedding 'core/globe'; did you"),
        (lambda ctx, step: step.main.embedding("x"), "no embedding 'x' (there are: core/global)"),
        (lambda ctx, step: step.main.logits["x"], "no logits of the embedding 'x'"),
        (lambda ctx, step: step.main.feats["core/pool"], "did you mean 'core/pooled'"),
        (lambda ctx, step: step.main.output("x"), "no output 'x'"),
        (lambda ctx, step: step.main.batch.fields["parts"], "no field 'parts' (there are: none); "),
        (lambda ctx, step: ctx.module("core/pol"), "there is no branch 'core/pol'; did you mean"),
        (lambda ctx, step: ctx.criterion("x"), "no identity criterion of the embedding 'x'"),
    ],
)
def test_what_is_not_there_is_named_with_plugin_and_hook(
    ask: Callable[[Any, Any], Any], said: str, reid_cache: Path
) -> None:
    found = failing(ask, reid_cache)
    assert found.startswith("plugin 'ant', hook reid_losses: ")
    assert said in found


def test_the_main_pass_of_another_update_is_refused_with_the_remedy() -> None:
    from reid_core.contract.views import StepView

    step = StepView(Update("ant/learn"), 0, 0, {})
    with pytest.raises(UnknownNameError, match=r"'ant/learn' has no pass 'main'.*step\.update fi"):
        _ = step.main


def test_a_wrong_word_in_a_hook_names_plugin_and_hook(reid_cache: Path) -> None:
    def plan(self: Plugin, ctx: Any, params: Any) -> Schedule:
        return Schedule(passes=(Pass("ant/again", bn="eval"),))  # type: ignore[arg-type]

    with pytest.raises(DeclarationError, match=r"^plugin 'ant', hook reid_schedule: Pass 'ant/ag"):
        tiny_assembly(["ant"], cache=reid_cache, classes=ant(reid_schedule=hookimpl(plan)))


def test_an_error_inside_a_stage_names_the_stage(reid_cache: Path) -> None:
    def branches(self: Plugin, ctx: Any, taps: Any) -> list[Branch]:
        ctx.stage(Stage("ant/teacher", settings={"model": {"backbone": "test_resent"}}))
        return []

    classes = ant(reid_auxiliary_branches=hookimpl(branches))
    with pytest.raises(ConfigError, match=r"^stage 'ant/teacher': .*test_resent"):
        tiny_assembly(["ant"], cache=reid_cache, classes=classes)


def test_the_user_may_give_a_slot_back_to_the_core() -> None:
    def claimant(*slots: str) -> dict[str, Plugin]:
        hooks = {"reid_identity": None, "reid_pseudo_labels": None}
        return {"ant": type("Ant", (Plugin,), {"claims": slots, **hooks})("ant")}

    assert assign_slots(claimant("identity"), {"identity": "core"})["identity"] == "core"
    with pytest.raises(ConfigError, match=r"'core' does not claim it; name one .*\(ant\)$"):
        assign_slots(claimant("labels:pid"), {"labels:pid": "core"})
    with pytest.raises(ConfigError, match=r"'gnu' does not claim it.*\(ant\); or leave it to core"):
        assign_slots(claimant("identity"), {"identity": "gnu"})

"""The hook contract: what an implementation may look like, what it may return, who is asked."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pluggy
import pytest

from reid_core.contract import hookspecs
from reid_core.contract.events import EpochEnded, Event
from reid_core.contract.hookspecs import HOOKS, hookimpl
from reid_core.contract.plugin import Plugin
from reid_core.errors import PluginError
from reid_core.plugins.calls import HookCalls

marker = pluggy.HookimplMarker("reid")


def calls_of(*classes: type[Plugin]) -> HookCalls:
    return HookCalls({cls.__name__.lower(): cls(cls.__name__.lower()) for cls in classes})


def context(seed: int = 0) -> Any:
    config = SimpleNamespace(run=SimpleNamespace(seed=seed))
    device, progress = SimpleNamespace(type="cpu"), SimpleNamespace(iteration=0)
    return SimpleNamespace(config=config, device=device, progress=progress, rank=0)


def test_every_hook_is_specified_and_documented() -> None:
    specified = [name for name in vars(hookspecs) if name.startswith("reid_")]
    assert sorted(specified) == sorted(HOOKS)
    for name in HOOKS:
        assert len(getattr(hookspecs, name).__doc__.split()) > 20, f"{name} says too little"


def test_a_misspelt_hook_is_answered_with_the_nearest() -> None:
    class Zebra(Plugin):
        @hookimpl
        def reid_loses(self, ctx: Any) -> list[Any]:
            return []

    with pytest.raises(
        PluginError, match=r"'zebra'.*no hook 'reid_loses'; did you mean 'reid_losses'\?"
    ):
        calls_of(Zebra)


def test_a_method_that_is_named_like_a_hook_must_be_marked() -> None:
    class Zebra(Plugin):
        def reid_losses(self, ctx: Any, step: Any) -> list[Any]:
            return []

    with pytest.raises(PluginError, match=r"'zebra'.*reid_losses.*hookimpl"):
        calls_of(Zebra)


def test_an_argument_that_the_specification_lacks_is_named() -> None:
    class Zebra(Plugin):
        @hookimpl
        def reid_losses(self, ctx: Any, stride: Any) -> list[Any]:
            return []

    with pytest.raises(PluginError, match=r"'zebra'.*reid-core .*stride.*reid_losses"):
        calls_of(Zebra)


@pytest.mark.parametrize("option", ["tryfirst", "trylast", "wrapper", "optionalhook"])
def test_ordering_options_are_refused(option: str) -> None:
    def implementation(self: Any, ctx: Any, step: Any) -> Any:
        yield

    method = marker(**{option: True})(implementation)
    cls = type("Zebra", (Plugin,), {"reid_losses": method})
    with pytest.raises(PluginError, match=rf"'zebra', hook reid_losses: {option} is not allowed"):
        calls_of(cls)


def in_order(self: Any, ctx: Any, step: Any = None) -> list[Any]:
    return []


def behind_a_star(self: Any, ctx: Any, *, step: Any = None) -> list[Any]:
    return []


@pytest.mark.parametrize("implementation", [in_order, behind_a_star])
def test_an_argument_default_is_refused(implementation: Any) -> None:
    cls = type("Zebra", (Plugin,), {"reid_losses": hookimpl(implementation)})
    with pytest.raises(PluginError, match=r"'zebra', hook reid_losses: argument 'step' has a def"):
        calls_of(cls)


@pytest.mark.parametrize(("answer", "kind"), [(None, "NoneType"), ({}, "dict"), ("ab", "str")])
def test_a_hook_that_returns_no_list_is_named(answer: Any, kind: str) -> None:
    class Zebra(Plugin):
        @hookimpl
        def reid_datasets(self) -> Any:
            return answer

    with pytest.raises(PluginError, match=rf"'zebra', hook reid_datasets:.*list.*{kind}"):
        calls_of(Zebra).offered("datasets")


def test_one_item_in_place_of_a_list_is_named() -> None:
    class Zebra(Plugin):
        @hookimpl
        def reid_losses(self) -> Any:
            return SimpleNamespace(name="zebra/one")

    with pytest.raises(PluginError, match=r"'zebra', hook reid_losses:.*list"):
        calls_of(Zebra).losses(context(), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("answer", [None, [], {}])
def test_a_schedule_that_is_none_is_named(answer: Any) -> None:
    class Zebra(Plugin):
        @hookimpl
        def reid_schedule(self) -> Any:
            return answer

    with pytest.raises(PluginError, match=r"'zebra', hook reid_schedule:.*Schedule"):
        calls_of(Zebra).schedules(context(), {})


def test_the_owner_of_a_slot_must_return_something() -> None:
    class Zebra(Plugin):
        @hookimpl
        def reid_backbone(self) -> Any:
            return None

        @hookimpl
        def reid_identity(self) -> Any:
            return None

    calls, ctx = calls_of(Zebra), context()
    with pytest.raises(PluginError, match=r"'zebra', hook reid_backbone:.*Encoder"):
        calls.backbone("zebra", ctx)
    with pytest.raises(PluginError, match=r"'zebra', hook reid_identity:.*IdentityCriterion"):
        calls.identity("zebra", ctx, SimpleNamespace(name="a/b"), {})  # type: ignore[arg-type]


def test_plugins_are_called_in_name_order_with_their_names() -> None:
    made = {}
    for name in ("gnu", "zebra", "ant"):
        method = hookimpl(lambda self: [self.name.upper()])
        made[name] = type(name.title(), (Plugin,), {"reid_datasets": method})(name)
    expected = [("ant", "ANT"), ("gnu", "GNU"), ("zebra", "ZEBRA")]
    assert HookCalls(made).offered("datasets") == expected
    assert HookCalls(dict(reversed(made.items()))).offered("datasets") == expected


def test_an_implementation_gets_the_arguments_that_it_names() -> None:
    seen = []

    class Zebra(Plugin):
        @hookimpl
        def reid_schedule(self, params: Any) -> Any:
            from reid_core.contract.step import Schedule

            seen.append(params)
            return Schedule()

    calls_of(Zebra).schedules(context(), {"encoder": ("a",)})
    assert seen == [{"encoder": ("a",)}]


def test_only_the_owner_of_a_slot_is_asked() -> None:
    encoder = object()
    asked = []

    def asking(answer: Any) -> Any:
        def implementation(self: Any) -> Any:
            asked.append(self.name)
            return answer

        return hookimpl(implementation)

    calls = calls_of(
        type("Ant", (Plugin,), {"reid_backbone": asking(None)}),
        type("Gnu", (Plugin,), {"reid_backbone": asking(encoder)}),
    )
    with suppress(PluginError):  # what was returned is no encoder; who was asked is the point
        calls.backbone("gnu", context())
    assert asked == ["gnu"]
    with pytest.raises(PluginError, match=r"'zebra'.*does not implement reid_backbone"):
        calls.backbone("zebra", context())


def test_each_plugin_builds_in_a_random_scope_of_its_own() -> None:
    import torch

    drawn: dict[str, float] = {}

    def draw(self: Any) -> list[Any]:
        drawn[self.name] = float(torch.rand(()))
        return []

    def plugin(name: str) -> type[Plugin]:
        return type(name, (Plugin,), {"reid_auxiliary_branches": hookimpl(draw)})

    calls_of(plugin("Gnu")).auxiliary_branches(context(), {})
    alone = drawn["gnu"]
    state = torch.get_rng_state()
    calls_of(plugin("Ant"), plugin("Gnu")).auxiliary_branches(context(), {})
    assert drawn["gnu"] == alone, "another plugin moved the draw"
    assert drawn["ant"] != alone
    assert torch.equal(torch.get_rng_state(), state), "the global stream moved"
    calls_of(plugin("Gnu")).auxiliary_branches(context(seed=1), {})
    assert drawn["gnu"] != alone


def test_an_observer_that_fails_is_reported_once_and_dropped() -> None:
    seen: list[str] = []

    class Ant(Plugin):
        @hookimpl
        def reid_observe(self, event: Event) -> None:
            raise OSError("disk full")

    class Gnu(Plugin):
        @hookimpl
        def reid_observe(self, event: Event) -> None:
            seen.append(type(event).__name__)

    calls, reports = calls_of(Ant, Gnu), []
    for _ in range(3):
        calls.observe(EpochEnded(0, 1), reports.append)
    assert seen == ["EpochEnded"] * 3
    assert len(reports) == 1
    for word in ("'ant'", "EpochEnded", "OSError", "disk full", "dropped"):
        assert word in reports[0]


def test_an_observer_is_not_caught_when_the_user_interrupts() -> None:
    class Ant(Plugin):
        @hookimpl
        def reid_observe(self, event: Event) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calls_of(Ant).observe(EpochEnded(0, 1), print)


def test_the_core_observes_into_the_runs_folder(tmp_path: Path) -> None:
    from reid_core.config import RunConfig
    from reid_core.contract.events import RunBegan, RunEnded, StepEnded
    from reid_core.defaults import Core

    calls = HookCalls({"core": Core("core")})
    config = RunConfig.model_validate({"engine": {"tensorboard": False}})
    for event in (
        RunBegan(config, tmp_path, {}),
        StepEnded(0, 3, {"loss/x": 1.5}),
        RunEnded(tmp_path, "finished", {"images": 8}),
    ):
        calls.observe(event, print)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["step", "end"]
    assert (lines[0]["iteration"], lines[0]["loss/x"]) == (3, 1.5)
    assert (lines[1]["outcome"], lines[1]["images"]) == ("finished", 8)


def test_a_fault_in_a_hook_says_whose_it_is() -> None:
    class Zebra(Plugin):
        @hookimpl
        def reid_losses(self) -> Any:
            return [1 / 0]

    with pytest.raises(ZeroDivisionError) as caught:
        calls_of(Zebra).losses(context(), None)  # type: ignore[arg-type]
    assert caught.value.__notes__ == ["in plugin 'zebra', hook reid_losses"]

"""What cannot work is refused before the first stage trains; starts skip nothing in silence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from reid_core import (
    Branch,
    ConfigError,
    ConflictError,
    DataError,
    DataProvider,
    Group,
    Labeler,
    Plugin,
    PluginError,
    RunContext,
    Schedule,
    Settings,
    SourceRequest,
    Stage,
    Start,
    Tap,
    hookimpl,
)
from reid_core.config import RunConfig
from reid_core.data.draws import in_order
from reid_core.runs.assembly.assembling import assemble
from reid_core.runs.resolve import Resolved, resolve
from reid_core.runs.stages import Stages
from reid_core.testing.probe_plugins import PROBES
from reid_core.testing.probes_of_data import Staged
from reid_core.testing.tiny import tiny_assembly, tiny_flags

PARTS = {"labels": {"parts": "staged"}, "plugins": {"staged": {"teacher": False}}}


class Misread(Plugin):
    """Reads what nobody writes, which only building the model shows."""

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        return [Branch(self.own("head"), nn.Identity(), ("encoder/nothing",), (self.own("out"),))]


class Regrouped(Plugin):
    """Groups what it has no right to, which only the merged schedule shows."""

    @hookimpl
    def reid_schedule(self, ctx: RunContext, params: Mapping[str, Sequence[str]]) -> Schedule:
        return Schedule(groups=tuple(Group(self.own(name), ("encoder",)) for name in "ab"))


class Unexampled(Staged):
    """Makes its labels without an example."""

    @hookimpl
    def reid_pseudo_labels(self, ctx: RunContext) -> list[Labeler]:
        return [replace(one, example=None) for one in super().reid_pseudo_labels(ctx)]


@pytest.mark.parametrize(
    ("beside", "settings", "error", "message"),
    [
        (None, {"data": {"batch_size": 64}}, ConfigError, "needs 32 identities"),
        (Misread, {}, PluginError, "encoder/nothing"),
        (Regrouped, {}, ConflictError, "is in two groups"),
        (None, {"evaluation": {"embed": ["nobody/here"]}}, Exception, "nobody/here"),
    ],
)
@pytest.mark.parametrize("by", ["labels", "teacher"])
def test_what_cannot_work_is_refused_before_the_first_stage_trains(
    own_cache: Path,
    by: str,
    beside: type[Plugin] | None,
    settings: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    classes = PROBES if beside is None else {**PROBES, "zbeside": beside}
    names = ("head", "staged") if beside is None else ("head", "staged", "zbeside")
    layers = (PARTS, settings) if by == "labels" else (settings,)
    with pytest.raises(error, match=message):
        tiny_assembly(names, *layers, cache=own_cache, classes=classes)
    assert not (own_cache / "stages").exists()
    assert not (own_cache / "labels").exists()


def test_a_labeler_without_an_example_is_tried_when_its_labels_are_there(own_cache: Path) -> None:
    classes = {**PROBES, "staged": Unexampled, "zbeside": Misread}
    names = ("head", "staged", "zbeside")
    with pytest.raises(PluginError, match="encoder/nothing"):
        tiny_assembly(names, PARTS, cache=own_cache, classes=classes)
    assert (own_cache / "stages").exists()


def test_a_run_is_tried_once_and_not_when_its_stages_are_there(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    renewed = Resolved.renewed

    def counted(self: Resolved) -> Resolved:
        tried.append(1)
        return renewed(self)

    monkeypatch.setattr(Resolved, "renewed", counted)
    both = {"labels": {"parts": "staged"}}  # a parser and a teacher
    first = tiny_assembly(("head", "staged"), both, cache=own_cache, classes=PROBES)
    assert len(tried) == 1
    again = tiny_assembly(("head", "staged"), both, cache=own_cache, classes=PROBES)
    assert len(tried) == 1
    tiny_assembly(("head",), cache=own_cache, classes=PROBES)
    assert len(tried) == 1, "a run without stages needs no trial"
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


# Starts -----------------------------------------------------------------------------------------


class WideSettings(Settings):
    channels: int = 4
    centred: bool = True
    optional: tuple[str, ...] = ()
    start: bool = True


class Layer(nn.Module):
    """A convolution, and a buffer that may be left out."""

    def __init__(self, settings: WideSettings, read: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(read, settings.channels, 1)
        self.register_buffer("centre", torch.ones(3) if settings.centred else None)

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        return self.layer(feature)  # type: ignore[no-any-return]


class Wide(Plugin):
    """Starts a branch from a stage that may have been built with other settings."""

    Settings = WideSettings
    theirs: ClassVar[Mapping[str, Any]] = {}

    def starts(self, config: RunConfig) -> tuple[Start, ...]:
        if not self.settings.start:
            return ()
        sections = {
            "schedule": {"epochs": 1, "iterations_per_epoch": 2},
            "plugins": {"wide": {"start": False, **self.theirs}},
        }
        stage = Stage("wide/first", {"wide": type(self)}, sections)
        entries, optional = ("branches.wide/layer.*",), self.settings.optional
        return (Start(stage, entries, "set -s wide.start=false", optional),)

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        module = Layer(self.settings, taps["encoder/map"].channels)
        writes, idle = (self.own("out"),), ("layer",)
        reads = ("encoder/map",)
        return [Branch(self.own("layer"), module, reads, writes, may_be_idle=idle)]


class WideWithoutCentre(Wide):
    theirs: ClassVar[Mapping[str, Any]] = {"centred": False}


class Wider(Wide):
    theirs: ClassVar[Mapping[str, Any]] = {"channels": 5}


def start(cls: type[Plugin], cache: Path, **settings: Any) -> Any:
    layer = {"plugins": {"wide": settings}}
    return tiny_assembly(("wide",), layer, cache=cache, classes={"wide": cls})


def test_a_start_from_a_stage_that_lacks_an_entry_is_refused(own_cache: Path) -> None:
    missing = r"branches\.wide/layer\.centre is in the run's model alone"
    with pytest.raises(PluginError, match=rf"'wide/first'.* 1 entries.*{missing}.*wide\.start"):
        start(WideWithoutCentre, own_cache)
    foreign = r"branches\.wide/layer\.centre is in the stage alone"
    with pytest.raises(PluginError, match=foreign):
        start(Wide, own_cache, centred=False)
    assert not (own_cache / "stages").exists(), "that is seen before the stage trains"


def test_a_start_from_a_stage_of_another_shape_is_refused(own_cache: Path) -> None:
    with pytest.raises(PluginError, match=r"layer\.bias is \(5,\), in the run's model \(4,\)"):
        start(Wider, own_cache, optional=("branches.wide/layer.layer.weight",))


def test_what_may_differ_is_skipped_and_said(own_cache: Path) -> None:
    said: list[str] = []
    settings = {"plugins": {"wide": {"centred": False, "optional": ("*.centre",)}}}
    resolved = resolve(tiny_flags(("wide",), settings), classes={"wide": Wide})
    assemble(resolved, cache=own_cache, say=said.append, stages=Stages())
    line = "[wide/first] 1 entries start nothing in the run's model: branches.wide/layer.centre"
    assert line in said


# Sources ----------------------------------------------------------------------------------------


class Offers(Plugin):
    """Offers images without a texture, and a data set, neither of which it can load."""

    @hookimpl
    def reid_datasets(self) -> list[DataProvider]:
        return [
            DataProvider("bare", self._load, kind="source", fields=("parts",)),
            DataProvider("whole", self._load),
        ]

    def _load(self, request: Any) -> Any:
        raise AssertionError("it was loaded before it was looked at")


class Asks(Plugin):
    """Asks for images with a texture."""

    sources = (SourceRequest("asks/pairs", fields=("texture",)),)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bare", r"asks/pairs=bare: plugin 'asks' needs texture, which it does not carry \(parts"),
        ("whole", r"asks/pairs=whole: 'whole' is no training source"),
    ],
)
def test_a_source_that_does_not_fit_is_refused_before_it_is_made(
    own_cache: Path, name: str, message: str
) -> None:
    classes = {"asks": Asks, "offers": Offers}
    chosen = {"sources": {"asks/pairs": name}}
    with pytest.raises(DataError, match=message):
        tiny_assembly(("asks", "offers"), chosen, cache=own_cache, classes=classes)


def test_a_source_may_be_left_as_it_is(own_cache: Path) -> None:
    class Plain(Plugin):
        sources = (SourceRequest("asks/pairs", fields=("texture",), augment=False),)

    strong = {"augment": {"flip": 1.0, "pad": 4, "erasing": 1.0, "brightness": 0.5}}
    for cls, touched in ((Asks, True), (Plain, False)):
        assembly = tiny_assembly(("asks",), strong, cache=own_cache, classes={"asks": cls})
        loaders = assembly.loaders
        for name, loader in loaders.items():
            expected = touched or name == "main"
            policies = (loader.policy, loader.erasing, loader.photometric)
            assert [policy is not None for policy in policies] == [expected] * 3, name
        host = next(iter(loaders["asks/pairs"].load(in_order(4, 4), 0)))
        batch = assembly.prepare(host, assembly.ctx.device)
        assert (batch.erased is not None) == touched

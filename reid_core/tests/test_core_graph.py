"""The training model: the order of branches, what they read and write, frozen ones."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from reid_core.contract.hookspecs import hookimpl
from reid_core.contract.model import Branch, Embedding
from reid_core.contract.plugin import Plugin
from reid_core.errors import ConflictError, PluginError
from reid_core.loop.assembly import Assembly
from reid_core.model.graph import order_branches, tap_of, written_by
from reid_core.testing.probe_plugins import PROBES
from reid_core.testing.tiny import Recorder, tiny_assembly

TAPS = ("encoder/stage1", "encoder/map")


def branch(name: str, reads: tuple[str, ...], *writes: str, **options: Any) -> tuple[str, Branch]:
    owner = name.partition("/")[0]
    return owner, Branch(name, nn.Identity(), reads, writes, **options)


def ordered(*owned: tuple[str, Branch], fields: tuple[str, ...] = ()) -> list[str]:
    return [b.name for b in order_branches(owned, TAPS, fields)]


def test_branches_run_after_those_that_they_read() -> None:
    chain = (
        branch("ant/last", ("zebra/middle",), "ant/out"),
        branch("gnu/first", ("encoder/map",), "gnu/start"),
        branch("zebra/second", ("gnu/start", "image", "parts"), "zebra/middle"),
    )
    expected = ["gnu/first", "zebra/second", "ant/last"]
    assert ordered(*chain, fields=("parts",)) == expected
    assert ordered(*reversed(chain), fields=("parts",)) == expected


def test_branches_without_an_order_run_by_name() -> None:
    owned = [branch(f"{o}/run", ("encoder/map",)) for o in ("gnu", "zebra", "ant")]
    assert ordered(*owned) == ["ant/run", "gnu/run", "zebra/run"]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_order_does_not_depend_on_the_order_of_plugins(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 7))
    owned = []
    for i in range(count):
        before = data.draw(st.sets(st.integers(0, i - 1), max_size=3)) if i else set()
        reads = ("encoder/map", *(f"p{j}/out" for j in sorted(before)))
        owned.append(branch(f"p{i}/run", reads, f"p{i}/out"))
    names = ordered(*owned)
    shuffled = data.draw(st.permutations(owned))
    assert ordered(*shuffled) == names
    place = {name: i for i, name in enumerate(names)}
    for _, one in owned:
        for read in one.reads[1:]:
            assert place[read.replace("/out", "/run")] < place[one.name]


def test_branches_that_read_each_other_are_a_circle() -> None:
    with pytest.raises(PluginError, match=r"circle: .*(ant/a -> gnu/b|gnu/b -> ant/a)"):
        ordered(branch("ant/a", ("gnu/out",), "ant/out"), branch("gnu/b", ("ant/out",), "gnu/out"))


def test_a_branch_that_reads_itself_is_a_circle() -> None:
    with pytest.raises(PluginError, match=r"circle: ant/a -> ant/a"):
        ordered(branch("ant/a", ("ant/out",), "ant/out"))


@pytest.mark.parametrize(
    ("owned", "message"),
    [
        (branch("ant/a", ("encoder/stage2",)), r"'ant/a' reads 'encoder/stage2'.*'encoder/stage1'"),
        (branch("ant/a", ("part",)), r"'ant/a' reads 'part', which nobody provides.*'parts'"),
        (
            branch("ant/a", ("image",), "ant/x", embeddings=(Embedding("ant/e", "ant/y"),)),
            r"'ant/a' reads 'ant/y'.*did you mean 'ant/x'",
        ),
        (branch("ant/a", ("image",), "gnu/x"), r"'ant': output 'gnu/x' is outside"),
        (branch("ant/a", ("image",), "x"), r"'ant': output 'x' is outside"),
        (
            branch("ant/a", ("image",), "ant/x", embeddings=(Embedding("core/e", "ant/x"),)),
            r"'ant': embedding 'core/e' is outside",
        ),
    ],
)
def test_unknown_reads_and_foreign_names_are_refused(
    owned: tuple[str, Branch], message: str
) -> None:
    with pytest.raises(PluginError, match=message):
        ordered(owned, fields=("parts",))


def test_a_branch_outside_its_owners_names_is_refused() -> None:
    foreign = Branch("gnu/a", nn.Identity(), ("image",))
    with pytest.raises(PluginError, match=r"'ant': branch 'gnu/a' is outside"):
        ordered(("ant", foreign))


def test_two_writers_of_one_output_are_both_named() -> None:
    with pytest.raises(ConflictError, match=r"'ant/x' is written by 'ant/a' and by 'ant/b'"):
        ordered(branch("ant/a", ("image",), "ant/x"), branch("ant/b", ("image",), "ant/x"))


def test_two_branches_or_embeddings_of_one_name_are_refused() -> None:
    with pytest.raises(ConflictError, match=r"branch 'ant/a' is declared by 'ant' twice"):
        ordered(branch("ant/a", ("image",)), branch("ant/a", ("image",)))
    twice = Embedding("ant/e", "encoder/map")
    with pytest.raises(ConflictError, match=r"embedding 'ant/e' is declared by 'ant' twice"):
        ordered(branch("ant/a", ("image",), embeddings=(twice, twice)))


def test_a_branch_returns_as_many_tensors_as_it_declares() -> None:
    _, two = branch("ant/a", ("image",), "ant/x", "ant/y")
    x, y = torch.zeros(1), torch.ones(1)
    assert written_by(two, (x, y)) == {"ant/x": x, "ant/y": y}
    with pytest.raises(PluginError, match=r"'ant/a' returned 1 tensors and declares 2 outputs"):
        written_by(two, x)
    _, none = branch("ant/b", ("image",))
    assert written_by(none, ()) == {}
    with pytest.raises(PluginError, match=r"'ant/b' returned 1 tensors.*\(none\)"):
        written_by(none, x)


def test_a_tap_tells_maps_from_vectors() -> None:
    assert tap_of("a/x", torch.zeros(2, 7, 16, 8), 64).stride == 4
    vector = tap_of("a/x", torch.zeros(2, 7), 64)
    assert (vector.channels, vector.stride) == (7, 0)
    assert tap_of("a/x", torch.zeros(2, 7, 1, 1), 64).stride == 0


def probes(cache: Path, *names: str, **settings: Any) -> Assembly:
    return tiny_assembly(names, settings, cache=cache, classes=PROBES)


def outputs_of(assembly: Assembly, image: Tensor) -> dict[str, Tensor]:
    model = assembly.model
    return model.run(image, {}, "main", ("*",), lambda part: nullcontext())


def test_a_head_stands_on_a_stream_that_it_does_not_know(reid_cache: Path) -> None:
    on_stream = {"plugins": {"head": {"stream": "stream/map"}}}
    for names in (("head", "stream"), ("stream", "head")):
        assembly = probes(reid_cache, *names, **on_stream)
        order = list(assembly.model.declarations)
        assert order.index("stream/live") < order.index("head/head")
        head = assembly.ctx.module("head/head")
        assert head[1].in_channels == 16  # type: ignore[index]
        found = outputs_of(assembly, torch.randn(2, 3, 64, 32))
        assert found["head/logits"].shape == (2, 8, 8, 4)
    trainer = Recorder(assembly)
    trainer.train_epoch()
    assert "head/parts" in trainer.metrics.seen
    alone = probes(reid_cache, "head")
    assert alone.ctx.module("head/head")[1].in_channels == alone.model.encoder.taps[-1].channels  # type: ignore[index]


def test_a_head_on_a_stream_that_is_not_there_is_refused(reid_cache: Path) -> None:
    with pytest.raises(PluginError, match=r"'head/head' reads 'stream/map', which nobody provides"):
        probes(reid_cache, "head", plugins={"head": {"stream": "stream/map"}})


def test_the_gradient_of_a_head_reaches_the_stream_below(reid_cache: Path) -> None:
    assembly = probes(reid_cache, "head", "stream", plugins={"head": {"stream": "stream/map"}})
    outputs_of(assembly, torch.randn(2, 3, 64, 32))["head/logits"].sum().backward()
    stream = assembly.ctx.module("stream/live")
    assert all(p.grad is not None for p in stream.parameters())
    assert all(p.grad is None for p in assembly.model.encoder.parameters())


def test_a_frozen_branch_stays_in_evaluation_mode_and_lets_gradients_through(
    reid_cache: Path,
) -> None:
    assembly = probes(reid_cache, "stream")
    model, frozen = assembly.model, assembly.ctx.module("stream/frozen")
    for mode in (True, False, True):
        model.train(mode)
        assert assembly.ctx.module("stream/live").training is mode
        assert not any(module.training for module in frozen.modules())
    assert not any(p.requires_grad for p in frozen.parameters())
    image = torch.randn(2, 3, 64, 32, requires_grad=True)
    outputs_of(assembly, image)["stream/pooled0"].sum().backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0
    assert all(p.grad is None for p in frozen.parameters())
    grouped = {n for g in assembly.parts.plan.groups.values() for n in g.parameters}
    assert not any("stream/frozen" in name for name in grouped)


def test_a_frozen_branch_is_the_same_after_training(reid_cache: Path) -> None:
    assembly = probes(reid_cache, "stream")
    frozen = assembly.ctx.module("stream/frozen")
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    Recorder(assembly).fit()
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())


def test_a_branch_runs_only_where_its_reads_are_and_where_it_is_wanted(reid_cache: Path) -> None:
    assembly = probes(reid_cache, "stream", "pairs")
    model, image = assembly.model, torch.randn(2, 3, 64, 32)

    def run(source: str, *patterns: str) -> set[str]:
        found = model.run(image, {}, source, patterns, lambda part: nullcontext())
        return {name for name in found if not name.startswith("encoder/")}

    everything = {"core/pooled", "pairs/colours", "stream/map", "stream/pooled"}
    assert run("main", "*") == everything | {"stream/map0", "stream/pooled0"}
    assert run("main", "core/*", "pairs/*") == {"core/pooled", "pairs/colours"}
    limited = dict(model.declarations)
    limited["pairs/decoder"] = replace(limited["pairs/decoder"], sources=("pairs/textures",))
    limited["core/pool"] = replace(limited["core/pool"], reads=("encoder/map", "parts"))
    model.declarations = limited
    assert run("main", "core/*", "pairs/*") == set()
    assert run("pairs/textures", "core/*", "pairs/*") == {"pairs/colours"}


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"module": lambda taps: 3}, r"'zebra/b': its factory returned a int, not a .*Module"),
        ({"module": nn.Identity(), "writes": ("zebra/x", "zebra/y")}, r"'zebra/b' returned 1 tens"),
        (
            {"module": nn.Identity(), "embeddings": (Embedding("zebra/e", "zebra/x"),)},
            r"'zebra/e' reads 'zebra/x' of shape .*pool the map first",
        ),
        (
            {
                "module": nn.Flatten(),
                "embeddings": (Embedding("zebra/e", "zebra/x", neck=nn.LazyLinear(5), dim=7),),
            },
            r"'zebra/e': its neck returns 5 values, dim says 7",
        ),
    ],
)
def test_what_does_not_fit_is_found_before_the_first_step(
    declared: dict[str, Any], message: str, reid_cache: Path
) -> None:
    options = {"reads": ("encoder/map",), "writes": ("zebra/x",), **declared}

    class Zebra(Plugin):
        @hookimpl
        def reid_auxiliary_branches(self) -> list[Branch]:
            return [Branch("zebra/b", **options)]

    with pytest.raises(PluginError, match=message):
        tiny_assembly(("zebra",), cache=reid_cache, classes={"zebra": Zebra})


def test_modules_and_criteria_are_found_by_name(reid_cache: Path) -> None:
    ctx = probes(reid_cache, "stream").ctx
    assert ctx.criterion("stream/shape").embedding.name == "stream/shape"
    with pytest.raises(PluginError, match=r"no branch 'stream/lives'; did you mean 'stream/live'"):
        ctx.module("stream/lives")
    with pytest.raises(PluginError, match=r"no identity .*'stream/shap'; did you"):
        ctx.criterion("stream/shap")


def test_every_part_of_the_model_names_its_trainable_parameters(reid_cache: Path) -> None:
    model = probes(reid_cache, "stream").model
    parts = model.parts()
    assert {"encoder", "stream/live", "stream/shape/neck", "core/global/identity"} <= set(parts)
    assert parts["stream/frozen"] == []
    assert parts["core/global/neck"] == ["heads.core/global.neck.weight"], "the bias is frozen"
    named = [name for names in parts.values() for name in names]
    assert sorted(named) == sorted(n for n, p in model.named_parameters() if p.requires_grad)

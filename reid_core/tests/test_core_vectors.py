"""Vectors by name: read by branches, asked for by losses, kept by the embedder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from reid_core import (
    Branch,
    Embedding,
    LossTerm,
    Pass,
    Plugin,
    PluginError,
    Schedule,
    hookimpl,
    load_embedder,
)
from reid_core.loop.assembly import Assembly
from reid_core.model.embedder import embedder_of
from reid_core.testing.probe_plugins import PROBES, RIVAL
from reid_core.testing.tiny import Recorder, tiny_assembly


class Scaled(nn.Module):
    """Vectors, scaled."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(length))

    def forward(self, vector: torch.Tensor) -> torch.Tensor:
        return vector * self.scale

    def deploy_spec(self) -> dict[str, Any]:
        return {"factory": "test_core_vectors:Scaled", "kwargs": {"length": len(self.scale)}}


class Ant(Plugin):
    """A head on what is deployed, with an embedding, and one more on every embedding."""

    read = "deployed:neck"
    at_test = False

    @hookimpl
    def reid_auxiliary_branches(self, ctx: Any, taps: Any) -> list[Branch]:
        own = Embedding("ant/own", "ant/scaled", at_test=self.at_test)
        return [
            Branch("ant/head", lambda t: Scaled(t[self.read].channels), (self.read,),
                   ("ant/scaled",), (own,)),
        ]  # fmt: skip

    @hookimpl
    def reid_embedding_branches(self, ctx: Any, embedding: Any, dims: Any) -> list[Branch]:
        name = self.own(f"each/{embedding.name}")
        reads = (f"{embedding.name}:raw", "ant/scaled")
        return [Branch(name, Both(dims["raw"]), reads, (f"{name}/out",))]

    @hookimpl
    def reid_schedule(self, ctx: Any, params: Any) -> Schedule:
        return Schedule(passes=(Pass("ant/again", branches=("deployed",)),))

    @hookimpl
    def reid_losses(self, ctx: Any, step: Any) -> list[LossTerm]:
        again = step.passes["ant/again"]
        assert set(again.embedded) == set(ctx.deployed), "other branches than those ran"
        each = [step.main.output(f"ant/each/{name}/out").sum() for name in ctx.deployed]
        return [LossTerm("ant/sum", torch.stack(each).sum().float(), 1e-3)]


class Halves(Plugin):
    """Two embeddings at test, the upper half's and the lower half's, and none of the core's."""

    claims = ("embedding",)

    @hookimpl
    def reid_auxiliary_branches(self, ctx: Any, taps: Any) -> list[Branch]:
        found = [Embedding(f"halves/{name}", f"halves/{name}_raw") for name in ("upper", "lower")]
        writes = ("halves/upper_raw", "halves/lower_raw")
        return [Branch("halves/pool", HalfPool(), writes=writes, embeddings=tuple(found))]


class HalfPool(nn.Module):
    def forward(self, feature: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        upper, lower = feature.chunk(2, 2)
        return upper.mean((2, 3)), lower.amax((2, 3))

    def deploy_spec(self) -> dict[str, Any]:
        return {"factory": "test_core_vectors:HalfPool", "kwargs": {}}


class Both(nn.Module):
    def __init__(self, length: int) -> None:
        super().__init__()
        self.layer = nn.Linear(length, 1)

    def forward(self, raw: torch.Tensor, scaled: torch.Tensor) -> torch.Tensor:
        return self.layer(raw) + scaled.mean()


def made(cache: Path, *others: str, ant: type[Plugin] = Ant) -> Recorder:
    classes = {**PROBES, **RIVAL, "ant": ant, "halves": Halves}
    return Recorder(tiny_assembly(["ant", *others], cache=cache, classes=classes))


def first_view(assembly: Assembly) -> Any:
    trainer = Recorder(assembly)
    trainer.begin_epoch()
    main = next(u for u in assembly.parts.plan.updates if u.name == "main")
    streams = trainer.streams(1)
    step, _ = assembly.parts.forward.terms(main, trainer.batches(streams))  # type: ignore[union-attr,operator]
    for stream in streams.values():
        stream.close()
    return step.main


@pytest.mark.parametrize("others", [(), ("rival",), ("halves",)])
def test_a_branch_reads_what_is_deployed_whoever_declares_it(
    others: tuple[str, ...], reid_cache: Path
) -> None:
    trainer = made(reid_cache, *others)
    assembly = trainer.assembly
    owner = others[0] if others else "core"
    assert {name.partition("/")[0] for name in assembly.ctx.deployed} == {owner}
    each = [name for name in assembly.model.declarations if name.startswith("ant/each/")]
    assert each == [f"ant/each/{name}" for name in assembly.ctx.deployed]
    trainer.fit()
    assert all(torch.tensor(list(step.values())).isfinite().all() for step in trainer.trace)
    view = first_view(assembly)
    necks = [view.embedded[name].neck for name in assembly.ctx.deployed]
    assert torch.equal(view.output("deployed:neck"), torch.cat(necks, 1))
    scale = assembly.ctx.module("ant/head").scale
    torch.testing.assert_close(view.output("ant/scaled"), torch.cat(necks, 1) * scale)
    deployed = view.output("deployed")
    expected = assembly.embedder().joined(view.embedded)
    assert torch.equal(deployed, expected)
    assert view.has("deployed:raw", "ant/scaled")
    assert not view.has("ant/own:raw", "ant/none:raw")


def test_an_embedding_of_vectors_is_stored_with_what_it_reads(
    reid_cache: Path, tmp_path: Path
) -> None:
    trainer = made(reid_cache, "halves")
    trainer.fit()
    live = embedder_of(trainer.assembly.model, (64, 32), ["ant/own"]).eval()
    assert list(live.heads) == ["ant/own"]
    assert list(live.inner) == list(trainer.assembly.ctx.deployed)
    live.save(tmp_path / "embedder.safetensors")
    stored = load_embedder(tmp_path)
    stored.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.rand(3, 3, 64, 32)
    with torch.inference_mode():
        assert torch.equal(stored(images), live(images))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"read": "deployed:feat"}, "has no vector 'feat'"),
        ({"read": "core/globe:raw"}, "no such embedding; did you mean 'core/global'"),
        ({"read": "ant/own:raw"}, "branches read each other in a circle: ant/head -> ant/head"),
        ({"read": "deployed", "at_test": True}, "in a circle"),
    ],
)
def test_a_read_that_cannot_be_is_refused(
    changes: dict[str, Any], said: str, reid_cache: Path
) -> None:
    with pytest.raises(PluginError, match=said):
        made(reid_cache, ant=type("Other", (Ant,), changes))

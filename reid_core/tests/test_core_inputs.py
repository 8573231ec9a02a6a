"""What a model reads beside the image: cameras, outfits, fields of any name; defaults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from reid_core import (
    Branch,
    ConfigError,
    DataError,
    Embedding,
    FieldKind,
    FieldSpec,
    Labeler,
    Need,
    Plugin,
    PluginError,
    hookimpl,
    load_embedder,
)
from reid_core.model.embedder import embedder_of
from reid_core.testing.tiny import Recorder, tiny_assembly


class Shifted(nn.Module):
    """A pooled map, plus a number per image for each thing that is read beside it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layer = nn.Linear(channels, channels)

    def forward(self, feature: torch.Tensor, *read: torch.Tensor) -> torch.Tensor:
        shift = torch.stack([value.float() for value in read]).sum(0)
        return self.layer(feature.mean((2, 3))) + shift[:, None]

    def deploy_spec(self) -> dict[str, Any]:
        channels = self.layer.in_features
        return {"factory": "test_core_inputs:Shifted", "kwargs": {"channels": channels}}


class Ant(Plugin):
    """Embed with cameras, outfits and a field of the plugin's own, which it makes itself."""

    needs = (Need("ant/height"),)
    defaults_of: Mapping[str, float] = {"camid": -1, "clothes": -1, "ant/height": 0.5}

    @hookimpl
    def reid_pseudo_labels(self, ctx: Any) -> list[Labeler]:
        spec = FieldSpec("ant/height", FieldKind.SCALAR)
        return [Labeler(spec, lambda labels: [0.25 * (row % 3) for row in labels.rows], key="1")]

    @hookimpl
    def reid_auxiliary_branches(self, ctx: Any, taps: Any) -> list[Branch]:
        own = Embedding("ant/own", "ant/shifted", at_test=False)
        reads = ("encoder/map", "camid", "clothes", "ant/height")
        module = Shifted(taps["encoder/map"].channels)
        return [
            Branch("ant/shift", module, reads, ("ant/shifted",), (own,), defaults=self.defaults_of)
        ]


def made(cache: Path, ant: type[Plugin] = Ant, **evaluation: Any) -> Recorder:
    settings = {"evaluation": {"embed": ["ant/own"], **evaluation}}
    return Recorder(tiny_assembly(["ant"], settings, cache=cache, classes={"ant": ant}))


def test_cameras_outfits_and_an_owned_field_are_read_stored_and_evaluated(
    reid_cache: Path, tmp_path: Path
) -> None:
    trainer = made(reid_cache)
    trainer.fit()
    assert trainer.evaluate("final") is not None
    embedder = trainer.assembly.embedder().eval()
    assert embedder.fields == ("ant/height", "camid", "clothes")
    embedder.save(tmp_path / "embedder.safetensors")
    stored = load_embedder(tmp_path)
    stored.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.rand(2, 3, 64, 32)
    given = {"camid": torch.tensor([1, 0]), "clothes": torch.tensor([3, 7])}
    with torch.inference_mode():
        whole = {**given, "ant/height": torch.full((2,), 0.5)}
        assert torch.equal(stored(images, given), embedder(images, whole))
        unknown = {"camid": torch.full((2,), -1), "clothes": torch.full((2,), -1)}
        assert torch.equal(stored(images), stored(images, unknown))
        assert not torch.equal(stored(images), stored(images, given))
    assert torch.equal(stored.embed(images), stored(images))


def test_what_has_no_default_is_evaluated_and_refused_by_name_at_export(
    reid_cache: Path, tmp_path: Path
) -> None:
    ant = type("Other", (Ant,), {"defaults_of": {"camid": -1}})
    trainer = made(reid_cache, ant)
    assert trainer.evaluate("final") is not None
    trainer.assembly.embedder().save(tmp_path / "embedder.safetensors")
    stored = load_embedder(tmp_path)
    with pytest.raises(ConfigError, match="reads ant/height, clothes beside the image and cannot"):
        stored.check_exportable()
    with pytest.raises(DataError, match="reads 'ant/height' beside the image, and no default"):
        stored(torch.rand(1, 3, 64, 32))
    with pytest.raises(DataError, match="reads 'ant/height'"):
        stored.embed(torch.rand(1, 3, 64, 32))


def test_a_default_of_what_is_not_read_and_two_defaults_are_refused(reid_cache: Path) -> None:
    with pytest.raises(PluginError, match=r"'ant/shift' declares a default of 'pose', which it do"):
        made(reid_cache, type("Other", (Ant,), {"defaults_of": {"pose": 0}}))

    class Two(Ant):
        @hookimpl
        def reid_auxiliary_branches(self, ctx: Any, taps: Any) -> list[Branch]:
            first = super().reid_auxiliary_branches(ctx, taps)
            module = Shifted(taps["encoder/map"].channels)
            reads, other = ("encoder/map", "camid"), {"camid": 0}
            return [*first, Branch("ant/two", module, reads, ("ant/two_out",), defaults=other)]

    with pytest.raises(PluginError, match="'ant/shift' declares that -1 stands for an unknown 'ca"):
        made(reid_cache, Two)


def test_an_encoder_that_reads_what_nobody_has_is_refused(reid_cache: Path) -> None:
    class Backbone(Plugin):
        claims = ("backbone",)

        @hookimpl
        def reid_backbone(self, ctx: Any) -> Any:
            from reid_core.defaults import Core

            encoder = Core("core").reid_backbone(ctx)
            encoder.reads = ("camd",)
            return encoder

    with pytest.raises(PluginError, match=r"'ant' reads 'camd', which nobody.*mean 'camid'"):
        tiny_assembly(["ant"], cache=reid_cache, classes={"ant": Backbone})


def test_training_and_the_embedder_give_the_encoder_the_same(reid_cache: Path) -> None:
    trainer = made(reid_cache)
    model, ctx = trainer.assembly.model, trainer.assembly.ctx
    trainer.begin_epoch()
    streams = trainer.streams(1)
    batch = trainer.batches(streams)["main"]
    for stream in streams.values():
        stream.close()
    assert set(batch.readable) == {"camid", "clothes", "ant/height"}
    reader = embedder_of(model, ctx.image_size, ["ant/own"]).eval()
    model.eval()
    from contextlib import nullcontext

    with torch.inference_mode():
        outputs = model.run(batch.image, batch.readable, "main", ("*",), lambda n: nullcontext())
        vectors = reader.vectors(batch.image, batch.readable)
    assert torch.equal(vectors["ant/own"].raw, outputs["ant/shifted"])

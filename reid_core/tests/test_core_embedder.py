"""The deployed model: stored and loaded bit for bit, described by names, and safe to load."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from reid_core.contract.hookspecs import hookimpl
from reid_core.contract.model import Branch, Embedding, Supervision
from reid_core.contract.plugin import Plugin
from reid_core.contract.samples import DataSet
from reid_core.errors import CheckpointError, ConfigError, DataError, PluginError
from reid_core.model.blocks import EmbeddingHead, GlobalPool
from reid_core.model.embedder import Embedder, embedder_of
from reid_core.model.encoder import EARLIER, TimmEncoder
from reid_core.model.stored import load_embedder
from reid_core.testing.probe_plugins import PROBES
from reid_core.testing.tiny import Recorder, tiny_assembly

SIZE = (64, 32)
CHANNELS = 96
"""Of the tiny encoder's map."""
CONTIGUOUS = {"engine": {"channels_last": False}}


def trained(cache: Path, *names: str, **settings: Any) -> Recorder:
    trainer = Recorder(tiny_assembly(names, settings, CONTIGUOUS, cache=cache, classes=PROBES))
    trainer.train_epoch()
    return trainer


@pytest.fixture(scope="module")
def embedder(reid_cache: Path) -> Embedder:
    trainer = trained(reid_cache, "head", "stream", model={"neck": "fc_bn", "dim": 24})
    return trainer.assembly.embedder().eval()


@pytest.fixture
def stored(embedder: Embedder, tmp_path: Path) -> Path:
    embedder.save(tmp_path / "embedder.safetensors")
    return tmp_path / "embedder.safetensors"


@torch.inference_mode()
def features(embedder: Embedder, count: int = 3) -> torch.Tensor:
    images = torch.rand(count, 3, *embedder.size, generator=torch.Generator().manual_seed(0))
    found = embedder(images)
    assert isinstance(found, torch.Tensor)
    return found


def test_a_stored_embedder_computes_the_same_bit_for_bit(embedder: Embedder, stored: Path) -> None:
    loaded = load_embedder(stored)
    assert torch.equal(features(loaded), features(embedder))
    assert (loaded.dim, loaded.size, loaded.fields) == (24, SIZE, ())
    assert not any(module.training for module in loaded.modules())
    assert torch.equal(features(load_embedder(stored.parent)), features(embedder))


def test_features_have_length_one(embedder: Embedder) -> None:
    assert torch.allclose(features(embedder).norm(dim=1), torch.ones(3), atol=1e-6)


def test_only_the_path_to_the_embedding_is_stored(embedder: Embedder, stored: Path) -> None:
    assert list(embedder.branches) == ["core/pool"]
    assert list(embedder.heads) == ["core/global"]
    prefixes = {name.split(".")[0] for name in load_embedder(stored).state_dict()}
    assert prefixes == {"encoder", "heads"}
    text = stored.with_suffix(".json").read_text()
    assert "stream" not in text
    assert "parts" not in text


def test_the_description_has_these_keys(stored: Path) -> None:
    spec = json.loads(stored.with_suffix(".json").read_text())
    assert set(spec) == {
        "format", "reid_core", "input", "dim", "encoder", "branches", "embeddings",
    }  # fmt: skip
    assert spec["format"] == 1
    assert spec["input"] == {
        "height": 64,
        "width": 32,
        "channels": "RGB",
        "range": [0.0, 1.0],
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "resize": "bilinear, antialiased",
    }
    assert spec["encoder"] == {
        "factory": "reid_core.model.encoder:TimmEncoder",
        "kwargs": {
            "name": "test_resnet",
            "size": [64, 32],
            "last_stride": 1,
            "final_norm": True,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        },
    }
    (branch,) = spec["branches"]
    assert set(branch) == {"name", "reads", "writes", "factory", "kwargs"}
    assert spec["embeddings"] == [
        {
            "name": "core/global",
            "reads": "core/pooled",
            "neck": "fc_bn",
            "channels": CHANNELS,
            "dim": 24,
            "test_vector": "unit",
            "test_weight": 1.0,
        }
    ]


def test_bytes_and_floats_give_the_same_feature(embedder: Embedder) -> None:
    pixels = torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(embedder(pixels), embedder(pixels.float() / 255))


def test_files_give_the_feature_of_their_pixels(embedder: Embedder, toy_tiny: DataSet) -> None:
    import numpy as np
    from PIL import Image

    paths = [sample.path for sample in toy_tiny.query[:3]]
    pixels = np.stack([np.asarray(Image.open(p).convert("RGB")) for p in paths])
    assert pixels.shape[1:3] == SIZE
    with torch.inference_mode():
        expected = embedder(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        assert torch.allclose(embedder.embed(paths), expected, atol=1e-6)
        assert torch.allclose(embedder.embed(map(str, paths), batch_size=2), expected, atol=1e-6)
    assert embedder.embed([]).shape == (0, 24)


def test_a_file_that_is_missing_is_named(embedder: Embedder, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nobody\.jpg"):
        embedder.embed([tmp_path / "nobody.jpg"])


def test_other_embeddings_are_chosen_by_name(reid_cache: Path) -> None:
    model = trained(reid_cache, "stream").assembly.model
    both = embedder_of(model, SIZE, ("core/global", "stream/shape")).eval()
    core, shape = (embedder_of(model, SIZE, (n,)).eval() for n in ("core/global", "stream/shape"))
    assert both.dim == core.dim + shape.dim
    assert torch.equal(features(both), torch.cat([features(core), features(shape)], 1))
    assert list(shape.branches) == ["stream/live"]
    for name, alone in (("core/global", core), ("stream/shape", shape)):
        assert torch.equal(features(both.only([name])), features(alone))
        assert list(both.only([name]).branches) == list(alone.branches)
    turned = features(both.only(["stream/shape", "core/global"]))
    assert torch.equal(turned, features(both).roll(shape.dim, 1))
    with pytest.raises(ConfigError, match=r"no embedding 'stream/shap'; did you mean 'stream"):
        both.only(["stream/shap"])
    with pytest.raises(ConfigError, match=r"name embeddings, each once: core/global, stream/sh"):
        both.only(["stream/shape", "stream/shape"])
    with pytest.raises(ConfigError, match=r"no embedding 'stream/shap'; did you mean 'stream"):
        embedder_of(model, SIZE, ("stream/shap",))


class Zebra(Plugin):
    """Takes the slot of the embedding; settings of a test replace its declarations."""

    claims = ("embedding",)
    embeddings: tuple[Embedding, ...] = ()
    module: nn.Module = GlobalPool("avg")
    reads: tuple[str, ...] = ("encoder/map",)

    @hookimpl
    def reid_auxiliary_branches(self) -> list[Branch]:
        return [Branch("zebra/pool", self.module, self.reads, ("zebra/pooled",), self.embeddings)]


def zebra(cache: Path, **members: Any) -> Embedder:
    cls = type("Zebra", (Zebra,), members)
    assembly = tiny_assembly(("zebra",), CONTIGUOUS, cache=cache, classes={"zebra": cls})
    return embedder_of(assembly.model, SIZE).eval()


def test_test_vectors_and_weights_are_those_declared(reid_cache: Path) -> None:
    made = zebra(
        reid_cache,
        embeddings=(
            Embedding("zebra/a", "zebra/pooled", neck="none", test_vector="raw", test_weight=2.0),
            Embedding("zebra/b", "zebra/pooled", neck="none", test_vector="raw"),
            Embedding("zebra/unit", "zebra/pooled", neck="none"),
            Embedding("zebra/c", "zebra/pooled", at_test=False),
        ),
    )
    doubled, raw, unit = features(made).chunk(3, 1)
    assert torch.equal(doubled, 2 * raw)
    assert torch.allclose(nn.functional.normalize(raw, dim=1), unit, atol=1e-6)
    assert raw.norm(dim=1).min() > 0


def test_no_embedding_at_test_is_refused(reid_cache: Path) -> None:
    with pytest.raises(ConfigError, match=r"no embedding is declared at_test; .*--embed"):
        zebra(reid_cache, embeddings=(Embedding("zebra/a", "zebra/pooled", at_test=False),))


def test_a_part_that_cannot_be_rebuilt_is_named(reid_cache: Path) -> None:
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    # Told when the run is assembled, not after the training.
    with pytest.raises(PluginError, match=r"branch 'zebra/pool' .*Sequential.*deploy_spec\(\)"):
        zebra(reid_cache, module=pool, embeddings=(Embedding("zebra/a", "zebra/pooled"),))


class Masked(nn.Module):
    def forward(self, feature: torch.Tensor, parts: torch.Tensor) -> torch.Tensor:
        return feature.mean((2, 3)) * parts.float().mean((1, 2))[:, None]


def test_an_embedding_that_reads_side_data_is_not_exported(
    reid_cache: Path, tmp_path: Path
) -> None:
    made = zebra(
        reid_cache,
        module=Masked(),
        reads=("encoder/map", "parts"),
        embeddings=(Embedding("zebra/a", "zebra/pooled", supervision=Supervision()),),
    )
    assert made.fields == ("parts",)
    with pytest.raises(ConfigError, match=r"reads parts beside the image.*--embed"):
        made.save(tmp_path / "embedder.safetensors")


def test_a_raw_vector_before_a_neck_that_shortens_it_has_its_own_length(
    reid_cache: Path, tmp_path: Path
) -> None:
    neck = {"model": {"neck": "fc", "dim": 16}}
    whole = tiny_assembly((), neck, CONTIGUOUS, cache=reid_cache).model
    channels = whole.heads["core/global"].channels
    declared = replace(whole.embeddings["core/global"], test_vector="raw")
    whole.heads["core/global"].declaration = declared
    embedder = embedder_of(whole, (64, 32)).eval()
    assert embedder.dim == embedder.width("raw") == channels != 16
    assert features(embedder).shape == (3, channels)
    path = tmp_path / "embedder.safetensors"
    embedder.save(path)
    assert json.loads(path.with_suffix(".json").read_text())["dim"] == channels
    again = load_embedder(path)
    assert again.dim == channels
    assert torch.equal(features(again), features(embedder))


def test_an_embedder_of_an_earlier_version_computes_as_it_did(tmp_path: Path) -> None:
    pool = Branch("core/pool", GlobalPool("avg"), ("encoder/map",), ("core/pooled",))
    head = EmbeddingHead(Embedding("core/global", "core/pooled", neck="none"), 64)
    encoder = TimmEncoder("test_vit", (64, 32), 2, final_norm=False)
    torch.nn.init.normal_(encoder.trunk.norm.weight)
    path = tmp_path / "embedder.safetensors"
    Embedder(encoder, [pool], [head], (64, 32)).save(path)
    description = path.with_suffix(".json")
    stored = json.loads(description.read_text())
    for key in ("final_norm", "mean", "std"):
        del stored["encoder"]["kwargs"][key]
    description.write_text(json.dumps(stored))
    images = torch.rand(3, 3, 64, 32)
    with torch.inference_mode():
        before = load_embedder(path)(images)
        normalised = (images - torch.tensor(EARLIER["mean"]).view(3, 1, 1)) / torch.tensor(
            EARLIER["std"]
        ).view(3, 1, 1)
        deepest = encoder.eval().trunk.forward_intermediates(normalised)[1][-1].mean((2, 3))
    assert torch.allclose(before, torch.nn.functional.normalize(deepest, dim=1), atol=1e-6)


def test_errors_of_the_system_are_named(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> None:
        raise PermissionError("Permission denied (os error 13)")

    monkeypatch.setattr("reid_core.model.stored.load_file", denied)
    with pytest.raises(CheckpointError, match=r"safetensors cannot be read: Permission denied"):
        load_embedder(stored)


def test_what_cannot_be_loaded_is_one_line(stored: Path, tmp_path: Path) -> None:
    description = stored.with_suffix(".json")
    whole, text = stored.read_bytes(), description.read_text()

    def refused(message: str, path: Path = stored) -> None:
        with pytest.raises(CheckpointError, match=message) as caught:
            load_embedder(path)
        assert "\n" not in str(caught.value)
        stored.write_bytes(whole)
        description.write_text(text)

    (tmp_path / "empty").mkdir()
    refused(r"no embedder: .*embedder\.safetensors is missing", tmp_path / "empty")
    (tmp_path / "checkpoint.pt").write_bytes(b"a pickle")
    refused(r"no \.safetensors file; pickles are not loaded", tmp_path / "checkpoint.pt")
    stored.write_bytes(whole[: len(whole) // 2])
    refused("truncated or corrupt")
    stored.write_bytes(b"")
    refused("truncated or corrupt")
    description.unlink()
    refused(r"embedder\.json is missing")
    description.write_text(text[:100])
    refused("truncated or corrupt")
    description.write_text(text.replace('"format": 1', '"format": 99'))
    refused("format 99, this version reads 1")
    description.write_text(text.replace('"last_stride": 1', '"last_stride": 2').replace("24", "12"))
    refused("do not fit")
    description.write_text(text.replace("reid_core.model.blocks", "reid_nowhere.blocks"))
    refused(r"needs reid_nowhere, which is not installed: pip install reid-nowhere")


def test_a_folder_that_is_not_there_is_called_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"elsewhere.* (is missing|does not exist)"):
        load_embedder(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    "content", ["[]", "3", '{"format": 1}', '{"format": 1, "input": {}, "branches": []}']
)
def test_a_description_of_another_shape_is_refused(stored: Path, content: str) -> None:
    stored.with_suffix(".json").write_text(content)
    with pytest.raises(CheckpointError, match=r"embedder\.json"):
        load_embedder(stored)


@pytest.mark.parametrize(
    ("factory", "kwargs"),
    [
        ("os:mkdir", {"path": "called"}),
        ("subprocess:run", {"args": ["mkdir", "called"]}),
        ("pathlib:Path.mkdir", {"self": "called"}),
    ],
)
def test_a_description_cannot_call_what_is_no_part_of_a_model(
    factory: str, kwargs: dict[str, Any], stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(stored.parent)
    spec = json.loads(stored.with_suffix(".json").read_text())
    spec["branches"][0] |= {"factory": factory, "kwargs": kwargs}
    stored.with_suffix(".json").write_text(json.dumps(spec))
    with pytest.raises(CheckpointError):
        load_embedder(stored)
    assert not Path("called").exists(), "loading an embedder ran a foreign function"

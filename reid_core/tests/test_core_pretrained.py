"""Weights from files: other projects' wrappings, embedders, shipped ones by name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from reid_core.data.people import learnt_from, people_in, seen_before
from reid_core.errors import CheckpointError, ConfigError
from reid_core.loop.assembly import Assembly
from reid_core.loop.trainer import Trainer
from reid_core.model.embedder import embedder_of
from reid_core.model.encoder import TimmEncoder
from reid_core.model.layouts import Layout
from reid_core.model.pretrained import fill_weights, read_weights
from reid_core.model.stored import load_embedder
from reid_core.model.trunks import adapted
from reid_core.runs.assembly.assembling import assemble
from reid_core.runs.resolve import resolve
from reid_core.runs.running import run
from reid_core.testing.fixtures import RunReid
from reid_core.testing.tiny import tiny_assembly, tiny_flags
from reid_core.weights import sha256_of, weights_file

SIZE = (64, 32)


def resnet_state() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return dict(TimmEncoder("test_resnet", SIZE).trunk.state_dict())


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


def saved_embedder(assembly: Assembly, folder: Path, data: str) -> Path:
    """Save an assembly's embedder as having learnt from three people of a data set."""
    embedder = embedder_of(assembly.model, assembly.config.data.size)
    embedder.learnt_from = {"data": [data], "people": [f"{data}/0/3-5"]}
    file = folder / "embedder.safetensors"
    embedder.save(file)
    return file


CLASSIFIER = {"classifier.weight": torch.ones(7, 96), "fc.weight": torch.ones(7, 96)}


RESNETS = {
    "plain": lambda state: {**state, **CLASSIFIER},
    "module": lambda state: {"state_dict": prefixed("module.model.", state)},
    "backbone": lambda state: {"model": prefixed("backbone.", state)},
    "base": lambda state: {
        **prefixed("base.", state),
        "bottleneck.weight": torch.ones(96),
        "classifier.weight": torch.ones(751, 96),
    },
    "encoder.trunk": lambda state: prefixed("encoder.trunk.", state),
}


@pytest.mark.parametrize("release", list(RESNETS))
def test_a_resnet_s_weights_are_found_in_every_wrapping(tmp_path: Path, release: str) -> None:
    state, path = resnet_state(), tmp_path / "weights.pth"
    torch.save(RESNETS[release](state), path)
    for importer in ("auto", "plain"):
        encoder = TimmEncoder("test_resnet", SIZE, pretrained=path, importer=importer)
        found = encoder.trunk.state_dict()
        assert all(torch.equal(found[name], value) for name, value in state.items())
        assert encoder.filled is not None
        assert encoder.filled.taken == len(state)
        assert "none left random" in str(encoder.filled)


def test_half_precision_is_taken(tmp_path: Path) -> None:
    state, path = resnet_state(), tmp_path / "weights.pth"
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, path)
    trunk = TimmEncoder("test_resnet", SIZE, pretrained=path).trunk
    assert next(trunk.parameters()).dtype == torch.float32


OURS = Layout("ours", prefixes=("our.",), recognised=lambda content: "ours" in content)


def test_layouts_come_with_installed_distributions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, path = resnet_state(), tmp_path / "weights.pth"
    torch.save({"ours": 1, "model": prefixed("our.", state)}, path)
    monkeypatch.setattr("reid_core.model.layouts.offered", lambda group, what: {})
    with pytest.raises(ConfigError, match=r"\(there are: auto, plain\); pip install reid-weights"):
        TimmEncoder("test_resnet", SIZE, pretrained=path, importer="ours")
    with pytest.raises(
        ConfigError, match=r"is missing .*; pip install reid-weights brings layouts"
    ):
        TimmEncoder("test_resnet", SIZE, pretrained=path)
    monkeypatch.setattr("reid_core.model.layouts.offered", lambda group, what: {"ours": OURS})
    with pytest.raises(ConfigError, match=r"no importer 'our'; did you mean 'ours'.*: auto, plain"):
        TimmEncoder("test_resnet", SIZE, pretrained=path, importer="our")
    for importer in ("auto", "ours"):
        encoder = TimmEncoder("test_resnet", SIZE, pretrained=path, importer=importer)
        assert "(ours)" in str(encoder.filled)
    with pytest.raises(ConfigError, match="is missing"):
        TimmEncoder("test_resnet", SIZE, pretrained=path, importer="plain")


def test_nothing_is_random_in_silence(tmp_path: Path) -> None:
    state, path = resnet_state(), tmp_path / "weights.pth"
    name = "layer1.0.conv1.weight"
    for changed, reason in (
        ({k: v for k, v in state.items() if k != name}, f"{name} is missing (1 of {len(state)}"),
        ({**state, "layer1.0.bn1.IN.weight": torch.ones(2)}, "bn1.IN.weight is unknown to it"),
        ({**state, name: torch.ones(2, 2)}, f"{name} is 2 x 2, not"),
    ):
        torch.save(prefixed("module.", changed), path)
        with pytest.raises(ConfigError, match=re.escape(reason)):
            TimmEncoder("test_resnet", SIZE, pretrained=path)


def test_tables_of_relative_positions_follow_the_window(tmp_path: Path) -> None:
    from timm.models.swin_transformer import SwinTransformer

    options = {"num_classes": 0, "embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2)}
    big = SwinTransformer(img_size=64, window_size=8, **options)
    small = SwinTransformer(img_size=(32, 16), window_size=8, **options)
    path = tmp_path / "swin.pth"
    torch.save(big.state_dict(), path)
    filled = fill_weights(
        small, read_weights(path, "swin"), "swin", adapt=lambda state: adapted(small, state)
    )
    assert filled.resampled
    assert all(name.endswith("relative_position_bias_table") for name in filled.resampled)


def test_embedders_runs_and_names_start_an_encoder(
    tmp_path: Path, reid_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assembly = tiny_assembly(cache=reid_cache)
    file = saved_embedder(assembly, tmp_path, "zebras")
    wanted = assembly.model.encoder.state_dict()
    monkeypatch.setattr("reid_core.weights.shipped_weights", lambda: {"people/tiny": file})
    monkeypatch.setattr("reid_core.weights.shipped_weights", lambda: {"people/tiny": file})
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    Trainer(assembly, unfinished / "checkpoint.pt").save()
    for given in (unfinished, unfinished / "checkpoint.pt"):
        encoder = TimmEncoder("test_resnet", assembly.config.data.size, pretrained=given)
        assert all(torch.equal(encoder.state_dict()[k], v) for k, v in wanted.items())
        assert encoder.conventions == assembly.model.encoder.conventions
    for given in (file, tmp_path, Path("people/tiny")):
        encoder = TimmEncoder("test_resnet", assembly.config.data.size, pretrained=given)
        assert all(torch.equal(encoder.state_dict()[k], v) for k, v in wanted.items())
        assert encoder.conventions == assembly.model.encoder.conventions
        assert encoder.filled is not None
        assert encoder.filled.weights.learnt_from["people"] == ["zebras/0/3-5"]
    assert load_embedder("people/tiny").learnt_from["data"] == ["zebras"]
    with pytest.raises(ConfigError, match=r"people/tino.*did you mean 'people/tiny'\?"):
        weights_file(Path("people/tino"))
    with pytest.raises(CheckpointError, match=r"people/tino is missing; did you mean"):
        load_embedder("people/tino")
    with pytest.raises(ConfigError, match="no run's folder"):
        weights_file(tmp_path.parent)


def test_a_wrong_hash_is_one_line(tmp_path: Path, reid_cache: Path) -> None:
    assembly = tiny_assembly(cache=reid_cache)
    file = tmp_path / "embedder.safetensors"
    embedder_of(assembly.model, assembly.config.data.size).save(file)
    card = file.with_suffix(".json")
    description = json.loads(card.read_text())
    card.write_text(json.dumps({**description, "sha256": sha256_of(file)}))
    load_embedder(file)
    card.write_text(json.dumps({**description, "sha256": "0" * 64}))
    with pytest.raises(CheckpointError, match="SHA-256 differs"):
        load_embedder(file)
    with pytest.raises(ConfigError, match="SHA-256 differs"):
        TimmEncoder("test_resnet", SIZE, pretrained=file)


def test_people_are_kept_in_ranges_and_met_again(reid_cache: Path) -> None:
    from dataclasses import replace

    dataset = tiny_assembly(cache=reid_cache).ctx.dataset

    def named(samples: Any, first: int) -> Any:
        return tuple(
            replace(s, extra={"who": f"zoo/0/{first + s.pid}"}) if s.pid >= 0 else s
            for s in samples
        )

    train = replace(dataset.train, samples=named(dataset.train.samples, 0))
    count = dataset.train.num_identities
    assert people_in(train.samples) == (f"zoo/0/0-{count - 1}",)
    learnt = learnt_from(
        {"main": train}, ("zoo",), {"data": ["park"], "people": ["park/1", "zoo/0/9999"]}
    )
    assert learnt["data"] == ["park", "zoo"]
    assert set(learnt["people"]) == {"park/1", "zoo/0/9999", f"zoo/0/0-{count - 1}"}
    apart = replace(dataset, query=named(dataset.query, 500))
    assert seen_before(apart, learnt) == ""
    pids = {s.pid for s in dataset.query}
    met = replace(dataset, query=named(dataset.query, -min(pids)))
    assert (
        f"learnt from {len(pids & set(range(min(pids), min(pids) + count)))} of the {len(pids)}"
        in seen_before(met, learnt)
    )


def test_runs_and_evaluations_say_whom_weights_have_met(
    tmp_path: Path, reid_cache: Path, run_reid: RunReid, monkeypatch: pytest.MonkeyPatch
) -> None:
    assembly = tiny_assembly(cache=reid_cache)
    file = saved_embedder(assembly, tmp_path, "zoo")

    class Met(Exception):
        pass

    def meet(dataset: Any, learnt: Any) -> str:
        raise Met(f"{dataset.name}: {learnt['people']}")

    monkeypatch.setattr("reid_core.runs.running.seen_before", meet)
    flags = tiny_flags((), {"model": {"pretrained": str(file)}})
    with pytest.raises(Met, match=r"toy:tiny: \['zoo/0/3-5'\]"):
        run(flags, out=tmp_path / "run", cache=reid_cache, say=lambda line: None)
    told = "met them before"
    monkeypatch.setattr("reid_core.data.people.seen_before", lambda data, learnt: told)
    code, said, _ = run_reid("eval", file, "--data", "toy:tiny")
    assert code == 0
    assert told in said


def test_a_run_s_embedder_and_checkpoint_have_learnt_from_the_same(
    tmp_path: Path, reid_cache: Path
) -> None:
    file, out = saved_embedder(tiny_assembly(cache=reid_cache), tmp_path, "zoo"), tmp_path / "run"
    flags = tiny_flags((), {"model": {"pretrained": str(file)}, "schedule": {"epochs": 1}})
    run(flags, out=out, cache=reid_cache, say=lambda line: None)
    for left in ("embedder.safetensors", "checkpoint.pt"):
        learnt = read_weights(out / left, "test_resnet").learnt_from
        assert learnt == {"data": ["zoo", "toy:tiny"], "people": ["zoo/0/3-5"]}, left


@pytest.mark.parametrize(
    ("name", "size", "stride"),
    [("test_vit", (64, 32), 2), ("test_convnext", (64, 32), 2), ("test_resnet", (208, 104), 1)],
)
def test_the_last_stride_is_removed_where_it_can_be(
    name: str, size: tuple[int, int], stride: int
) -> None:
    assert TimmEncoder(name, size).spec["last_stride"] == stride


@pytest.mark.parametrize(("height", "rows"), [(208, 13), (240, 15), (300, 19), (200, 13), (100, 7)])
def test_a_map_of_n_rows_becomes_one_of_2n_less_1(height: int, rows: int) -> None:
    with torch.device("meta"):
        image = torch.zeros(1, 3, height, 64)
        before = TimmEncoder("resnet18", (height, 64), last_stride=2).eval()(image)["encoder/map"]
        assert rows == 2 * before.shape[2] - 1
        for last_stride in ("auto", 1):
            encoder = TimmEncoder("resnet18", (height, 64), last_stride=last_stride)
            assert encoder.spec["last_stride"] == 1
            assert encoder.eval()(image)["encoder/map"].shape[2] == rows


def test_a_swin_keeps_its_own_last_stride() -> None:
    with torch.device("meta"):
        encoder = TimmEncoder("swin_tiny_patch4_window7_224", (128, 64))
    assert encoder.spec["last_stride"] == 2
    assert encoder.taps[-1].stride == 32


def test_a_pooling_that_rounds_down_may_double_to_one_row_more() -> None:
    with torch.device("meta"):
        encoder = TimmEncoder("densenet121", (208, 104))
    assert encoder.taps[-1].stride == 16


@pytest.mark.parametrize(
    ("importer", "pretrained", "message"),
    [
        ("solder", False, r"no importer 'solder'"),
        ("plain", False, r"importer = 'plain' needs a file .* -s model\.pretrained=FILE"),
        ("plain", True, r"importer = 'plain' needs a file"),
    ],
)
def test_an_importer_that_reads_nothing_is_refused_before_the_work(
    importer: str, pretrained: bool, message: str
) -> None:
    model = {"importer": importer, "pretrained": pretrained}
    resolved = resolve(tiny_flags([], {"data": {"name": "nowhere"}, "model": model}))
    with pytest.raises(ConfigError, match=message):
        assemble(resolved)

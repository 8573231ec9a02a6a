"""OSNet: parameters and maps of the four widths, its own embedding, the frozen start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from whole_models import SIX, Run, count, whole

from reid_baselines.osnet_encoder import AggregationGate, OsnetEncoder, OsnetFc
from reid_baselines.osnet_widths import WIDTHS
from reid_core import ConfigError
from reid_core.model.encoder import verify_taps
from reid_core.runs.resolve import resolve
from reid_core.testing import conformance_suite
from reid_core.testing.tiny import tiny_assembly

SMALL: dict[str, Any] = {"model": {"backbone": "osnet_x0_25"}}
OWN: dict[str, Any] = {**SMALL, "plugins": {"osnet": {"fc": True}}}
FROZEN: dict[str, Any] = {**SMALL, "plugins": {"osnet": {"fc": True, "frozen_epochs": 1}}}

test_conforms = conformance_suite("osnet", SMALL)
test_conforms_with_its_own_embedding = conformance_suite("osnet", OWN)


@pytest.mark.parametrize(
    ("name", "trunk", "fc"),
    [
        ("osnet_x1_0", 1_905_828, 263_680),
        ("osnet_x0_75", 1_087_610, 198_144),
        ("osnet_x0_5", 497_426, 132_608),
        ("osnet_x0_25", 134_792, 67_072),
    ],
)
def test_every_width_has_its_parameters(name: str, trunk: int, fc: int) -> None:
    own = OsnetFc(WIDTHS[name][-1], 512)
    assert (count(OsnetEncoder(WIDTHS[name])), count(own)) == (trunk, fc)


@pytest.mark.parametrize(
    ("name", "published"), [("osnet_x1_0", 2_193_616), ("osnet_x0_25", 203_568)]
)
def test_torchreid_s_count_meets_a_block_s_gate_once_per_stream(name: str, published: int) -> None:
    encoder, fc = OsnetEncoder(WIDTHS[name]), OsnetFc(WIDTHS[name][-1], 512)
    gates = sum(count(m) for m in encoder.modules() if isinstance(m, AggregationGate))
    assert count(encoder) + count(fc) + 3 * gates == published


def test_the_whole_model_has_the_papers_parameters(tmp_path: Path) -> None:
    chosen = {"model": {"backbone": "osnet_x1_0"}, "plugins": {"osnet": {"fc": True}}}
    assembly = whole(tmp_path, ("osnet",), 1041, (256, 128), **chosen)
    assert count(assembly.model) == 2_703_541
    assert assembly.embedder().dim == 512


@pytest.mark.parametrize("name", list(WIDTHS))
def test_maps_have_the_declared_shapes(name: str) -> None:
    encoder = OsnetEncoder(WIDTHS[name])
    verify_taps(encoder, (256, 128), "osnet")
    with torch.no_grad():
        found = encoder.eval()(torch.randn(1, 3, 256, 128))
    stem, first, second, third = WIDTHS[name]
    assert {tap: tuple(feature.shape[1:]) for tap, feature in found.items()} == {
        "encoder/stem": (stem, 128, 64),
        "encoder/stage1": (first, 64, 32),
        "encoder/stage2": (second, 32, 16),
        "encoder/stage3": (third, 16, 8),
        "encoder/map": (third, 16, 8),
    }
    assert found["encoder/map"].min() == 0


def test_osnet_ain_is_of_osnet_s_size_and_a_run_s_encoder(reid_cache: Path) -> None:
    run = Run(reid_cache, (), {"model": {"backbone": "osnet_ain_x1_0"}})
    encoder = run.model.encoder
    assert count(encoder) == 1_905_828
    assert sum(isinstance(m, torch.nn.InstanceNorm2d) for m in encoder.modules()) == 1 + 4
    assert encoder.deploy_spec()["kwargs"] == {"channels": [64, 256, 384, 512], "ain": True}
    assert any(name.endswith("expand.norm.weight") for name in run.moved_by_step())


def test_the_streams_of_a_block_see_3_5_7_and_9_pixels() -> None:
    block = OsnetEncoder(WIDTHS["osnet_x0_25"]).stages[0][0].eval()
    for stream, field in zip(block.streams, (3, 5, 7, 9), strict=True):
        for parameter in stream.parameters():
            torch.nn.init.constant_(parameter, 1.0)
        dot = torch.zeros(1, 16, 21, 21)
        dot[:, :, 10, 10] = 1.0
        with torch.no_grad():
            (seen,) = (stream(dot) - stream(torch.zeros_like(dot))).abs().sum(1)
        rows = seen.sum(1).nonzero().flatten()
        assert (int(rows.min()), int(rows.max())) == (10 - field // 2, 10 + field // 2)


def test_a_block_has_one_gate_for_all_of_its_streams() -> None:
    encoder = OsnetEncoder(WIDTHS["osnet_x0_25"])
    assert sum(isinstance(m, AggregationGate) for m in encoder.modules()) == 3 * 2


def test_the_name_alone_chooses_the_encoder(reid_cache: Path) -> None:
    run = Run(reid_cache, (), SMALL)
    assert isinstance(run.model.encoder, OsnetEncoder)
    assert list(run.model.heads) == ["core/global"]
    assert run.step()


def test_the_plugin_alone_means_the_full_width() -> None:
    assert resolve({"run": {"plugins": ["osnet"]}}).config.model.backbone == "osnet_x1_0"


def test_its_own_embedding_is_average_pooled(reid_cache: Path) -> None:
    run = Run(reid_cache, ("osnet",), OWN)
    assert set(run.step()["main"].terms) == {"osnet/global/ce"}
    embedder = run.assembly.embedder().eval()
    image = torch.randn(2, 3, 96, 32)
    with torch.no_grad():
        vectors = embedder.vectors(image)["osnet/global"]
        pooled = embedder.encoder(image)["encoder/map"].mean((2, 3))
    assert torch.allclose(vectors.raw, pooled)
    assert vectors.neck.shape == (2, 512)


def test_a_frozen_start_trains_the_classifier_alone(reid_cache: Path) -> None:
    run = Run(reid_cache, ("osnet",), FROZEN)
    assert {name.partition(".")[0] for name in run.moved_by_step()} == {"criteria"}
    run.assembly.ctx.progress.epoch = 1
    moved = {name.partition(".")[0] for name in run.moved_by_step()}
    assert moved == {"encoder", "heads", "criteria"}


def test_a_frozen_start_keeps_the_statistics_that_were_loaded(reid_cache: Path) -> None:
    run = Run(reid_cache, ("osnet",), FROZEN)
    norms = {
        name: module
        for name, module in run.assembly.model.named_modules()
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d)
    }
    assert norms

    def counted() -> dict[str, int]:
        run.step()
        return {name: int(norm.num_batches_tracked) for name, norm in norms.items()}

    assert set(counted().values()) == {0}
    run.assembly.ctx.progress.epoch = 1
    assert set(counted().values()) == {1}


def test_a_frozen_start_leaves_the_cores_embedding_open(reid_cache: Path) -> None:
    layers = {**SMALL, "plugins": {"osnet": {"frozen_epochs": 1}}}
    moved = Run(reid_cache, ("osnet",), layers).moved_by_step()
    assert {name.partition(".")[0] for name in moved} == {"heads", "criteria"}


@pytest.mark.parametrize("epochs", [0, 1])
def test_a_frozen_start_changes_no_learning_rate(reid_cache: Path, epochs: int) -> None:
    own = {"plugins": {"osnet": {"fc": True, "frozen_epochs": epochs}}}
    run = Run(reid_cache, ("osnet",), SMALL, own, {"optim": {"new_layers_scale": 4.0}})
    plan = run.assembly.parts.plan
    scales = {
        name.partition(".")[0]: group.lr_scale
        for group in plan.groups.values()
        for name in group.parameters
    }
    assert scales == {"encoder": 1.0, "heads": 4.0, "criteria": 4.0}


def test_its_own_embedding_can_be_lost_by_choice(reid_cache: Path) -> None:
    layers = {**FROZEN, "own": {"embedding": "pcb"}}
    assembly = tiny_assembly(("osnet", "pcb"), SIX, layers, cache=reid_cache)
    assert {name.partition("/")[0] for name in assembly.model.heads} == {"pcb"}
    assert "osnet/encoder" in assembly.parts.plan.groups


@pytest.mark.parametrize("changed", [{"fc": True}, {"frozen_epochs": 3}])
def test_settings_of_osnet_beside_another_encoder_are_refused(
    reid_cache: Path, changed: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=r"'osnet' .*model\.backbone is 'test_resnet'.*x0_25"):
        tiny_assembly(("osnet",), {"plugins": {"osnet": changed}}, cache=reid_cache)


def test_a_last_stride_that_it_does_not_have_is_refused(reid_cache: Path) -> None:
    layers = {"model": {"backbone": "osnet_x0_5", "last_stride": 2}}
    with pytest.raises(ConfigError, match=r"'osnet_x0_5' ends at stride 16.*leave .*at 'auto'"):
        tiny_assembly((), layers, cache=reid_cache)


def test_published_weights_are_asked_for_by_file(reid_cache: Path) -> None:
    layers = {"model": {"backbone": "osnet_x0_5", "pretrained": True}}
    with pytest.raises(ConfigError, match=r"'osnet_x0_5' are not fetched.*pretrained=FILE"):
        tiny_assembly((), layers, cache=reid_cache)

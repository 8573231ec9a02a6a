"""The plugin in a run: what is supervised, where gradients go, what stays, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from reid_core import ConfigError, DataError, Encoder, Plugin, Tap, hookimpl
from reid_core.loop.assembly import Assembly
from reid_core.testing.probe_plugins import PROBES
from reid_core.testing.tiny import first_forward, tiny_assembly
from reid_partaware.losses import class_balanced_cross_entropy

NAME = "partaware"
HEAD = "branches.partaware/head."


class ThreeMaps(Encoder):
    """An encoder with three last maps, as MGN has."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=8, padding=1)
        self.last = nn.ModuleList(nn.Conv2d(8, 8, 1) for _ in range(3))
        self.taps = (
            *(Tap(f"encoder/map_{number}", 8, 8) for number in (1, 2, 3)),
            Tap("encoder/map", 8, 8),
        )

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        shared = self.stem(image)
        maps = [layer(shared) for layer in self.last]
        return dict(zip((tap.name for tap in self.taps), [*maps, maps[0]], strict=True))

    def deploy_spec(self) -> dict[str, Any]:
        return {"factory": "test_partaware_plugin:ThreeMaps", "kwargs": {}}


class Trio(Plugin):
    claims = ("backbone",)

    @hookimpl
    def reid_backbone(self, ctx: Any) -> Encoder:
        return ThreeMaps()


CLASSES = {**PROBES, "trio": Trio}


def assembled(cache: Path, *plugins: str, **sections: Any) -> Assembly:
    return tiny_assembly(plugins, sections, cache=cache, classes=CLASSES)


def partaware(cache: Path, *plugins: str, **settings: Any) -> Assembly:
    return assembled(cache, NAME, *plugins, plugins={NAME: settings})


def gradients(assembly: Assembly) -> dict[str, Tensor]:
    assert len(assembly.parts.plan.updates) == 1
    loss, _ = first_forward(assembly)
    loss.backward()
    return {
        name: parameter.grad
        for name, parameter in assembly.model.named_parameters()
        if parameter.grad is not None
    }


def test_the_loss_is_the_identity_s_plus_lambda_times_that_of_the_parts(reid_cache: Path) -> None:
    loss, report = first_forward(partaware(reid_cache, weight=0.25))
    terms = {name: float(value) for name, value in report.terms.items()}
    assert set(terms) == {"core/global/ce", "core/global/triplet", "partaware/parts"}
    expected = terms["core/global/ce"] + terms["core/global/triplet"] + terms["partaware/parts"] / 4
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-6)


def test_without_weight_every_other_gradient_is_the_baseline_s(reid_cache: Path) -> None:
    with_head = gradients(partaware(reid_cache, weight=0.0))
    baseline = gradients(assembled(reid_cache))
    assert not [name for name in with_head if name.startswith(HEAD)]
    assert set(with_head) == set(baseline)
    assert all(torch.equal(with_head[name], grad) for name, grad in baseline.items())


def test_the_part_loss_reaches_the_encoder_and_the_head_and_nothing_else(reid_cache: Path) -> None:
    identity = {"ce_weight": 0.0, "triplet_weight": 0.0}
    assembly = assembled(reid_cache, NAME, identity=identity)
    assert set(first_forward(assembly)[1].terms) == {"partaware/parts"}
    reached = gradients(assembly)
    heads = {name for name in reached if name.startswith(HEAD)}
    assert len(heads) == 5, "deconvolution, batch norm and the last layer with its bias"
    assert all(name.startswith("encoder.") for name in set(reached) - heads)
    assert any(grad.abs().max() > 0 for name, grad in reached.items() if name not in heads)


def test_with_a_frozen_encoder_only_the_head_moves(reid_cache: Path) -> None:
    identity = {"ce_weight": 0.0, "triplet_weight": 0.0}
    assembly = assembled(reid_cache, NAME, identity=identity)
    assembly.model.encoder.requires_grad_(False)
    assert all(name.startswith(HEAD) for name in gradients(assembly))


def test_features_are_the_same_with_the_head_and_without(reid_cache: Path, tmp_path: Path) -> None:
    images = torch.rand(2, 3, 64, 32)
    with_head, without = partaware(reid_cache), assembled(reid_cache)
    with torch.inference_mode():
        found, expected = (a.embedder().eval()(images) for a in (with_head, without))
    assert torch.equal(found, expected)
    with_head.embedder().save(tmp_path / "embedder.safetensors")
    with safe_open(tmp_path / "embedder.safetensors", "pt") as file:
        assert not [name for name in file.keys() if "partaware" in name]  # noqa: SIM118


@pytest.mark.parametrize(
    ("granularity", "classes"), [("foreground", 2), ("two", 3), ("four", 5), ("seven", 8)]
)
def test_a_granularity_has_its_classes(reid_cache: Path, granularity: str, classes: int) -> None:
    assembly = partaware(reid_cache, granularity=granularity)
    last = assembly.model.branches["partaware/head"].head[-1]
    assert last.out_channels == classes
    assert "partaware/parts" in first_forward(assembly)[1].terms


def test_one_head_sits_on_all_last_maps_of_an_encoder_with_several(reid_cache: Path) -> None:
    assembly = partaware(reid_cache, "trio")
    branch = assembly.model.declarations["partaware/head"]
    assert branch.reads == ("encoder/map_1", "encoder/map_2", "encoder/map_3")
    assert branch.writes == tuple(f"partaware/logits_{number}" for number in (1, 2, 3))
    alone = partaware(reid_cache, "trio", stream=("encoder/map",))
    counts = [
        sum(p.numel() for name, p in a.model.named_parameters() if name.startswith(HEAD))
        for a in (assembly, alone)
    ]
    assert counts[0] == counts[1], "one head, not three"
    reached = gradients(assembly)
    assert all(f"encoder.last.{number}.weight" in reached for number in range(3))


def test_the_loss_on_several_maps_is_the_mean(reid_cache: Path) -> None:
    whole = float(first_forward(partaware(reid_cache, "trio"))[1].terms["partaware/parts"])
    single = [
        float(
            first_forward(partaware(reid_cache, "trio", stream=(f"encoder/map_{n}",)))[1].terms[
                "partaware/parts"
            ]
        )
        for n in (1, 2, 3)
    ]
    # Each map has batch statistics of its own, so three calls of one head are three single heads.
    assert whole == pytest.approx(sum(single) / 3, rel=1e-5)


def test_the_head_sits_on_the_stream_of_another_plugin(reid_cache: Path) -> None:
    assembly = partaware(reid_cache, "stream", stream=("stream/map",))
    reached = gradients(assembly)
    assert any(name.startswith(HEAD) for name in reached)
    assert any(name.startswith("branches.stream/live.") for name in reached)


def test_generated_images_are_supervised_by_the_labels_of_their_donors(reid_cache: Path) -> None:
    ((logits, labels),), _ = beside_generated(reid_cache, "join")
    assert len(logits) == len(labels) == 16


def test_images_of_all_passes_count_alike(reid_cache: Path) -> None:
    pairs, value = beside_generated(reid_cache, "detached", most=2)
    assert [len(labels) for _, labels in pairs] == [8, 2]
    logits, labels = map(torch.cat, zip(*pairs, strict=True))
    together = class_balanced_cross_entropy(logits, labels).detach()
    apart = torch.stack([class_balanced_cross_entropy(*pair) for pair in pairs]).mean().detach()
    assert value == pytest.approx(float(together), rel=1e-6)
    assert value != pytest.approx(float(apart), rel=1e-4)


def beside_generated(
    cache: Path, route: str, most: int | None = None
) -> tuple[list[tuple[Tensor, Tensor]], float]:
    """Return what the head says of each pass and should say, and the loss.

    Args:
        cache: for data.
        route: of the generated images.
        most: how many of their pass count.
    """
    settings = {"adversarial": {"route": route}}
    assembly = assembled(cache, NAME, "adversarial", plugins=settings)
    seen: list[tuple[Tensor, Tensor]] = []
    plugin: Any = assembly.plugins[NAME]
    labelled = plugin._labelled

    def keep(view: Any, output: str) -> tuple[Tensor, Tensor]:
        logits, labels = labelled(view, output)
        rows = most if seen else None
        seen.append((logits[:rows], labels[:rows]))
        return seen[-1]

    plugin._labelled = keep
    return seen, float(first_forward(assembly)[1].terms["partaware/parts"].detach())


def test_maps_that_are_none_or_differ_are_refused(reid_cache: Path) -> None:
    with pytest.raises(ConfigError, match=r"'core/pooled' is no feature map; a part head needs"):
        partaware(reid_cache, stream=("core/pooled",))
    with pytest.raises(ConfigError, match=r"one head cannot sit on maps of different channels"):
        partaware(reid_cache, stream=("encoder/stage1", "encoder/map"))


def test_without_any_source_of_labels_the_error_says_who_could_provide_them(
    reid_cache: Path, tmp_path: Path, toy_tiny: Any
) -> None:
    for split, samples in (
        ("train", toy_tiny.train.samples),
        ("query", toy_tiny.query),
        ("gallery", toy_tiny.gallery),
    ):
        (tmp_path / split).mkdir()
        for sample in samples:
            (tmp_path / split / sample.path.name).write_bytes(sample.path.read_bytes())
    data = {"name": "folder", "root": tmp_path}
    with pytest.raises(
        DataError, match=r"'partaware' needs the field 'parts'.*--label parts=parsing"
    ):
        assembled(reid_cache, NAME, data=data)

"""Every setting of the plugin reaches what it speaks of."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from reid_core.testing.tiny import first_forward, tiny_assembly
from reid_parsing.lookup import GRANULARITIES
from reid_partaware.heads import build_head
from reid_partaware.labels import part_targets, without_erased
from reid_partaware.losses import class_balanced_cross_entropy
from reid_partaware.plugin import Partaware, PartawareSettings


def head_of(cache: Path, **settings: Any) -> nn.Module:
    assembly = tiny_assembly(("partaware",), {"plugins": {"partaware": settings}}, cache=cache)
    head: nn.Module = assembly.model.branches["partaware/head"]
    return head


def test_the_defaults_are_the_paper_s() -> None:
    assert PartawareSettings().model_dump() == {
        "weight": 1.0,  # section IV-B: λ = 1
        "head": "c",
        "granularity": "seven",
        "stream": (),
        "norm": True,
        "joint": False,
        "resizing": "nearest-exact",
        "erased": "keep",
    }


@pytest.mark.parametrize(
    ("kind", "layers"),
    [
        ("a", ["Conv2d"]),
        ("b", ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d"]),
        ("c", ["ConvTranspose2d", "BatchNorm2d", "ReLU", "Conv2d"]),
        ("d", 2 * ["ConvTranspose2d", "BatchNorm2d", "ReLU"] + ["Conv2d"]),
    ],
)
def test_the_type_of_the_head(reid_cache: Path, kind: str, layers: list[str]) -> None:
    head = head_of(reid_cache, head=kind)
    assert [type(layer).__name__ for layer in head.head] == layers


def test_the_norm_and_the_bias_that_stands_in_for_it(reid_cache: Path) -> None:
    head = head_of(reid_cache, norm=False).head
    assert [type(layer).__name__ for layer in head] == ["ConvTranspose2d", "ReLU", "Conv2d"]
    assert head[0].bias is not None
    assert head_of(reid_cache).head[0].bias is None


@pytest.mark.parametrize("joint", [True, False])
def test_whether_several_maps_are_one_batch(reid_cache: Path, joint: bool) -> None:
    assert head_of(reid_cache, joint=joint).joint is joint


def test_weights_begin_at_a_thousandth_and_biases_at_zero() -> None:
    torch.manual_seed(0)
    for kind in ("a", "b", "c", "d"):
        for layer in build_head(kind, 64, 8, norm=False):
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                assert float(layer.weight.detach().std()) == pytest.approx(0.001, rel=0.15)
                assert abs(float(layer.weight.detach().mean())) < 2e-4
                assert not layer.bias.any()


def test_lambda_is_the_weight_of_the_term(reid_cache: Path) -> None:
    for weight in (1.0, 0.25):
        sections = {"plugins": {"partaware": {"weight": weight}}} if weight != 1 else {}
        assembly = tiny_assembly(("partaware",), sections, cache=reid_cache)
        loss, report = first_forward(assembly)
        parts = float(report.terms["partaware/parts"])
        others = sum(float(v) for n, v in report.terms.items() if n != "partaware/parts")
        assert float(loss.detach()) - others == pytest.approx(weight * parts, rel=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"resizing": "nearest"},
        {"resizing": "bilinear_bug"},
        {"erased": "ignore"},
        {"erased": "background"},
        {"granularity": "four", "erased": "ignore", "resizing": "nearest"},
    ],
)
def test_labels_are_made_as_the_settings_say(settings: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(1)
    plugin = Partaware("partaware", PartawareSettings(**settings))
    granularity, resizing, erased = (
        getattr(plugin.settings, key) for key in ("granularity", "resizing", "erased")
    )
    table = torch.tensor(GRANULARITIES[granularity])
    clean = torch.rand(2, 3, 16, 8, generator=generator)
    shown = clean.clone()
    shown[0, :, 3:9, 1:6] = 0
    logits = torch.randn(2, int(table.max()) + 1, 6, 3, generator=generator)
    parts = torch.randint(0, 8, (2, 16, 8), generator=generator, dtype=torch.uint8)
    view = SimpleNamespace(
        output=lambda name: logits,
        batch=SimpleNamespace(fields={"parts": parts}, image=clean),
        image=shown,
    )
    found = class_balanced_cross_entropy(*plugin._labelled(view, "partaware/logits"))
    values = {
        (r, e): class_balanced_cross_entropy(
            logits, without_erased(part_targets(parts, (6, 3), table, r), clean, shown, e)
        )
        for r in ("nearest-exact", "nearest", "bilinear_bug")
        for e in ("keep", "ignore", "background")
    }
    assert torch.equal(found, values[resizing, erased])
    others = [value for key, value in values.items() if key != (resizing, erased)]
    assert not any(torch.equal(found, value) for value in others)

"""PCB: parameters, the sum of equation 3, what each setting does, and composition."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from whole_models import SIX, Run, count, whole

from reid_core import Branch, ConfigError, ConflictError, Plugin, hookimpl
from reid_core.runs.resolve import resolve
from reid_core.testing import conformance_suite
from reid_core.testing.tiny import Recorder, tiny_assembly

test_conforms = conformance_suite("pcb", SIX)


def pcb(cache: Path, **settings: Any) -> Any:
    return tiny_assembly(("pcb",), SIX, {"plugins": {"pcb": settings}}, cache=cache)


@pytest.mark.parametrize(("identities", "parameters"), [(751, 27_816_410), (1041, 28_263_590)])
def test_the_whole_model_has_the_papers_parameters(
    tmp_path: Path, identities: int, parameters: int
) -> None:
    assembly = whole(tmp_path, ("pcb",), identities, (96, 32))
    assert count(assembly.model) == parameters
    tap = assembly.model.encoder.taps[-1]
    assert (tap.channels, 384 // tap.stride, 128 // tap.stride) == (2048, 24, 8)
    assert assembly.embedder().dim == 6 * 256


def test_the_loss_is_the_sum_over_the_stripes(tmp_path: Path) -> None:
    assembly = whole(tmp_path, ("pcb",), 1041, (96, 32), model={"backbone": "test_resnet"})
    for criterion in assembly.model.criteria.values():
        nn.init.zeros_(criterion.classifier.weight)
    trainer = Recorder(assembly)
    assembly.model.train()
    trainer.begin_epoch()
    (main,) = assembly.parts.plan.updates
    _, report = assembly.parts.forward(main, trainer.batches(trainer.streams(1)))
    assert set(report.terms) == {f"pcb/stripe{n}/ce" for n in range(1, 7)}
    assert report.total.item() == pytest.approx(6 * math.log(1041), rel=1e-6)
    assert report.total.item() == pytest.approx(41.69, abs=5e-3)


def test_a_stripe_is_trained_by_its_own_classifier_alone(reid_cache: Path) -> None:
    run = Run(reid_cache, ("pcb",), {"loss_weights": {f"pcb/stripe{n}/ce": 0 for n in range(2, 7)}})
    moved = run.moved_by_step()
    heads = {name for name in moved if not name.startswith("encoder.")}
    assert {name.split(".")[1] for name in heads} == {"pcb/stripe1"}
    assert {name.split(".")[0] for name in heads} == {"heads", "criteria"}
    assert any(name.startswith("encoder.") for name in moved)


def test_there_is_no_triplet_loss(reid_cache: Path) -> None:
    terms = Run(reid_cache, ("pcb",)).step()["main"].terms
    assert set(terms) == {f"pcb/stripe{n}/ce" for n in range(1, 7)}


def test_settings_have_their_effect(reid_cache: Path) -> None:
    assembly = pcb(reid_cache, stripes=3, dim=32, pooling="avg", unit_stripes=False)
    embedder = assembly.embedder().eval()
    assert list(embedder.heads) == [f"pcb/stripe{n}" for n in (1, 2, 3)]
    images = torch.rand(2, 3, 96, 32)
    with torch.no_grad():
        found = embedder(images)
        feature = embedder.encoder((images - embedder.mean) / embedder.std)["encoder/map"]
        necks = [
            head.neck(feature[:, :, 2 * n : 2 * n + 2].mean((2, 3)))
            for n, head in enumerate(embedder.heads.values())
        ]
    assert found.shape == (2, 3 * 32)
    assert torch.allclose(found, torch.cat(necks, 1), atol=1e-6)


def test_each_stripe_has_length_one_by_default(reid_cache: Path) -> None:
    embedder = pcb(reid_cache).embedder().eval()
    with torch.no_grad():
        stripes = embedder(torch.rand(4, 3, 96, 32)).unflatten(1, (6, 256))
    assert torch.allclose(stripes.norm(dim=2), torch.ones(4, 6), atol=1e-5)


class Halved(nn.Conv2d):
    """A stream of eight channels at stride 8."""

    def __init__(self) -> None:
        super().__init__(3, 8, 8, 8)

    def deploy_spec(self) -> dict[str, Any]:
        return {"factory": f"{__name__}:Halved", "kwargs": {}}


class Other(Plugin):
    @hookimpl
    def reid_auxiliary_branches(self) -> list[Branch]:
        return [Branch("other/stream", Halved(), ("image",), ("other/map",))]


def test_it_cuts_another_plugins_map(reid_cache: Path) -> None:
    layers = {"plugins": {"pcb": {"stream": "other/map"}}}
    classes = {"other": Other}
    assembly = tiny_assembly(("other", "pcb"), SIX, layers, cache=reid_cache, classes=classes)
    assert assembly.model.heads["pcb/stripe1"].channels == 8
    assert list(assembly.embedder().branches) == ["other/stream", "pcb/stripes"]
    layers = {"plugins": {"pcb": {"stream": "other/map"}}, "data": {"height": 64}}
    with pytest.raises(ConfigError, match=r"'other/map' .*its 8 rows .*data\.height=96"):
        tiny_assembly(("other", "pcb"), SIX, layers, cache=reid_cache, classes=classes)


def test_a_height_that_six_stripes_do_not_divide_is_refused_before_training(
    reid_cache: Path,
) -> None:
    with pytest.raises(ConfigError, match=r"'pcb' .*6 stripes.*8 rows.*set -s data\.height=192"):
        tiny_assembly(("pcb",), {"data": {"height": 128}}, cache=reid_cache)


def test_the_quick_recipes_height_is_raised_unless_the_user_rules() -> None:
    assert resolve({"run": {"plugins": ["pcb"]}}).config.data.height == 192
    ruled = resolve({"run": {"plugins": ["pcb"]}, "data": {"height": 384}})
    assert ruled.config.data.height == 384


def test_pcb_and_mgn_are_refused_together_by_name(reid_cache: Path) -> None:
    with pytest.raises(ConflictError, match=r"'mgn' and 'pcb' both claim the slot 'embedding'"):
        tiny_assembly(("pcb", "mgn"), SIX, cache=reid_cache)
    chosen = tiny_assembly(("pcb", "mgn"), SIX, {"own": {"embedding": "mgn"}}, cache=reid_cache)
    assert {name.partition("/")[0] for name in chosen.model.heads} == {"mgn"}


def test_pcb_cuts_osnets_map(reid_cache: Path) -> None:
    run = Run(reid_cache, ("osnet", "pcb"), {"model": {"backbone": "osnet_x0_25"}})
    assert run.model.heads["pcb/stripe6"].channels == 128
    moved = run.moved_by_step()
    assert {name.partition(".")[0] for name in moved} == {"encoder", "heads", "criteria"}


def test_more_than_nine_stripes_are_in_order(reid_cache: Path) -> None:
    layers = {"data": {"height": 192}, "plugins": {"pcb": {"stripes": 12, "dim": 4}}}
    assembly = tiny_assembly(("pcb",), SIX, layers, cache=reid_cache)
    names = [f"pcb/stripe{number:02d}" for number in range(1, 13)]
    assert list(assembly.embedder().heads) == names
    assert [e.reads for e in assembly.embedder().embeddings.values()] == [
        f"pcb/pooled{number:02d}" for number in range(1, 13)
    ]

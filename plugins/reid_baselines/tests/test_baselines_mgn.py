"""MGN: parameters, vectors, both losses, both ways to optimise them, and composition."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from whole_models import SIX, Run, count, whole

from reid_baselines.mgn import MgnSettings
from reid_baselines.mgn_encoder import MgnEncoder, Reduction
from reid_core import (
    ConfigError,
    ConflictError,
    LossTerm,
    Plugin,
    StepView,
    TimmEncoder,
    Update,
    batch_hard_triplet,
    hookimpl,
)
from reid_core.testing import conformance_suite
from reid_core.testing.tiny import Recorder, tiny_assembly

JOINT = {"plugins": {"mgn": {"optimisation": "joint"}}}

test_conforms = conformance_suite("mgn", SIX)
test_conforms_jointly = conformance_suite("mgn", SIX | JOINT)

CE = {f"mgn/{name}/ce" for name in ("b1g", "b2g", "b2s1", "b2s2", "b3g", "b3s1", "b3s2", "b3s3")}


def settings(**values: Any) -> dict[str, Any]:
    return {"plugins": {"mgn": values}}


@pytest.fixture(scope="module")
def resnet50() -> MgnEncoder:
    with torch.device("meta"):
        return MgnEncoder("resnet50", (384, 128))


def test_the_trunk_has_the_papers_parts(resnet50: MgnEncoder) -> None:
    stem = nn.ModuleList([resnet50.stem, resnet50.stage1, resnet50.stage2, resnet50.shared])
    assert count(stem) == 2_957_376
    assert [count(branch) for branch in resnet50.branches] == [20_550_656] * 3
    assert count(resnet50) == 64_609_344
    with torch.no_grad():
        found = resnet50.eval()(torch.zeros(2, 3, 384, 128, device="meta"))
    assert {name: tuple(feature.shape[1:]) for name, feature in found.items()} == {
        "encoder/stem": (64, 192, 64),
        "encoder/stage1": (256, 96, 32),
        "encoder/stage2": (512, 48, 16),
        "encoder/shared": (1024, 24, 8),
        "encoder/map_1": (2048, 24, 8),
        "encoder/map_2": (2048, 24, 8),
        "encoder/map_3": (2048, 24, 8),
        "encoder/map": (2048, 24, 8),
    }


@pytest.mark.parametrize(
    ("classified", "identities", "parameters"),
    [
        ("pooled", 751, 74_389_688),
        ("pooled", 1041, 76_544_968),
        ("reduced", 751, 70_352_312),
        ("reduced", 1041, 70_948_552),
    ],
)
def test_the_whole_model_has_the_papers_parameters(
    tmp_path: Path, classified: str, identities: int, parameters: int
) -> None:
    chosen = settings(classified=classified)
    assembly = whole(tmp_path, ("mgn",), identities, (96, 32), **chosen)
    assert count(assembly.model) == parameters
    assert assembly.embedder().dim == 8 * 256


@pytest.mark.parametrize("name", ["test_resnet", "resnet18"])
def test_every_branch_is_the_resnet_that_it_was_split_from(name: str) -> None:
    seen = {"mean": (0.5, 0.4, 0.3), "std": (0.5, 0.25, 0.2)}  # another convention than ours
    torch.manual_seed(0)
    split = MgnEncoder(name, (96, 32), **seen).eval()
    torch.manual_seed(0)
    whole_net = TimmEncoder(name, (96, 32), **seen).eval()
    image = torch.randn(2, 3, 96, 32)
    with torch.no_grad():
        ours, theirs = split(image), whole_net(image)
    for tap in ("encoder/stem", "encoder/stage1", "encoder/stage2", "encoder/map"):
        assert torch.equal(ours[tap], theirs[tap]), tap
    for number in (1, 2, 3):
        assert torch.equal(ours[f"encoder/map_{number}"], theirs["encoder/map"])
    # What is shared is listed once unless it is asked for as often as it stands there.
    weights = [p.data_ptr() for _, p in split.named_parameters(remove_duplicate=False)]
    assert len(set(weights)) == len(weights), "the copies share their weights"


def test_pretrained_weights_reach_all_three_branches(tmp_path: Path) -> None:
    trained = TimmEncoder("test_resnet", (96, 32))
    path = tmp_path / "weights.pth"
    torch.save(trained.trunk.state_dict(), path)
    split = MgnEncoder("test_resnet", (96, 32), pretrained=path)
    last = trained.trunk.layer4.state_dict()
    for branch in split.branches:
        found = list(branch.state_dict().values())[-len(last) :]
        assert all(torch.equal(a, b) for a, b in zip(found, last.values(), strict=True))


def test_only_a_resnet_is_split() -> None:
    with pytest.raises(ConfigError, match=r"'mgn' splits a ResNet.*'mobilenetv2_100' is none"):
        MgnEncoder("mobilenetv2_100", (96, 32))


def test_another_plugins_encoder_is_not_split(reid_cache: Path) -> None:
    small = {"model": {"backbone": "osnet_x0_25"}}
    with pytest.raises(ConflictError, match=r"'mgn' .*'osnet_x0_25' is an encoder of another"):
        tiny_assembly(("mgn",), SIX, small, cache=reid_cache)
    with pytest.raises(ConflictError, match=r"'mgn' .*beside it: 'osnet'\); .*leave 'mgn' out"):
        tiny_assembly(("mgn", "osnet"), SIX, small, cache=reid_cache)


def test_the_last_stride_is_that_of_the_run(reid_cache: Path) -> None:
    kept = {
        "data": {"height": 192, "width": 64},
        "model": {"backbone": "resnet18", "last_stride": 2},
    }
    taps = tiny_assembly(("mgn",), kept, cache=reid_cache).model.encoder.taps
    assert {tap.name: tap.stride for tap in taps}["encoder/map_3"] == 32


def vectors_of(run: Run) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    embedder = run.assembly.embedder().eval()
    image = torch.randn(2, 3, 96, 32)
    with torch.no_grad():
        return embedder.vectors(image), embedder.encoder(image)


def test_the_eight_vectors_come_from_their_parts_of_the_maps(reid_cache: Path) -> None:
    run = Run(reid_cache, ("mgn",))
    for _ in range(3):
        run.step()  # so that the branches differ
    vectors, maps = vectors_of(run)
    expected = {}
    for number, stripes in ((1, 0), (2, 2), (3, 3)):
        feature = maps[f"encoder/map_{number}"]
        expected[f"mgn/b{number}g"] = feature.amax((2, 3))
        for stripe, part in enumerate(feature.chunk(stripes, 2) if stripes else (), start=1):
            expected[f"mgn/b{number}s{stripe}"] = part.amax((2, 3))
    assert set(vectors) == set(expected)
    for name, pooled in expected.items():
        assert torch.equal(vectors[name].raw, pooled), name
    assert not torch.equal(maps["encoder/map_1"], maps["encoder/map_2"])
    assert torch.equal(maps["encoder/map"], maps["encoder/map_1"])
    assert not torch.equal(maps["encoder/map"], maps["encoder/map_3"])


def test_whole_maps_are_reduced_by_a_plain_linear_layer(reid_cache: Path) -> None:
    vectors, _ = vectors_of(Run(reid_cache, ("mgn",)))
    for name, embedded in vectors.items():
        assert embedded.neck.shape == (2, 256)
        assert (embedded.neck.min() < 0) == name.endswith("g"), name
    layer = Reduction(5, 3)
    assert count(layer) == 5 * 3 + 3
    assert Reduction(**layer.deploy_spec()["kwargs"]).weight.shape == (3, 5)


def losses(run: Run, update: str) -> Any:
    (declared,) = (u for u in run.assembly.parts.plan.updates if u.name == update)
    _, report = run.assembly.parts.forward(declared, run.trainer.batches(run.streams))
    return report


def test_cross_entropy_is_the_mean_over_the_eight_heads(tmp_path: Path) -> None:
    small = {"model": {"backbone": "test_resnet"}}
    assembly = whole(tmp_path, ("mgn",), 1041, (96, 32), **small)
    for criterion in assembly.model.criteria.values():
        nn.init.zeros_(criterion.classifier.weight)
    (main, _) = assembly.parts.plan.updates
    trainer = Recorder(assembly)
    trainer.begin_epoch()
    _, report = assembly.parts.forward(main, trainer.batches(trainer.streams(1)))
    assert set(report.terms) == CE
    assert report.total.item() == pytest.approx(math.log(1041), rel=1e-6)
    assert report.total.item() == pytest.approx(6.948, abs=5e-4)


def test_the_triplet_loss_is_the_mean_over_the_whole_maps(reid_cache: Path) -> None:
    run = Run(reid_cache, ("mgn",), settings(margin=0.4))
    report = losses(run, "mgn/triplet")
    assert set(report.terms) == {"mgn/triplet"}
    pid = report.labels
    expected = [
        batch_hard_triplet(report.embedded[f"mgn/{name}"].neck, pid, 0.4)
        for name in ("b1g", "b2g", "b3g")
    ]
    assert report.terms["mgn/triplet"].item() == pytest.approx(
        torch.stack(expected).mean().item(), rel=1e-6
    )


def test_the_triplet_loss_of_four_points_at_the_papers_margin() -> None:
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    loss = batch_hard_triplet(points, torch.tensor([0, 0, 1, 1]), MgnSettings().margin)
    # Anchors in turn: 1 - 2, 1 - 2, 3.606 - 2, 3.606 - 2, plus 0.1 and at least 0.
    assert loss.item() == pytest.approx((13**0.5 - 2 + 0.1) / 2, abs=1e-6)
    assert loss.item() == pytest.approx(0.8527756, abs=1e-6)


def test_the_triplet_loss_leaves_generated_rows_alone(reid_cache: Path) -> None:
    joined = {"adversarial": {"route": "join"}}
    layers = ({"plugins": joined | JOINT["plugins"]},)
    run = Run(reid_cache, ("mgn", "adversarial"), *layers)
    report = losses(run, "main")
    real = run.assembly.config.data.batch_size
    assert len(report.labels) == 2 * real
    expected = [
        batch_hard_triplet(report.embedded[f"mgn/{name}"].neck[:real], report.labels[:real], 0.1)
        for name in ("b1g", "b2g", "b3g")
    ]
    assert report.terms["mgn/triplet"].item() == pytest.approx(
        torch.stack(expected).mean().item(), rel=1e-5
    )


def test_even_steps_take_cross_entropy_and_odd_steps_the_triplet_loss(reid_cache: Path) -> None:
    run = Run(reid_cache, ("mgn",))
    for step in range(4):
        reports = run.step()
        if step % 2 == 0:
            assert {name: set(r.terms) for name, r in reports.items()} == {"main": CE}
            assert set(reports["main"].weights.values()) == {1 / 8}
        else:
            terms = {name: set(r.terms) for name, r in reports.items()}
            assert terms == {"mgn/triplet": {"mgn/triplet"}}


def test_each_step_moves_what_its_loss_reaches(reid_cache: Path) -> None:
    run = Run(reid_cache, ("mgn",), {"optim": {"name": "sgd", "weight_decay": 0}})
    reductions = {f"heads.mgn/b{n}g.neck" for n in (1, 2, 3)}

    def parts(names: set[str]) -> set[str]:
        return {
            n.rpartition(".")[0] if n.startswith("heads") else n.partition(".")[0] for n in names
        }

    even, odd = parts(run.moved_by_step()), parts(run.moved_by_step())
    assert {"encoder", "criteria"} < even
    assert not reductions & even, "the reduced vectors of whole maps have no classifier here"
    assert odd == {"encoder", *reductions}


def test_a_triplet_gradient_counts_by_the_scale_with_sgd(reid_cache: Path) -> None:
    plain = {"name": "sgd", "lr": 0.5, "momentum": 0.9, "weight_decay": 0}
    run = Run(reid_cache, ("mgn",), {"optim": plain}, settings(triplet_scale=0.1))
    plan, optimisers = run.assembly.parts.plan, run.assembly.parts.optimisers
    main, triplet = plan.updates
    assert (main.every, triplet.every) == ((2, 0), (2, 1))
    name = plan.groups["encoder"].parameters[0]
    weight = dict(run.model.named_parameters())[name]

    def moved_by(update: Update) -> float:
        """Return how far one gradient of an update goes in 200 steps of each kind."""
        for parameter in run.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        before = weight.detach().clone()
        weight.grad = torch.ones_like(weight)
        optimisers.step(update, 0, 1.0)
        weight.grad.zero_()
        for _ in range(200):
            for other in (triplet, main) if update is main else (main, triplet):
                optimisers.step(other, 0, 1.0)
        return (before - weight.detach()).mean().item()

    # 1 / (1 - 0.9) times the rate, with either.
    assert moved_by(main) == pytest.approx(5.0, rel=1e-3)
    assert moved_by(triplet) == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("name", ["adam", "adamw", "amsgrad"])
def test_each_kind_of_steps_has_moments_of_its_own(reid_cache: Path, name: str) -> None:
    options = {"name": name, "lr": 0.02, "weight_decay": 0.3, "betas": [0.8, 0.95]}
    run = Run(reid_cache, ("mgn",), {"optim": options})
    plan, optimisers = run.assembly.parts.plan, run.assembly.parts.optimisers
    main, triplet = plan.updates
    run.step()
    run.step()
    own = {f"{group}@mgn/triplet" for group in triplet.shares}
    assert set(optimisers.state_dict()) == set(plan.groups) | own
    steps = optimisers.state_dict()["encoder@mgn/triplet"]["encoder.stem.1.weight"]["step"]
    assert steps == 1
    encoder = plan.groups["encoder"]
    assert optimisers.rate(encoder, triplet, 0.5) == pytest.approx(0.1 * 0.5 * 0.02)
    wanted = triplet.optimiser
    assert (wanted.name, wanted.weight_decay, wanted.betas) == (name, 0.3, (0.8, 0.95))
    assert optimisers.rate(encoder, main, 0.5) == pytest.approx(0.5 * 0.02)


def test_the_triplet_steps_have_all_settings_of_the_runs_optimiser(reid_cache: Path) -> None:
    wanted: dict[str, Any] = {"name": "rmsprop", "lr": 0.02, "options": {"alpha": 0.5}}
    wanted |= {"momentum": 0.3, "weight_decay": 0.1}
    run = Run(reid_cache, ("mgn",), {"optim": wanted})
    (main, triplet) = run.assembly.parts.plan.updates
    stepped = [
        dict(next(run.assembly.parts.optimisers.stepped(update, 0))[1].param_groups[0])
        for update in (main, triplet)
    ]
    kept = [{k: v for k, v in one.items() if k not in ("params", "lr")} for one in stepped]
    assert kept[0] == kept[1]
    assert (kept[1]["alpha"], kept[1]["momentum"], kept[1]["weight_decay"]) == (0.5, 0.3, 0.1)
    run = Run(reid_cache, ("mgn",), {"optim": {"name": "sgd", "momentum": 0.4, "nesterov": True}})
    own = run.assembly.parts.plan.updates[1].optimiser
    assert (own.name, own.momentum, own.nesterov) == ("sgd", 0.4, True)


def test_odd_steps_move_batch_norm_as_even_ones_do(reid_cache: Path) -> None:
    run = Run(reid_cache, ("mgn",))
    counters = [m for m in run.model.encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    for done in (1, 2, 3):
        run.step()
        assert {int(m.num_batches_tracked) for m in counters} == {done}


@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_a_joint_step_sums_both_losses(reid_cache: Path, scale: float) -> None:
    run = Run(reid_cache, ("mgn",), settings(optimisation="joint", triplet_scale=scale))
    (report,) = run.step().values()
    assert set(report.terms) == {*CE, "mgn/triplet"}
    ce = sum(report.terms[name].item() for name in CE) / 8
    expected = ce + scale * report.terms["mgn/triplet"].item()
    assert report.total.item() == pytest.approx(expected, rel=1e-6)


def test_classifiers_of_whole_maps_read_what_the_setting_says(reid_cache: Path) -> None:
    pooled = Run(reid_cache, ("mgn",)).model.criteria["mgn/b1g"].classifier
    reduced = Run(reid_cache, ("mgn",), settings(classified="reduced", dim=32)).model.criteria
    assert pooled.in_features == 96
    assert reduced["mgn/b1g"].classifier.in_features == 32


def test_vectors_have_length_one_unless_they_are_joined_first(reid_cache: Path) -> None:
    image = torch.rand(2, 3, 96, 32)
    with torch.no_grad():
        unit = Run(reid_cache, ("mgn",)).assembly.embedder().eval()(image)
        plain = Run(reid_cache, ("mgn",), settings(unit_vectors=False)).assembly.embedder().eval()
        joined = plain(image).unflatten(1, (8, 256))
    assert torch.allclose(unit.unflatten(1, (8, 256)).norm(dim=2), torch.ones(2, 8), atol=1e-5)
    assert not torch.allclose(joined.norm(dim=2), torch.ones(2, 8), atol=1e-2)


def test_other_plugins_terms_belong_to_even_steps_unless_the_user_adds_them(
    reid_cache: Path,
) -> None:
    plain = Run(reid_cache, ("mgn", "head"))
    assert "head/parts" in plain.step()["main"].terms
    assert "head/parts" not in plain.step()["mgn/triplet"].terms
    both = Run(reid_cache, ("mgn", "head"), settings(also=["head"]))
    both.step()
    before = both.model.branches["head/head"][1].weight.detach().clone()
    assert set(both.step()["mgn/triplet"].terms) == {"head/parts", "mgn/triplet"}
    assert not torch.equal(before, both.model.branches["head/head"][1].weight)


def test_a_setting_without_effect_is_refused(reid_cache: Path) -> None:
    with pytest.raises(ConfigError, match=r"mgn\.also .*set -s mgn\.optimisation=alternate"):
        Run(reid_cache, ("mgn", "head"), settings(also=["head"], optimisation="joint"))


@pytest.mark.parametrize("other", ["haed", "mgn"])
def test_the_triplet_steps_take_terms_of_other_plugins_of_the_run_alone(
    reid_cache: Path, other: str
) -> None:
    with pytest.raises(ConfigError, match=rf"mgn\.also names '{other}', .* \(head, mgn\)"):
        Run(reid_cache, ("mgn", "head"), settings(also=[other]))


def test_a_plugin_without_parameters_can_be_added(reid_cache: Path) -> None:
    class Small(Plugin):
        @hookimpl
        def reid_losses(self, step: StepView) -> list[LossTerm]:
            norms = [
                v.raw.norm(dim=1).mean() for v in next(iter(step.passes.values())).embedded.values()
            ]
            return [LossTerm("small/norms", torch.stack(norms).mean())]

    layers = (SIX, settings(also=["small"]))
    assembly = tiny_assembly(("mgn", "small"), *layers, cache=reid_cache, classes={"small": Small})
    trainer = Recorder(assembly)
    trainer.train_epoch()
    assert "mgn/triplet:small/norms" in trainer.trace[1]


def test_it_needs_both_of_its_slots(reid_cache: Path) -> None:
    with pytest.raises(ConflictError, match=r"'mgn' .*'embedding' went to 'pcb'.*embedding=mgn"):
        tiny_assembly(("mgn", "pcb"), SIX, {"own": {"embedding": "pcb"}}, cache=reid_cache)


def test_a_height_that_three_stripes_do_not_divide_is_refused(reid_cache: Path) -> None:
    with pytest.raises(ConfigError, match=r"'mgn' cuts 'encoder/map_3' into 3 .*height=96"):
        tiny_assembly(("mgn",), cache=reid_cache)


def test_the_height_that_is_advised_suits_all_branches(reid_cache: Path) -> None:
    odd = {"data": {"height": 100}}  # 6.25 rows; two stripes alone would have 128 pixels
    with pytest.raises(ConfigError, match=r"'mgn' cuts 'encoder/map_2' into 2 .*height=192$"):
        tiny_assembly(("mgn",), odd, cache=reid_cache)

"""Settings reach what they set: clipping, rates, augmentation, sampling, mirrored features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from one_update import Run, scale
from safetensors.torch import load_file, save_file
from torch import Tensor

from reid_core.config import AugmentSection
from reid_core.contract.model import Supervision
from reid_core.contract.step import LossTerm, Pass, Schedule, Update
from reid_core.contract.views import StepView
from reid_core.data.augmentation import (
    ErasingPolicy,
    PhotometricPolicy,
    change_colours,
)
from reid_core.data.geometry import GeometryPolicy
from reid_core.data.sampling import make_sampler
from reid_core.errors import CheckpointError, ConfigError
from reid_core.evaluation.extraction import extract
from reid_core.model.encoder import TimmEncoder
from reid_core.model.stored import load_embedder
from reid_core.runs.assembly.sources import erasing_of, photometric_of
from reid_core.testing.tiny import Recorder, tiny_assembly

STEADY: dict[str, Any] = {
    "optim": {"name": "sgd", "lr": 5.0, "momentum": 0.0, "weight_decay": 0.0},
}


@pytest.mark.parametrize(("limit", "moved"), [(None, 3.0), (1.0, 1.0), (5.0, 3.0)])
def test_an_update_clips_the_gradient_of_what_it_steps(
    limit: float | None, moved: float, reid_cache: Path
) -> None:
    own = Update("ant/x", groups=("ant/scale",), passes=(Pass("ant/p"),))

    def losses(ctx: Any, step: StepView) -> list[LossTerm]:
        if step.update != "ant/x":
            return []
        # The encoder gets a large gradient, too, which this update does not step.
        feature = step.passes["ant/p"].output("encoder/map").square().mean()
        return [LossTerm("ant/t", 3 * scale(ctx) + 1000 * feature)]

    sections = {**STEADY, "optim": {**STEADY["optim"], "clip_norm": limit}}
    run = Run(reid_cache, losses, Schedule(updates=(own,)), **sections)
    before = run.assembly.model.get_parameter("branches.ant/scale.weight").item()
    run.step()
    after = run.assembly.model.get_parameter("branches.ant/scale.weight").item()
    assert before - after == pytest.approx(0.5 * moved, rel=1e-4)


def test_the_main_update_is_clipped_to_the_norm_that_is_set(reid_cache: Path) -> None:
    def losses(ctx: Any, step: StepView) -> list[LossTerm]:
        return [LossTerm("ant/t", 100 * scale(ctx))]

    run = Run(reid_cache, losses, **{**STEADY, "optim": {**STEADY["optim"], "clip_norm": 0.25}})
    trained = [p for p in run.assembly.model.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in trained]
    run.step()
    gaps = [(p.detach() - b).square().sum() for p, b in zip(trained, before, strict=True)]
    assert torch.stack(gaps).sum().sqrt().item() == pytest.approx(0.5 * 0.25, rel=1e-4)


@pytest.mark.parametrize(
    ("per_iteration", "factors"),
    [(True, [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]), (False, [0.2, 0.2, 0.6, 0.6, 1.0, 1.0])],
)
def test_every_step_has_the_rate_of_where_it_begins(
    per_iteration: bool, factors: list[float], reid_cache: Path
) -> None:
    schedule = {
        "epochs": 3,
        "iterations_per_epoch": 2,
        "warmup_epochs": 2,
        "warmup_start": 0.2,
        "decay": "constant",
        "per_iteration": per_iteration,
    }
    assembly = tiny_assembly((), {"schedule": schedule, "optim": {"lr": 0.01}}, cache=reid_cache)
    trainer, rates, logged = Recorder(assembly), [], []
    optimisers = assembly.parts.optimisers
    (main,) = assembly.parts.plan.updates
    trainer.advance = lambda images: rates.extend(
        {optimiser.param_groups[0]["lr"] for _, optimiser in optimisers.stepped(main, 0)}
    )
    trainer.emit = lambda event: logged.append(getattr(event, "scalars", {}))  # type: ignore[method-assign]
    trainer.fit()
    assert rates == pytest.approx([0.01 * factor for factor in factors], rel=1e-9)
    told = [scalars["lr/main:encoder"] for scalars in logged if "lr/main:encoder" in scalars]
    assert told == pytest.approx(rates, rel=1e-9)


def test_augmentation_is_what_its_section_says(reid_cache: Path) -> None:
    section = AugmentSection(
        flip=0.3,
        pad=3,
        pad_mode="edge",
        enlarge_p=0.7,
        partial=0.4,
        partial_height=(0.6, 0.9),
        partial_width=(0.8, 0.95),
        partial_from=5,
        erasing=0.35,
        erasing_area=(0.1, 0.2),
        erasing_aspect=(0.5, 2.5),
        erasing_log_aspect=True,
        brightness=0.11,
        contrast=0.12,
        saturation=0.13,
        hue=0.14,
        grayscale=0.15,
        blur=0.16,
    )
    erasing = ErasingPolicy(0.35, (0.1, 0.2), (0.5, 2.5), log_aspect=True)
    colours = PhotometricPolicy(0.11, 0.12, 0.13, 0.14, grayscale_p=0.15, blur_p=0.16)
    assert (erasing_of(section), photometric_of(section)) == (erasing, colours)
    assert (erasing_of(AugmentSection()), photometric_of(AugmentSection())) == (None, None)
    for name in ("brightness", "contrast", "saturation", "hue", "grayscale", "blur"):
        assert photometric_of(AugmentSection(**{name: 0.2})) is not None, name
    given = {"augment": section.model_dump()}
    loader = tiny_assembly((), given, cache=reid_cache).loaders["main"]
    assert loader.policy == GeometryPolicy(
        flip=0.3,
        pad=3,
        pad_mode="edge",
        enlarge_p=0.7,
        partial=0.4,
        partial_height=(0.6, 0.9),
        partial_width=(0.8, 0.95),
        partial_from=5,
    )
    assert (loader.erasing, loader.photometric) == (erasing, colours)
    larger = {"augment": {"pad": 0, "enlarge": 1.25}}
    policy = tiny_assembly((), larger, cache=reid_cache).loaders["main"].policy
    assert policy is not None
    assert policy.enlarge == 1.25


def test_the_core_s_embedding_is_supervised_as_the_section_says(reid_cache: Path) -> None:
    given = {"identity": {"triplet_weight": 0.0, "classifier_bias": True}}
    for sections, wanted in (
        ({}, Supervision(cross_entropy="neck", triplet="raw", classifier_bias=False)),
        (given, Supervision(cross_entropy="neck", triplet=None, classifier_bias=True)),
    ):
        model = tiny_assembly((), sections, cache=reid_cache).model
        assert model.embeddings["core/global"].supervision == wanted


def test_colours_are_changed_in_the_order_that_is_said() -> None:
    policy = PhotometricPolicy(0.4, 0.4, 0.4, 0.2, grayscale_p=0.5, blur_p=0.5)
    images = torch.rand(2, 3, 32, 16, generator=torch.Generator().manual_seed(0))
    together = torch.tensor([[1.2, 0.7, 1.3, 0.1, 0, 0.9], [0.8, 1.3, 0.6, -0.15, 1, 0]])
    still = torch.tensor([[1.0, 1, 1, 0, 0, 0]] * 2)

    def one_by_one(order: list[int]) -> Tensor:
        found = images
        for column in order:
            alone = still.clone()
            alone[:, column] = together[:, column]
            found = change_colours(found, alone, policy)
        return found

    found = change_colours(images, together, policy)
    torch.testing.assert_close(found, one_by_one([0, 1, 2, 3, 4, 5]))
    assert (found - one_by_one([0, 1, 3, 2, 4, 5])).abs().max() > 1e-3


@pytest.mark.parametrize("epoch_by", ["images", "identities"])
def test_samplers_go_through_what_the_section_says(epoch_by: str, reid_cache: Path) -> None:
    data = {"sampler": "pk", "epoch_by": epoch_by, "batch_size": 8, "instances": 4}
    assembly = tiny_assembly((), {"data": data, "run": {"seed": 7}}, cache=reid_cache)
    pids, camids = (
        np.array([getattr(sample, name) for sample in assembly.ctx.main.samples])
        for name in ("pid", "camid")
    )
    wanted = make_sampler("pk", pids, camids, 8, instances=4, seed=7, epoch_by=epoch_by)  # type: ignore[arg-type]
    found = assembly.samplers["main"]
    for epoch in range(2):
        np.testing.assert_array_equal([*found.epoch(epoch)], [*wanted.epoch(epoch)])
    if epoch_by == "identities":
        assert found.count(0) == len(set(pids.tolist())) // 2


@pytest.mark.parametrize("name", ["pk", "pk_camera", "random", "pairs", "twice"])
@pytest.mark.parametrize("epoch_by", ["images", "identities"])
def test_every_identity_comes_first_as_often_as_any_other(name: str, epoch_by: str) -> None:
    pids = np.repeat(np.arange(12), 2)
    sampler = make_sampler(
        name,
        pids,
        np.arange(24) % 2,
        8,
        instances=2,
        epoch_by=epoch_by,  # type: ignore[arg-type]
    )
    first = [pids[next(iter(sampler.epoch(epoch)))] for epoch in range(300)]
    seen = np.bincount(np.concatenate([np.unique(rows) for rows in first]), minlength=12)
    assert seen.min() > 0.7 * seen.mean()
    assert seen.max() < 1.3 * seen.mean()


def test_mirrored_features_are_of_left_and_right(reid_cache: Path) -> None:
    assembly = tiny_assembly((), cache=reid_cache)
    samples = assembly.ctx.main.samples[:3]

    weight = torch.arange(64.0 * 32).view(64, 32) / 2048

    def weighted(images: Tensor, fields: Any) -> Tensor:
        return (images * weight).mean((2, 3))

    def both(images: Tensor, fields: Any) -> Tensor:
        return (images * (weight + weight.flip(1))).mean((2, 3))

    common: dict[str, Any] = {"width": 3, "threads": 1}
    embedder, device = assembly.embedder(), torch.device("cpu")
    found = extract(embedder, samples, device, flip="sum", compute=weighted, **common)
    plain = extract(embedder, samples, device, compute=both, **common)
    np.testing.assert_allclose(found, plain, atol=1e-5)
    upside_down = weight + weight.flip(0)
    turned = extract(
        embedder,
        samples,
        device,
        compute=lambda images, fields: (images * upside_down).mean((2, 3)),
        **common,
    )
    assert np.abs(found - turned).max() > 1e-3


def test_weights_that_no_part_knows_are_refused(reid_cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "embedder.safetensors"
    tiny_assembly((), cache=reid_cache).embedder().save(path)
    state = load_file(path)
    save_file({**state, "encoder.trunk.layer9.weight": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match=r"do not fit.*layer9\.weight"):
        load_embedder(path)
    trunk = TimmEncoder("test_resnet", (64, 32)).trunk.state_dict()
    weights = tmp_path / "weights.pth"
    torch.save({**trunk, "layer9.weight": torch.ones(1)}, weights)
    with pytest.raises(ConfigError, match=r"layer9\.weight is unknown to it"):
        TimmEncoder("test_resnet", (64, 32), pretrained=weights)

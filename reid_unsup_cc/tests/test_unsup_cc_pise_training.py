"""The stage that trains PISE: what it minimises, that it learns, whom it depends on."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from reid_core import DataProvider, FieldKind, FieldSpec, Plugin, Sample, Source, hookimpl
from reid_core.contract.fields import GARMENT_CLASSES
from reid_core.errors import ReidError
from reid_core.runs.stages import prepare_stage
from reid_core.testing.tiny import tiny_assembly
from reid_unsup_cc.pise import PISE
from reid_unsup_cc.pise_losses import (
    OPPONENT,
    Lesson,
    mean_error,
    pixel_weights,
    weighted_errors,
)
from reid_unsup_cc.pise_training import FIELDS, PISESettings, pise_stage, trained_pise

HAT, HAIR, UPPER, LOWER, SKIN, FACE, SHOES = range(1, 8)
SIZE = (32, 16)


def figure(outfit: int, wall: int = 128) -> np.ndarray:
    """Draw somebody in one of many outfits, in light that falls from above, uint8 ``H W 3``."""
    colours = np.random.default_rng(outfit).integers(0, 256, (8, 3))
    colours[0], colours[SKIN] = wall, (200, 150, 120)
    light = np.linspace(1, 0.1, SIZE[0])[:, None, None]
    return (light * colours[garment_map()]).astype(np.uint8)


def garment_map() -> np.ndarray:
    labels = np.zeros(SIZE, np.uint8)
    labels[2:8, 5:11], labels[8:18, 3:13], labels[18:30, 4:12] = SKIN, UPPER, LOWER
    return labels


def load_pairs(folder: Path, request: Any) -> Source:
    """Return pictures of 16 people and the same in the next one's outfit."""
    folder = request.cache / folder
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for person in range(16):
        path = folder / f"{person:02d}.png"
        Image.fromarray(figure(person, 16 * person)).save(path)
        template = figure((person + 1) % 16).transpose(2, 0, 1)
        dressed = figure((person + 1) % 16, 16 * person).transpose(2, 0, 1)
        values = (garment_map(), template, garment_map(), dressed, garment_map())
        samples.append(Sample(path, -1, 0, fields=dict(zip(FIELDS, values, strict=True))))
    labels, image = FieldKind.LABELS, FieldKind.IMAGE
    kinds = (labels, image, labels, image, labels)
    specs = {
        name: FieldSpec(name, kind, classes=GARMENT_CLASSES if kind is labels else ())
        for name, kind in zip(FIELDS, kinds, strict=True)
    }
    return Source(request.name, tuple(samples), specs, identities=False)


class DrawnPairs(Plugin):
    """Offer the pairs drawn here."""

    @hookimpl
    def reid_datasets(self) -> list[DataProvider]:
        load = partial(load_pairs, Path("drawn-pairs"))
        return [DataProvider("drawn-pairs", load, kind="source", fields=FIELDS)]


def surroundings(cache: Path, *layers: Any) -> Any:
    return tiny_assembly(("drawn",), *layers, cache=cache, classes={"drawn": DrawnPairs}).ctx


def settings(**more: Any) -> PISESettings:
    usual = {
        "data": "drawn-pairs",
        "size": SIZE,
        "width": 2,
        "batch": 8,
        "epochs": 1,
        "iterations": 2,
    }
    return PISESettings(**{**usual, **more})


# Terms -----------------------------------------------------------------------------------------


def test_weights_of_pixels() -> None:
    shown = torch.tensor([[[UPPER, LOWER, SHOES, HAT], [SKIN, 0, UPPER, 0]]])
    wanted = torch.tensor([[[UPPER, SKIN, SHOES, HAT], [SKIN, 0, LOWER, UPPER]]])
    found = pixel_weights(shown, wanted, 0.25)
    assert found.tolist() == [[[1, 0, 1, 0.25], [0.25, 0.25, 0, 0]]]


def test_the_error_is_the_weighted_mean_over_all_rows() -> None:
    painted, wanted = torch.zeros(2, 3, 1, 2), torch.zeros(2, 3, 1, 2)
    wanted[0, :, 0, 0] = torch.tensor([0.3, 0.6, 0.9])
    wanted[1] = 1
    weights = torch.tensor([[[1.0, 0.5]], [[0.25, 0.0]]])
    sums = weighted_errors(painted, wanted, weights)
    # Luminance 1.8 / sqrt(3), red against blue -0.6 / sqrt(2), both against green 0.
    first, second = (1.8 / 3**0.5 + 0.6 / 2**0.5) / 3, 0.25 * 3**0.5 / 3
    torch.testing.assert_close(sums, torch.tensor([[first, 1.5], [second, 0.25]]))
    torch.testing.assert_close(mean_error(sums), torch.tensor((first + second) / 1.75))
    assert mean_error(torch.zeros(2, 2)) == 0


def test_an_error_of_the_luminance_does_not_hide_that_of_the_hue() -> None:
    """In red, green and blue all of a dark picture would be pulled up alike."""
    painted = torch.full((1, 3, 1, 1), 0.1, requires_grad=True)
    wanted = torch.tensor([0.9, 0.6, 0.3]).view(1, 3, 1, 1)
    weighted_errors(painted, wanted, torch.ones(1, 1, 1))[0, 0].backward()
    red, _, blue = (-painted.grad[0, :, 0, 0]).tolist()
    assert red > 0 > blue


def test_opponent_colours_are_an_orthonormal_basis() -> None:
    basis = torch.tensor(OPPONENT)
    torch.testing.assert_close(basis @ basis.T, torch.eye(3))
    grey = basis @ torch.ones(3)
    torch.testing.assert_close(grey, torch.tensor([3**0.5, 0.0, 0.0]))


def lesson_inputs(rows: int = 4) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    labels = torch.from_numpy(garment_map())[None].repeat(rows, 1, 1)
    images = torch.randint(0, 256, (3, rows, 3, *SIZE), dtype=torch.uint8)
    from reid_core.data.augmentation import normalise

    return normalise(images[0]), labels, images[1], labels, images[2], labels


@pytest.mark.parametrize(("share", "alone"), [(0.0, 0), (0.25, 1), (0.5, 2), (1.0, 4)])
def test_a_share_of_the_rows_is_its_own_template(share: float, alone: int) -> None:
    inputs = lesson_inputs()
    transfer, reconstruction = Lesson(PISE(2), share, 0.1)(*inputs)
    of_others, of_own = (term[:, 1] > 0 for term in (transfer, reconstruction))
    assert (of_others.sum(), of_own.sum()) == (4 - alone, alone)
    assert not (of_others & of_own).any()


def test_who_is_alone_does_not_look_at_the_template() -> None:
    inputs = lesson_inputs()
    network = PISE(2)
    first = Lesson(network, 0.5, 0.1)(*inputs)[1]
    image, labels, template, worn, dressed, shown = inputs
    second = Lesson(network, 0.5, 0.1)(image, labels, 255 - template, worn, 255 - dressed, shown)[1]
    assert torch.equal(first, second)


def test_a_perfect_picture_costs_nothing() -> None:
    class Perfect(PISE):
        def paint(self, images: torch.Tensor, *others: Any) -> torch.Tensor:
            return images

    inputs = lesson_inputs()
    _, reconstruction = Lesson(Perfect(2), 1.0, 0.1)(*inputs)
    assert mean_error(reconstruction) == 0


def test_every_parameter_gets_a_gradient() -> None:
    lesson = Lesson(PISE(2), 0.25, 0.1)
    transfer, reconstruction = lesson(*lesson_inputs())
    (mean_error(transfer) + mean_error(reconstruction)).backward()
    still = {name for name, p in lesson.named_parameters() if p.grad is None or not p.grad.any()}
    # Classes that nobody shows have layers of their own.
    unseen = {HAT, HAIR, FACE, SHOES}
    assert still == {
        f"network.fusion.regions.{kind}.{what}" for kind in unseen for what in ("weight", "bias")
    }


# The stage -------------------------------------------------------------------------------------


def test_it_learns_light_and_shade(reid_cache: Path) -> None:
    """It begins with flat colours; how the light falls on clothes has to be learnt."""
    ctx = surroundings(reid_cache)
    # Other people than those of the lessons.
    shown, wanted = (
        torch.from_numpy(np.stack([figure(p, 100) for p in people])).permute(0, 3, 1, 2) / 255
        for people in (range(100, 116), range(101, 117))
    )
    labels = torch.from_numpy(garment_map()).long()[None].repeat(16, 1, 1)

    def error(network: PISE) -> float:
        with torch.inference_mode():
            made = network(shown, labels, wanted, labels)
        clothing = (labels == UPPER) | (labels == LOWER)
        return float((made - wanted).abs().mean(1)[clothing].mean())

    lessons = settings(iterations=60, lr=5e-3, width=4)
    learnt = trained_pise(ctx.stage(pise_stage(lessons)))
    assert not learnt.training
    torch.manual_seed(0)
    assert error(learnt) < 0.6 * error(PISE(4).eval())


def test_the_stage_does_not_depend_on_the_run(reid_cache: Path) -> None:
    other = {
        "data": {"height": 96, "threads": 1, "batch_size": 4},
        "model": {"last_stride": 2},
        "optim": {"lr": 0.1},
        "augment": {"pad": 4, "brightness": 0.5},
    }
    contexts = (surroundings(reid_cache), surroundings(reid_cache, other))
    keys = {prepare_stage(ctx, pise_stage(settings()))[2] for ctx in contexts}
    assert len(keys) == 1
    changes = ({"width": 3}, {"keep": False}, {"flat": False}, {"reconstruction": 0.5}, {"lr": 1})
    for change in changes:
        keys.add(prepare_stage(contexts[0], pise_stage(settings(**change)))[2])
    assert len(keys) == 6


def test_settings_reach_the_network(reid_cache: Path) -> None:
    ctx = surroundings(reid_cache)
    chosen = settings(
        width=3, keep=False, flat=False, iterations=1, reconstruction=0.5, elsewhere=0.3
    )
    result = ctx.stage(pise_stage(chosen))
    lesson = result.module("unsup_cc/pise")
    assert (lesson.share, lesson.elsewhere) == (0.5, 0.3)
    network = trained_pise(result)
    assert (network.keep, network.flat) == (False, False)
    assert (network.style[1].in_channels, network.decoder[0].shortcut.out_channels) == (12, 6)
    assert result.assembly.config.data.size == SIZE


def test_how_the_stage_learns() -> None:
    own = pise_stage(settings(lr=2e-3, epochs=3, iterations=7)).settings
    optim = {key: own["optim"][key] for key in ("name", "lr", "weight_decay", "clip_norm")}
    assert optim == {"name": "adam", "lr": 2e-3, "weight_decay": 0.0, "clip_norm": 1.0}
    assert own["schedule"] == {
        "epochs": 3,
        "iterations_per_epoch": 7,
        "warmup_epochs": 0,
        "decay": "cosine",
        "per_iteration": True,
    }
    data = {key: own["data"][key] for key in ("sampler", "instances", "batch_size")}
    assert data == {"sampler": "random", "instances": 1, "batch_size": 8}


def test_data_without_true_pairs_is_refused(reid_cache: Path) -> None:
    ctx = surroundings(reid_cache)
    with pytest.raises(ReidError, match=r"synthpeople/garments"):
        ctx.stage(pise_stage(settings(data="toy:tiny")))

"""Augmentation on the device: rectangles, colours, and rows that do not see each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from reid_core.contract.batches import IMAGENET_MEAN, IMAGENET_STD, Batch
from reid_core.data.augmentation import (
    ERASING,
    PHOTOMETRIC,
    DeviceAugmentation,
    ErasingPolicy,
    PhotometricPolicy,
    change_colours,
    erase,
    normalise,
)
from reid_core.errors import ConfigError
from reid_core.runs.resolve import resolve

SIZE = (64, 32)
CPU = torch.device("cpu")
EVERYTHING = PhotometricPolicy(
    brightness=0.4, contrast=0.4, saturation=0.4, hue=0.2, jitter_p=0.8, grayscale_p=0.3, blur_p=0.5
)


def uniforms(rows: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((rows, width))


def make_batch(
    rows: int,
    erasing: ErasingPolicy | None = None,
    photometric: PhotometricPolicy | None = None,
) -> Batch:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (rows, 3, *SIZE), dtype=torch.uint8, generator=generator)
    draws = {}
    if erasing is not None:
        draws[ERASING] = torch.from_numpy(erasing.draw(SIZE, uniforms(rows, erasing.NUMBERS)))
    if photometric is not None:
        numbers = uniforms(rows, photometric.NUMBERS)
        draws[PHOTOMETRIC] = torch.from_numpy(photometric.draw(numbers))
    labels = torch.arange(rows)
    fields = {"parts": image[:, 0].clone(), "x/image": image.clone()}
    return Batch(image, labels, labels, labels, labels, labels, fields=fields, draws=draws)


def rows_of(batch: Batch, rows: slice) -> Batch:
    return replace(
        batch,
        image=batch.image[rows],
        fields={name: value[rows] for name, value in batch.fields.items()},
        draws={name: value[rows] for name, value in batch.draws.items()},
    )


def test_normalisation_is_torchvisions() -> None:
    image = make_batch(4).image
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    expected = image.float().div(255).sub(mean).div(std)
    prepared = DeviceAugmentation().prepare(make_batch(4), CPU)
    assert torch.equal(prepared.image, expected)
    assert prepared.erased is None
    assert torch.equal(normalise(image), expected)
    assert torch.equal(
        normalise(image[None].expand(2, -1, -1, -1, -1)), expected.expand(2, -1, -1, -1, -1)
    )


def test_prepare_leaves_the_host_batch_and_the_fields_alone() -> None:
    policies = {"photometric": EVERYTHING, "erasing": ErasingPolicy()}
    host = make_batch(4, **policies)
    before = {"image": host.image.clone(), **{n: v.clone() for n, v in host.fields.items()}}
    prepared = DeviceAugmentation(**policies).prepare(host, CPU)
    assert torch.equal(host.image, before["image"])
    for name, value in host.fields.items():
        assert torch.equal(prepared.fields[name], before[name])
        assert prepared.fields[name].data_ptr() != value.data_ptr()
        assert prepared.fields[name].dtype == torch.uint8
    assert prepared.draws == {}


def test_memory_format() -> None:
    prepared = DeviceAugmentation(
        erasing=ErasingPolicy(), memory_format=torch.channels_last
    ).prepare(make_batch(2, ErasingPolicy()), CPU)
    assert prepared.image.is_contiguous(memory_format=torch.channels_last)
    assert prepared.erased is not None
    assert prepared.erased.is_contiguous(memory_format=torch.channels_last)
    plain = DeviceAugmentation(erasing=ErasingPolicy()).prepare(make_batch(2, ErasingPolicy()), CPU)
    assert torch.equal(plain.image, prepared.image)
    assert plain.erased is not None
    assert torch.equal(plain.erased, prepared.erased)


@pytest.mark.parametrize("log_aspect", [False, True])
@pytest.mark.parametrize("size", [(256, 128), (64, 64), (24, 96)])
def test_rectangles_are_in_range(log_aspect: bool, size: tuple[int, int]) -> None:
    policy = ErasingPolicy(p=1, log_aspect=log_aspect)
    top, left, high, wide = policy.draw(size, uniforms(5000, policy.NUMBERS)).T
    assert high.min() > 0
    assert wide.min() > 0
    assert top.min() == 0
    assert left.min() == 0
    assert (top + high).max() == size[0]
    assert (left + wide).max() == size[1]
    # Sides are rounded to pixels: half a pixel of each side may be gained or lost.
    assert ((high + 0.5) * (wide + 0.5) >= 0.02 * size[0] * size[1]).all()
    assert ((high - 0.5) * (wide - 0.5) <= 0.4 * size[0] * size[1]).all()
    assert ((high + 0.5) / (wide - 0.5) >= 0.3).all()
    assert ((high - 0.5) / (wide + 0.5) <= 3.33).all()


@pytest.mark.parametrize("aspect", [(0.3, 3.33), (2.0, 3.0)])
def test_aspects_are_drawn_linearly_or_by_their_logarithm(aspect: tuple[float, float]) -> None:
    # Areas so small that every rectangle fits: the first try counts.
    for log_aspect, median in ((False, sum(aspect) / 2), (True, (aspect[0] * aspect[1]) ** 0.5)):
        policy = ErasingPolicy(1, (0.02, 0.05), aspect, log_aspect=log_aspect)
        _, _, high, wide = policy.draw((1024, 1024), uniforms(4000, policy.NUMBERS)).T
        assert np.median(high / wide) == pytest.approx(median, rel=0.05)


def test_erasing_probability() -> None:
    for p in (0.0, 0.3, 1.0):
        policy = ErasingPolicy(p=p)
        rectangles = policy.draw(SIZE, uniforms(4000, policy.NUMBERS))
        assert (rectangles[:, 2] > 0).mean() == pytest.approx(p, abs=0.03)
        assert (rectangles[rectangles[:, 2] == 0] == 0).all()


def test_no_rectangle_fits() -> None:
    policy = ErasingPolicy(p=1, area=(0.9, 1.0), aspect=(3, 3.33))
    assert not policy.draw((64, 64), uniforms(50, policy.NUMBERS)).any()


def test_erased_images_differ_in_their_rectangle_alone() -> None:
    images = torch.randn(3, 3, 8, 6)
    rectangles = torch.tensor([[1, 2, 3, 4], [0, 0, 0, 0], [7, 5, 1, 1]])
    for fill in ((0.0, 0.0, 0.0), (0.485, 0.456, 0.406)):
        expected = images.clone()
        expected[0, :, 1:4, 2:6] = torch.tensor(fill).view(3, 1, 1)
        expected[2, :, 7, 5] = torch.tensor(fill)
        before = images.clone()
        assert torch.equal(erase(images, rectangles, fill), expected)
        assert torch.equal(images, before)


def test_prepare_erases_a_copy() -> None:
    policy = ErasingPolicy(p=1, fill=(0.5, -0.25, 1.0))
    prepared = DeviceAugmentation(erasing=policy).prepare(make_batch(6, policy), CPU)
    clean = DeviceAugmentation().prepare(make_batch(6), CPU)
    assert torch.equal(prepared.image, clean.image)
    assert prepared.erased is not None
    gone = (prepared.erased != prepared.image).any(1)
    assert (prepared.erased.movedim(1, 3)[gone] == torch.tensor(policy.fill)).all()
    changed = gone.flatten(1).float().mean(1)
    assert (changed > 0.015).all()
    assert (changed < 0.45).all()
    none = ErasingPolicy(p=0)
    prepared = DeviceAugmentation(erasing=none).prepare(make_batch(6, none), CPU)
    assert prepared.erased is not None
    assert torch.equal(prepared.erased, clean.image)


def test_photometric_identity_at_zero_strength() -> None:
    for policy in (
        PhotometricPolicy(),
        replace(EVERYTHING, jitter_p=0, grayscale_p=0, blur_p=0),
        # Never taken, though the operations run for the sake of other rows.
        replace(EVERYTHING, jitter_p=0, grayscale_p=1e-12, blur_p=1e-12),
    ):
        prepared = DeviceAugmentation(policy).prepare(make_batch(4, None, policy), CPU)
        assert torch.equal(prepared.image, normalise(make_batch(4).image))


def test_photometric_changes_what_it_says() -> None:
    def changed(**strengths: float) -> Tensor:
        policy = PhotometricPolicy(**strengths)
        batch = make_batch(6, None, policy)
        unit = batch.image.float() / 255
        return change_colours(unit, batch.draws[PHOTOMETRIC], policy) - unit

    for strengths in ({"brightness": 0.5}, {"contrast": 0.5}, {"saturation": 0.5}, {"hue": 0.2}):
        assert (changed(**strengths).abs().amax((1, 2, 3)) > 0.01).all(), strengths
    unit = make_batch(6).image.float() / 255
    grey = changed(grayscale_p=1.0) + unit
    torch.testing.assert_close(grey[:, 0], grey[:, 2])
    policy = PhotometricPolicy(blur_p=1, blur_sigma=(1, 2))
    batch = make_batch(6, None, policy)
    soft = change_colours(unit, batch.draws[PHOTOMETRIC], policy)
    assert (soft.std((2, 3)) < 0.5 * unit.std((2, 3))).all()


def test_colours_change_as_pillow_changes_them() -> None:
    image = make_batch(1).image[0]
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    unit = image[None].float() / 255
    for column, enhance in enumerate(
        (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    ):
        draws = torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.0, 0.0]])
        draws[0, column] = 0.7
        ours = change_colours(unit, draws, EVERYTHING)[0].permute(1, 2, 0) * 255
        pillow = np.asarray(enhance(picture).enhance(0.7)).astype(np.float32)
        assert np.abs(ours.numpy() - pillow).max() < 2, enhance


def test_a_third_of_a_turn_of_hue_hands_each_channel_to_the_next() -> None:
    unit = make_batch(2).image.float() / 255
    draws = torch.tensor([[1.0, 1.0, 1.0, 1 / 3, 0.0, 0.0]] * 2)
    found = change_colours(unit, draws, PhotometricPolicy(hue=0.5))
    torch.testing.assert_close(found, unit[:, [2, 0, 1]], atol=1e-4, rtol=0)


def test_draws_are_in_range() -> None:
    draws = EVERYTHING.draw(uniforms(5000, EVERYTHING.NUMBERS))
    assert draws.dtype == np.float32
    jittered = draws[:, 0] != 1
    assert jittered.mean() == pytest.approx(0.8, abs=0.03)
    for column in range(3):
        assert draws[:, column].min() == pytest.approx(0.6, abs=0.01)
        assert draws[:, column].max() == pytest.approx(1.4, abs=0.01)
        assert (draws[~jittered, column] == 1).all()
    assert np.abs(draws[:, 3]).max() == pytest.approx(0.2, abs=0.01)
    assert draws[:, 4].mean() == pytest.approx(0.3, abs=0.03)
    blurred = draws[:, 5] > 0
    assert blurred.mean() == pytest.approx(0.5, abs=0.03)
    assert 0.1 <= draws[blurred, 5].min() < draws[blurred, 5].max() <= 2
    assert PhotometricPolicy(brightness=3).draw(uniforms(100, 8))[:, 0].min() >= 0


def test_rows_do_not_see_each_other() -> None:
    policies = {"photometric": EVERYTHING, "erasing": ErasingPolicy()}
    augmentation = DeviceAugmentation(**policies)
    batch = make_batch(3, **policies)
    together = augmentation.prepare(batch, CPU)
    for row in range(3):
        alone = augmentation.prepare(rows_of(batch, slice(row, row + 1)), CPU)
        assert torch.equal(alone.image[0], together.image[row])
        assert alone.erased is not None
        assert together.erased is not None
        assert torch.equal(alone.erased[0], together.erased[row])


def test_policies_draw_the_same_from_the_same_numbers() -> None:
    policy = ErasingPolicy()
    numbers = uniforms(10, policy.NUMBERS)
    np.testing.assert_array_equal(policy.draw(SIZE, numbers)[4:5], policy.draw(SIZE, numbers[4:5]))
    numbers = uniforms(10, EVERYTHING.NUMBERS)
    np.testing.assert_array_equal(EVERYTHING.draw(numbers)[4:5], EVERYTHING.draw(numbers[4:5]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"erasing_area": (0.5, 0.2)}, r"augment\.erasing_area.*must be \(low, high\)"),
        ({"erasing_aspect": (0, 1)}, r"augment\.erasing_aspect"),
    ],
)
def test_wrong_ranges_are_refused(settings: dict[str, tuple[float, float]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve({"augment": settings})

"""Geometry: equal to Pillow's, the same for an image and its fields, invents nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image
from torch.nn.functional import interpolate

from reid_core.contract.fields import SHARED_FIELDS, FieldKind, FieldSpec
from reid_core.data.encoding import label_colours
from reid_core.data.geometry import (
    GEOMETRY_NUMBERS,
    Geometry,
    GeometryPolicy,
    transform_field,
    transform_image,
    transform_labels,
    transform_points,
)
from reid_core.errors import ConfigError
from reid_core.images import resize_image
from reid_core.runs.resolve import resolve

SIZE = (24, 12)
QUICK = settings(max_examples=60, deadline=None)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


policies = st.one_of(
    st.builds(
        GeometryPolicy,
        flip=st.sampled_from([0.0, 0.5, 1.0]),
        pad=st.integers(0, 6),
        pad_mode=st.sampled_from(["zero", "edge"]),
    ),
    st.builds(
        GeometryPolicy,
        flip=st.sampled_from([0.0, 0.5, 1.0]),
        enlarge=st.sampled_from([1.0, 1.125, 1.5, 2.0]),
        enlarge_p=st.sampled_from([0.5, 1.0]),
    ),
)


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return Geometry.draw(draw(policies), SIZE, rng.random(GEOMETRY_NUMBERS))


def distance_from_pillow(pixels: np.ndarray, target: tuple[int, int]) -> int:
    ours = resize_image(pixels, target)
    assert ours.flags.c_contiguous
    pillow = np.asarray(Image.fromarray(pixels).resize(target[::-1], Image.Resampling.BILINEAR))
    return int(np.abs(ours.astype(int) - pillow).max())


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((128, 64), (256, 128)),
        ((160, 60), (256, 128)),
        ((128, 64), (384, 192)),
        ((17, 13), (34, 39)),
    ],
)
def test_enlarging_equals_pillow(source: tuple[int, int], target: tuple[int, int]) -> None:
    exact = torch.backends.cpu.get_cpu_capability().startswith("AVX")
    assert distance_from_pillow(noise(*source), target) <= (0 if exact else 1)


@pytest.mark.parametrize("source", [(450, 200), (300, 131), (256, 128)])
@pytest.mark.parametrize("target", [(256, 128), (288, 144)])
def test_other_sizes_are_within_one_level_of_pillow(
    source: tuple[int, int], target: tuple[int, int]
) -> None:
    small = Image.fromarray(noise(12, 6))
    smooth = np.asarray(small.resize(source[::-1], Image.Resampling.BICUBIC))
    assert distance_from_pillow(smooth, target) <= 1
    assert distance_from_pillow(noise(*source), target) <= 2


def test_an_image_of_the_right_size_is_untouched() -> None:
    pixels = noise(*SIZE)
    assert resize_image(pixels, SIZE) is pixels


def test_read_only_images_can_be_resized(recwarn: pytest.WarningsRecorder) -> None:
    pixels = noise(10, 10)
    pixels.flags.writeable = False
    resize_image(pixels, SIZE)
    assert not recwarn.list


@QUICK
@given(geometries(), st.booleans())
def test_image_equals_the_same_steps_in_pillow(geometry: Geometry, enlarging: bool) -> None:
    pixels = noise(*((11, 7) if enlarging else SIZE))
    resized = resize_image(pixels, geometry.resized)
    if geometry.mirror:
        resized = resized[:, ::-1]
    pad = 30
    padded = np.pad(
        resized, ((pad, pad), (pad, pad), (0, 0)), mode="edge" if geometry.edge else "constant"
    )
    box = (geometry.left + pad, geometry.top + pad)
    cropped = Image.fromarray(padded).crop((*box, box[0] + SIZE[1], box[1] + SIZE[0]))
    out = np.full((3, *SIZE), 77, np.uint8)
    assert transform_image(pixels.transpose(2, 0, 1), geometry, out) is out
    np.testing.assert_array_equal(out.transpose(1, 2, 0), np.asarray(cropped))


@QUICK
@given(geometries(), st.integers(0, 1000))
def test_image_and_labels_stay_aligned(geometry: Geometry, seed: int) -> None:
    # Painted in the colours of its labels, at the resized size, so that nothing is interpolated.
    labels = np.random.default_rng(seed).integers(0, 8, geometry.resized, dtype=np.uint8)
    image = label_colours()[labels].transpose(2, 0, 1)
    moved = transform_labels(labels, geometry)
    np.testing.assert_array_equal(
        transform_image(image, geometry), label_colours()[moved].transpose(2, 0, 1)
    )


@QUICK
@given(geometries(), st.integers(1, 60), st.integers(1, 40), st.integers(0, 1000))
def test_labels_equal_torch_step_by_step_and_invent_no_class(
    geometry: Geometry, height: int, width: int, seed: int
) -> None:
    labels = np.random.default_rng(seed).choice([3, 90, 200], (height, width)).astype(np.uint8)
    resized = interpolate(
        torch.from_numpy(labels)[None, None], size=geometry.resized, mode="nearest-exact"
    )[0, 0].numpy()
    if geometry.mirror:
        resized = resized[:, ::-1]
    padded = np.pad(resized, 30, mode="edge" if geometry.edge else "constant")
    top, left = geometry.top + 30, geometry.left + 30
    expected = padded[top : top + SIZE[0], left : left + SIZE[1]]
    moved = transform_labels(labels, geometry)
    np.testing.assert_array_equal(moved, expected)
    assert set(np.unique(moved)) <= {0, 3, 90, 200}


@QUICK
@given(geometries(), st.integers(1, 12), st.integers(1, 12))
def test_a_point_stays_on_its_pixel(geometry: Geometry, height: int, width: int) -> None:
    # Every pixel is a class of its own; the network's input is at least as large as the image.
    labels = np.arange(1, height * width + 1, dtype=np.uint8).reshape(height, width)
    y, x = np.mgrid[:height, :width].reshape(2, -1)
    points = np.stack([x, y, np.ones_like(x)], axis=1).astype(np.float32)
    moved = transform_points(points, (height, width), geometry)
    map_ = transform_labels(labels, geometry)
    for number, (px, py, seen) in enumerate(moved):
        if seen:
            assert map_[round(float(py)), round(float(px))] == labels[y[number], x[number]]


def test_points_by_hand() -> None:
    points = np.array([[0, 0, 1], [3, 1, 0.5]], np.float32)
    # 4 x 2 pixels (w x h) to 8 x 4: the middle of the first pixel, 0, becomes 0.5.
    plain = transform_points(points, (2, 4), Geometry.plain((4, 8)))
    np.testing.assert_allclose(plain, [[0.5, 0.5, 1], [6.5, 2.5, 0.5]])
    mirrored = transform_points(points, (2, 4), Geometry((4, 8), (4, 8), mirror=True), ((0, 1),))
    np.testing.assert_allclose(mirrored, [[0.5, 2.5, 0.5], [6.5, 0.5, 1]])
    cropped = transform_points(points, (2, 4), Geometry((4, 8), (4, 8), top=0, left=1))
    np.testing.assert_allclose(cropped, [[-0.5, 0.5, 1], [5.5, 2.5, 0.5]])
    cropped = transform_points(points, (2, 4), Geometry((4, 8), (4, 8), top=2, left=0))
    np.testing.assert_allclose(cropped[:, 2], [0, 0.5])
    np.testing.assert_array_equal(points[0], [0, 0, 1])


def test_images_of_one_sample_share_the_geometry() -> None:
    images = np.stack([noise(11, 7, seed).transpose(2, 0, 1) for seed in range(3)])
    geometry = Geometry(SIZE, (27, 14), 2, 1, mirror=True)
    moved = transform_image(images, geometry)
    assert moved.shape == (3, 3, *SIZE)
    for one, expected in zip(images, moved, strict=True):
        np.testing.assert_array_equal(transform_image(one, geometry), expected)


def test_fields_by_kind() -> None:
    geometry = Geometry(SIZE, SIZE, mirror=True)
    labels = np.random.default_rng(0).integers(0, 8, SIZE, dtype=np.uint8)
    moved = transform_field(labels, SHARED_FIELDS["parts"], SIZE, geometry)
    np.testing.assert_array_equal(moved, labels[:, ::-1])
    image = noise(*SIZE).transpose(2, 0, 1)
    spec = FieldSpec("x/image", FieldKind.IMAGE)
    np.testing.assert_array_equal(transform_field(image, spec, SIZE, geometry), image[:, :, ::-1])
    assert transform_field(image, SHARED_FIELDS["texture"], SIZE, geometry) is image
    points = np.zeros((17, 3), np.float32)
    points[5] = (2, 3, 1)  # left shoulder
    moved = transform_field(points, SHARED_FIELDS["keypoints"], SIZE, geometry)
    np.testing.assert_array_equal(moved[6], (SIZE[1] - 1 - 2, 3, 1))  # now the right one


def test_draw_covers_every_window_evenly() -> None:
    rng = np.random.default_rng(0)
    policy = GeometryPolicy(flip=0.25, pad=2)
    drawn = [Geometry.draw(policy, SIZE, rng.random(GEOMETRY_NUMBERS)) for _ in range(4000)]
    for values in ([g.top for g in drawn], [g.left for g in drawn]):
        places, counts = np.unique(values, return_counts=True)
        assert places.tolist() == [-2, -1, 0, 1, 2]
        assert counts.min() > 700
    assert 0.22 < np.mean([g.mirror for g in drawn]) < 0.28
    assert not any(g.edge for g in drawn)
    assert Geometry.draw(replace(policy, pad_mode="edge"), SIZE, rng.random(4)).edge
    policy = GeometryPolicy(enlarge=1.125, enlarge_p=0.5)
    drawn = [Geometry.draw(policy, (256, 128), rng.random(4)) for _ in range(2000)]
    large = [g for g in drawn if g.resized != (256, 128)]
    assert 0.45 < len(large) / len(drawn) < 0.55
    assert {g.resized for g in large} == {(288, 144)}
    assert {g.top for g in large} == set(range(33))
    assert {(g.top, g.left) for g in drawn if g.resized == (256, 128)} == {(0, 0)}


def test_two_crops_at_once_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"both ask for a random crop; set augment\.pad to 0"):
        resolve({"augment": {"enlarge": 1.125, "pad": 10}})

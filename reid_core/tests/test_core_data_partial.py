"""Partial images: a band of the person in place of the whole, resized to the input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from reid_core.data.geometry import PARTIAL_NUMBERS, Geometry, GeometryPolicy, transform_labels
from reid_core.data.loading import BatchLoader
from reid_core.data.sampling import shard
from reid_core.errors import ConfigError
from reid_core.runs.resolve import resolve
from reid_core.testing.tiny import tiny_assembly
from reid_core.testing.toy.making import make_toy

SIZE = (128, 64)
ALWAYS = GeometryPolicy(flip=0.0, partial=1.0)


def drawn(policy: GeometryPolicy, count: int = 2000) -> list[Geometry]:
    rng = np.random.default_rng(0)
    plain = Geometry.plain(SIZE)
    return [plain.partial(policy, rng.random(PARTIAL_NUMBERS)) for _ in range(count)]


def test_a_part_is_a_window_of_the_input_s_size_in_a_larger_image() -> None:
    for geometry in drawn(ALWAYS):
        high, wide = (own / larger for own, larger in zip(SIZE, geometry.resized, strict=True))
        assert 0.498 <= high <= 1
        assert 0.745 <= wide <= 1
        assert 0 <= geometry.top <= geometry.resized[0] - SIZE[0]
        assert 0 <= geometry.left <= geometry.resized[1] - SIZE[1]


def test_the_upper_end_the_lower_end_and_any_place_are_kept_in_thirds() -> None:
    found = [g for g in drawn(ALWAYS) if g.resized[0] > SIZE[0] + 20]
    upper = np.mean([g.top == 0 for g in found])
    lower = np.mean([g.top == g.resized[0] - SIZE[0] for g in found])
    assert 0.30 < upper < 0.38
    assert 0.30 < lower < 0.38


def test_images_stay_whole_as_often_as_asked() -> None:
    policy = GeometryPolicy(partial=0.25)
    whole = [g == Geometry.plain(SIZE) for g in drawn(policy)]
    assert 0.72 < np.mean(whole) < 0.78
    assert all(g == Geometry.plain(SIZE) for g in drawn(GeometryPolicy()))


def test_the_upper_half_is_what_is_seen() -> None:
    policy = GeometryPolicy(partial=1.0, partial_height=(0.5, 0.5), partial_width=(1.0, 1.0))
    numbers = np.array([0.0, 0.3, 0.3, 0.1, 0.9, 0.9])  # the upper end
    geometry = Geometry.plain(SIZE).partial(policy, numbers)
    assert geometry == Geometry(SIZE, (256, 64), top=0, left=0)
    labels = np.repeat(np.arange(128, dtype=np.uint8)[:, None], 64, axis=1)
    assert np.array_equal(transform_labels(labels, geometry)[:, 0], np.arange(128) // 2)


def test_a_part_keeps_the_mirror() -> None:
    mirrored = Geometry(SIZE, SIZE, mirror=True)
    assert mirrored.partial(ALWAYS, np.zeros(PARTIAL_NUMBERS)).mirror


def test_images_and_label_maps_are_cut_alike_from_an_epoch_on(tmp_path: Path) -> None:
    source = make_toy(tmp_path / "toy").train
    size = (64, 32)
    policy = GeometryPolicy(flip=0.0, partial=1.0, partial_from=3)
    rows = np.arange(8)[None]
    found = {}
    for name, one in (("parts", policy), ("whole", GeometryPolicy(flip=0.0))):
        load = BatchLoader(source, size, ("parts", "texture"), one)
        for epoch in (2, 3):
            (batch,) = load.load(shard(rows, 0, 1), epoch)
            found[name, epoch] = (
                batch.image.clone(),
                *(batch.fields[field].clone() for field in ("parts", "texture")),
            )
    for before, whole in zip(found["parts", 2], found["whole", 2], strict=True):
        assert torch.equal(before, whole)
    image, parts, texture = found["parts", 3]
    assert not torch.equal(image, found["whole", 3][0])
    assert not torch.equal(parts, found["whole", 3][1])
    assert torch.equal(texture, found["whole", 3][2]), "the texture is that of the whole person"
    # A part of a person is larger in its image.
    assert (parts > 0).float().mean() > (found["whole", 3][1] > 0).float().mean()


def test_the_settings_reach_the_loader(reid_cache: Path) -> None:
    augment = {"partial": 0.5, "partial_height": (0.4, 0.6), "partial_from": 2}
    policy = tiny_assembly((), {"augment": augment}, cache=reid_cache).loaders["main"].policy
    assert policy is not None
    assert (policy.partial, policy.partial_height, policy.partial_width, policy.partial_from) == (
        0.5,
        (0.4, 0.6),
        (0.75, 1.0),
        2,
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"partial_height": (0.0, 1.0)}, r"augment\.partial_height"),
        ({"partial_width": (0.9, 0.5)}, r"augment\.partial_width.*must be \(low, high\)"),
    ],
)
def test_a_wrong_part_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve({"augment": settings})

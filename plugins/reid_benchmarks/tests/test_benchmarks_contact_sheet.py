"""The contact sheet: which images it shows, and that what it shows can be told apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid_benchmarks.doctor.sheet import class_colours, contact_sheet, varied
from reid_core.contract.samples import DataRequest, DataSet, Sample, Source
from reid_core.data.clips import frame_of
from reid_core.errors import DataError
from reid_core.testing.toy.making import load_toy_tracklets


def sample(clothes: int, camid: int, number: int = 0) -> Sample:
    return Sample(Path(f"{clothes}_{camid}_{number}.jpg"), 0, camid, clothes)


def shown(samples: list[Sample], count: int) -> list[tuple[int, int, str]]:
    return [(s.clothes, s.camid, s.path.name) for s in varied(samples, count)]


def test_images_vary_in_outfit_and_camera_first() -> None:
    samples = [sample(o, c, n) for n in range(3) for o in (4, 7) for c in (0, 2)]
    assert [s[:2] for s in shown(samples, 4)] == [(4, 0), (4, 2), (7, 0), (7, 2)]
    assert [s[:2] for s in shown(samples, 6)] == [(4, 0), (4, 0), (4, 2), (7, 0), (7, 2), (7, 2)]
    assert [s[:2] for s in shown(samples, 2)] == [(4, 0), (7, 2)]


@pytest.mark.parametrize("count", [1, 5, 12, 40])
def test_no_image_is_shown_twice(count: int) -> None:
    samples = [sample(o, c, n) for o in (0, 1) for c in (0, 1, 2) for n in range(o + 1)]
    names = [name for *_, name in shown(samples, count)]
    assert len(names) == len(set(names)) == min(count, len(samples))


def test_classes_have_different_colours() -> None:
    colours = {tuple(colour) for colour in class_colours(8).tolist()}
    assert len(colours) == 8
    assert (0, 0, 0) in colours


def sheet_of(dataset: DataSet, folder: Path, identities: int = 2, images: int = 3) -> np.ndarray:
    path = contact_sheet(dataset, folder / "sheets" / "sheet.png", identities, images)
    with Image.open(path) as picture:
        return np.asarray(picture).astype(int)


def test_a_sheet_shows_all_fields_and_names_the_classes(toy_tiny: DataSet, tmp_path: Path) -> None:
    whole = sheet_of(toy_tiny, tmp_path)
    for name in ("parts", "garments", "keypoints", "texture"):
        fields = {n: spec for n, spec in toy_tiny.train.fields.items() if n != name}
        less = replace(toy_tiny, train=replace(toy_tiny.train, fields=fields))
        assert sheet_of(less, tmp_path).shape[0] < whole.shape[0], name
    # Every class is in the legend, a square of 10 x 10 pixels of its colour.
    for colour in class_colours(8).tolist():
        assert (whole == colour).all(2).sum() >= 100


def test_more_people_and_images_make_a_larger_sheet(toy_tiny: DataSet, tmp_path: Path) -> None:
    few, many = sheet_of(toy_tiny, tmp_path, 2, 8), sheet_of(toy_tiny, tmp_path, 4, 8)
    assert many.shape[0] > few.shape[0]
    assert many.shape[1] > few.shape[1]


def test_joints_that_are_hidden_are_grey(toy_tiny: DataSet, tmp_path: Path) -> None:
    def with_visibility(value: float) -> DataSet:
        points = np.array([[16, 32, value]], np.float32)
        first = toy_tiny.train.samples[0]
        spec = toy_tiny.train.fields["keypoints"]
        only = replace(first, fields={"keypoints": points})
        return DataSet("x", Source("main", (only,), {"keypoints": spec}))

    seen, hidden, outside = (sheet_of(with_visibility(v), tmp_path) for v in (1, 0.5, 0))
    assert (seen != hidden).any()
    assert (hidden != outside).any()
    grey = (hidden == 150).all(2).sum()
    assert grey > (outside == 150).all(2).sum() + 10


def test_nothing_to_show_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="data set 'empty' has no images to show"):
        contact_sheet(DataSet("empty", Source("main", ())), tmp_path / "sheet.png")


def test_a_contact_sheet_shows_first_frames(reid_cache: Path, tmp_path: Path) -> None:
    dataset = load_toy_tracklets(DataRequest("toy", "tracklets", "tiny", None, reid_cache))
    single = tuple(frame_of(s, 0, dataset.train.fields) for s in dataset.train.samples)
    plain = replace(dataset, train=replace(dataset.train, samples=single))
    for name, shown in (("tracklets.png", dataset), ("images.png", plain)):
        contact_sheet(shown, tmp_path / name, identities=2, images=2)
    assert (tmp_path / "tracklets.png").read_bytes() == (tmp_path / "images.png").read_bytes()

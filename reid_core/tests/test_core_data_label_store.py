"""The label store: kept by content, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid_core.contract.fields import SHARED_FIELDS, FieldKind, FieldSpec
from reid_core.contract.samples import Sample, Source
from reid_core.data.decoding import read_field
from reid_core.data.encoding import image_bytes, label_colours, write_whole
from reid_core.data.label_store import LabelStore, content_hash
from reid_core.errors import DataError, OutputError

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (3, 8, 4), dtype=np.uint8)
CASES = {
    "labels": (SHARED_FIELDS["parts"], RNG.integers(0, 8, (8, 4), dtype=np.uint8)),
    "image": (FieldSpec("x/image", FieldKind.IMAGE), PICTURE),
    "images": (FieldSpec("x/images", FieldKind.IMAGE), np.stack([PICTURE, 255 - PICTURE] * 6)),
    "points": (SHARED_FIELDS["keypoints"], RNG.random((17, 3)).astype(np.float32)),
    "fixed": (SHARED_FIELDS["texture"], PICTURE),
    "int": (SHARED_FIELDS["pose"], 2),
    "real": (SHARED_FIELDS["pose"], 0.25),
}


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    (tmp_path / "images").mkdir()
    files = [tmp_path / "images" / f"{number}.png" for number in range(4)]
    for number, file in enumerate(files):
        file.write_bytes(image_bytes(np.full((3, 8, 4), number, np.uint8)))
    return [Sample(file, 0, 0) for file in files]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "labels"


def entries(store: LabelStore) -> list[Path]:
    return [p for p in store.folder.rglob("*") if p.is_file() and p.name != "key.txt"]


@pytest.mark.parametrize("case", CASES)
def test_values_come_back(root: Path, samples: list[Sample], case: str) -> None:
    spec, value = CASES[case]
    store = LabelStore(root, "model 1", spec)
    assert store.missing(samples).tolist() == [0, 1, 2, 3]
    for row in (2, 0):
        store.put(samples[row], value)
    assert store.missing(samples).tolist() == [1, 3]
    for reader in (store, LabelStore(root, "model 1", spec)):
        assert reader.missing(samples).tolist() == [1, 3]
        for found in reader.values([samples[0], samples[2]]):
            assert isinstance(found, (Path, tuple, int, float))
            np.testing.assert_array_equal(read_field(found, spec), value)
    with pytest.raises(
        DataError, match=r"2 of 4 images have no label of field .*1\.png is the first"
    ):
        store.values(samples)
    labelled = Source("main", tuple(samples[::2])).with_field(spec, store.values(samples[::2]))
    assert labelled.fields == {spec.name: spec}
    assert not [p for p in store.folder.rglob("*") if p.name.endswith(".tmp")]


def test_label_maps_are_palette_images_with_distinct_colours(
    root: Path, samples: list[Sample]
) -> None:
    spec, value = CASES["labels"]
    store = LabelStore(root, "k", spec)
    store.put(samples[0], value)
    (file,) = store.values(samples[:1])
    assert isinstance(file, Path)
    with Image.open(file) as stored:
        assert stored.mode == "P"
        np.testing.assert_array_equal(np.asarray(stored.convert("RGB")), label_colours()[value])
    colours = label_colours()
    assert len({tuple(colour) for colour in colours.tolist()}) == 256
    assert colours[0].tolist() == [0, 0, 0]
    assert colours[1].tolist() == [128, 0, 0]
    assert colours[15].tolist() == [192, 128, 128]


@pytest.mark.parametrize("case", CASES)
def test_a_truncated_entry_is_missing_and_made_again(
    root: Path, samples: list[Sample], case: str
) -> None:
    spec, value = CASES[case]
    store = LabelStore(root, "k", spec)
    for sample in samples[:2]:
        store.put(sample, value)
    files = entries(store)
    cut = files[0]
    cut.write_bytes(cut.read_bytes()[:-5])
    store = LabelStore(root, "k", spec)
    (row,) = store.missing(samples[:2])
    store.put(samples[row], value)
    for reader in (store, LabelStore(root, "k", spec)):
        assert reader.missing(samples[:2]).tolist() == []
        for found in reader.values(samples[:2]):
            np.testing.assert_array_equal(read_field(found, spec), value)


def test_an_empty_entry_is_missing(root: Path, samples: list[Sample]) -> None:
    for case in ("labels", "points"):
        spec, value = CASES[case]
        store = LabelStore(root, "k", spec)
        store.put(samples[0], value)
        entries(store)[0].write_bytes(b"")
        assert store.missing(samples[:1]).tolist() == [0]


def test_entries_belong_to_content_and_key(root: Path, samples: list[Sample]) -> None:
    spec, value = CASES["labels"]
    store = LabelStore(root, "k", spec)
    store.put(samples[0], value)
    copy = samples[0].path.with_name("copy.png")
    shutil.copy(samples[0].path, copy)
    assert store.missing([replace(samples[0], path=copy)]).tolist() == []
    assert LabelStore(root, "other", spec).missing(samples[:1]).tolist() == [0]
    assert LabelStore(root, "k", SHARED_FIELDS["garments"]).missing(samples[:1]).tolist() == [0]
    copy.write_bytes(samples[1].path.read_bytes() + b"longer")
    assert store.missing([replace(samples[0], path=copy)]).tolist() == [0]
    assert (store.folder / "key.txt").read_text() == "k"


def test_images_that_are_read_are_never_missing_while_they_are_put_again(
    root: Path, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes that label the same images both put them; the first reads on meanwhile."""
    spec, value = CASES["images"]
    store = LabelStore(root, "k", spec)
    store.put(samples[0], value)
    (files,) = store.values(samples[:1])
    assert isinstance(files, tuple)
    removed: list[object] = []
    monkeypatch.setattr(shutil, "rmtree", lambda folder, **_: removed.append(folder))
    store.put(samples[0], value[:2])
    assert [path.is_file() for path in files] == [True] * 2 + [False] * 10
    assert files[0].parent not in removed


def test_a_later_value_replaces_an_earlier_one(root: Path, samples: list[Sample]) -> None:
    for case in ("labels", "images", "int", "fixed"):
        spec, value = CASES[case]
        later = value[..., ::-1] if isinstance(value, np.ndarray) else value + 1
        store = LabelStore(root, "k", spec)
        store.put(samples[0], value)
        store.put(samples[0], later)
        for reader in (store, LabelStore(root, "k", spec)):
            (found,) = reader.values(samples[:1])
            np.testing.assert_array_equal(read_field(found, spec), later)


def test_hashes_are_remembered_while_time_and_size_stand(
    samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = samples[0].path
    first = content_hash(path)
    read = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *a: read.append(a) or digest(*a))
    assert content_hash(path) == first
    assert not read
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(1, 1))
    assert content_hash(path) != first
    assert len(read) == 1
    with pytest.raises(DataError, match=r"gone\.png: cannot be read \(No such file"):
        content_hash(path.with_name("gone.png"))


def test_what_does_not_fit_the_field_is_refused(root: Path, samples: list[Sample]) -> None:
    store = LabelStore(root, "k", SHARED_FIELDS["parts"])
    with pytest.raises(DataError, match="label 8 in a field of 8 classes"):
        store.put(samples[0], np.full((2, 2), 8))
    with pytest.raises(DataError, match="expected integers H W"):
        store.put(samples[0], np.zeros((3, 2, 2), np.uint8))
    assert not root.exists()


def test_write_whole_leaves_nothing_behind_when_it_fails(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match="taken"):
        write_whole(tmp_path / "taken", b"data")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_what_another_process_wrote_is_seen(root: Path, samples: list[Sample]) -> None:
    """As of a rank that looked for numbers before rank 0 had made any."""
    spec, value = CASES["int"]
    ours, theirs = LabelStore(root, "k", spec), LabelStore(root, "k", spec)
    assert ours.missing(samples[:2]).tolist() == [0, 1]
    theirs.put(samples[0], value)
    assert ours.missing(samples[:2]).tolist() == [1]
    theirs.put(samples[1], value)
    assert ours.values(samples[:2]) == [value, value]


def test_entries_belong_to_the_fields_that_are_read(root: Path, samples: list[Sample]) -> None:
    spec, value = CASES["labels"]
    store = LabelStore(root, "k", spec, ("pose", "parts"))
    (root.parent / "map").write_text("one")
    sample = replace(samples[0], fields={"pose": 1, "parts": root.parent / "map", "other": 1})
    store.put(sample, value)
    assert store.missing([sample]).tolist() == []
    assert store.missing([replace(sample, fields={**sample.fields, "other": 2})]).tolist() == []
    assert store.missing([replace(sample, fields={**sample.fields, "pose": 2})]).tolist() == [0]
    (root.parent / "map").write_text("other")
    assert store.missing([sample]).tolist() == [0]

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reid_core.contract.fields import SHARED_FIELDS
from reid_core.contract.samples import DataProvider, DataRequest, DataSet, Sample, Source
from reid_core.data.decoding import read_field, read_labels
from reid_core.data.encoding import label_bytes
from reid_core.errors import ConfigError, DataError
from reid_parsing.providers.folder import load_labelled_folder
from reid_parsing.sources import choose_labelled, hold_out, load_labelled


class Offers:
    """Stand in for a run's providers."""

    def __init__(self, *providers):
        self.providers = {provider.name: provider for provider in providers}

    def datasets(self):
        return [("owner", provider) for provider in self.providers.values()]

    def dataset(self, name):
        return self.providers[name]


def source_of(name, fields=("parts",), kind="source", found=None):
    return DataProvider(name, lambda request: found, kind=kind, fields=fields)


def samples_of(count, **values):
    spec = SHARED_FIELDS["parts"]
    return Source(
        "main",
        tuple(
            Sample(Path(f"{row}.png"), *(v[row] for v in values.values()), fields={"parts": 0})
            for row in range(count)
        ),
        {"parts": spec},
    )


def test_the_main_set_s_sibling_is_preferred_in_its_size():
    offers = Offers(
        source_of("synthpeople-crops"),
        source_of("city-crops"),
        source_of("city-pairs", fields=("texture",)),
        source_of("town-masks"),
    )
    assert choose_labelled(offers, "city/summer:tiny", "parts") == "city-crops:tiny"
    assert choose_labelled(offers, "town", "parts") == "town-masks"
    assert choose_labelled(offers, "market1501:full", "parts") == "synthpeople-crops"


def test_crops_rule_among_several_siblings():
    offers = Offers(source_of("city-crops"), source_of("city-more"))
    assert choose_labelled(offers, "city", "parts") == "city-crops"


def test_without_any_the_message_says_what_could_be_chosen():
    offers = Offers(source_of("toy", kind="dataset"), source_of("other", fields=("texture",)))
    expected = r"a parser of 'parts' needs labelled images: .*labelled=NAME \(toy\), or give"
    with pytest.raises(DataError, match=expected):
        choose_labelled(offers, "market1501", "parts")


def test_test_images_are_held_out(toy_tiny, tmp_path):
    offers = Offers(source_of("toy", kind="dataset", found=toy_tiny))
    found = load_labelled(offers, "toy", "garments", None, tmp_path)
    assert found.train.samples == toy_tiny.train.samples
    assert found.held_out == (*toy_tiny.query, *toy_tiny.gallery)
    assert found.spec.name == "garments"


def test_people_are_held_out_of_a_source(toy_tiny, tmp_path):
    offers = Offers(source_of("toy-crops", found=toy_tiny.train))
    found = load_labelled(offers, "toy-crops", "parts", None, tmp_path, share=0.25)
    out, kept = ({s.pid for s in samples} for samples in (found.held_out, found.train.samples))
    assert len(out) == 2
    assert not out & kept
    assert len(found.held_out) + len(found.train) == len(toy_tiny.train)
    again = load_labelled(offers, "toy-crops", "parts", None, tmp_path, share=0.25)
    assert again.held_out == found.held_out
    other = load_labelled(offers, "toy-crops", "parts", None, tmp_path, share=0.25, seed=5)
    assert {s.pid for s in other.held_out} != out


def test_without_identities_outfits_or_else_images_are_held_out():
    from dataclasses import replace

    dressed = samples_of(8, pid=[-1] * 8, camid=[0] * 8, clothes=[0, 0, 1, 1, 2, 2, 3, 3])
    kept, out = hold_out(replace(dressed, identities=False), 0.25, 0)
    assert len(out) == 2
    assert len({s.clothes for s in out}) == 1
    assert not {s.clothes for s in out} & {s.clothes for s in kept.samples}
    people = tuple(replace(s, extra={"person": s.clothes // 2}) for s in dressed.samples)
    kept, out = hold_out(replace(dressed, samples=people, identities=False), 0.5, 0)
    assert len(out) == 4
    assert len({s.extra["person"] for s in out}) == 1
    nobody = tuple(replace(s, extra={"person": -1}) for s in dressed.samples)
    kept, out = hold_out(replace(dressed, samples=nobody, identities=False), 0.25, 0)
    assert len({s.clothes for s in out}) == 1, "nobody is no person"
    bare = samples_of(8, pid=[-1] * 8, camid=[0] * 8)
    kept, out = hold_out(replace(bare, identities=False), 0.25, 0)
    assert (len(kept), len(out)) == (6, 2)
    assert hold_out(bare, 0.0, 0) == (bare, ())
    with pytest.raises(ConfigError, match=r"held_out = 0\.9 of 2 people or images .*held_out=0"):
        hold_out(samples_of(2, pid=[-1, -1], camid=[0, 0]), 0.9, 0)


def test_labelled_data_that_will_not_do(tmp_path):
    empty = Source("main", (), {"parts": SHARED_FIELDS["parts"]})
    bare = Source("main", (Sample(tmp_path / "a.png", 0, 0),))
    rooted = DataProvider("rooted", lambda request: None, needs_root=True, layout="ROOT/images")
    offers = Offers(
        source_of("empty", found=empty),
        source_of("bare", kind="dataset", found=DataSet("bare", bare)),
        rooted,
    )
    with pytest.raises(DataError, match="labelled data 'empty' has no images to learn from"):
        load_labelled(offers, "empty", "parts", None, tmp_path)
    with pytest.raises(DataError, match="'bare' carries no field, not 'parts'; name other data"):
        load_labelled(offers, "bare", "parts", None, tmp_path)
    with pytest.raises(DataError, match=r"-s parsing\.labelled_root=DIR, or .* \(ROOT/images\)"):
        load_labelled(offers, "rooted", "parts", None, tmp_path)


def write_pairs(root, count=3, size=(8, 4), label=1):
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    for number in range(count):
        Image.new("RGB", size[::-1]).save(root / "images" / f"{number}.jpg")
        labels = np.full(size, label, np.uint8)
        (root / "labels" / f"{number}.png").write_bytes(label_bytes(labels))


def request_of(tmp_path, variant=None):
    return DataRequest("parsing-folder", variant, None, tmp_path / "own", tmp_path / "cache")


def test_a_folder_of_images_and_label_maps(tmp_path):
    write_pairs(tmp_path / "own")
    write_pairs(tmp_path / "own" / "held_out", count=2)
    dataset = load_labelled_folder(request_of(tmp_path))
    assert (len(dataset.train), len(dataset.gallery)) == (3, 2)
    assert set(dataset.train.fields) == set(dataset.query_fields) == {"parts"}
    assert dataset.train.samples[0].fields["parts"] == tmp_path / "own" / "labels" / "0.png"
    garments = load_labelled_folder(request_of(tmp_path, "garments"))
    assert set(garments.train.fields) == {"garments"}


def test_labels_of_a_public_set_are_looked_up_once(tmp_path):
    write_pairs(tmp_path / "own", label=13)  # LIP's face
    dataset = load_labelled_folder(request_of(tmp_path, "lip"))
    assert not dataset.query_fields
    sample = dataset.train.samples[0]
    for field, value in (("parts", 1), ("garments", 6)):
        labels = read_labels(sample.fields[field])
        assert labels.shape == (8, 4)
        assert set(labels.ravel().tolist()) == {value}
    before = sample.fields["parts"].stat().st_mtime_ns
    again = load_labelled_folder(request_of(tmp_path, "lip")).train.samples[0]
    assert again.fields["parts"].stat().st_mtime_ns == before


def test_a_folder_that_will_not_do(tmp_path):
    root = tmp_path / "own"
    with pytest.raises(DataError, match=r"own/images: no such folder; expected ROOT/images"):
        load_labelled_folder(request_of(tmp_path))
    (root / "images").mkdir(parents=True)
    with pytest.raises(DataError, match="own/images holds no images"):
        load_labelled_folder(request_of(tmp_path))
    (root / "images").rmdir()
    write_pairs(root, count=6)
    for number in (0, 2, 3, 5):
        (root / "labels" / f"{number}.png").unlink()
    expected = r"4 of 6 images have no label map NAME\.png: 0\.jpg, 2\.jpg, 3\.jpg, \.\.\."
    with pytest.raises(DataError, match=expected):
        load_labelled_folder(request_of(tmp_path))


def test_label_maps_of_another_size_are_named(tmp_path):
    write_pairs(tmp_path / "own")
    path = tmp_path / "own" / "labels" / "1.png"
    path.write_bytes(label_bytes(np.zeros((4, 8), np.uint8)))
    with pytest.raises(DataError, match=r"1\.png: the label map is 8 x 4, its image 4 x 8"):
        load_labelled_folder(request_of(tmp_path))


def test_label_maps_have_the_size_of_the_image_turned_upright(tmp_path):
    write_pairs(tmp_path / "own")
    turned = Image.Exif()
    turned[0x0112] = 6
    path = tmp_path / "own" / "images" / "1.jpg"
    Image.new("RGB", (8, 4)).save(path, exif=turned)
    assert len(load_labelled_folder(request_of(tmp_path)).train) == 3
    Image.new("RGB", (4, 8)).save(path, exif=turned)
    with pytest.raises(DataError, match=r"1\.png: the label map is 4 x 8, its image 8 x 4"):
        load_labelled_folder(request_of(tmp_path))


def test_labels_outside_the_classes_are_named(tmp_path):
    write_pairs(tmp_path / "own", label=9)
    dataset = load_labelled_folder(request_of(tmp_path))
    spec, sample = dataset.train.fields["parts"], dataset.train.samples[0]
    with pytest.raises(DataError, match=r"0\.png: label 9 in a field of 8 classes"):
        read_field(sample.fields["parts"], spec)
    with pytest.raises(DataError, match=r"0\.png: label 9 in a label set of 7 classes"):
        load_labelled_folder(request_of(tmp_path, "pascal"))

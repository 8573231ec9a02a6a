"""Every loader reads its synthetic twin: labels, order, numbering, and what is left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_twins import (
    PROVIDERS,
    TWINS,
    celeb_reid,
    load,
    msmt17,
    msmt17_rearranged,
    put,
    put_list,
)

from reid_benchmarks.datasets.records import DISTRACTOR
from reid_benchmarks.doctor.labels import check_cameras
from reid_benchmarks.protocols import PROTOCOLS
from reid_core.contract.samples import Sample
from reid_core.errors import DataError
from reid_core.evaluation.statistics import LEAST, images_by_camera
from reid_retrieval.labels import Labels
from reid_retrieval.searching import Search


def rows(samples: tuple[Sample, ...]) -> list[tuple[str, int, int, int]]:
    return [(s.path.name, s.pid, s.camid, s.clothes) for s in samples]


def column(samples: tuple[Sample, ...], key: str) -> list[object]:
    return [s.extra[key] for s in samples]


@pytest.mark.parametrize("name", TWINS)
def test_the_root_is_the_set_s_folder_or_the_one_above(name: str, tmp_path: Path) -> None:
    home = TWINS[name](tmp_path)
    above, own = load(name, tmp_path), load(name, home)
    assert (own.train, own.query, own.gallery) == (above.train, above.query, above.gallery)
    samples = (*own.train.samples, *own.query, *own.gallery)
    assert all(sample.path.is_file() for sample in samples)
    assert own.train.num_identities == len({s.pid for s in own.train.samples})


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_is_not_taken_for_the_official_copy(name: str, tmp_path: Path) -> None:
    notice = load(name, TWINS[name](tmp_path)).notice
    assert notice is not None
    assert "not the official copy:" in notice
    assert notice.startswith(name)
    assert "\n" not in notice


def test_market1501(tmp_path: Path) -> None:
    TWINS["market1501"](tmp_path)
    dataset = load("market1501", tmp_path)
    assert dataset.name == "market1501/single-query"
    assert dataset.protocols == ("market1501",)
    assert rows(dataset.train.samples) == [
        ("0002_c1s1_000451_03.jpg", 0, 0, -1),
        ("0002_c2s1_000776_01.jpg", 0, 1, -1),
        ("0007_c3s1_000051_01.jpg", 1, 2, -1),
        ("0007_c6s4_000451_03.jpg", 1, 5, -1),
    ]
    assert dataset.train.samples[3].extra == {"sequence": 4, "frame": 451, "box": 3, "person": 7}
    assert rows(dataset.query) == [
        ("0001_c1s1_001051_00.jpg", 1, 0, -1),
        ("0003_c4s6_015641_00.jpg", 3, 3, -1),
    ]
    # Junk is gone, distractors have stayed, both of one person that nobody is.
    assert rows(dataset.gallery) == [
        ("0000_c1s1_000151_01.jpg", DISTRACTOR, 0, -1),
        ("0000_c6s3_000151_01.jpg", DISTRACTOR, 5, -1),
        ("0001_c1s1_001051_03.jpg", 1, 0, -1),
        ("0001_c2s1_001976_01.jpg", 1, 1, -1),
        ("0003_c5s3_065162_04.jpg", 3, 4, -1),
    ]
    assert [s.split for s in dataset.gallery] == ["gallery"] * 5
    assert dataset.notice == (
        "market1501/single-query: not the official copy: "
        "train 4 images (official 12,936), 2 people (official 751), 4 cameras (official 6); "
        "query 2 images (official 3,368), 2 people (official 750), 2 cameras (official 6); "
        "gallery 5 images (official 15,913), 2 people (official 750), 4 cameras (official 6)"
    )


def test_market1501_with_hand_drawn_boxes(tmp_path: Path) -> None:
    home = TWINS["market1501"](tmp_path)
    dataset = load("market1501", tmp_path, "multi-query")
    assert dataset.protocols == ("market1501", "market1501/multi-query")
    assert [(s.path.parent.name, s.split, s.pid, s.camid) for s in dataset.query] == [
        ("query", "query", 1, 0),
        ("query", "query", 3, 3),
        ("gt_bbox", "multi-query", 1, 0),
        ("gt_bbox", "multi-query", 1, 0),
        ("gt_bbox", "multi-query", 3, 3),
    ]
    assert "query 2 images (official 3,368)" in str(dataset.notice)
    (home / "gt_bbox" / "0003_c4s6_015641_00.jpg").unlink()
    lonely = load("market1501", tmp_path, "multi-query").notice
    assert ": 1 queries have no hand-drawn box in gt_bbox; not the official" in str(lonely)


def test_market1501_with_500k_distractors(tmp_path: Path) -> None:
    TWINS["market1501"](tmp_path)
    dataset = load("market1501", tmp_path, "500k")
    added = dataset.gallery[5:]
    assert rows(added) == [
        ("0000_c1s1_000000_00.jpg", DISTRACTOR, 0, -1),
        ("0000_c3s2_000001_00.jpg", DISTRACTOR, 2, -1),
    ]
    assert "gallery 2 people (official 750)" in str(dataset.notice)


def test_duke_says_that_it_was_withdrawn(tmp_path: Path) -> None:
    TWINS["duke"](tmp_path)
    dataset = load("duke", tmp_path)
    assert rows(dataset.train.samples) == [
        ("0001_c2_f0046182.jpg", 0, 1, -1),
        ("0005_c8_f0000001.jpg", 1, 7, -1),
    ]
    assert column(dataset.train.samples, "frame") == [46182, 1]
    assert [s.pid for s in dataset.gallery] == [4, 4, 99]
    assert str(dataset.notice).startswith("duke: DukeMTMC-reID was withdrawn by its owners in 2019")
    assert "nowhere" in PROVIDERS["duke"].layout
    assert "http" not in PROVIDERS["duke"].layout + PROVIDERS["occluded-duke"].layout


def test_occluded_duke_by_lists_and_by_folders(tmp_path: Path) -> None:
    TWINS["occluded-duke"](tmp_path)
    dataset = load("occluded-duke", tmp_path)
    assert "withdrawn" in str(dataset.notice)
    assert [s.path.name for s in dataset.train.samples] == ["0005_c8_f0000001.jpg"]
    # The second query is a gallery image of DukeMTMC-reID, and of this set.
    assert [(s.path.parent.name, s.path.name) for s in dataset.query] == [
        ("query", "0004_c1_f0000100.jpg"),
        ("bounding_box_test", "0004_c2_f0000140.jpg"),
    ]
    assert [s.path.name for s in dataset.gallery] == [
        "0004_c1_f0000120.jpg",
        "0004_c2_f0000140.jpg",
    ]
    folders = tmp_path / "again" / "Occluded_Duke"
    put(folders / "bounding_box_train", "0005_c8_f0000001.jpg")
    put(folders / "query", "0004_c1_f0000100.jpg", "0004_c2_f0000140.jpg")
    put(folders / "bounding_box_test", "0004_c1_f0000120.jpg", "0004_c2_f0000140.jpg")
    again = load("occluded-duke", folders)
    assert rows(again.query) == rows(dataset.query)
    assert rows(again.gallery) == rows(dataset.gallery)


def test_occluded_duke_s_lists_alone_say_what_is_missing(tmp_path: Path) -> None:
    put_list(tmp_path / "train.list", ["0005_c8_f0000001.jpg"])
    with pytest.raises(DataError, match="holds lists and no images; they belong beside a folder"):
        load("occluded-duke", tmp_path)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_msmt17_trains_with_val_only_if_asked(version: str, tmp_path: Path) -> None:
    msmt17(tmp_path, version)
    dataset = load("msmt17", tmp_path, version)
    assert dataset.name == f"msmt17/{version}"
    # Two digits of a camera are two digits; both splits start at person 0.
    assert rows(dataset.train.samples) == [
        ("0000_000_01_0303morning_0015_0.jpg", 0, 0, -1),
        ("0001_000_15_0113noon_0015_1_ex.jpg", 1, 14, -1),
        ("0001_001_05_0113noon_0015_1.jpeg", 1, 4, -1),
    ]
    assert column(dataset.train.samples, "slot") == ["0303morning", "0113noon", "0113noon"]
    assert column(dataset.train.samples, "daytime") == ["morning", "noon", "noon"]
    assert rows(dataset.query) == [("0000_000_01_0303morning_0020_0.jpg", 0, 0, -1)]
    assert [(s.pid, s.camid) for s in dataset.gallery] == [(0, 9), (1, 0)]
    more = load("msmt17", tmp_path, f"{version}+val")
    assert more.name == f"msmt17/{version}+val"
    assert [s.camid for s in more.train.samples] == [0, 14, 4, 10]
    assert "train 4 images (official 32,621)" in str(more.notice)
    assert "train 3 images (official 30,248)" in str(dataset.notice)


def test_msmt17_is_not_guessed_to_be_another_version(tmp_path: Path) -> None:
    home = msmt17(tmp_path, "v2")
    with pytest.raises(
        DataError, match=r"is V2, with masked faces, .* with those of V1: say msmt17/v2"
    ):
        load("msmt17", tmp_path)
    with pytest.raises(DataError, match="say msmt17/v2"):
        load("msmt17", home)
    folders = msmt17_rearranged(tmp_path / "other")
    for root in (folders, folders.parent):
        with pytest.raises(DataError, match="has the folders of Market-1501: say msmt17/rearr"):
            load("msmt17", root, "v1")
    dataset = load("msmt17", folders, "rearranged")
    assert [(s.pid, s.camid) for s in dataset.train.samples] == [(0, 10), (0, 0), (1, 1)]
    assert [(s.pid, s.camid) for s in dataset.gallery] == [(0, 14), (2, 0)]


def test_msmt17_reports_images_in_no_list(tmp_path: Path) -> None:
    home = msmt17(tmp_path)
    put(home / "test" / "0001", "0001_009_01_0303morning_0021_0.jpg")
    notice = load("msmt17", home).notice
    assert "1 images of test are in no list: 0001/0001_009_01_0303morning_0021_0.jpg" in str(notice)


def test_prcc(tmp_path: Path) -> None:
    TWINS["prcc"](tmp_path)
    dataset = load("prcc", tmp_path)
    train = dataset.train.samples
    assert len(train) == 12
    assert [(s.pid, s.camid, s.clothes) for s in train if "001" in s.path.name] == [
        (0, 0, 0),
        (0, 1, 0),
        (0, 2, 1),
        (1, 0, 2),
        (1, 1, 2),
        (1, 2, 3),
    ]
    assert {s.path.parent.name: s.pid for s in train} == {"003": 0, "300": 1}
    # Same clothes in A and B, others in C; nobody of training wears them.
    assert [(s.pid, s.camid, s.clothes, s.extra["camera"]) for s in dataset.query[::2]] == [
        (1, 1, 4, "B"),
        (328, 1, 6, "B"),
        (1, 2, 5, "C"),
        (328, 2, 7, "C"),
    ]
    assert [(s.pid, s.camid, s.clothes, s.extra["camera"]) for s in dataset.gallery[::2]] == [
        (1, 0, 4, "A"),
        (328, 0, 6, "A"),
    ]
    assert [s.path.name for s in dataset.gallery[:2]] == [
        "cropped_rgb001.jpg",
        "cropped_rgb002.jpg",
    ]


def test_ltcc(tmp_path: Path) -> None:
    TWINS["ltcc"](tmp_path)
    dataset = load("ltcc", tmp_path)
    assert dataset.name == "ltcc/train-all"
    # Outfit 1 of two people is two outfits; outfit 14 and camera 11 are no 1.
    assert rows(dataset.train.samples) == [
        ("001_14_c11_000124.png", 0, 10, 1),
        ("001_1_c1_000125.png", 0, 0, 0),
        ("001_1_c3_000123.png", 0, 2, 0),
        ("077_1_c12_000126.png", 1, 11, 2),
    ]
    assert column(dataset.train.samples, "cloth_changing") == [1, 1, 1, 0]
    # Person 0 is a person.
    assert rows(dataset.query) == [
        ("000_1_c1_000001.png", 0, 0, 3),
        ("000_2_c2_000002.png", 0, 1, 4),
        ("144_1_c10_000003.png", 144, 9, 5),
    ]
    assert [s.clothes for s in dataset.gallery] == [3, 3, 4, 5]
    assert column(dataset.gallery, "outfit") == [1, 1, 2, 1]
    assert column(dataset.gallery, "cloth_changing") == [1, 1, 1, 0]
    assert "ltcc/cc/identity-filter" in dataset.protocols
    changing = load("ltcc", tmp_path, "train-changing")
    assert [s.pid for s in changing.train.samples] == [0, 0, 0]
    assert len(changing.gallery) == 4


def test_ltcc_without_the_lists_of_info(tmp_path: Path) -> None:
    home = TWINS["ltcc"](tmp_path)
    (home / "info").rename(home / "elsewhere")
    dataset = load("ltcc", tmp_path)
    assert ": info/ is missing: nothing tells who changes clothes; not the" in str(dataset.notice)
    assert "cloth_changing" not in dataset.query[0].extra
    assert "ltcc/cc/identity-filter" not in dataset.protocols
    with pytest.raises(
        DataError, match="its lists say who changes clothes, which 'train-changing'"
    ):
        load("ltcc", tmp_path, "train-changing")


def test_vcclothes(tmp_path: Path) -> None:
    TWINS["vcclothes"](tmp_path)
    dataset = load("vcclothes", tmp_path)
    assert rows(dataset.train.samples) == [
        ("0001-01-01-01.jpg", 0, 0, 0),
        ("0001-04-03-02.jpg", 0, 3, 1),
        ("0009-02-01-01.jpg", 1, 1, 2),
    ]
    assert column(dataset.query, "camera") == [2, 3, 4]
    assert [s.camid for s in dataset.query] == [1, 2, 3]
    assert column(dataset.query, "outfit") == [2, 2, 3]
    assert [s.clothes for s in dataset.query] == [4, 4, 5]
    assert [s.clothes for s in dataset.gallery] == [3, 4, 4, 5, 6]


def test_partial_reid_says_what_is_searched_for(tmp_path: Path) -> None:
    TWINS["partial-reid"](tmp_path)
    dataset = load("partial-reid", tmp_path)
    assert dataset.name == "partial-reid/partial"
    assert len(dataset.train) == 0
    assert rows(dataset.query) == [("001_001.jpg", 1, 0, -1), ("060_002.jpg", 60, 0, -1)]
    assert [(s.pid, s.camid) for s in dataset.gallery] == [(1, 0), (1, 0), (60, 0)]
    other = load("partial-reid", tmp_path, "occluded")
    assert [s.path.parent.name for s in other.query] == ["occluded_body_images"]


def test_partial_ilids_in_three_layouts(tmp_path: Path) -> None:
    TWINS["partial-ilids"](tmp_path)
    assert rows(load("partial-ilids", tmp_path).query) == [
        ("009.jpg", 9, 0, -1),
        ("010.jpg", 10, 0, -1),
    ]
    for first, second in (("query", "gallery"), ("partial_body_images", "whole_body_images")):
        home = tmp_path / first
        put(home / first, "1_1.jpg", "12_1.jpg")
        put(home / second, "12_2.jpg")
        dataset = load("partial-ilids", home)
        assert rows(dataset.query) == [("12_1.jpg", 12, 0, -1), ("1_1.jpg", 1, 0, -1)]
        assert rows(dataset.gallery) == [("12_2.jpg", 12, 0, -1)]


def test_partial_ilids_releases_are_not_mistaken_for_each_other(tmp_path: Path) -> None:
    for folder in ("Probe", "Gallery"):
        put(tmp_path / folder, *(f"{n}.jpg" for n in range(1, 120)))
    assert load("partial-ilids", tmp_path).notice is None
    with pytest.raises(DataError, match=r"has 119 queries: .*say partial-ilids/119"):
        load("partial-ilids", tmp_path, "238")
    for folder in ("Probe", "Gallery"):
        put(tmp_path / folder, *(f"{n}.jpg" for n in range(120, 239)))
    with pytest.raises(DataError, match=r"has 238 queries: .*say partial-ilids/238"):
        load("partial-ilids", tmp_path)
    assert load("partial-ilids", tmp_path, "238").notice is None


def test_occluded_reid_nested_and_flat(tmp_path: Path) -> None:
    TWINS["occluded-reid"](tmp_path)
    dataset = load("occluded-reid", tmp_path)
    assert rows(dataset.query) == [
        ("001_01.tif", 1, 0, -1),
        ("001_02.tif", 1, 0, -1),
        ("200_01.tif", 200, 0, -1),
    ]
    assert [(s.pid, s.camid) for s in dataset.gallery] == [(1, 0), (200, 0)]
    assert "re-encoded" not in str(dataset.notice)
    copy = tmp_path / "flat" / "OccludedREID"
    put(copy / "query", "001_1.jpg", "002_1.jpg")
    put(copy / "gallery", "001_1.jpg")
    flat = load("occluded-reid", copy.parent)
    assert [(s.pid, s.camid) for s in (*flat.query, *flat.gallery)] == [(1, 0), (2, 0), (1, 0)]
    assert "3 images are re-encoded, the original is TIFF: 001_1.jpg, 002_1.jpg" in str(flat.notice)


def test_celeb_reid_has_no_cameras(tmp_path: Path) -> None:
    celeb_reid(tmp_path)
    dataset = load("celeb-reid", tmp_path)
    # Person 1 of training and person 1 of test are two people.
    assert [(s.pid, s.camid) for s in dataset.train.samples] == [(0, 0), (0, 0), (1, 0)]
    assert [(s.pid, s.camid) for s in dataset.query] == [(1, 0), (2, 0)]
    assert [(s.pid, s.camid) for s in dataset.gallery] == [(1, 0), (1, 0), (2, 0)]
    assert column(dataset.gallery, "number") == [12, 19, 10]
    assert {s.clothes for s in dataset.train.samples} == {-1}


@pytest.mark.parametrize("name", ["celeb-reid", "last", "partial-reid", "occluded-reid"])
def test_sets_without_cameras_are_told_and_refused(name: str, tmp_path: Path) -> None:
    (celeb_reid if name == "celeb-reid" else TWINS[name])(tmp_path)
    dataset = load(name, tmp_path)
    tested = (*dataset.query, *dataset.gallery)
    found = [f.text for f in check_cameras(dataset) if f.text.startswith("test")]
    assert found == [
        "test: all images are of one camera, so that no protocol can tell its images apart; "
        "evaluate by 'no-camera'"
    ]
    with pytest.raises(DataError, match=r"batch_norm = 'camera' needs .*, where all are"):
        images_by_camera(tested * LEAST, name)
    # Nothing is junk, so that a query finds its person.
    for protocol in (p for p in PROTOCOLS if p.name in dataset.protocols):
        search = Search(protocol, Labels.of_samples(dataset.query), Labels.of_samples(tested))
        assert not any(search.own(row)[1].any() for row in range(len(dataset.query)))


def test_last_labels_outfits_in_training_only(tmp_path: Path) -> None:
    TWINS["last"](tmp_path)
    dataset = load("last", tmp_path)
    assert rows(dataset.train.samples) == [
        ("000002_film_0001_02.jpg", 0, 0, 0),
        ("000002_film_0002_10.jpg", 0, 0, 1),
        ("000010_film_0001_02.jpg", 1, 0, 2),
    ]
    assert rows(dataset.query) == [("000001_film_0001.jpg", 1, 0, -1)]
    assert [(s.pid, s.camid, s.clothes) for s in dataset.gallery] == [(1, 0, -1), (5, 0, -1)]
    assert load("last", tmp_path, "val").query[0].path.parts[-3:-1] == ("val", "query")


def test_deepchange(tmp_path: Path) -> None:
    TWINS["deepchange"](tmp_path)
    dataset = load("deepchange", tmp_path)
    assert dataset.name == "deepchange/test"
    assert rows(dataset.train.samples) == [
        ("P1_C17_0406_18_a_2.jpg", 0, 16, 1),
        ("P1_C1_0305_07_a_1.jpg", 0, 0, 0),
    ]
    assert column(dataset.train.samples, "tracklet") == ["12", "11"]
    assert column(dataset.train.samples, "day") == ["0406", "0305"]
    assert column(dataset.train.samples, "hour") == ["18", "07"]
    assert [(s.pid, s.camid, s.extra["tracklet"]) for s in dataset.gallery] == [
        (3, 1, "31"),
        (3, 1, "32"),
        (3, 9, "33"),
        (4, 1, "41"),
    ]
    assert [s.pid for s in load("deepchange", tmp_path, "val").query] == [2]

"""The data doctor on folders that are broken in one way each, and its command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reid_benchmarks.doctor.files import check_files, count_files, read_files
from reid_benchmarks.doctor.labels import (
    Finding,
    check_cameras,
    check_counts,
    check_labels,
    check_people,
    check_queries,
    verdict,
)
from reid_core.contract.samples import Counts, DataRequest, DataSet, Sample, Source
from reid_core.data.encoding import image_bytes
from reid_core.data.folder import load_folder
from reid_core.testing.fixtures import RunReid
from reid_retrieval.protocols import (
    CROSS_CLOTHES,
    NO_CAMERA,
    STANDARD,
    TRACKLET_POOLS,
    JunkRule,
    Protocol,
)

Doctor = Callable[..., tuple[int, list[str]]]

GOOD = (
    "train/0001_c1_0.png", "train/0001_c2_0.png", "train/0002_c1_0.png", "train/0002_c2_0.png",
    "query/0005_c1_0.png", "query/0006_c2_0.png",
    "gallery/0005_c1_1.png", "gallery/0005_c2_1.png", "gallery/0006_c1_1.png",
    "gallery/0006_c1_2.png",
)  # fmt: skip


def write(root: Path, names: tuple[str, ...], number: int = 0) -> None:
    """Write images, each with a picture of its own."""
    for offset, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng([number, offset]).integers(0, 256, (3, 16, 8))
        path.write_bytes(image_bytes(pixels.astype(np.uint8)))


def load(root: Path) -> DataSet:
    return load_folder(DataRequest("folder", None, None, root, root))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "photos", GOOD)
    return tmp_path / "photos"


@pytest.fixture
def doctor(root: Path, run_reid: RunReid) -> Doctor:
    """Return a function that runs ``reid data check`` and returns exit code and lines."""

    def call(*arguments: str, name: str = "folder") -> tuple[int, list[str]]:
        code, out, err = run_reid("data", "check", name, "--data-root", root, *arguments)
        return code, [" ".join(line.split()) for line in (out + err).splitlines()]

    return call


def test_the_doctor_is_a_command_of_this_distribution(
    run_reid: RunReid, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_reid("data", "--help")[1].count("(reid-benchmarks)") == 2
    monkeypatch.setattr("reid_core.cli.commands.installed", lambda group: {})
    for name in ("check", "show"):
        code, _, err = run_reid("data", name, "toy:tiny")
        assert code == 2
        told = f"'data {name}' is a command of reid-benchmarks: pip install reid-benchmarks"
        assert told in err


def test_help_of_its_commands_waits_for_nothing_heavy() -> None:
    code = """
import sys
from reid_benchmarks.doctor import commands
from reid_core.cli import main
print(*sorted({"torch", "numpy", "rich", "pydantic"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_good_copy_is_fine(doctor: Doctor) -> None:
    assert doctor() == (
        0,
        [
            "ok counts train: 4 images, 2 people, 2 cameras",
            "ok counts query: 2 images, 2 people, 2 cameras",
            "ok counts gallery: 4 images, 2 people, 2 cameras",
            "ok cameras train: a person is seen by 2 cameras, by 2.00 on average",
            "ok cameras test: a person is seen by 2 cameras, by 2.00 on average",
            "ok people nobody is in training and in test",
            "ok queries standard: 2 of 2 queries valid, in 4 images; of a valid one 1.50 matches "
            "and 0.50 junk",
            "ok files 10 images can be read; 16 pixels high, 8 wide",
            "ok duplicates no training image is in test",
            "ok duplicates no query image is in the gallery",
            "folder: fine",
        ],
    )


def test_without_files_nothing_is_decoded(doctor: Doctor, root: Path) -> None:
    (root / GOOD[0]).write_bytes(b"")
    code, lines = doctor("--no-files")
    assert (code, lines[-1]) == (0, "folder: fine")
    assert not any(line.split()[1] in ("files", "duplicates") for line in lines[:-1])


def test_files_that_cannot_be_read(doctor: Doctor, root: Path) -> None:
    whole = (root / GOOD[1]).read_bytes()
    (root / GOOD[0]).write_bytes(b"")
    (root / GOOD[1]).write_bytes(whole[: len(whole) // 2])
    code, lines = doctor()
    assert code == 1
    (line,) = (line for line in lines if line.startswith("problem"))
    assert line.startswith("problem files 2 files cannot be read: ")
    assert f"{root / GOOD[0]}: cannot be read as an image" in line
    assert f"{root / GOOD[1]}: cannot be read as an image" in line
    assert line.endswith("Extract them again")
    assert lines[-1] == "folder: 1 problem (files)"


def test_a_side_car_that_cannot_be_read(doctor: Doctor, root: Path) -> None:
    folder = root / "fields" / "parts" / "train"
    folder.mkdir(parents=True)
    for name in GOOD[:4]:
        (folder / f"{Path(name).stem}.png").write_bytes(b"no picture")
    code, lines = doctor()
    assert code == 1
    assert any("problem files 4 files cannot be read" in line for line in lines)
    assert any("cannot be read as a label map" in line for line in lines)


def test_queries_that_find_themselves(doctor: Doctor, root: Path) -> None:
    image = (root / "query/0005_c1_0.png").read_bytes()
    (root / "gallery/0005_c1_9.png").write_bytes(image)
    code, lines = doctor()
    assert code == 0
    assert "note duplicates 1 query images are in the gallery: query/0005_c1_0.png" in lines
    assert "ok duplicates as their own match they are junk by standard" in lines
    assert lines[-1] == "folder: fine, 1 note"
    code, lines = doctor("--protocol", "no-camera")
    assert code == 1
    assert (
        "problem duplicates 1 queries count as their own match by no-camera; results would be too "
        "good"
    ) in lines


def test_training_images_in_test_and_images_of_two_people(doctor: Doctor, root: Path) -> None:
    image = (root / "train/0001_c1_0.png").read_bytes()
    (root / "gallery/0005_c2_9.png").write_bytes(image)
    (root / "gallery/0006_c2_9.png").write_bytes(image)
    code, lines = doctor()
    assert code == 1
    assert (
        "problem duplicates 1 training image is in test, too: train/0001_c1_0.png; results would "
        "be too good"
    ) in lines
    assert (
        "problem duplicates 1 image is there as two people in test: gallery/0005_c2_9.png = "
        "gallery/0006_c2_9.png"
    ) in lines
    assert (
        "note duplicates gallery: 1 image is there more than once: gallery/0006_c2_9.png" in lines
    )
    assert lines[-1] == "folder: 2 problems (duplicates), 1 note"


def test_people_in_training_and_in_test(doctor: Doctor, root: Path) -> None:
    write(root, ("train/0005_c1_9.png", "train/0005_c2_9.png"), number=1)
    code, lines = doctor()
    assert code == 1
    assert (
        "problem people 1 person is in training and in test: 5; results would be too good" in lines
    )
    assert lines[0] == "note notice 1 identities are in training and in test"


def test_queries_that_nobody_can_answer(doctor: Doctor, root: Path) -> None:
    write(root, ("query/0009_c1_0.png", "query/0007_c1_0.png", "gallery/0007_c1_1.png"), number=1)
    code, lines = doctor()
    assert code == 0
    (line,) = (line for line in lines if "queries" in line.split()[1])
    assert line == (
        "note queries standard: 2 of 4 queries valid, in 5 images; of a valid one 1.50 matches and "
        "0.50 junk; 1 have no gallery image of their person: query/0009_c1_0.png; 1 have only junk "
        "(same pid & same camid): query/0007_c1_0.png"
    )
    assert "2 of 4 people by one alone" in next(line for line in lines if "cameras test" in line)


def test_one_camera(tmp_path: Path, doctor: Doctor, root: Path) -> None:
    for path in sorted(root.rglob("*.png")):
        path.rename(path.with_name(path.name.replace("_c2", "_c1_x")))
    code, lines = doctor()
    assert code == 1
    (line,) = (line for line in lines if line.startswith("problem"))
    assert line.endswith(
        "of one camera (0): label the cameras, or use a protocol that ignores them, such as "
        "'no-camera'"
    )
    assert any("note cameras test: all images are of one camera" in line for line in lines)
    assert doctor("--protocol", "no-camera")[0] == 0


def test_a_protocol_that_needs_outfits(doctor: Doctor) -> None:
    code, lines = doctor("--protocol", "cross-clothes")
    assert code == 1
    (line,) = (line for line in lines if line.startswith("problem"))
    assert "'cross-clothes' compares outfits, but 2 of 2 query images have none" in line


def test_a_name_that_fits_no_rule_is_an_error_of_the_loader(doctor: Doctor, root: Path) -> None:
    write(root, ("gallery/photo.png",))
    code, lines = doctor()
    assert code == 2
    assert lines[-1].startswith("reid: ")
    assert "do not fit PID_cCAM" in lines[-1]


def test_a_training_source_is_checked_too(
    doctor: Doctor, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = doctor(name="toy-pairs:tiny")
    assert code == 0
    assert "ok files 24 images can be read and 24 files of fields; 64 pixels high, 32 wide" in lines
    assert lines[-1] == "toy-pairs:tiny: fine"


# Single checks ------------------------------------------------------------------------------------


def sample(pid: int, camid: int, split: str = "query", **extra: object) -> Sample:
    return Sample(Path(f"{split}-{pid}-{camid}.png"), pid, camid, split=split, extra=extra)


def test_a_split_that_is_missing_is_counted() -> None:
    (found,) = check_counts(DataSet("x", Source("main", ())), {"query": Counts(images=3)})
    assert found.level == "problem"
    assert found.text.startswith("query: 0 images (official: 3), 0 people, 0 cameras;")


def test_junk_and_distractors_are_no_people() -> None:
    gallery = (sample(-1, 0, "gallery"), sample(-2, 1, "gallery"), sample(4, 1, "gallery"))
    dataset = DataSet("x", Source("main", ()), gallery=gallery)
    (counts,) = check_counts(dataset, {"gallery": Counts(3, 1, 2)})
    assert (counts.level, counts.text) == (
        "ok",
        "gallery: 3 images, 1 people, 2 cameras, as officially",
    )
    (cameras,) = check_cameras(dataset)
    assert cameras.text.startswith("test: a person is seen by 1 cameras")


def test_people_that_are_numbered_apart_tell_nothing() -> None:
    train = Source("main", (sample(0, 0, "train"),))
    (found,) = check_people(DataSet("x", train, (sample(0, 0),)))
    assert found.level == "note"
    assert "number their people apart" in found.text
    known = Source("main", (sample(0, 0, "train", person=7),))
    (found,) = check_people(DataSet("x", known, (sample(0, 0),)))
    assert found.level == "ok"
    (found,) = check_people(DataSet("x", known, (sample(7, 0),)))
    assert found.level == "problem"


def test_a_protocol_of_another_data_set_is_a_problem() -> None:
    dataset = DataSet("x", Source("main", ()), (sample(1, 0),), (sample(1, 1, "gallery"),))
    tracks = Protocol("tracks", junk=JunkRule(same=("tracklet",)))
    found = check_queries(dataset, tracks)
    assert found.level == "problem"
    assert "needs the label 'tracklet' of every query image" in found.text
    levels = [f.level for f in check_labels(dataset, {}, (STANDARD, NO_CAMERA, CROSS_CLOTHES))]
    assert levels.count("problem") == 1


def test_tracklets_are_checked_as_they_are_scored(tmp_path: Path) -> None:
    write(tmp_path, tuple(f"track{n}/{frame}.png" for n in range(3) for frame in range(2)))
    tracks = [tuple(sorted((tmp_path / f"track{n}").iterdir())) for n in range(3)]
    query, own, copy = (
        Sample(frames[0], 1, camid, split=split, frames=frames)
        for frames, camid, split in zip(
            (tracks[0], tracks[1], tracks[0]),
            (0, 1, 1),
            ("query", "gallery", "gallery"),
            strict=True,
        )
    )
    dataset = DataSet("x", Source("main", ()), (query,), (own, copy))
    found = check_queries(dataset, TRACKLET_POOLS)
    assert found.level == "ok", found.text
    assert "1 of 1 queries valid, in 2 images; of a valid one 2.00 matches" in found.text
    twins = list(check_files(dataset, read_files(dataset, 1), (TRACKLET_POOLS,)))
    assert any("1 queries count as their own match" in finding.text for finding in twins)


def test_a_file_that_is_query_and_gallery_is_read_once(tmp_path: Path) -> None:
    write(tmp_path, ("query/0001_c1.png", "query/0001_c2.png"))
    paths = sorted((tmp_path / "query").iterdir())
    query = tuple(Sample(path, 1, camid, split="query") for camid, path in enumerate(paths))
    dataset = DataSet("x", Source("main", ()), query, query)
    advanced: list[int] = []
    reading = read_files(dataset, 2, advanced.append)
    assert count_files(dataset) == sum(advanced) == len(reading.digests) == 2
    # CUHK03's classic protocol: all images are queries and gallery, views are kept apart.
    apart = Protocol("apart", junk=JunkRule(apart=("camid",)))
    found = [f for f in check_files(dataset, reading, (apart, NO_CAMERA)) if "own" in f.text]
    assert [f.level for f in found] == ["ok", "problem"]
    assert "2 queries count as their own match by no-camera" in found[1].text


def test_the_verdict_is_one_line() -> None:
    ok, note = Finding("a", "b"), Finding("a", "b", "note")
    problem = Finding("a", "b", "problem")
    assert verdict("x", [ok]) == "x: fine"
    assert verdict("x", [ok, note, note]) == "x: fine, 2 notes"
    assert verdict("x", [problem, note]) == "x: 1 problem (a), 1 note"
    assert verdict("x", [problem, replace(problem, topic="b")]) == "x: 2 problems (a, b)"


def test_a_data_set_as_loaded_has_the_label_person(root: Path) -> None:
    assert [s.extra["person"] for s in load(root).train.samples] == [1, 1, 2, 2]

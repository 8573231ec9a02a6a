"""Outputs are looked at before the work: suffixes, folders, permissions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reid_core import ConfigError, checked_folder, checked_output
from reid_core.outputs import FIGURE_SUFFIXES, PICTURE_SUFFIXES


@pytest.mark.parametrize("name", ["a.png", "A.PNG", "deep/er/a.jpg"])
def test_a_file_that_can_be_written_leaves_its_folder_and_nothing_else(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    assert checked_output(path, PICTURE_SUFFIXES) == path
    assert path.parent.is_dir()
    assert list(path.parent.iterdir()) == []


def test_any_name_will_do_without_suffixes_and_what_is_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "figures"
    path.write_text("kept")
    assert checked_output(path) == path
    assert path.read_text() == "kept"
    assert [entry.name for entry in tmp_path.iterdir()] == ["figures"]


@pytest.mark.parametrize(
    ("name", "suffixes", "listed"),
    [
        ("a.svg", PICTURE_SUFFIXES, r"\.bmp, \.jpeg, \.jpg, \.png, \.tif, \.tiff or \.webp"),
        ("a.bmp", FIGURE_SUFFIXES, r"\.jpeg, \.jpg, \.pdf, \.png or \.svg"),
        ("a", (".onnx",), r"\.onnx"),
    ],
)
def test_another_suffix_is_refused_with_those_that_there_are(
    name: str, suffixes: tuple[str, ...], listed: str, tmp_path: Path
) -> None:
    path = tmp_path / "made" / name
    with pytest.raises(ConfigError, match=rf"--picture .*{name}: .* must end in {listed}$"):
        checked_output(path, suffixes, option="--picture")
    assert not path.parent.exists()


def test_a_folder_is_no_file_and_a_file_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.touch()
    with pytest.raises(ConfigError, match="is a folder; name a file in it"):
        checked_output(tmp_path)
    with pytest.raises(ConfigError, match="is a file; name a folder"):
        checked_folder(file)
    for check in (checked_output, checked_folder):
        with pytest.raises(ConfigError, match=r"cannot be written \(Not a directory"):
            check(file / "b" if check is checked_folder else file / "b.png")


def test_a_folder_with_something_is_refused_unless_that_is_expected(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    assert checked_folder(folder) == folder
    assert list(tmp_path.iterdir()) == []
    folder.mkdir(parents=True)
    assert checked_folder(folder) == folder
    (folder / "a").touch()
    with pytest.raises(ConfigError, match=r"--out .*here: holds something already; name another"):
        checked_folder(folder)
    assert checked_folder(folder, empty=False) == folder
    assert [entry.name for entry in folder.iterdir()] == ["a"]


def test_what_the_system_refuses_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"--json .*: cannot be written \(File name too long"):
        checked_output(tmp_path / ("a" * 300) / "b.json", option="--json")

    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    for check in (checked_output, checked_folder):
        with pytest.raises(ConfigError, match=r"\(No space left on device\); name another place"):
            check(tmp_path / "new")


def test_permissions_of_folder_and_file_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "kept.json"
    file.touch()
    # A superuser may write everywhere, so the system's answer is replaced.
    monkeypatch.setattr(os, "access", lambda path, mode: not (path == file and mode == os.W_OK))
    with pytest.raises(ConfigError, match=r"kept\.json: cannot be written \(Permission denied\)"):
        checked_output(file)


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="has no devices as files")
def test_a_device_is_written_to_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(**_: object) -> None:
        raise AssertionError("nothing is to be written beside a device")

    monkeypatch.setattr("tempfile.TemporaryFile", never)
    assert checked_output(Path("/dev/null")) == Path("/dev/null")

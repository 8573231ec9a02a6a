"""Outputs are looked at before the work: suffixes, folders, permissions."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from reid_core import (
    ConfigError,
    OutputError,
    checked_folder,
    checked_output,
    whole_file,
    write_json,
    write_text,
)
from reid_core.model.tensors import write_tensors
from reid_core.outputs import FIGURE_SUFFIXES, PART, PICTURE_SUFFIXES, remove_parts
from reid_core.testing.fixtures import RunReid


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


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="has no streams as files")
def test_text_for_stdout_follows_its_lines_wherever_it_goes(tmp_path: Path) -> None:
    link, out = tmp_path / "stdout", tmp_path / "out.txt"
    link.symlink_to("/dev/stdout")  # what is wrong must not replace the machine's own
    code = (
        "import sys, pathlib; from reid_core.outputs import checked_output, write_json; "
        "print('before'); path = checked_output(pathlib.Path(sys.argv[1])); write_json(path, [1])"
    )
    with out.open("w") as file:
        subprocess.run([sys.executable, "-c", code, str(link)], check=True, stdout=file)
    assert link.is_symlink()
    assert out.read_text().split() == ["before", "[", "1", "]"]


def test_devices_are_written_to_where_the_process_has_no_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", None)  # as Python has it of a closed one
    write_text(Path(os.devnull), "lines")


def refusing(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    """Let a function of `os` fail as a machine does."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, name, refuse)


@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_whatever_is_written_has_the_permissions_of_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_tensors(tmp_path / "weights.safetensors", {"a": torch.zeros(2)})
        with whole_file(tmp_path / "private.bin") as part:
            # What libraries do that write to a temporary file of their own.
            part.unlink()
            os.close(os.open(part, os.O_CREAT | os.O_WRONLY, 0o600))
        write_json(tmp_path / "deep" / "er.json", {"a": 1})
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~umask}
    assert len(files) == 3


@pytest.mark.parametrize("name", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.ENOENT])
def test_what_was_there_stays_and_nothing_is_left_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    path = tmp_path / "results.json"
    write_json(path, ["old"])
    refusing(monkeypatch, name, number)
    reason = os.strerror(number)
    with pytest.raises(OutputError, match=rf"results\.json: cannot be written \({reason}"):
        write_json(path, ["new"])
    assert json.loads(path.read_text()) == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_an_output_folder_that_vanished_is_one_line_or_made_again(tmp_path: Path) -> None:
    path = checked_output(tmp_path / "gone" / "a.json")
    shutil.rmtree(path.parent)
    write_json(path, [1])
    assert json.loads(path.read_text()) == [1]
    shutil.rmtree(path.parent)
    path.parent.write_text("a file now")
    with pytest.raises(OutputError, match=r"a\.json: cannot be written"):
        write_json(path, [2])


def test_text_keeps_the_bytes_of_names_that_are_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"0001_\xd6\xd0.jpg")
    write_text(tmp_path / "list.txt", f"{name}\n")
    assert (tmp_path / "list.txt").read_bytes() == b"0001_\xd6\xd0.jpg\n"


def test_parts_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    (tmp_path / f"{PART}abc.pt").touch()
    (tmp_path / "kept.pt").touch()
    remove_parts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.pt"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC])
def test_a_file_that_the_machine_refuses_is_one_line(
    run_reid: RunReid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    file = tmp_path / "recipe.toml"
    file.touch()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(file))

    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    code, _, err = run_reid("run", "--recipe", file, "--out", tmp_path / "run")
    assert code == 2
    assert os.strerror(number) in err
    assert err.count("\n") == 1

"""Writing: the same bytes however it is done, whole or resumable, and clear when it cannot."""

import errno
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from few_people import few_people

from reid_core import DataError, DataSet
from reid_core.data.decoding import read_labels
from reid_core.images import read_image
from reid_core.outputs import PART
from reid_synthpeople import chunks, workers, writing
from reid_synthpeople.cards import STARTED, Order, read_card
from reid_synthpeople.chunks import Chunk, write_chunk
from reid_synthpeople.layouts import side_car
from reid_synthpeople.loading import read_index
from reid_synthpeople.writing import made, write

ORDER = Order("mixed", "tiny")


@pytest.fixture(scope="module")
def written_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    with few_people():
        write(ORDER, folder, 1)
    return folder


@pytest.fixture
def whole(written_once: Path) -> Iterator[Path]:
    """Return the folder of a small data set, of which nothing may be written; orders mean it."""
    with few_people():
        yield written_once


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Chunk]:
    """Return a list of the chunks that were rendered."""
    seen: list[Chunk] = []

    def write_picture(chunk: Chunk, *rest: object) -> None:
        if not seen or seen[-1] is not chunk:
            seen.append(chunk)
        original(chunk, *rest)

    original = chunks._write_picture
    monkeypatch.setattr(chunks, "_write_picture", write_picture)
    return seen


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_two_processes_write_the_bytes_of_one(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: list[Chunk]
) -> None:
    monkeypatch.setattr(writing, "_CHUNKS_PER_WORKER", 1)
    write(ORDER, tmp_path / "two", workers=2)
    assert written == []  # not in this process
    assert contents(tmp_path / "two") == contents(whole)


def test_an_interrupted_generation_is_continued_to_the_same_files(
    whole: Path, tmp_path: Path, written: list[Chunk]
) -> None:
    folder = tmp_path / "set"

    def stop(done: int, total: int) -> None:
        if done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(ORDER, folder, 1, stop)
    assert (len(written), read_card(folder), made(ORDER, folder)) == (1, None, None)
    assert (folder / STARTED).exists()
    for half in (folder / "train" / f"{PART}0123.jpg", folder / f"{PART}4567.json"):
        half.write_bytes(b"what a killed process leaves")
    missing = written[0].files[5]
    (folder / missing).unlink()
    steps: list[tuple[int, int]] = []
    write(ORDER, folder, 1, lambda done, total: steps.append((done, total)))
    assert steps == [(done, 32) for done in (0, 8, 16, 24, 32)]
    assert len(written) == 5  # the first one again, for it lacked a file
    assert contents(folder) == contents(whole)


def test_what_is_whole_is_left_alone(whole: Path, written: list[Chunk]) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    write(ORDER, whole)
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before
    assert written == []


def test_a_lost_file_is_made_again(whole: Path, tmp_path: Path, written: list[Chunk]) -> None:
    folder = shutil.copytree(whole, tmp_path / "set")
    for lost in ("textures/00003_o2.png", "fields/parts/query/0009_c1_o2_000.png"):
        path = folder / lost
        if not path.exists():  # which cameras see a person is drawn
            path = sorted(path.parent.iterdir())[0]
        path.unlink()
        assert made(ORDER, folder) is None
    write(ORDER, folder, 1)
    assert len(written) == 2
    assert contents(folder) == contents(whole)


def test_two_at_once_write_once(whole: Path, tmp_path: Path, written: list[Chunk]) -> None:
    folder = tmp_path / "set"
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(write, ORDER, folder, 1) for _ in range(2)]
        assert [one.result() for one in both] == [None, None]
    assert len(written) == 4
    assert contents(folder) == contents(whole)


def test_the_card_says_what_there_is(tiny: Callable[[str], DataSet]) -> None:
    whole = tiny("mixed").train.samples[0].path.parents[1]
    card = json.loads((whole / "card.json").read_text())
    assert card["synthetic"] is True
    assert card["data"] == "synthpeople:tiny"
    assert card["order"] == ORDER.stamp()
    assert card["counts"] == {
        "train": {"images": 64, "people": 8, "outfits": 16, "cameras": 4},
        "query": {"images": 32, "people": 8, "outfits": 16, "cameras": 4},
        "gallery": {"images": 32, "people": 8, "outfits": 16, "cameras": 4},
    }
    assert card["world"]["seed"] == 0
    assert read_image(whole / "train" / "0001_c1_o1_000.jpg").shape == (64, 32, 3)


def test_the_card_s_hash_is_that_of_the_scenes(whole: Path, tmp_path: Path) -> None:
    # Those of one order are equal: whoever writes it again has the same card, above.
    write(Order("mixed", "tiny", seed=1), tmp_path / "seed", 1)
    one, other = (read_card(folder)["parameters"] for folder in (whole, tmp_path / "seed"))
    assert one != other


@pytest.mark.parametrize(("variant", "root"), [("market", "Market-1501-v15.09.15"), ("mixed", ".")])
def test_every_root_says_that_it_is_synthetic(
    variant: str, root: str, tiny: Callable[[str], DataSet]
) -> None:
    folder = next(p for p in tiny(variant).train.samples[0].path.parents if read_card(p))
    for readme in (folder / "README.txt", folder / root / "README.txt"):
        text = readme.read_text()
        assert text.startswith("THIS IS SYNTHETIC DATA\n")
        assert "train    images " in text


def test_junk_shows_nobody(tiny: Callable[[str], DataSet]) -> None:
    folder = next(p for p in tiny("market").query[0].path.parents if read_card(p))
    junk = [row for row in read_index(folder) if row.pid == -1]
    assert len(junk) == 6
    for row in junk:
        assert not read_labels(folder / side_car(row.file, "parts")).any()
        assert not read_labels(folder / side_car(row.file, "garments")).any()
        assert not np.load(folder / side_car(row.file, "keypoints"))[:, 2].any()
        assert read_image(folder / row.file).std() > 5


def test_an_unwritable_folder_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    folder = tmp_path / "file" / "set"
    with pytest.raises(DataError) as error:
        write(ORDER, folder, 1)
    assert str(error.value) == (
        f"{folder}: cannot be written (Not a directory); free some space or name another folder "
        "(--out DIR, or REID_CACHE=DIR for the cache); what is there is kept and the next try "
        "goes on from it"
    )


def test_a_full_disk_is_one_clear_error_and_loses_nothing(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, space = tmp_path / "set", [50]

    def write_whole(path: Path, data: bytes) -> None:
        space[0] -= 1
        if space[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(path, data)

    original = chunks.write_whole
    monkeypatch.setattr(chunks, "write_whole", write_whole)
    with pytest.raises(DataError, match=r"set: cannot be written \(No space left on device\); fre"):
        write(ORDER, folder, 1)
    assert len(list((folder / "train").iterdir())) > 7
    monkeypatch.setattr(chunks, "write_whole", original)
    write(ORDER, folder, 1)
    assert contents(folder) == contents(whole)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise SystemExit(3)", "its exit status is 3"),
        ("import os; os.kill(os.getpid(), 9)", "it was killed, for lack of memory if you have no"),
    ],
)
def test_a_worker_that_dies_is_one_clear_error(
    code: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_CHUNKS_PER_WORKER", 1)
    monkeypatch.setattr(workers, "_CODE", code)
    with pytest.raises(DataError, match=rf"has ended by itself \({reason}.*synthpeople\.workers=1"):
        write(ORDER, tmp_path / "set", 2)
    assert read_card(tmp_path / "set") is None


# Without what renders, and torch with it.
BLIND = """
import contextlib, types
sys.modules["reid_synthpeople.chunks"] = types.SimpleNamespace(
    one_thread=contextlib.nullcontext, write_chunk=lambda chunk: chunk.touch()
)
serve()
"""


def test_an_error_in_a_worker_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(workers, "_CODE", workers._CODE.replace("serve()", BLIND))
    chunk: Any = tmp_path / "file" / "set"
    with pytest.raises(OSError, match="Not a directory"):
        list(workers.write_chunks([chunk], 1))


def test_a_strange_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("irreplaceable")
    with pytest.raises(DataError, match="is not empty and holds no synthetic people"):
        write(ORDER, tmp_path, 1)
    assert contents(tmp_path) == {"thesis.tex": b"irreplaceable"}


def test_another_order_is_refused_and_left_alone(
    tiny: Callable[[str], DataSet], tmp_path: Path
) -> None:
    made = next(p for p in tiny("prcc").query[0].path.parents if read_card(p))
    folder = shutil.copytree(made, tmp_path / "set")
    before = contents(folder)
    with pytest.raises(DataError, match=r"variant=prcc .* than are asked for \(variant=mixed "):
        write(ORDER, folder, 1)
    assert contents(folder) == before


def test_a_chunk_is_rendered_in_its_own_world_alone(whole: Path, tmp_path: Path) -> None:
    """What was rendered before leaves no trace: bytes depend on the chunk only."""
    pieces = chunks.chunks_of(ORDER.plan(), tmp_path, 0.0)
    last = pieces[-1]
    for file in last.files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    write_chunk(last)
    there = contents(whole)
    assert contents(tmp_path) == {file: there[file] for file in last.files}

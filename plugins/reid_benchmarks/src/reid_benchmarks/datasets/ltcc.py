"""LTCC (Qian et al., ACCV 2020)."""

from __future__ import annotations

from pathlib import Path

from reid_benchmarks.datasets.benchmark import Copy
from reid_benchmarks.datasets.files import Grammar, match_names, some
from reid_benchmarks.datasets.lists import read_list
from reid_benchmarks.datasets.records import Record, Records
from reid_core.errors import DataError

NAME = Grammar(
    r"(?P<pid>\d{3})_(?P<outfit>\d{1,2})_c(?P<camera>1[0-2]|0?[1-9])_\d+\.(?i:png)",
    "PPP_O_cC_FFFFFF.png (outfit and camera of one or two digits)",
)
_PERSON = Grammar(r"(?P<pid>\d{1,3})", "a person's number")

_FOLDERS = {"train": "train", "query": "query", "gallery": "test"}


def read_ltcc(copy: Copy) -> Records:
    """Read LTCC; the person 0 is a person.

    The variant ``train-changing`` trains on those people alone who change their clothes. Without
    the lists of ``info`` the label ``cloth_changing`` is missing, and so is the protocol that
    restricts query and gallery to those people.
    """
    home = copy.home(_FOLDERS.values(), ("LTCC_ReID", "LTCC", "ltcc"))
    folders = {split: copy.folder(home / name) for split, name in _FOLDERS.items()}
    info = home / "info"
    listed = info.is_dir()
    if copy.variant == "train-changing" and not listed:
        raise copy.wrong(
            f"{info}: no such folder; its lists say who changes clothes, which "
            f"'{copy.variant}' needs"
        )
    records = {
        split: _records(folder, info if listed else None) for split, folder in folders.items()
    }
    train = records["train"]
    if copy.variant == "train-changing":
        train = [record for record in train if record.extra["cloth_changing"]]
    if listed:
        protocols: tuple[str, ...] = ("ltcc/cc/identity-filter",)
        notices: tuple[str, ...] = ()
    else:
        protocols, notices = (), ("info/ is missing: nothing tells who changes clothes",)
    return Records(train, records["query"], records["gallery"], protocols, notices)


def _records(folder: Path, info: Path | None) -> list[Record]:
    images = match_names(folder, NAME)
    people = {int(match["pid"]) for _, match in images}
    side = "train" if folder.name == "train" else "test"
    changing = None if info is None else _changing(info, side, people)
    records = []
    for path, match in images:
        pid, outfit = int(match["pid"]), int(match["outfit"])
        extra = {"outfit": outfit}
        if changing is not None:
            extra["cloth_changing"] = int(pid in changing)
        records.append(Record(path, pid, int(match["camera"]) - 1, outfit, extra))
    return records


def _changing(info: Path, side: str, people: set[int]) -> set[int]:
    """Return the people who change their clothes; the two lists must cover ``people`` once."""
    found = []
    for kind in ("cloth-change", "cloth-unchange"):
        matches = read_list(info / f"{kind}_id_{side}.txt", _PERSON)
        found.append({int(match["pid"]) for match in matches})
    changing, unchanging = found
    for pids, problem in (
        (changing & unchanging, "are in both lists"),
        (people - changing - unchanging, "are in neither list"),
    ):
        if pids:
            raise DataError(
                f"{info}: people {some([str(pid) for pid in sorted(pids)])} {problem}, "
                f"cloth-change_id_{side}.txt and cloth-unchange_id_{side}.txt; extract them again"
            )
    return changing

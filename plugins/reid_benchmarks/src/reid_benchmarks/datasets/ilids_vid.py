"""iLIDS-VID (Wang et al., ECCV 2014)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from reid_benchmarks.datasets.benchmark import Copy
from reid_benchmarks.datasets.files import Grammar, match_names, some
from reid_benchmarks.datasets.matrices import read_matrix
from reid_benchmarks.datasets.records import Record, Records
from reid_core.errors import DataError

PERSON = Grammar(r"person(?P<pid>\d{3})", "personPPP")
FRAME = Grammar(
    r"cam(?P<camera>[12])_person(?P<pid>\d{3})_(?P<frame>\d+)\.(?i:png)", "camC_personPPP_FFFFF.png"
)
SPLITS = tuple(str(number) for number in range(1, 11))
_LISTS = "train-test people splits"


def read_ilids_vid(copy: Copy) -> Records:
    """Read iLIDS-VID: the size says which of the ten splits.

    A row of ``ls_set`` lists all people by their place among the folders; the first half is
    tested, the second trained on. Camera 1 asks, camera 2 is the gallery.
    """
    home = copy.home((_LISTS, "i-LIDS-VID"), ("iLIDS-VID", "ilids-vid"))
    sequences = home / "i-LIDS-VID" / "sequences"
    cameras = {
        camera: {
            int(match["pid"]): path
            for path, match in match_names(copy.folder(sequences / f"cam{camera}"), PERSON)
        }
        for camera in (1, 2)
    }
    lonely = sorted(set(cameras[1]) ^ set(cameras[2]))
    if lonely:
        listed = some([f"person{pid:03d}" for pid in lonely])
        raise copy.wrong(f"{sequences}: only one camera has {listed}")
    people = sorted(cameras[1])
    path = home / _LISTS / "train_test_splits_ilidsvid.mat"
    matrix = read_matrix(path, "ls_set", columns=len(people))
    split = int(copy.size)
    if split > len(matrix) or sorted(matrix[split - 1]) != list(range(1, len(people) + 1)):
        raise DataError(
            f"{path}: row {split} does not list the {len(people)} people of {sequences}; the copy "
            "is incomplete, or the list another one's"
        )
    order = [people[place - 1] for place in matrix[split - 1].tolist()]
    test, train = sorted(order[: len(order) // 2]), sorted(order[len(order) // 2 :])

    def tracks(camera: int, chosen: Iterable[int]) -> list[Record]:
        return [_track(cameras[camera][pid], pid, camera) for pid in chosen]

    return Records([*tracks(1, train), *tracks(2, train)], tracks(1, test), tracks(2, test))


def _track(folder: Path, pid: int, camera: int) -> Record:
    images = match_names(folder, FRAME)
    strays = [p.name for p, m in images if (int(m["pid"]), int(m["camera"])) != (pid, camera)]
    if strays or not images:
        what = f"holds {some(strays)}" if strays else "has no images"
        raise DataError(f"{folder}: {what}; extract the sequence again")
    # Numbers of frames have five digits as a rule; where they have not, names do not tell the time.
    images.sort(key=lambda found: int(found[1]["frame"]))
    files = tuple(path for path, _ in images)
    return Record(files[0], pid, camera - 1, frames=files)

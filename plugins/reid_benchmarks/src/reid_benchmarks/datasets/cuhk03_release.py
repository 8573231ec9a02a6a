"""The MATLAB files of CUHK03: images and test sets of the release, indices of the new protocol."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from scipy.io import loadmat

from reid_core import write_text
from reid_core.errors import DataError, reason_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TESTSETS = "testsets.json"
"""Test people of the 20 splits: lists of pairs of a camera pair and a person, from 1."""

_LAYOUT = 1
"""Version of what is written into the cache; raise it with any change of names or pixels."""


Testsets = list[list[tuple[int, int]]]


@dataclass(frozen=True)
class NewProtocol:
    """The new protocol's indices (Zhong et al., CVPR 2017).

    Args:
        names: base names of all images.
        pids: their identities.
        views: their views, 1 or 2.
        train, query, gallery: 0-based places in these lists.
    """

    names: list[str]
    pids: list[int]
    views: list[int]
    train: list[int]
    query: list[int]
    gallery: list[int]


def extract_release(path: Path, kind: str, cache: Path) -> Path:
    """Write the images of ``cuhk-03.mat`` as PNG into the cache, unless they are there.

    Args:
        path: the release's file, MATLAB 7.3 (HDF5).
        kind: ``labeled`` or ``detected``.
        cache: the user's cache folder.

    Returns:
        A folder that holds ``images_<kind>`` and ``testsets.json``; it appears whole. A changed
        or moved ``cuhk-03.mat`` gets another one, and so does another layout of the folder.

    Raises:
        DataError: h5py is missing, or the file is not the release.
    """
    stat = path.stat()
    key = f"{_LAYOUT}|{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{kind}"
    folder = cache / "benchmarks" / f"cuhk03-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
    try:
        testsets = read_release_testsets(path)
        write_text(beside / TESTSETS, json.dumps(testsets) + "\n")
        images = beside / f"images_{kind}"
        images.mkdir()
        for name, pixels in _read_images(path, kind):
            Image.fromarray(pixels).save(images / name, compress_level=1)
        beside.chmod(0o755)  # mkdtemp's folders are for the user alone
        try:
            beside.rename(folder)
        except OSError:
            if not folder.is_dir():  # another process was faster
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def read_release_testsets(path: Path) -> Testsets:
    """Return the 20 test sets of ``cuhk-03.mat``.

    Raises:
        DataError: h5py is missing, or the file is not the release.
    """
    with _opened(path) as file:
        return _testsets(file)


def read_testsets(path: Path) -> Testsets:
    """Return the 20 test sets that were written beside extracted images.

    Raises:
        DataError: the file is corrupt.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return [[(int(pair), int(person)) for pair, person in split] for split in found]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{path}: no lists of test people ({error}); extract the images from cuhk-03.mat again"
        ) from error


def read_new_protocol(path: Path) -> NewProtocol:
    """Return the indices of ``cuhk03_new_protocol_config_<kind>.mat``.

    Raises:
        DataError: the file is corrupt, or its lists contradict each other.
    """
    try:
        content = loadmat(path)
        names = [str(cell[0]) for cell in content["filelist"].ravel()]
        pids, views = (content[key].ravel().astype(int).tolist() for key in ("labels", "camId"))
        train, query, gallery = (
            (content[f"{key}_idx"].ravel().astype(int) - 1).tolist()
            for key in ("train", "query", "gallery")
        )
    except (OSError, ValueError, TypeError, KeyError, IndexError, NotImplementedError) as error:
        reason = reason_of(error)
        raise DataError(
            f"{path}: not the configuration of CUHK03's new protocol ({reason}); get it again"
        ) from error
    places = [*train, *query, *gallery]
    agree = len(names) == len(pids) == len(views)
    if not agree or sorted(places) != list(range(len(names))):
        raise DataError(
            f"{path}: {len(names)} names, {len(pids)} labels and {len(places)} indices do not "
            "divide the images into train, query and gallery; get the file again"
        )
    return NewProtocol(names, pids, views, train, query, gallery)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        h5py = import_module("h5py")
    except ImportError as error:
        raise DataError(
            f"{path}: reading it needs h5py: pip install 'reid-benchmarks[mat]'; or give a folder "
            "with extracted images"
        ) from error
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, KeyError, ValueError, TypeError) as error:
        reason = reason_of(error)
        raise DataError(
            f"{path}: not the release's cuhk-03.mat, or a damaged one ({reason}); extract it again"
        ) from error


def _testsets(file: Any) -> Testsets:
    # MATLAB stores columns first: what it calls 100 x 2 is read as 2 x 100.
    return [
        [(int(pair), int(person)) for pair, person in file[reference][()].T]
        for reference in file["testsets"][()].ravel()
    ]


def _read_images(path: Path, kind: str) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield every image and its name ``PAIR_PERSON_VIEW_COLUMN.png``; empty cells are skipped."""
    with _opened(path) as file:
        for pair, reference in enumerate(file[kind][()].ravel(), 1):
            for person, cells in enumerate(file[reference][()].T, 1):
                for column, cell in enumerate(cells, 1):
                    pixels = _pixels(file[cell])
                    if pixels is not None:
                        view = 1 if column <= 5 else 2
                        yield f"{pair}_{person:03}_{view}_{column:02}.png", pixels


def _pixels(cell: Any) -> NDArray[np.uint8] | None:
    """Return an image ``H W 3``; None for an empty cell, which MATLAB stores as its shape."""
    if cell.ndim != 3 or "MATLAB_empty" in cell.attrs:
        return None
    pixels: NDArray[np.uint8] = cell[()].transpose(2, 1, 0)
    return pixels

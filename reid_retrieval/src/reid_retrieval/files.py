"""Read features and labels that other code has saved.

One file, or one of each side: NumPy archives (``.npz``), arrays with a table of labels (``.npy``
and ``.csv``), Parquet, MATLAB files, and folders of one ``.npy`` per image whose names begin as
those of Market-1501 do. Nothing that is read is executed: pickled objects are refused.
"""

from __future__ import annotations

import csv
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from reid_retrieval.errors import DataError
from reid_retrieval.features import FeatureSet
from reid_retrieval.labels import Labels

SIDES = ("query", "gallery")

_FEATURES = ("features", "feature", "feats", "feat", "f", "embeddings", "embedding")
"""Names of features; behind ``query_`` and ``gallery_`` (``q_``, ``g_``) those of one side."""

_SHORT = {"qf": "query_features", "gf": "gallery_features"}
"""Names without an underscore, as re-identification code likes them."""

_LABELS = {
    "pid": "pid",
    "pids": "pid",
    "id": "pid",
    "ids": "pid",
    "label": "pid",
    "labels": "pid",
    "targets": "pid",
    "camid": "camid",
    "camids": "camid",
    "cam": "camid",
    "cams": "camid",
    "clothes": "clothes",
    "clothes_id": "clothes",
    "clothes_ids": "clothes",
    "split": "split",
    "splits": "split",
    "side": "split",
}
"""What common names of labels are called here; all other names stay as they are."""

_NUMBERS = ("pid", "camid", "clothes")
"""Labels that are numbers."""

_NAMED_IMAGE = re.compile(r"(-?\d+)_c(\d+)")
"""Beginning of an image's name that carries its labels: identity, camera from 1."""


@dataclass(frozen=True)
class _Table:
    """Features ``N D`` and one column per label, as a file has them."""

    features: Any
    columns: Mapping[str, Any]

    def take(self, rows: NDArray[np.int64]) -> _Table:
        return _Table(self.features[rows], {k: v[rows] for k, v in self.columns.items()})


def read_features(
    path: str | Path,
    gallery: str | Path | None = None,
    *,
    labels: str | Path | None = None,
    gallery_labels: str | Path | None = None,
) -> tuple[FeatureSet, FeatureSet]:
    """Return query and gallery as files have them.

    Args:
        path: a file with both sides; with ``gallery``, the query's. Sides are told apart by names
            (``query_features``, ``gallery_pids``; ``qf``, ``gf``; ``query_f``, ``gallery_label``)
            or by a label ``split`` of ``query`` and ``gallery``.
        gallery: the gallery's file.
        labels: the table (``.csv``) of an array (``.npy``), one line per row; without it the one
            of the same name beside it.
        gallery_labels: the same of the gallery's array.

    Returns:
        Query and gallery. Labels are called ``pid``, ``camid``, ``clothes``, ``split``; others as
        they were. Every image has a ``split``: its side, where the file says nothing else.

    Raises:
        DataError: a file is missing or unreadable, or has no features, no identities, no sides;
            names the file and what it has.
    """
    if gallery is None and gallery_labels is not None:
        raise DataError(f"{gallery_labels}: there is no gallery's file that it could belong to")
    if gallery is not None:
        parts = []
        files = ((Path(path), labels), (Path(gallery), gallery_labels))
        for side, (file, table) in zip(SIDES, files, strict=True):
            found = _read(file, table)
            whole = found.get("") or found.get(side)
            if whole is None or len(found) > 1:
                raise DataError(f"{file}: holds both sides: name it alone")
            parts.append(_set(whole, side, file))
        return parts[0], parts[1]
    file = Path(path)
    found = _read(file, labels)
    if "" in found:
        found = _sides_of(found[""], file)
    missing = [side for side in SIDES if side not in found]
    if missing:
        raise DataError(
            f"{file}: there are no {missing[0]} features, only {', '.join(found)}; name the "
            "gallery's file, too (--gallery), or say which rows are whose by a label 'split'"
        )
    return _set(found["query"], "query", file), _set(found["gallery"], "gallery", file)


def _sides_of(table: _Table, file: Path) -> dict[str, _Table]:
    """Divide rows by their label ``split``; others than query and gallery are left out."""
    if "split" not in table.columns:
        raise DataError(
            f"{file}: nothing says which rows are queries: name the gallery's file, too "
            "(--gallery), or add a label 'split' of 'query' and 'gallery'"
        )
    splits = np.array([str(value) for value in table.columns["split"]])
    # Market-1501's hand-drawn multi-query boxes are queries, too, which protocols tell by name.
    asked = np.isin(splits, ("query", "multi-query"))
    rows = {"query": np.flatnonzero(asked), "gallery": np.flatnonzero(splits == "gallery")}
    return {side: table.take(of_side) for side, of_side in rows.items() if of_side.size}


def _set(table: _Table, side: str, file: Path) -> FeatureSet:
    columns = dict(table.columns)
    if "pid" not in columns:
        known = ", ".join(sorted(columns)) or "none"
        raise DataError(f"{file}: the {side} rows have no label 'pid'; labels are {known}")
    columns.setdefault("split", np.full(len(columns["pid"]), side))
    try:
        return FeatureSet(table.features, Labels.of(columns))
    except DataError as error:
        raise DataError(f"{file}: {side}: {error}") from error


def _read(file: Path, labels: str | Path | None) -> dict[str, _Table]:
    """Return the tables of a file by side, or one of all under an empty name."""
    if not file.exists():
        raise DataError(f"{file}: there is no such file")
    kind = "folder" if file.is_dir() else file.suffix.lower()
    if kind not in _READERS:
        raise DataError(f"{file}: cannot read '{kind}'; known are {', '.join(_READERS)}")
    if labels is not None and kind != ".npy":
        raise DataError(f"{file}: a table of labels belongs to an array (.npy)")
    if kind == ".npy":
        return {"": _of_array(file, labels)}
    try:
        found: dict[str, _Table] = _READERS[kind](file)
        return found
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        RuntimeError,  # of an archive with a password; NotImplementedError is one, too
        BadZipFile,
        zlib.error,
    ) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{file}: cannot be read: {error}") from error


def _of_archive(file: Path) -> dict[str, _Table]:
    with file.open("rb") as stream, _numpy_only():
        archive = np.load(stream, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError("it holds one array: end its name in .npy")
        with archive:
            arrays = {name: archive[name] for name in archive.files}
    return _of_names(file, arrays)


@contextmanager
def _numpy_only() -> Iterator[None]:
    """Say what is wrong with other files than NumPy's without NumPy's advice to unpickle them."""
    try:
        yield
    except ValueError as error:
        if "pickle" not in str(error):
            raise
        raise ValueError(
            "it is no file of NumPy's, or holds Python objects, which are not read; save arrays "
            "of numbers or text"
        ) from None


def _of_matlab(file: Path) -> dict[str, _Table]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        found = {name: value for name, value in loadmat(file).items() if name[:2] != "__"}
    except MatReadError as error:
        raise ValueError(str(error)) from error
    # Everything has two dimensions in MATLAB; labels are a row or a column.
    arrays = {
        name: value if _is_features(name) or 1 not in value.shape else value.reshape(-1)
        for name, value in found.items()
    }
    return _of_names(file, arrays)


def _is_features(name: str) -> bool:
    return _side_and_name(name)[1] == "features"


def _side_and_name(name: str) -> tuple[str, str]:
    """Return the side that an array's name speaks of, and what it is called here."""
    lower = _SHORT.get(name.lower(), name.lower())
    side = ""
    for candidate in SIDES:
        for prefix in (f"{candidate}_", f"{candidate[0]}_"):
            if lower.startswith(prefix):
                side, lower = candidate, lower.removeprefix(prefix)
                break
        if lower == candidate:
            side, lower = candidate, "features"
    return side, "features" if lower in _FEATURES else _LABELS.get(lower, lower)


def _of_names(file: Path, arrays: Mapping[str, Any]) -> dict[str, _Table]:
    """Return tables from arrays by their names."""
    by_side: dict[str, dict[str, Any]] = {}
    for name, array in arrays.items():
        side, label = _side_and_name(name)
        columns = by_side.setdefault(side, {})
        if label in columns:
            raise DataError(f"{file}: several arrays could be the {side} {label}; one is '{name}'")
        columns[label] = array
    found = {
        side: _Table(columns.pop("features"), columns)
        for side, columns in by_side.items()
        if "features" in columns
    }
    if not found:
        raise DataError(
            f"{file}: there are no features among {', '.join(arrays) or 'nothing'}; call them "
            "'features', or 'query_features' and 'gallery_features'"
        )
    if len(found) > 1:
        found.pop("", None)
    return {side: _checked(table, file) for side, table in found.items()}


def _checked(table: _Table, file: Path) -> _Table:
    """Return a table whose columns are as long as its features; leave out what is no column."""
    count = len(table.features)
    columns = {key: np.asarray(values) for key, values in table.columns.items()}
    columns = {key: values for key, values in columns.items() if values.ndim == 1}
    for key, values in columns.items():
        if len(values) != count:
            raise DataError(f"{file}: {count} rows of features, but {len(values)} of '{key}'")
    return _Table(table.features, columns)


def _of_array(file: Path, labels: str | Path | None) -> _Table:
    table = Path(labels) if labels is not None else file.with_suffix(".csv")
    try:
        with _numpy_only():
            features = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from error
    if not table.exists():
        raise DataError(f"{file}: its labels are missing: {table} (a table with a column 'pid')")
    try:
        with table.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.reader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read: {error}") from error
    names, rows = (rows[0], rows[1:]) if rows else ([], [])
    odd = next((number for number, row in enumerate(rows, 2) if len(row) != len(names)), None)
    if odd is not None:
        raise DataError(f"{table}, line {odd}: not the {len(names)} values of the first line")
    columns = {}
    for place, name in enumerate(names):
        label = _LABELS.get(name.strip().lower(), name.strip())
        texts = [row[place].strip() for row in rows]
        # Others are compared as text, over files of which one might have digits alone.
        columns[label] = _numbers(texts) if label in _NUMBERS else np.array(texts, np.str_)
    return _checked(_Table(features, columns), table)


def _numbers(texts: list[str]) -> NDArray[Any]:
    """Return integers where all texts are, otherwise the texts."""
    if all(re.fullmatch(r"-?\d+", text) for text in texts):
        return np.array([int(text) for text in texts], np.int64)
    return np.array(texts, np.str_)


def _of_parquet(file: Path) -> dict[str, _Table]:
    try:
        from pyarrow import parquet, types
    except ImportError as error:
        raise DataError(
            f"{file}: Parquet needs pyarrow: pip install 'reid-retrieval[parquet]'"
        ) from error
    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    table = parquet.read_table(file)
    arrays: dict[str, Any] = {}
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        if any(is_list(column.type) for is_list in lists):
            arrays[name] = _matrix(file, name, column)
        else:
            arrays[name] = column.to_numpy(zero_copy_only=False)
    return _of_names(file, arrays)


def _matrix(file: Path, name: str, column: Any) -> NDArray[Any]:
    """Return the lists of a column as the rows of an array."""
    from pyarrow import compute

    lengths = compute.list_value_length(column).to_pylist()
    if not lengths:
        raise DataError(f"{file}: there are no rows")
    odd = next((n for n, one in enumerate(lengths) if one is None or one != lengths[0]), None)
    if odd is not None:
        beside = f", row 0 has {lengths[0]}" if odd else ""
        raise DataError(
            f"{file}: the lists of '{name}' differ in length: row {odd} has "
            f"{lengths[odd] or 'no'} values{beside}"
        )
    values: NDArray[Any] = column.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(lengths), lengths[0])


def _of_folder(folder: Path) -> dict[str, _Table]:
    files = sorted(folder.glob("*.npy"))
    if not files:
        raise DataError(f"{folder}: there are no .npy files")
    rows: list[NDArray[Any]] = []
    pids, camids = [], []
    for file in files:
        named = _NAMED_IMAGE.match(file.name)
        if named is None:
            raise DataError(
                f"{file}: the name does not begin with identity and camera, as 0002_c1s1_000451"
            )
        with _numpy_only():
            row = np.load(file, allow_pickle=False).reshape(-1)
        if rows and row.size != rows[0].size:
            raise DataError(f"{file}: {row.size} numbers, the files before have {rows[0].size}")
        rows.append(row)
        pids.append(int(named[1]))
        camids.append(int(named[2]) - 1)
    columns = {"pid": np.array(pids), "camid": np.array(camids)}
    return {"": _Table(np.stack(rows), columns)}


_READERS: Mapping[str, Any] = {
    ".npz": _of_archive,
    ".npy": None,
    ".parquet": _of_parquet,
    ".mat": _of_matlab,
    "folder": _of_folder,
}

"""The ``index`` data set: a table of the user's own images, CSV or Parquet, one row per picture.

    ROOT/index.csv or ROOT/index.parquet     path, pid; camid, clothes, split, box and fields

Paths lead to files below ROOT. A box is cut out once and kept in the cache.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from reid_benchmarks.datasets.records import number_outfits
from reid_core import SHARED_FIELDS, DataProvider, DataSet, FieldKind, Sample, Source
from reid_core.contract.samples import DataRequest, renumbered
from reid_core.data.encoding import image_bytes, write_whole
from reid_core.data.label_store import content_hash
from reid_core.errors import DataError, did_you_mean, reason_of
from reid_core.images import read_image

SPLITS = ("train", "query", "gallery")
LABELS = ("pid", "camid", "clothes")
BOX = ("left", "top", "width", "height")
COLUMNS = ("path", *LABELS, "split", *BOX, *SHARED_FIELDS)
LAYOUT = (
    "ROOT/index.csv or ROOT/index.parquet with the columns path and pid; camid, clothes (tells a "
    "person's outfits apart), split (train, query, gallery), left, top, width, height of a box in "
    "pixels, and fields where known"
)


def provider() -> DataProvider:
    """Return the data provider ``index``."""
    return DataProvider(
        "index",
        load_index,
        summary="your own images by a table of path, pid, camid, clothes, split, box and fields",
        needs_root=True,
        layout=LAYOUT,
    )


@dataclass(frozen=True)
class _Row:
    where: str
    path: Path
    values: Mapping[str, Any]

    def integer(self, name: str, default: int | None = None) -> int:
        """Return a whole number; an empty cell is the default."""
        value = self.values.get(name)
        if value in (None, "") and default is not None:
            return default
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        whole |= isinstance(value, float) and value.is_integer()
        if not (whole or re.fullmatch(r"-?[0-9]{1,20}", str(value))):
            raise DataError(f"{self.where}: {name} {value!r} is no whole number")
        return int(value)  # type: ignore[arg-type]


def load_index(request: DataRequest) -> DataSet:
    """Load a data set by its table.

    Training identities are numbered ``0 .. N-1`` in the order of their numbers, test identities
    keep theirs; ``-1`` has no identity. Outfits are numbered over all people as those of the
    benchmarks are (`reid_benchmarks.datasets.records.assemble`), so that two people may share a
    number in the table; one below 0, or of nobody, is unknown. Without a split a row is of
    ``train``, without a camera of camera 0.

    Args:
        request: ``request.root`` holds the table.

    Raises:
        DataError: there is no table, or a row cannot be used: its line and column are named.
    """
    assert request.root is not None
    table = _table_of(request.root)
    samples: dict[str, list[Sample]] = {split: [] for split in SPLITS}
    fields: dict[str, set[str]] = {split: set(SHARED_FIELDS) for split in SPLITS}
    for row in _rows(table, request.root):
        split = str(row.values.get("split") or "train")
        if split not in SPLITS:
            raise DataError(f"{row.where}: split '{split}' is none of {', '.join(SPLITS)}")
        pid, camid = row.integer("pid"), row.integer("camid", 0)
        carried = {name: value for name in SHARED_FIELDS if (value := row.values.get(name))}
        found = {name: _field(row, request.root, name, value) for name, value in carried.items()}
        samples[split].append(
            Sample(
                _cut(row, request.cache) if _has_box(row) else row.path,
                pid,
                camid,
                row.integer("clothes", -1),
                split,
                found,
                {"person": pid},
            )
        )
        fields[split] &= set(found)
    in_test = (*samples["query"], *samples["gallery"])
    worn, worn_in_test = number_outfits(map(_outfit, samples["train"]), map(_outfit, in_test))
    for split in SPLITS:
        outfits = worn if split == "train" else worn_in_test
        samples[split] = [replace(s, clothes=outfits.get(_outfit(s), -1)) for s in samples[split]]
    train = Source(
        "main",
        renumbered(samples["train"]),
        {n: SHARED_FIELDS[n] for n in sorted(fields["train"])} if samples["train"] else {},
    )
    tested = [split for split in SPLITS[1:] if samples[split]]
    shared = set.intersection(*(fields[split] for split in tested)) if tested else set()
    return DataSet(
        request.text,
        train,
        tuple(samples["query"]),
        tuple(samples["gallery"]),
        query_fields={name: SHARED_FIELDS[name] for name in sorted(shared)},
    )


def _table_of(root: Path) -> Path:
    tables = [path for name in ("csv", "parquet") if (path := root / f"index.{name}").is_file()]
    if len(tables) != 1:
        found = "both are there" if tables else "neither is there"
        raise DataError(f"{root}: expected index.csv or index.parquet, and {found}; {LAYOUT}")
    return tables[0]


def _rows(table: Path, root: Path) -> Iterator[_Row]:
    read = _csv_rows if table.suffix == ".csv" else _parquet_rows
    known: set[str] = set()
    try:
        for number, values in read(table):
            where = f"{table}: line {number}"
            for name in sorted(map(str, values.keys() - known)):
                if name not in COLUMNS:
                    near = did_you_mean(name, COLUMNS)
                    raise DataError(f"{where}: there is no column '{name}'{near}; {LAYOUT}")
                known.add(name)
            yield _Row(where, _below(root, values.get("path"), where), values)
    except (OSError, csv.Error, ValueError) as error:
        raise DataError(f"{table}: cannot be read ({reason_of(error)})") from error


def _csv_rows(table: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    # Names of files may be any bytes.
    with table.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file, restkey="a column without a name", strict=True)
        for values in reader:
            yield reader.line_num, {name: value for name, value in values.items() if value != ""}


def _parquet_rows(table: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise DataError(
            f"{table}: Parquet needs pyarrow: pip install 'reid-benchmarks[parquet]'"
        ) from None
    number = 0
    with parquet.ParquetFile(table) as file:
        for batch in file.iter_batches():
            for values in batch.to_pylist():
                number += 1
                yield number, {name: value for name, value in values.items() if value is not None}


def _below(root: Path, text: object, where: str) -> Path:
    """Return a path of the table, which must not lead out of the folder that holds it."""
    if not isinstance(text, str) or not text or "\0" in text:
        raise DataError(f"{where}: path {text!r} is no name of a file")
    posix, windows = PurePosixPath(text), PureWindowsPath(text)
    if posix.is_absolute() or windows.anchor or ".." in {*posix.parts, *windows.parts}:
        raise DataError(f"{where}: path {text!r} leads out of {root}; write it below that folder")
    return root / text


def _outfit(sample: Sample) -> tuple[int, int | None]:
    """Return whose outfit a row shows, and its number in the table; None where it is unknown."""
    return sample.pid, sample.clothes if min(sample.pid, sample.clothes) >= 0 else None


def _has_box(row: _Row) -> bool:
    """Say whether a row has a box.

    Raises:
        DataError: it has a part of one.
    """
    missing = [name for name in BOX if row.values.get(name) in (None, "")]
    if 0 < len(missing) < len(BOX):
        raise DataError(f"{row.where}: a box needs {', '.join(BOX)}; {missing[0]} is empty")
    return not missing


def _field(row: _Row, root: Path, name: str, value: object) -> Any:
    if SHARED_FIELDS[name].kind is FieldKind.SCALAR and not isinstance(value, str):
        return value
    if SHARED_FIELDS[name].kind is FieldKind.SCALAR and str(value).lstrip("-").isdecimal():
        return int(str(value))
    return _below(root, value, f"{row.where}: {name}")


def _cut(row: _Row, cache: Path) -> Path:
    """Cut a row's box out of its picture, once, and return the file."""
    left, top, width, height = (row.integer(name) for name in BOX)
    key = f"{content_hash(row.path)}|{left}|{top}|{width}|{height}"
    name = hashlib.sha256(key.encode()).hexdigest()
    path = cache / "benchmarks" / "index-boxes" / name[:2] / f"{name}.png"
    if not path.is_file():
        pixels = read_image(row.path)
        rows, columns = pixels.shape[:2]
        if width < 1 or height < 1 or not (-width < left < columns and -height < top < rows):
            raise DataError(
                f"{row.where}: the box {left}, {top}, {width} x {height} shows nothing of "
                f"{row.path}, which has {columns} x {rows} pixels"
            )
        part = pixels[max(0, top) : top + height, max(0, left) : left + width]
        write_whole(path, image_bytes(part.transpose(2, 0, 1)))
    return path

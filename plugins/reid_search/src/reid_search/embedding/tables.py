"""Tables of pictures and crops: CSV or JSON lines of a path, perhaps a box, and further columns."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any

from reid_core import DataError
from reid_core.errors import did_you_mean
from reid_core.images import crop_bounds, upright_size
from reid_search.embedding.videos import is_video

_WHOLE = re.compile(r"[+-]?(0|[1-9][0-9]*)")
_NUMBER = re.compile(rf"{_WHOLE.pattern}(\.[0-9]+)?([eE][+-]?[0-9]+)?")
"""Cells of a CSV that are numbers: nobody writes a label or a serial number so, as 007 or 1_0."""

_CORNERS = (("left", "top", "right", "bottom"), ("x1", "y1", "x2", "y2"))
"""Columns that make up a box, where there is none called so."""


def is_table(path: Path) -> bool:
    """Return whether a file is a table by its name."""
    return path.suffix.lower() in (".csv", ".jsonl", ".ndjson")


class Table:
    """A table of pictures: one item per line, in its order.

    Columns: ``path``, relative to the table's folder; ``box`` (left, top, right, bottom in pixels)
    or one column each (``left top right bottom`` or ``x1 y1 x2 y2``); ``frame`` of a video, from 0.
    All others are kept as they are. A column of a CSV whose values are all whole numbers, or all
    numbers, is one of numbers (``-3``, ``0.5``, ``1e-4``, but neither ``007`` nor ``nan``); empty
    cells are left out.

    Args:
        path: ``.csv`` or ``.jsonl``.

    Raises:
        DataError: it cannot be read, or a line has no path or no proper box; names the line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder = Path(os.path.abspath(path)).parent

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for _, item in self.numbered():
            yield item

    def numbered(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the items with the lines that they stand in, counted from 1."""
        lines = self._json() if self.path.suffix.lower() != ".csv" else self._csv()
        for line, row in lines:
            try:
                yield line, self._item(row)
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"{self.path}, line {line}: {error.args[0]}") from None

    def check_boxes(self) -> None:
        """Look at the sizes of pictures whose parts are wanted, without decoding them.

        A picture that cannot be read is left to whoever reads it.

        Raises:
            DataError: a box shows nothing of its picture; names the line.
        """
        known: tuple[str, tuple[int, int] | None] = ("", None)
        for line, item in self.numbered():
            if "box" not in item or is_video(Path(item["path"])):
                continue
            if item["path"] != known[0]:
                known = (item["path"], _size_of(item["path"]))
            if known[1] is not None:
                try:
                    crop_bounds(known[1], item["box"])
                except DataError as error:
                    raise DataError(f"{self.path}, line {line}: {error}") from None

    def _item(self, row: dict[str, Any]) -> dict[str, Any]:
        if "path" in row and not isinstance(row["path"], str):
            raise TypeError(f"{row['path']!r} is no path")
        if not row.get("path"):
            hint = did_you_mean("path", row)
            raise KeyError(f"there is no 'path'{hint} (columns: {', '.join(map(str, row))})")
        item: dict[str, Any] = {"path": os.path.normpath(self._folder / row.pop("path"))}
        frame = row.pop("frame", None)
        if frame is not None:
            if not isinstance(frame, int) or frame < 0:
                raise ValueError(f"frame {frame!r} is no number from 0")
            item["frame"] = frame
        if is_video(Path(item["path"])) and frame is None:
            raise ValueError("a video needs the column 'frame'")
        box = _box(row)
        if box is not None:
            item["box"] = box
        return item | row

    def _json(self) -> Iterator[tuple[int, dict[str, Any]]]:
        with self._opened() as file:
            try:
                for number, line in enumerate(file, 1):
                    if line.strip():
                        yield number, self._object(number, line)
            except UnicodeDecodeError:
                raise self._no_text() from None

    def _object(self, number: int, line: str) -> dict[str, Any]:
        try:
            row = json.loads(line, parse_constant=_refuse)
        except ValueError as error:
            raise DataError(f"{self.path}, line {number}: no JSON ({error})") from None
        if not isinstance(row, dict):
            raise DataError(f"{self.path}, line {number}: no JSON object")
        return row

    def _csv(self) -> Iterator[tuple[int, dict[str, Any]]]:
        kinds = self._kinds
        for number, row in self._cells():
            yield number, {name: kinds[name](cell) for name, cell in row.items()}

    def _cells(self) -> Iterator[tuple[int, dict[str, str]]]:
        with self._opened() as file:
            reader = csv.DictReader(file, strict=True)
            try:
                for row in reader:
                    if None in row or None in row.values():
                        raise DataError(
                            f"{self.path}, line {reader.line_num}: has not as many cells as the "
                            f"first line ({', '.join(reader.fieldnames or ())})"
                        )
                    yield reader.line_num, {k.strip(): v for k, v in row.items() if v != ""}
            except UnicodeDecodeError:
                raise self._no_text() from None
            except csv.Error as error:
                raise DataError(f"{self.path}, line {reader.line_num}: {error}") from None

    @cached_property
    def _kinds(self) -> Mapping[str, type]:
        """The type of every column, which all of its cells have."""
        kinds: dict[str, type] = {}
        for _, row in self._cells():
            for name, cell in row.items():
                kind = kinds.setdefault(name, int)
                bare = cell.strip()
                if kind is int and not _WHOLE.fullmatch(bare):
                    kind = float
                if kind is float and not (_NUMBER.fullmatch(bare) and isfinite(float(bare))):
                    kind = str
                kinds[name] = kind
        return {**kinds, "path": str}

    def _no_text(self) -> DataError:
        return DataError(f"{self.path}: is not encoded as UTF-8; save it so")

    def _opened(self) -> Any:
        try:
            return self.path.open(encoding="utf-8-sig", newline="")
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror})") from error


def _refuse(name: str) -> None:
    """Python reads NaN and Infinity, which are no JSON."""
    raise ValueError(f"{name} is no number")


def _box(row: dict[str, Any]) -> list[float] | None:
    """Take a box out of a row, from one column or from four."""
    if "box" in row:
        value = row.pop("box")
        if isinstance(value, str):
            value = re.split(r"[\s,;]+", value.strip("[]() \t"))
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != 4:
            raise ValueError(f"box {value!r} is not left, top, right, bottom")
        return [_coordinate(part) for part in value]
    for names in _CORNERS:
        there = [name for name in names if name in row]
        if len(there) == 4:
            return [_coordinate(row.pop(name)) for name in names]
        if there:
            raise ValueError(f"of the box {', '.join(names)} only {', '.join(there)} is there")
    return None


def _coordinate(value: Any) -> float:
    if isinstance(value, str | int | float) and not isinstance(value, bool) and _number(value):
        found = float(value)
        if isfinite(found):
            return found
    raise ValueError(f"{value!r} is no coordinate of a box")


def _number(text: Any) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _size_of(path: str) -> tuple[int, int] | None:
    """Return height and width of a picture, upright; None where it cannot be read."""
    try:
        return upright_size(Path(path))
    except DataError:
        return None

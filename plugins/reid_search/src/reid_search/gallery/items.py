"""What the rows of a gallery show: a table of JSON lines or of Parquet shards, appended to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reid_core import ConfigError, DataError
from reid_core.errors import reason_of
from reid_search.embedding.inputs import Item, printable

PARQUET = "parquet"
JSON_LINES = "jsonl"
FORMATS = (JSON_LINES, PARQUET)

_LINES_AT_ONCE = 65536


class ItemTable(Protocol):
    """Where the items of a gallery lie."""

    name: str
    """Of the file or folder within the gallery."""

    def append(self, items: Sequence[Item], count: int, mark: int) -> int:
        """Write items behind the first ``count``; return the mark of what then is valid.

        Args:
            items: what to write.
            count: items that are valid.
            mark: what the last call returned; 0 of an empty table.
        """

    def unfit(self, item: Item) -> str | None:
        """Return why an item cannot be written, ready to be printed; None where it can."""

    def keep(self, rows: NDArray[np.bool_], mark: int, folder: Path) -> int:
        """Write some items, as they are, to a table of this name in another folder.

        Args:
            rows: of every valid item, whether it is kept.
            mark: what the last call of `append` returned.
            folder: of the new table.

        Returns:
            The new table's mark.
        """

    def read(self, count: int, mark: int) -> Iterator[dict[str, Any]]:
        """Yield the first ``count`` items."""

    def take(self, rows: Iterable[int], count: int, mark: int) -> dict[int, dict[str, Any]]:
        """Return some items by row."""


def item_table(folder: Path, kind: str) -> ItemTable:
    """Return the table of a gallery's folder.

    Raises:
        ConfigError: Parquet without pyarrow.
    """
    if kind == PARQUET:
        require_pyarrow()
        return ParquetShards(folder / "items.parquet")
    return JsonLines(folder / "items.jsonl")


def json_line(item: Item) -> bytes:
    """Return an item as a line of JSON in UTF-8; of other bytes in a file's name it has escapes.

    Raises:
        ValueError: a number is not finite.
    """
    line = json.dumps(dict(item), ensure_ascii=False, allow_nan=False)
    return (printable(line) + "\n").encode()


def require_pyarrow() -> None:
    """Refuse Parquet where pyarrow is missing.

    Raises:
        ConfigError: with the line that installs it.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise ConfigError(
            "Parquet needs pyarrow: pip install 'reid-search[parquet]', or keep the items as "
            "JSON lines"
        ) from None


class JsonLines:
    """One JSON object per line; the mark is the length of the valid part in bytes."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.name
        self._ends: NDArray[np.int64] = np.empty(0, np.int64)

    def append(self, items: Sequence[Item], count: int, mark: int) -> int:
        """See `ItemTable.append`."""
        try:
            data = b"".join(json_line(item) for item in items)
        except ValueError as error:
            raise DataError(f"an item is no JSON ({error}); leave the value out") from None
        with self.path.open("ab") as file:
            file.truncate(mark)
            file.seek(0, os.SEEK_END)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return mark + len(data)

    def unfit(self, item: Item) -> str | None:
        """See `ItemTable.unfit`."""
        return None

    def keep(self, rows: NDArray[np.bool_], mark: int, folder: Path) -> int:
        """See `ItemTable.keep`."""
        with (folder / self.name).open("wb") as file:
            lines = zip(self._lines(mark), rows, strict=True)
            file.writelines(line for line, wanted in lines if wanted)
            file.flush()
            os.fsync(file.fileno())
            return file.tell()

    def read(self, count: int, mark: int) -> Iterator[dict[str, Any]]:
        """See `ItemTable.read`."""
        if not count:
            return
        for line in self._lines(mark):
            yield self._item(line)

    def take(self, rows: Iterable[int], count: int, mark: int) -> dict[int, dict[str, Any]]:
        """See `ItemTable.take`; where lines end is looked up once."""
        wanted = sorted(set(rows))
        if not wanted:
            return {}
        if len(self._ends) != count:
            ends = np.fromiter((len(line) for line in self._lines(mark)), np.int64)
            self._ends = np.cumsum(ends)
        found = {}
        with self.path.open("rb") as file:
            for row in wanted:
                file.seek(int(self._ends[row - 1]) if row else 0)
                found[row] = self._item(file.readline())
        return found

    def _lines(self, mark: int) -> Iterator[bytes]:
        read = 0
        try:
            with self.path.open("rb") as file:
                while read < mark and (line := file.readline()):
                    read += len(line)
                    yield line
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror})") from error
        if read != mark:
            raise DataError(f"{self.path}: is shorter than the gallery says; embed it anew")

    def _item(self, line: bytes) -> dict[str, Any]:
        try:
            item: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise DataError(f"{self.path}: a line is no JSON ({error}); embed it anew") from None
        return item


class ParquetShards:
    """A folder of Parquet files named by their first row; the mark counts valid rows."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.name

    def append(self, items: Sequence[Item], count: int, mark: int) -> int:
        """See `ItemTable.append`."""
        import pyarrow
        from pyarrow import parquet

        self.path.mkdir(exist_ok=True)
        for start, shard in self._shards():
            if start >= count:
                shard.unlink()
        fixed = {"path": pyarrow.string(), "frame": pyarrow.int64()}
        fixed["box"] = pyarrow.list_(pyarrow.float64())
        names = dict.fromkeys([*fixed, *(name for item in items for name in item)])
        columns = {}
        for name in names:
            values = [item.get(name) for item in items]
            try:
                columns[name] = pyarrow.array(values, fixed.get(name))
            except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
                raise DataError(
                    f"the column '{name}' has values of several kinds and cannot be Parquet "
                    f"({reason_of(error)}); keep the items as JSON lines"
                ) from None
            except (UnicodeEncodeError, OverflowError) as error:
                raise DataError(
                    f"the column '{name}' has a value that cannot be Parquet ({error}); keep the "
                    "items as JSON lines"
                ) from None
        part = self.path / f".{count:09d}.part"
        try:
            parquet.write_table(pyarrow.table(columns), part)
        except pyarrow.ArrowNotImplementedError as error:
            part.unlink(missing_ok=True)
            raise DataError(
                f"an item cannot be Parquet ({reason_of(error)}); keep the items as JSON lines"
            ) from None
        part.replace(self.path / f"{count:09d}.parquet")
        return count + len(items)

    def unfit(self, item: Item) -> str | None:
        """See `ItemTable.unfit`."""
        path = str(item.get("path", ""))
        if printable(path) == path:
            return None
        return (
            f"{printable(path)}: its name is not UTF-8, as Parquet's texts are; rename it, or keep "
            "the items as JSON lines"
        )

    def keep(self, rows: NDArray[np.bool_], mark: int, folder: Path) -> int:
        """See `ItemTable.keep`; shard by shard, for one's columns may be of other kinds."""
        from pyarrow import parquet

        new = folder / self.name
        new.mkdir()
        count = 0
        for start, shard in self._shards():
            if start >= len(rows):
                break
            table = self._read(shard)
            table = table.filter(rows[start : start + table.num_rows])
            if table.num_rows:
                parquet.write_table(table, new / f"{count:09d}.parquet")
            count += table.num_rows
        return count

    def read(self, count: int, mark: int) -> Iterator[dict[str, Any]]:
        """See `ItemTable.read`."""
        for start, shard in self._shards():
            if start < count:
                yield from self._items(shard)

    def take(self, rows: Iterable[int], count: int, mark: int) -> dict[int, dict[str, Any]]:
        """See `ItemTable.take`; only shards that have some of the rows are read."""
        wanted = np.unique(np.fromiter(rows, np.int64))
        shards = [pair for pair in self._shards() if pair[0] < count]
        found: dict[int, dict[str, Any]] = {}
        for (start, shard), end in zip(shards, [*(s for s, _ in shards[1:]), count], strict=True):
            some = wanted[(wanted >= start) & (wanted < end)]
            if len(some):
                items = list(self._items(shard))
                found |= {int(row): items[row - start] for row in some}
        return found

    def _shards(self) -> list[tuple[int, Path]]:
        return sorted((int(path.stem), path) for path in self.path.glob("[0-9]*.parquet"))

    def _items(self, shard: Path) -> Iterator[dict[str, Any]]:
        for batch in self._read(shard).to_batches(_LINES_AT_ONCE):
            for item in batch.to_pylist():
                yield {name: value for name, value in item.items() if value is not None}

    def _read(self, shard: Path) -> Any:
        import pyarrow
        from pyarrow import parquet

        try:
            return parquet.read_table(shard)
        except (OSError, pyarrow.ArrowInvalid) as error:
            raise DataError(f"{shard}: cannot be read ({error}); embed it anew") from None

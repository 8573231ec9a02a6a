"""A gallery: a folder of vectors and of what they show, appended to, searched exactly."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import ArrayLike, NDArray

from reid_core import CheckpointError, ConfigError, DataError, checked_folder, write_json
from reid_core.errors import own_errors, reason_of
from reid_retrieval import neighbours
from reid_search.embedding.inputs import Item
from reid_search.gallery import vectors
from reid_search.gallery.items import FORMATS, JSON_LINES, ItemTable, item_table
from reid_search.models import OpenModel, open_model, read_calibration

if TYPE_CHECKING:
    from reid_core import Embedder, Picture

FORMAT = 1
"""Version of the folder's layout."""

DESCRIPTION, FEATURES = "gallery.json", "features.npy"

PATIENCE = 10.0
"""Seconds for which `Gallery.open` waits for another process that removes rows."""

_ROWS_AT_ONCE = 65536


@dataclass(frozen=True)
class Description:
    """What ``gallery.json`` says: what is valid, and what made it.

    Args:
        count: rows that are valid; whatever lies behind them is left from an interrupted write.
        dim: length of a vector.
        model: what the user called the embedder.
        weights: its file, as an absolute path.
        fingerprint: its hash; vectors of another one cannot be compared with these.
        preprocessing: what happens to a picture before the encoder sees it.
        items: format of the items, ``jsonl`` or ``parquet``.
        mark: of the items' table.
        revision: how often rows were removed, and so renumbered.
        swapping: files were rewritten and are to be put in place of the old ones.
    """

    count: int
    dim: int
    model: str
    weights: str
    fingerprint: str
    preprocessing: Mapping[str, Any]
    items: str = JSON_LINES
    mark: int = 0
    revision: int = 0
    swapping: bool = False


@dataclass(frozen=True)
class Found:
    """One answer to a query.

    Args:
        row: of the gallery.
        similarity: the cosine, -1 to 1.
        item: what the row shows.
    """

    row: int
    similarity: float
    item: Item


class Gallery:
    """Vectors of pictures with what they show, in a folder.

    Example:
        >>> gallery = Gallery.open("gallery")  # doctest: +SKIP
        >>> gallery.search("someone.jpg", top=3)[0][0].item["path"]  # doctest: +SKIP
        '/photos/17.jpg'

    What other processes add to it or remove from it is seen whenever it is read.

    Attributes:
        folder: where it lies.
        description: what ``gallery.json`` said at the last look.
    """

    def __init__(self, folder: Path, description: Description) -> None:
        self.folder, self.description = folder, description
        self._stamp = (0, 0)
        self._model: OpenModel | None = None
        self._prepared: tuple[Description, neighbours.Gallery] | None = None
        self._table: ItemTable = item_table(folder, description.items)
        self._lock = FileLock(folder / ".lock")

    @classmethod
    def open(cls, path: str | Path) -> Gallery:
        """Open a gallery's folder; a removal of rows that was interrupted is finished first.

        Raises:
            DataError: it is missing, no gallery, or of another format.
            ConfigError: its items are Parquet and pyarrow is missing; or another process is
                removing rows, and takes long.
        """
        folder = Path(path)
        gallery = cls(folder, _read(folder)[0])
        gallery.refresh()
        return gallery

    def refresh(self) -> None:
        """See what other processes have written; all that reads or writes begins with it.

        Raises:
            DataError: the gallery is gone.
            CheckpointError: in its place is one of another embedder.
            ConfigError: another process is removing rows, and takes long.
        """
        if self._lock.is_locked:
            return  # nobody else writes
        self._see()
        if self.description.swapping:
            with self.writing(wait=PATIENCE):
                pass

    def _see(self) -> None:
        """Take over what the folder says of itself; where it changed, what was read is forgotten.

        A gallery that was deleted and made anew may say the same, so its file's stamp counts.
        """
        found, stamp = _read(self.folder)
        own = self.description
        if (found, stamp) == (own, self._stamp):
            return
        if found.fingerprint != own.fingerprint:
            raise CheckpointError(
                f"{self.folder}: now holds vectors of {found.model} ({found.fingerprint[:12]}), no "
                f"longer of {own.model} ({own.fingerprint[:12]}); open it anew"
            )
        self._table = item_table(self.folder, found.items)
        self.description, self._stamp = found, stamp

    @contextmanager
    def steady(self) -> Iterator[None]:
        """Look at the newest rows, and refuse what is read where they move meanwhile.

        Raises:
            DataError: another process removed rows, and so renumbered them.
        """
        self.refresh()
        begun = self.description.revision
        moved = f"{self.folder}: rows were removed while it was read; do it once more"
        try:
            yield
        except Exception as error:
            if _read(self.folder)[0].revision != begun:
                raise DataError(moved) from error
            raise
        if _read(self.folder)[0].revision != begun:
            raise DataError(moved)

    @classmethod
    def create(cls, path: str | Path, model: OpenModel, *, items: str = JSON_LINES) -> Gallery:
        """Make an empty gallery.

        Args:
            path: its folder, empty or not there yet.
            model: whose vectors it shall hold.
            items: ``jsonl`` or ``parquet``.

        Raises:
            ConfigError: the folder holds something or cannot be written, or no such format.
        """
        if items not in FORMATS:
            raise ConfigError(f"items are {' or '.join(FORMATS)}, not '{items}'")
        folder = checked_folder(Path(path))
        embedder = model.embedder
        description = Description(
            0,
            embedder.dim,
            model.name,
            str(model.weights.absolute()),
            embedder.fingerprint(),
            {**embedder.describe()["input"], "boxes": "rounded to pixels, clipped to the frame"},
            items,
        )
        gallery = cls(folder, description)
        gallery._model = model
        folder.mkdir(parents=True, exist_ok=True)
        vectors.create(folder / FEATURES, embedder.dim)
        gallery._describe(description)
        return gallery

    def __len__(self) -> int:
        return self.description.count

    @property
    def features(self) -> NDArray[np.float32]:
        """The vectors, float32 ``N D``, memory-mapped."""
        self.refresh()
        found = self.description
        return vectors.read(self.folder / FEATURES, found.count, found.dim)

    def items(self) -> Iterator[dict[str, Any]]:
        """Yield what every row shows, in order, without holding all of it."""
        self.refresh()
        return self._table.read(self.description.count, self.description.mark)

    def unfit(self, item: Item) -> str | None:
        """Return why an item cannot be written to the gallery; None where it can."""
        return self._table.unfit(item)

    def take(self, rows: Iterable[int]) -> dict[int, dict[str, Any]]:
        """Return what some rows show, by row."""
        self.refresh()
        return self._table.take(rows, self.description.count, self.description.mark)

    @property
    def model(self) -> OpenModel:
        """The embedder that made the vectors, loaded on first use.

        Raises:
            CheckpointError: it is gone or has changed.
        """
        if self._model is None:
            self.use(None)
        assert self._model is not None
        return self._model

    def use(self, text: str | Path | None, device: str = "cpu") -> OpenModel:
        """Take the embedder for queries and new pictures from somewhere.

        Args:
            text: MODEL; None takes what made the gallery.
            device: where it shall compute.

        Raises:
            CheckpointError: it is gone, or another one than made the vectors.
        """
        if text is None:
            weights = self.description.weights
            text = weights if Path(weights).is_file() else self.description.model
        try:
            model = open_model(text, device)
        except CheckpointError as error:
            raise CheckpointError(
                f"{error}; say with --model where the embedder of {self.folder} is now "
                f"({self.description.model})"
            ) from None
        self.require(model)
        self._model = model
        return model

    def require(self, model: OpenModel) -> None:
        """Refuse another embedder than the one that made the vectors.

        Raises:
            CheckpointError: with both hashes.
        """
        self.require_fingerprint(model.embedder.fingerprint(), model.name)

    def require_fingerprint(self, fingerprint: str, name: str) -> None:
        """Refuse vectors of another embedder, by its hash.

        Raises:
            CheckpointError: with both hashes.
        """
        if fingerprint != self.description.fingerprint:
            raise CheckpointError(
                f"{self.folder} holds vectors of {self.description.model} "
                f"({self.description.fingerprint[:12]}), which cannot be compared with those of "
                f"{name} ({fingerprint[:12]}): take the same embedder, or embed into a new folder"
            )

    @property
    def threshold(self) -> float | None:
        """The least similarity of one person's pictures, where the embedder was calibrated."""
        weights = self._model.weights if self._model else Path(self.description.weights)
        calibration = read_calibration(weights) if weights.is_file() else None
        return None if calibration is None else float(calibration["threshold"])

    @own_errors()
    def nearest(
        self, queries: NDArray[np.float32], top: int = 10, threshold: float | None = None
    ) -> list[list[Found]]:
        """Return the closest rows of every query vector, the closest first; ties by row.

        Args:
            queries: float32 ``Q D``, of the same embedder.
            top: answers per query, or as many as there are.
            threshold: leaves out what is less similar.

        Raises:
            DataError: the gallery is empty, or the vectors do not fit, or another process removed
                rows just now.
            CheckpointError, ConfigError: see `refresh`.
        """
        if top < 1:
            raise ConfigError(f"top must be 1 or more, not {top}")
        with self.steady():
            state = self.description
            if not state.count:
                raise DataError(
                    f"{self.folder}: the gallery is empty; add pictures with: reid embed"
                )
            if not len(queries):
                return []
            prepared = self._prepared
            if prepared is None or prepared[0] is not state:
                prepared = state, neighbours.Gallery(self.features, keep=False)
                self._prepared = prepared
            found = prepared[1].nearest(queries, min(top, state.count))
            lowest = -np.inf if threshold is None else threshold
            kept = found.similarities >= lowest
            items = self.take(int(row) for row in found.indices[kept])
        return [
            [
                Found(int(row), float(similarity), items[int(row)])
                for row, similarity, keep in zip(rows, similarities, keeps, strict=True)
                if keep
            ]
            for rows, similarities, keeps in zip(
                found.indices, found.similarities, kept, strict=True
            )
        ]

    def search(
        self,
        images: Picture | Iterable[Picture],
        boxes: ArrayLike | None = None,
        *,
        top: int = 10,
        threshold: float | None = None,
        bgr: bool = False,
    ) -> list[list[Found]]:
        """Return the most similar rows for every picture; the pictures are as for `Embedder.embed`.

        Args:
            images, boxes, bgr: what to look for; see `reid_core.Embedder.embed`.
            top: answers per picture.
            threshold: leaves out what is less similar; None leaves out nothing (see `threshold`).

        Raises:
            DataError: a picture cannot be used, or the gallery is empty.
            CheckpointError: the gallery's embedder is gone or has changed.
        """
        vectors_ = self.model.embedder.embed(images, boxes, bgr=bgr).numpy()
        return self.nearest(vectors_, top, threshold)

    def add(
        self,
        images: Picture | Iterable[Picture],
        items: Sequence[Item],
        boxes: ArrayLike | None = None,
        *,
        bgr: bool = False,
    ) -> None:
        """Embed pictures and append them.

        Args:
            images, boxes, bgr: see `reid_core.Embedder.embed`.
            items: what each one shows: plain values by name, ``path`` among them where there is
                a file: absolute, as `reid embed` writes it, which knows it again.

        Raises:
            DataError: a picture cannot be used, or there are not as many items.
        """
        self.append(self.model.embedder.embed(images, boxes, bgr=bgr).numpy(), items)

    def append(self, features: NDArray[np.float32], items: Sequence[Item]) -> None:
        """Append vectors of the gallery's embedder with what they show: all of them or none.

        Args:
            features: float32 ``n D``.
            items: ``n``.

        Raises:
            DataError: they do not fit each other or the gallery, or are not finite.
            ConfigError: another process is writing to the gallery.
        """
        found = self.description
        if features.ndim != 2 or features.shape[1] != found.dim or len(features) != len(items):
            raise DataError(
                f"{len(items)} items with vectors {' x '.join(map(str, features.shape))} do not "
                f"fit a gallery of {found.dim} values per vector"
            )
        if not np.isfinite(features).all():
            raise DataError("vectors that are not finite cannot be searched")
        if not len(items):
            return
        with self.writing():
            found = self.description
            rows = np.asarray(features, np.float32)
            # The description comes last: whoever is stopped before it has added nothing.
            mark = self._table.append(items, found.count, found.mark)
            vectors.append(self.folder / FEATURES, found.count, rows)
            self._describe(replace(found, count=found.count + len(items), mark=mark))

    def remove(self, unwanted: Callable[[Item], bool]) -> int:
        """Remove rows for good: their vectors and items are in no file any more.

        Args:
            unwanted: is asked about every item.

        Returns:
            How many were removed.

        Raises:
            ConfigError: another process is writing to the gallery, or it cannot be written.
        """
        with self.writing():
            found = self.description
            keep = np.fromiter((not unwanted(item) for item in self.items()), np.bool_, found.count)
            removed = int((~keep).sum())
            if not removed:
                return 0
            new = self.folder / ".new"
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            mark = self._table.keep(keep, found.mark, new)
            vectors.create(new / FEATURES, found.dim)
            features, count = self.features, 0
            for start in range(0, found.count, _ROWS_AT_ONCE):
                some = slice(start, start + _ROWS_AT_ONCE)
                rows = features[some][keep[some]]
                if len(rows):
                    vectors.append(new / FEATURES, count, rows)
                count += len(rows)
            revision = found.revision + 1
            new_state = replace(found, count=count, mark=mark, revision=revision, swapping=True)
            self._describe(new_state)
            self._swap()
            return removed

    def _swap(self) -> None:
        """Put rewritten files in place of the old ones; goes on where it was interrupted."""
        new = self.folder / ".new"
        for name in (FEATURES, self._table.name):
            fresh, old = new / name, self.folder / name
            if fresh.exists():
                if old.is_dir():
                    shutil.rmtree(old)
                fresh.replace(old)
        shutil.rmtree(new, ignore_errors=True)
        self._describe(replace(self.description, swapping=False))

    @contextmanager
    def writing(self, wait: float = 0) -> Iterator[None]:
        """Keep other processes from writing, and see what they wrote before.

        Args:
            wait: seconds for which another one may go on writing.

        Raises:
            ConfigError: another process is writing.
            DataError, CheckpointError: see `refresh`.
        """
        if self._lock.is_locked:
            yield
            return
        try:
            with self._lock.acquire(timeout=wait):
                self._see()
                if self.description.swapping:
                    self._swap()
                yield
        except Timeout:
            raise ConfigError(
                f"{self.folder}: another process is writing to this gallery; wait for it"
            ) from None
        except OSError as error:
            raise ConfigError(
                f"{self.folder}: cannot be written ({error.strerror or error}); see to its "
                "permissions and free space"
            ) from error

    def _describe(self, description: Description) -> None:
        versions = {name: metadata.version(name) for name in ("reid-core", "reid-search", "torch")}
        content = {"format": FORMAT, **asdict(description), "versions": versions}
        write_json(self.folder / DESCRIPTION, content)
        self._see()


def _read(folder: Path) -> tuple[Description, tuple[int, int]]:
    """Return what a gallery's folder says of itself, and what tells this file from later ones.

    Raises:
        DataError: it is missing, no gallery, or of another format.
    """
    path = folder / DESCRIPTION
    try:
        with path.open(encoding="utf-8") as file:
            state, text = os.fstat(file.fileno()), file.read()
    except (FileNotFoundError, NotADirectoryError):
        what = "is no gallery" if folder.exists() else "is missing"
        raise DataError(
            f"{folder}: {what}; make one with: reid embed IMAGES --out {folder}"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({reason_of(error)})") from None
    try:
        stored = json.loads(text)
        found = stored.pop("format", None)
        stored.pop("versions", None)
        if found != FORMAT:
            raise DataError(f"{path}: has format {found!r}, this version reads {FORMAT}")
        return Description(**stored), (state.st_ino, state.st_mtime_ns)
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: does not describe a gallery ({error})") from None


def model_of(embedder: Embedder, weights: str | Path = "", name: str = "an embedder") -> OpenModel:
    """Return an embedder that is in memory in the form that galleries take.

    Args:
        embedder: in evaluation mode.
        weights: where it is stored; searches by path need it.
        name: what messages call it.
    """
    return OpenModel(name, Path(weights), embedder)

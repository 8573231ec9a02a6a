"""A gallery: a folder of vectors and of what they show, appended to, searched exactly."""

from __future__ import annotations

import json
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
from reid_core.errors import own_errors
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

    Attributes:
        folder: where it lies.
        description: what ``gallery.json`` says.
    """

    def __init__(self, folder: Path, description: Description) -> None:
        self.folder, self.description = folder, description
        self._model: OpenModel | None = None
        self._prepared: neighbours.Gallery | None = None
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
        gallery = cls._read(Path(path))
        if gallery.description.swapping:
            with gallery.writing(wait=PATIENCE):
                pass
        return gallery

    @classmethod
    def _read(cls, folder: Path) -> Gallery:
        file = folder / DESCRIPTION
        if not file.is_file():
            what = "is no gallery" if folder.exists() else "is missing"
            raise DataError(f"{folder}: {what}; make one with: reid embed IMAGES --out {folder}")
        try:
            stored = json.loads(file.read_text("utf-8"))
            found = stored.pop("format", None)
            stored.pop("versions", None)
            if found != FORMAT:
                raise DataError(f"{file}: has format {found!r}, this version reads {FORMAT}")
            description = Description(**stored)
        except (ValueError, TypeError, AttributeError) as error:
            raise DataError(f"{file}: does not describe a gallery ({error})") from None
        return cls(folder, description)

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
        found = self.description
        return vectors.read(self.folder / FEATURES, found.count, found.dim)

    def items(self) -> Iterator[dict[str, Any]]:
        """Yield what every row shows, in order, without holding all of it."""
        return self._table.read(self.description.count, self.description.mark)

    def take(self, rows: Iterable[int]) -> dict[int, dict[str, Any]]:
        """Return what some rows show, by row."""
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
            DataError: the gallery is empty, or the vectors do not fit.
        """
        if not len(self):
            raise DataError(f"{self.folder}: the gallery is empty; add pictures with: reid embed")
        if top < 1:
            raise ConfigError(f"top must be 1 or more, not {top}")
        if not len(queries):
            return []
        if self._prepared is None:
            self._prepared = neighbours.Gallery(self.features, keep=False)
        found = self._prepared.nearest(queries, min(top, len(self)))
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
                a file.

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
            table = item_table(new, found.items)
            vectors.create(new / FEATURES, found.dim)
            count = mark = 0
            for rows, items in self._kept(keep):
                mark = table.append(items, count, mark)
                vectors.append(new / FEATURES, count, rows)
                count += len(items)
            if not count:
                table.append([], 0, 0)
            revision = found.revision + 1
            new_state = replace(found, count=count, mark=mark, revision=revision, swapping=True)
            self._describe(new_state)
            self._swap()
            return removed

    def _kept(self, keep: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.float32], list[Item]]]:
        features, items = self.features, self.items()
        for start in range(0, len(keep), _ROWS_AT_ONCE):
            some = keep[start : start + _ROWS_AT_ONCE]
            kept: list[Item] = [item for wanted, item in zip(some, items, strict=False) if wanted]
            if kept:
                yield np.asarray(features[start : start + _ROWS_AT_ONCE])[some], kept

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
        """
        if self._lock.is_locked:
            yield
            return
        try:
            with self._lock.acquire(timeout=wait):
                self.description = self._read(self.folder).description
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
        self.description, self._prepared = description, None
        self._table = item_table(self.folder, description.items)


def model_of(embedder: Embedder, weights: str | Path = "", name: str = "an embedder") -> OpenModel:
    """Return an embedder that is in memory in the form that galleries take.

    Args:
        embedder: in evaluation mode.
        weights: where it is stored; searches by path need it.
        name: what messages call it.
    """
    return OpenModel(name, Path(weights), embedder)

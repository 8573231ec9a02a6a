"""A benchmark as data, and the loading of a user's copy of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from reid_benchmarks.datasets.records import Records, assemble
from reid_benchmarks.protocols import PROTOCOL_NAMES
from reid_core.contract.samples import Counts, DataProvider, DataRequest, DataSet
from reid_core.errors import DataError

SPLITS = ("train", "query", "gallery")


@dataclass(frozen=True)
class Copy:
    """A user's copy of a data set, and what is wanted of it.

    Args:
        name: of the data set.
        layout: its folders, in one line.
        root: ``--data-root``.
        variant, size: what was asked for, or the default.
        cache: a folder in which a reader may keep what it makes.
    """

    name: str
    layout: str
    root: Path
    variant: str
    size: str
    cache: Path

    def home(self, markers: Iterable[str], inner: Iterable[str] = ()) -> Path:
        """Return the folder that holds at least one of ``markers``: the root, or one within it.

        Args:
            markers: names of files or folders.
            inner: names that the data set's own folder goes by.

        Raises:
            DataError: there is none, or there are several.
        """
        wanted = list(markers)
        places = [self.root, *(self.root / name for name in inner)]
        found = [place for place in places if any((place / name).exists() for name in wanted)]
        if not found:
            raise self.wrong(f"{self.root} holds none of {', '.join(wanted)}")
        if len(found) > 1 and found[0] != self.root:
            listed = " and ".join(str(place) for place in found)
            raise self.wrong(f"there are two copies, {listed}: give the folder of one of them")
        return found[0]

    def folder(self, path: Path) -> Path:
        """Return a folder.

        Raises:
            DataError: it does not exist.
        """
        if not path.is_dir():
            raise self.wrong(f"{path}: no such folder; the copy is incomplete or not extracted")
        return path

    def wrong(self, problem: str) -> DataError:
        """Return an error that names the data set and its layout."""
        return DataError(f"data set '{self.name}': {problem} (layout: {self.layout})")


@dataclass(frozen=True)
class Benchmark:
    """Describe a public data set.

    Args:
        name: as in ``--data NAME``.
        summary: one line for `reid data list`.
        layout: the folders that are read, in one line.
        request: where to request the files.
        read: returns the images of a copy.
        counts: official counts by variant; a split that is not there has no images at all.
        protocols: the key of `PROTOCOL_NAMES`, by variant.
        sizes: what may follow the colon, by variant; the first one is the default.
        notice: shown on every run.
        people_together: whether training and test number their people together, so that
            `reid data check` can tell whether somebody is in both.
    """

    name: str
    summary: str
    layout: str
    request: str
    read: Callable[[Copy], Records]
    counts: Mapping[str, Mapping[str, Counts]]
    protocols: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notice: str | None = None
    people_together: bool = False

    @property
    def variants(self) -> tuple[str, ...]:
        """What may follow the slash; the first one is the default."""
        return tuple(name for name in self.counts if name)

    def provider(self) -> DataProvider:
        """Return what is offered to the core."""
        return DataProvider(
            self.name,
            self.load,
            summary=self.summary,
            variants=self.variants,
            sizes=tuple(dict.fromkeys(size for sizes in self.sizes.values() for size in sizes)),
            needs_root=True,
            layout=f"{self.layout}; request: {self.request}",
            expected=lambda request: self.counts[self._variant(request)],
        )

    def load(self, request: DataRequest) -> DataSet:
        """Load a user's copy.

        Returns:
            The data set; its name always tells the variant. The notice says where the copy differs
            from the official counts.

        Raises:
            DataError: the copy is incomplete or does not have the official layout.
        """
        if request.root is None:
            raise DataError(f"data set '{self.name}': give its folder with --data-root DIR")
        variant = self._variant(request)
        size = request.size or next(iter(self.sizes.get(variant, ())), "")
        copy = Copy(self.name, self.layout, request.root, variant, size, request.cache)
        if not request.root.is_dir():
            raise copy.wrong(f"--data-root {request.root}: no such folder")
        records = self.read(copy)
        for split in SPLITS:
            if split in self.counts[variant] and not getattr(records, split):
                raise copy.wrong(f"{request.root} has no {split} images")
        own = PROTOCOL_NAMES[self.protocols.get(variant, self.name)]
        title = replace(request, variant=variant or None, size=size or None).text
        dataset = assemble(
            title, records, (*own, *records.protocols), people_together=self.people_together
        )
        notices = [*([self.notice] if self.notice else []), *records.notices]
        return replace(dataset, notice=f"{title}: {'; '.join(notices)}") if notices else dataset

    def _variant(self, request: DataRequest) -> str:
        return request.variant or next(iter(self.counts))

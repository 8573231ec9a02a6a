"""Samples, sources and data sets: what a provider returns and the trainer draws from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from reid_core.contract.fields import FieldSpec
from reid_core.contract.words import check_names, check_word

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FieldValue: TypeAlias = "Path | tuple[Path, ...] | int | float | np.ndarray[Any, Any]"
"""A side-car file (several for an image field with a leading axis), a number or an array; of a
tracklet's spatial field a tuple of them, one per frame."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of one person, or a tracklet: several that show one walk before one camera.

    Args:
        path: the image file; of a tracklet the frame that stands for it in pictures and lists.
        pid: identity. In a training source ``0 .. N-1``; at test the data set's own number.
            Gallery images with pid ``-1`` are junk and leave the ranking altogether.
        camid: camera, 0-based.
        clothes: outfit id, unique over all identities; ``-1`` when unknown.
        split: ``train``, ``query`` or ``gallery``.
        fields: values of the source's fields.
        extra: whatever else a protocol may ask for (tracklet, view, frame, raw labels); ``set`` is
            the number of the data set where several are trained on, and missing in the main one;
            ``person`` is the data set's own number of a training identity.
        frames: the image files of a tracklet in the order of time; empty for a single image. Its
            spatial fields (images, label maps, points) hold a tuple with one value per frame.
    """

    path: Path
    pid: int
    camid: int
    clothes: int = -1
    split: str = "train"
    fields: Mapping[str, FieldValue] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    frames: tuple[Path, ...] = ()

    @property
    def images(self) -> tuple[Path, ...]:
        """All of its image files: the frames of a tracklet, or the one."""
        return self.frames or (self.path,)


@dataclass(frozen=True)
class Source:
    """A named list of samples to train on.

    Args:
        name: ``main`` for the data set's training split, otherwise ``owner/name``.
        samples: in a fixed, sorted order.
        fields: the fields that *every* sample carries, by name.
        identities: whether ``pid`` means anything; identity losses run only where it does.
    """

    name: str
    samples: tuple[Sample, ...]
    fields: Mapping[str, FieldSpec] = field(default_factory=dict)
    identities: bool = True

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def tracklets(self) -> bool:
        """Whether samples have several frames."""
        return any(sample.frames for sample in self.samples)

    @property
    def people(self) -> dict[int, Any]:
        """The data set's own number of the training identities by pid, where samples say it.

        For reports: pids of a training source are counted from 0, and a labeler may make others.
        """
        return {
            s.pid: s.extra["person"] for s in self.samples if s.pid >= 0 and "person" in s.extra
        }

    @property
    def num_identities(self) -> int:
        """Number of identities, assuming pids ``0 .. N-1``; 0 where there are none."""
        return max((s.pid for s in self.samples), default=-1) + 1 if self.identities else 0

    def with_field(self, spec: FieldSpec, values: Sequence[FieldValue]) -> Source:
        """Return a copy in which every sample also carries ``values`` under ``spec.name``."""
        if len(values) != len(self.samples):
            raise ValueError(f"{len(values)} values for {len(self.samples)} samples")
        samples = tuple(
            replace(s, fields={**s.fields, spec.name: v})
            for s, v in zip(self.samples, values, strict=True)
        )
        return replace(self, samples=samples, fields={**self.fields, spec.name: spec})


@dataclass(frozen=True)
class DataSet:
    """A data set: what to train on, and what to search for in what.

    Args:
        name: the name that the user gave, variant and size included.
        train: the main training source.
        query, gallery: test samples, each in the order in which ties are broken.
        protocols: names of the evaluation protocols to report, the first one first.
        query_fields: fields that test samples carry, by name.
        notice: one line that is shown on every run (a withdrawn set, a synthetic one).
    """

    name: str
    train: Source
    query: tuple[Sample, ...] = ()
    gallery: tuple[Sample, ...] = ()
    protocols: tuple[str, ...] = ("standard",)
    query_fields: Mapping[str, FieldSpec] = field(default_factory=dict)
    notice: str | None = None

    def fingerprint(self) -> str:
        """Return a short hash of names, sizes on disk and labels of queries and gallery.

        Of frames it is the names, for a set of tracklets has a million of them. ``test:`` before it
        tells it from those of earlier results, of the training images as well.
        """
        digest = hashlib.sha256()
        for sample in (*self.query, *self.gallery):
            size = sample.path.stat().st_size
            labels = (sample.split, sample.pid, sample.camid, sample.clothes)
            digest.update(os.fsencode(f"{sample.path.name}|{size}|{labels}\n"))
            digest.update(os.fsencode("|".join(path.name for path in sample.frames)))
        return f"test:{digest.hexdigest()[:16]}"


@dataclass(frozen=True)
class DataRequest:
    """What a provider's ``load`` is asked for: ``--data NAME[/VARIANT][:SIZE] --data-root DIR``.

    Args:
        name: the provider's name.
        variant: the part after the slash, or None.
        size: the part after the colon, or None.
        root: ``--data-root``, or None when the user gave none.
        cache: a folder in which a provider may keep what it makes.
        pattern: of names, for ``folder``; see ``data.pattern``.
    """

    name: str
    variant: str | None
    size: str | None
    root: Path | None
    cache: Path
    pattern: str | None = None

    @property
    def text(self) -> str:
        """The request as the user would write it."""
        variant = f"/{self.variant}" if self.variant else ""
        size = f":{self.size}" if self.size else ""
        return f"{self.name}{variant}{size}"


@dataclass(frozen=True, slots=True)
class Counts:
    """How many images, people and cameras a split has; None where its owners do not say.

    People are identities of 0 and above: junk and distractors count as images only.
    """

    images: int | None = None
    people: int | None = None
    cameras: int | None = None


@dataclass(frozen=True)
class DataProvider:
    """Offer a data set or a further training source under a name.

    Args:
        name: unique among all providers.
        load: makes a `DataSet` of a request, or a `Source` where ``kind`` is ``source``.
        kind: ``dataset`` or ``source``.
        fields: names of the fields that it carries.
        summary: one line for `reid data list`.
        variants, sizes: what may follow ``/`` and ``:``; the first one is the default.
        needs_root: whether it reads files that the user must have (``--data-root``).
        layout: the folder layout that it reads, in one line, and where to request the files.
        make: writes the data set that is asked for into an empty or half-written folder, so that
            it can be looked at and kept; ``advance(done, total)`` is told how far it is.
        expected: returns the owners' official counts of ``train``, ``query`` and ``gallery``. That
            a copy has others is noticed on every run, and a problem to `reid data check`.
    """

    name: str
    load: Callable[[DataRequest], DataSet | Source]
    kind: str = "dataset"
    fields: tuple[str, ...] = ()
    summary: str = ""
    variants: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    needs_root: bool = False
    layout: str = ""
    make: Callable[[DataRequest, Path, Callable[[int, int], None]], None] | None = None
    expected: Callable[[DataRequest], Mapping[str, Counts]] | None = None

    def __post_init__(self) -> None:
        check_word(self, "kind", ("dataset", "source"))
        check_names(self, "fields", "variants", "sizes")


@dataclass(frozen=True)
class SourceRequest:
    """Ask for a training source beside the main one, by what it must carry.

    Args:
        name: ``owner/name``; the name that passes refer to.
        fields: fields that every sample must carry.
        identities: whether it must have identities.
        provider: name of the data provider; None takes ``--source NAME=PROVIDER`` or the only one
            that fits.
        batch_size: rows per batch; None takes the run's.
        augment: whether the run's augmentation (crops, mirroring, erasing, colours) is for it, too.
    """

    name: str
    fields: tuple[str, ...] = field(default=())
    identities: bool = False
    provider: str | None = None
    batch_size: int | None = None
    augment: bool = True

    def __post_init__(self) -> None:
        check_names(self, "fields")


def renumbered(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """Return samples with their people as ``0 .. N-1``, in the order of their numbers; -1 stays."""
    people = sorted({sample.pid for sample in samples if sample.pid >= 0})
    numbers = {-1: -1, **{pid: number for number, pid in enumerate(people)}}
    return tuple(replace(sample, pid=numbers[sample.pid]) for sample in samples)


def relabelled(source: Source, pids: NDArray[np.int64]) -> Source:
    """Return a source with other identities; ``-1`` marks images without one."""
    samples = zip(source.samples, pids.tolist(), strict=True)
    return replace(
        source, samples=tuple(replace(s, pid=pid) for s, pid in samples), identities=True
    )

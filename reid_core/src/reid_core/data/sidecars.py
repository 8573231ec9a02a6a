"""Side-car files of fields: which file of a folder belongs to which image of a data set.

Images are known by their path below the folder that holds all images of their data set, without the
suffix. A file of the same path below its own folder is an image's; so is a file of a shorter path
that ends in the same names (``0001.png`` of ``train/0001.jpg``), as long as no other image of the
data set ends in them. Nothing is taken by a name that two images share.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from reid_core.contract.fields import SHARED_FIELDS, SPATIAL, FieldKind, FieldSpec
from reid_core.contract.names import check_choice
from reid_core.contract.samples import DataSet, Sample, Source
from reid_core.data.clips import frames_of, with_field_of_frames
from reid_core.errors import ConfigError, DataError

_SUFFIXES: Mapping[FieldKind, tuple[str, ...]] = {
    # JPEG changes a label map's values along all edges.
    FieldKind.LABELS: (".png", ".npy"),
    FieldKind.IMAGE: (".png", ".npy", ".jpg", ".jpeg"),
    FieldKind.FIXED: (".png", ".npy", ".jpg", ".jpeg"),
    FieldKind.POINTS: (".npy",),
    FieldKind.SCALAR: (".npy",),
}
_SHOWN = 3

LITTER = re.compile(r"Thumbs\.db|\.DS_Store|\._.*|__MACOSX|desktop\.ini", re.IGNORECASE)
"""What file managers and archivers leave behind."""

Name = tuple[str, ...]
"""Folders and stem: ``("train", "0001")``."""


def files_below(folder: Path, through: tuple[str, ...] = ()) -> Iterator[Path]:
    """Yield the paths of all files below a folder, which begin with its own, without litter.

    Links to folders are followed, but not to one that is being gone through.

    Args:
        folder: none has no files.
        through: the real paths of the folders that led here.
    """
    real = os.path.realpath(folder)
    if real in through or not os.path.isdir(real):
        return
    for entry in os.scandir(folder):
        path = folder / entry.name
        inside = files_below(path, (*through, real)) if entry.is_dir() else None
        if not LITTER.fullmatch(entry.name):
            yield from [path] if inside is None else inside


def names_of(dataset: DataSet) -> dict[Path, Name]:
    """Return the name of every image of a data set: its path below the folder of all, no suffix.

    Args:
        dataset: its training, query and gallery images count, and all frames of tracklets.
    """
    samples = (*dataset.train.samples, *dataset.query, *dataset.gallery)
    return _names(path for sample in samples for path in (sample.path, *sample.frames))


def _names(images: Iterable[Path]) -> dict[Path, Name]:
    paths = set(images)
    whole = {path: path.absolute() for path in paths}
    try:
        root = Path(os.path.commonpath([path.parent for path in whole.values()]))
    except ValueError:  # no image, or several drives
        root = Path()
    return {
        path: (full.relative_to(root) if root.parts else full).with_suffix("").parts
        for path, full in whole.items()
    }


class SideCars:
    """The files of a folder, by the images of a data set that they belong to.

    Args:
        folder: searched with all folders in it.
        spec: the field; its kind says which suffixes count.
        images: name of every image of the data set (`names_of`).
    """

    def __init__(self, folder: Path, spec: FieldSpec, images: Mapping[Path, Name]) -> None:
        self._names = images
        self._suffixes = _SUFFIXES[spec.kind]
        self._found: dict[Name, set[Path]] = {}
        self._owners: dict[Path, set[Name]] = {}
        whole: dict[Name, set[Path]] = {}
        ends: dict[Name, set[Name]] = {}
        exact: dict[Name, set[Path]] = {}
        for path, name in images.items():
            whole.setdefault(name, set()).add(path)
            for start in range(len(name)):
                ends.setdefault(name[start:], set()).add(name)
        self._twins = {name for name, paths in whole.items() if len(paths) > 1}
        for file in sorted(files_below(folder)):
            if file.suffix.lower() not in self._suffixes:
                continue
            name = file.relative_to(folder).with_suffix("").parts
            owners = {name} if name in whole else ends.get(name) or _last_of(name, whole)
            self._owners[file] = owners
            found = exact if name in whole else self._found
            for owner in owners:
                found.setdefault(owner, set()).add(file)
        # A file of an image's whole name comes before those of its last names.
        self._found |= exact

    def of(self, samples: Iterable[Sample]) -> tuple[list[Path | None], list[str]]:
        """Return a file per sample, None where there is none; and what cannot be decided.

        Args:
            samples: of the data set.
        """
        files: list[Path | None] = []
        unclear: dict[str, None] = {}
        for sample in samples:
            name = self._names[sample.path]
            found = sorted(self._found.get(name, ()))
            files.append(found[0] if found else None)
            reason = self._unclear(name, found)
            if reason:
                unclear[reason] = None
        return files, list(unclear)

    def all_of(self, where: str, samples: Sequence[Sample]) -> list[Path]:
        """Return the file of every sample.

        Args:
            where: what named the folder, for messages.
            samples: of the data set.

        Raises:
            DataError: images without a file (the first few and the count), or files that could
                belong to several images.
        """
        files, unclear = self.of(samples)
        if unclear:
            more = f" (and {len(unclear) - 1} more)" if len(unclear) > 1 else ""
            raise DataError(
                f"{where}: {unclear[0]}{more}; name files by the images' folders, too, as "
                "DIR/train/0001.png for train/0001.jpg"
            )
        found = [file for file in files if file is not None]
        if len(found) < len(samples):
            pairs = zip(samples, files, strict=True)
            missing = ["/".join(self._names[one.path]) for one, file in pairs if file is None]
            raise DataError(
                f"{where}: {len(missing)} of {len(samples)} images have no file "
                f"({', '.join(self._suffixes)}) there, first {', '.join(missing[:_SHOWN])}"
            )
        return found

    def _unclear(self, name: Name, found: Sequence[Path]) -> str | None:
        """Say why an image's file cannot be told, or None where it can."""
        for file in found:
            owners = sorted("/".join(owner) for owner in self._owners[file])
            if len(owners) > 1:
                return f"{file} could be of {owners[0]} and of {owners[1]}"
            if name in self._twins:
                return f"{file} could be of several images that are named {owners[0]}"
        if len(found) > 1:
            return f"{found[0]} and {found[1]} could both be of {'/'.join(name)}"
        return None


def _last_of(name: Name, whole: Container[Name]) -> set[Name]:
    """Return the image whose name a file's longer one ends in, such as of a larger data set."""
    shorter = (name[start:] for start in range(1, len(name)))
    return set(islice((one for one in shorter if one in whole), 1))


def laid_out(spec: FieldSpec, folder: Path) -> FieldSpec:
    """Return a field with the layout that stands in ``layout.txt`` of its folder, where one is."""
    layout = folder / "layout.txt"
    if not layout.is_file():
        return spec
    return replace(spec, layout=layout.read_text("utf-8", "replace").strip())


def with_field_folders(dataset: DataSet, folders: Mapping[str, Path]) -> tuple[DataSet, list[str]]:
    """Return a data set with fields read from the user's folders (``--field FIELD=DIR``).

    The layout of a fixed array stands in ``DIR/layout.txt``. Test images whose files are not all
    there do not carry the field, not even where they carried another of the name: what a model
    learnt to read are the user's files. Of tracklets every frame has its own map, picture or array
    of points.

    Returns:
        The data set, and lines for the user.

    Raises:
        ConfigError: an unknown field or a missing folder.
        DataError: training images without a file (the first few and the count), or files that could
            belong to several images.
    """
    names = names_of(dataset) if folders else {}
    notes = []
    for name, folder in folders.items():
        said = f"--field {name}: there is no shared field"
        check_choice(name, SHARED_FIELDS, said, ConfigError)
        if not folder.is_dir():
            raise ConfigError(f"--field {name}={folder}: there is no such folder")
        spec = laid_out(SHARED_FIELDS[name], folder)
        cars = SideCars(folder, spec, names)
        where = f"--field {name}={folder}"
        dataset = replace(dataset, train=_carrying(dataset.train, spec, cars, where))
        dataset, noted = _at_test(where, cars, dataset, spec)
        notes += noted
    return dataset, notes


def side_car_files(
    where: str, folder: Path, spec: FieldSpec, samples: Sequence[Sample]
) -> list[Path]:
    """Return the file of every sample in a folder of the user's, by the images' folders and names.

    A file belongs to the image of the same path below the folder that holds all these images,
    suffixes aside; shorter and longer paths do as long as no two images end in them.

    Args:
        where: what named the folder, for messages (``san.frontal_root = DIR``).
        folder: searched with all folders in it.
        spec: the field that the files hold; its kind says which suffixes count.
        samples: of the images, in the order of the result.

    Raises:
        DataError: images without a file (the first few and the count), or files that could belong
            to several images.
    """
    cars = SideCars(folder, spec, _names(sample.path for sample in samples))
    return cars.all_of(where, samples)


def _carrying(source: Source, spec: FieldSpec, cars: SideCars, where: str) -> Source:
    """Return a source with a field from files: of every frame, where tracklets have it of each."""

    def read(shown: Source) -> Source:
        return shown.with_field(spec, cars.all_of(where, shown.samples))

    return with_field_of_frames(source, spec.name, read) if spec.kind in SPATIAL else read(source)


def _at_test(
    where: str, cars: SideCars, dataset: DataSet, spec: FieldSpec
) -> tuple[DataSet, list[str]]:
    """Give query and gallery images the field where all have a file, and take it away otherwise."""
    test = Source("test", (*dataset.query, *dataset.gallery), dataset.query_fields)
    if not test.samples:
        return dataset, []
    shown = frames_of(test.samples, {}) if spec.kind in SPATIAL else test.samples
    missing = cars.of(shown)[0].count(None)
    notes = []
    if missing:
        fields = {n: one for n, one in test.fields.items() if n != spec.name}
        found = tuple(
            replace(sample, fields={n: v for n, v in sample.fields.items() if n != spec.name})
            for sample in test.samples
        )
        test = replace(test, samples=found, fields=fields)
        notes = [
            f"{where}: {missing} of {len(shown)} test images have no file there, so test images "
            f"carry no '{spec.name}'"
        ]
    else:
        test = _carrying(test, spec, cars, where)
    query, gallery = test.samples[: len(dataset.query)], test.samples[len(dataset.query) :]
    return replace(dataset, query=query, gallery=gallery, query_fields=test.fields), notes

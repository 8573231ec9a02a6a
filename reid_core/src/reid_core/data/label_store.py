"""An on-disk store of the labels that labelers make once.

An entry belongs to the image's *content*, and to that of the fields that the labeler reads beside
it: a renamed or copied image keeps its label, and an image that was replaced loses it. The store's
key identifies the labeler's model and settings.

    ROOT/FIELD/KEY/key.txt           the key in full
    ROOT/FIELD/KEY/ab/abcdef....png  label maps (palette), images; a folder of several images
    ROOT/FIELD/KEY/ab/abcdef....npy  points and other arrays
    ROOT/FIELD/KEY/scalars.jsonl     all scalars
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_core.contract.fields import FieldKind, FieldSpec
from reid_core.contract.labelers import OF_SAMPLE
from reid_core.contract.samples import FieldValue, Sample
from reid_core.data.decoding import read_field
from reid_core.data.encoding import array_bytes, image_bytes, label_bytes, write_whole
from reid_core.errors import DataError
from reid_core.weights import sha256_of

_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"


class LabelStore:
    """Keep the values of one field, made by one labeler with one set of settings.

    Every entry is written under a temporary name and renamed, so an interrupted run leaves whole
    entries only; an entry that was cut short all the same counts as missing and is made again.

    Args:
        root: folder of all stores; it is created with the first entry.
        key: identifies model and settings; another key is another store.
        spec: the field.
        reads: fields of a sample that decide its entry, beside the image.
    """

    def __init__(self, root: Path, key: str, spec: FieldSpec, reads: Sequence[str] = ()) -> None:
        name = hashlib.sha256(key.encode()).hexdigest()[:16]
        self.folder = root / spec.name.replace("/", "--") / name
        self.key = key
        self.spec = spec
        self._reads = tuple(reads)
        self._scalar_file = self.folder / "scalars.jsonl"
        self._scalars: dict[str, int | float] = {}
        self._scalars_read = 0  # bytes of the file

    def missing(self, samples: Sequence[Sample]) -> NDArray[np.int64]:
        """Return the rows of ``samples`` that have no whole entry, ascending."""
        return np.array(
            [row for row, sample in enumerate(samples) if self._find(sample) is None],
            dtype=np.int64,
        )

    def put(self, sample: Sample, value: NDArray[Any] | float) -> None:
        """Store the value of one sample, in place of an older one.

        Args:
            sample: whose label it is; its image is read to identify it.
            value: as `read_field` returns it: a label map as uint8 ``H W``, an image as uint8
                ``3 H W`` or ``S 3 H W``, points as ``N 3``, any other array, or a number.

        Raises:
            DataError: the value does not fit the field, or the image cannot be read.
        """
        array = read_field(value, self.spec)
        digest = self._digest(sample)
        folder = self.folder / digest[:2]
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / "key.txt", self.key.encode())
        match self.spec.kind:
            case FieldKind.SCALAR:
                self._put_scalar(digest, array.item())
            case FieldKind.LABELS:
                write_whole(folder / f"{digest}.png", label_bytes(array))
            case FieldKind.IMAGE if array.ndim == 4:
                _write_images(folder / digest, array)
            case FieldKind.IMAGE:
                shutil.rmtree(folder / digest, ignore_errors=True)
                write_whole(folder / f"{digest}.png", image_bytes(array))
            case FieldKind.POINTS | FieldKind.FIXED:
                write_whole(folder / f"{digest}.npy", array_bytes(array))

    def values(self, samples: Sequence[Sample]) -> list[FieldValue]:
        """Return what `Source.with_field` takes: a file, several files or a number per sample.

        Raises:
            DataError: some samples have no entry.
        """
        values = [self._find(sample) for sample in samples]
        present = [value for value in values if value is not None]
        if len(present) < len(values):
            first = samples[values.index(None)].path
            raise DataError(
                f"{self.folder}: {len(values) - len(present)} of {len(values)} images have no "
                f"label of field '{self.spec.name}', {first} is the first"
            )
        return present

    def _find(self, sample: Sample) -> FieldValue | None:
        digest = self._digest(sample)
        stem = self.folder / digest[:2] / digest
        if self.spec.kind is FieldKind.SCALAR:
            return self._all_scalars().get(digest)
        if stem.is_dir():
            images = tuple(sorted(stem.glob("*.png")))
            return images if images and all(_is_whole(path) for path in images) else None
        drawn = self.spec.kind in (FieldKind.LABELS, FieldKind.IMAGE)
        path = stem.with_suffix(".png" if drawn else ".npy")
        return path if _is_whole(path) else None

    def _digest(self, sample: Sample) -> str:
        image = value_hash(sample.frames) if sample.frames else content_hash(sample.path)
        if not self._reads:
            return image
        parts = (image, *(f"{name} {_read(sample, name)}" for name in self._reads))
        return hashlib.sha256("|".join(parts).encode()).hexdigest()

    def _all_scalars(self) -> dict[str, int | float]:
        # Another process may have written since: the file is read again whenever it has grown.
        size = self._scalar_file.stat().st_size if self._scalar_file.exists() else 0
        if size != self._scalars_read:
            self._scalars_read = size
            for line in self._scalar_file.read_text("utf-8").splitlines():
                try:
                    entry = json.loads(line)
                except json.JSONDecodeError:
                    continue  # empty, or cut short: its image counts as missing
                self._scalars[entry["image"]] = entry["value"]
        return self._scalars

    def _put_scalar(self, digest: str, value: float) -> None:
        entry = json.dumps({"image": digest, "value": value})
        with open(self._scalar_file, "ab") as file:
            # A line that was cut short must not swallow the next one; empty ones are skipped.
            file.write(f"\n{entry}\n".encode())


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, computed once as long as its time and size stand.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        state = path.stat()
        return _hash(path, state.st_mtime_ns, state.st_size)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def _read(sample: Sample, name: str) -> str:
    """Return what a label depends on beside the image: a field's content, or the sample's own."""
    return str(getattr(sample, name)) if name in OF_SAMPLE else value_hash(sample.fields[name])


def value_hash(value: FieldValue) -> str:
    """Return a hash of a field's value: of its files' bytes, or of the array or number itself.

    Raises:
        DataError: a file cannot be read.
    """
    if isinstance(value, Path):
        return content_hash(value)
    if isinstance(value, tuple):
        return hashlib.sha256("|".join(map(value_hash, value)).encode()).hexdigest()
    array = np.ascontiguousarray(value)
    head = f"{array.dtype.str}|{array.shape}|".encode()
    return hashlib.sha256(head + array.tobytes()).hexdigest()


@cache  # by time and size: a file that was written again is hashed again
def _hash(path: Path, mtime_ns: int, size: int) -> str:
    return sha256_of(path)


def _is_whole(path: Path) -> bool:
    """Return whether an entry exists and was not cut short."""
    try:
        if path.suffix == ".npy":
            # Mapping reads the header and compares the size it promises with the file's.
            np.load(path, mmap_mode="r", allow_pickle=False)
            return True
        with open(path, "rb") as file:
            file.seek(-len(_PNG_END), os.SEEK_END)
            return file.read() == _PNG_END
    except (OSError, ValueError, EOFError):
        return False


def _write_images(folder: Path, images: NDArray[np.uint8]) -> None:
    """Write several images as one entry: a folder that appears whole."""
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    temporary.mkdir()
    try:
        for number, image in enumerate(images):
            (temporary / f"{number:03d}.png").write_bytes(image_bytes(image))
        try:
            os.replace(temporary, folder)
        except OSError:  # it is there, and may be read meanwhile: file by file
            for path in temporary.iterdir():
                os.replace(path, folder / path.name)
            for path in sorted(folder.glob("*.png"))[len(images) :]:
                path.unlink(missing_ok=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)

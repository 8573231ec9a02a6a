"""Reading images, label maps and other side-car files into arrays.

simplejpeg decodes JPEG (2.5 times faster than Pillow, pixels equal bit for bit); Pillow reads
everything else and whatever simplejpeg does not know. Whatever cannot be read in full raises a
[DataError][reid_core.errors.DataError] that names the file: a damaged JPEG or PNG is refused, never
filled up with grey rows.
"""

from __future__ import annotations

import io
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reid_core.contract.fields import FieldKind, FieldSpec
from reid_core.contract.samples import FieldValue
from reid_core.errors import DataError
from reid_core.images import BROKEN, check_sums, one_line, read_bytes, read_image

_GREY_STEP = {"L;2": 85, "L;4": 17}
"""Pillow stretches grey PNG of 2 and 4 bits to 0..255; the stored value is ``grey // step``."""


_LOSSY = ("JPEG", "JPEG2000", "MPO")
"""Formats with grey values that decoding does not give back as they were."""


def read_labels(path: Path) -> NDArray[np.uint8]:
    """Read a label map: the stored values, never the colours of a palette.

    Args:
        path: a palette or grey image of at most 8 bits, as a rule PNG, or a ``.npy`` of integers.

    Returns:
        uint8 ``H W``.

    Raises:
        DataError: the file is missing, corrupt or truncated, holds colours, or is a JPEG.
    """
    if path.suffix.lower() == ".npy":
        return _as_labels(_read_npy(path), path)
    data = read_bytes(path)
    try:
        check_sums(data)
        with Image.open(io.BytesIO(data)) as image:
            # `tile` names the stored bit depth and is gone after loading.
            raw_mode = image.tile[0][3] if image.tile else None
            values = np.asarray(image)
            mode, written = image.mode, image.format
    except BROKEN as error:
        raise DataError(f"{path}: cannot be read as a label map ({one_line(error)})") from error
    if mode not in ("P", "L", "1"):
        raise DataError(
            f"{path}: a label map must be a palette or grey image of at most 8 bits; this one has "
            f"mode {mode}"
        )
    if written in _LOSSY:
        raise DataError(
            f"{path}: a label map must not be {written}, which changes labels along all edges; "
            "write it as PNG"
        )
    step = _GREY_STEP.get(raw_mode, 1) if isinstance(raw_mode, str) else 1
    return np.ascontiguousarray(values.astype(np.uint8, copy=False) // np.uint8(step))


def read_field(value: FieldValue, spec: FieldSpec) -> NDArray[Any]:
    """Read one field of one sample, in the layout that a batch has behind its first axis.

    Args:
        value: a file, several files (image fields with a leading axis), a number or an array.
        spec: what the field is.

    Returns:
        - ``image``: uint8 ``3 H W``, from several files ``S 3 H W``;
        - ``labels``: uint8 ``H W``;
        - ``points``: float32 ``N 3``;
        - ``fixed``: the array as stored; an image file as uint8 ``3 H W``;
        - ``scalar``: int64 or float32, no axes.

    Raises:
        DataError: a file cannot be read, or the value does not fit the field's kind.
    """
    where = origin_of(value, f"field '{spec.name}'")
    match spec.kind:
        case FieldKind.IMAGE:
            array = _read_array(value, where, several=True)
            if array.dtype != np.uint8 or array.ndim not in (3, 4) or array.shape[-3] != 3:
                raise _misfit(where, "uint8 3 H W or S 3 H W", array)
            return array
        case FieldKind.LABELS:
            labels = read_labels(value) if isinstance(value, Path) else _as_labels(value, where)
            if spec.classes and labels.size and int(labels.max()) >= len(spec.classes):
                raise DataError(
                    f"{where}: label {labels.max()} in a field of {len(spec.classes)} classes "
                    f"(0 to {len(spec.classes) - 1})"
                )
            return labels
        case FieldKind.POINTS:
            points = _read_array(value, where)
            if points.ndim != 2 or points.shape[1] != 3 or points.dtype.kind not in "fiu":
                raise _misfit(where, "numbers N 3 (x, y, visibility)", points)
            return points.astype(np.float32, copy=False)
        case FieldKind.FIXED:
            return _read_array(value, where)
        case FieldKind.SCALAR:
            number = _read_array(value, where)
            if number.ndim != 0 or number.dtype.kind not in "fiub":
                raise _misfit(where, "one number", number)
            return number.astype(np.float32 if number.dtype.kind == "f" else np.int64)


def origin_of(value: FieldValue, otherwise: str) -> str:
    """Return the file, or the first of several, that a value is read from, for messages."""
    first = value[0] if isinstance(value, tuple) and value else value
    return str(first) if isinstance(first, Path) else otherwise


_NPY = Lock()
"""NumPy reads headers with `ast`, which in Python before 3.11.8 may fail in two threads at once."""


def _read_npy(path: Path) -> NDArray[Any]:
    try:
        content = io.BytesIO(read_bytes(path))
        with _NPY:
            array: NDArray[Any] = np.load(content, allow_pickle=False)
    except BROKEN as error:
        raise DataError(f"{path}: cannot be read as .npy ({one_line(error)})") from error
    return array


def _as_labels(value: object, where: object) -> NDArray[np.uint8]:
    array = np.asarray(value)
    if array.ndim != 2 or array.dtype.kind not in "iub":
        raise _misfit(where, "integers H W", array)
    if array.dtype != np.uint8 and array.size and not 0 <= array.min() <= array.max() <= 255:
        raise DataError(f"{where}: labels must lie in 0..255, not {array.min()}..{array.max()}")
    return array.astype(np.uint8, copy=False)


def _read_array(value: FieldValue, where: object, several: bool = False) -> NDArray[Any]:
    """Read an array, or an image with its channels first; images one behind the other."""
    if isinstance(value, Path):
        is_array = value.suffix.lower() == ".npy"
        return _read_npy(value) if is_array else read_image(value).transpose(2, 0, 1)
    if not isinstance(value, tuple):
        return np.asarray(value)
    if not several:
        raise DataError(f"{where}: several files make sense for an image field only")
    images = [_read_array(path, where) for path in value]
    shapes = {image.shape for image in images}
    if len(shapes) != 1:
        raise DataError(f"{where}: images of one sample differ in size: {sorted(shapes)}")
    return np.stack(images)


def _misfit(where: object, wanted: str, array: NDArray[Any]) -> DataError:
    return DataError(f"{where}: expected {wanted}, found {array.dtype} of shape {array.shape}")

"""The ``toy`` data: small figures with fields of every kind, written in the layout ``folder``.

``tiny`` is for tests (96 images of 64 x 32, well under a second), ``quick`` for a first experience
and for experiments that must say something (some 1500 images of 128 x 64, a few seconds). An
identity is a build, skin, hair and two outfits; a camera is scenery, light, colour cast, noise and
framing; every image has its own pose. Nothing depends on the order in which images are made.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid_core.contract.fields import SHARED_FIELDS
from reid_core.contract.samples import DataRequest, DataSet, Sample, Source
from reid_core.data.encoding import array_bytes, image_bytes, label_bytes
from reid_core.data.folder import SPLITS, load_folder
from reid_core.errors import DataError, did_you_mean
from reid_core.testing.toy import TOY_FIELDS
from reid_core.testing.toy.cameras import ToyCamera
from reid_core.testing.toy.figures import Figure, Pose, draw_figure
from reid_core.testing.toy.people import TOY_LAYOUT, Body, draw_body, draw_outfit, dress

_VERSION = 1
"""Part of the marker and of a cache's folder: files of another version are drawn again."""

_DEFAULT = "quick"
_MARKER = "toy.json"
_PEOPLE, _CAMERAS, _PICTURES, _PAIRS = range(4)
"""Streams of random numbers."""


@dataclass(frozen=True)
class _Scale:
    """How much of everything a size has."""

    size: tuple[int, int]
    train: int
    test: int
    cameras: int
    shots: tuple[int, ...]
    """Images per outfit and camera: of the first training identity, of the second, and again."""
    test_shots: int
    query_cameras: int
    strength: float
    quality: int | None
    pairs: int


_SCALES = {
    "tiny": _Scale((64, 32), 8, 8, 3, (1,), 1, 1, 0.4, None, 24),
    "quick": _Scale((128, 64), 48, 32, 4, (2, 3), 2, 2, 0.6, 90, 240),
}


def make_toy(root: Path, size: str = "tiny", seed: int = 0) -> DataSet:
    """Write the toy data set into a folder, unless it is there, and load it.

    It appears whole: it is drawn beside ``root`` and renamed. One of another size, seed or version
    is drawn again, and so is one from which files are missing.

    Args:
        root: its folder; what is in it must be a toy data set, or nothing.
        size: ``tiny`` or ``quick``.
        seed: of people, cameras and pictures.

    Returns:
        The data set, a valid one for the standard protocol: queries and gallery images of all test
        identities, every query with an image of the same outfit before another camera.

    Raises:
        DataError: there is no such size, or ``root`` holds something else.
    """
    scale = _scale(size)
    _write_once(root, {"toy": size, "seed": seed}, lambda folder: _write(folder, scale, seed))
    return _loaded(size, root, (root / _MARKER).stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _loaded(size: str, root: Path, made: int) -> DataSet:
    """Load what `make_toy` has written, once for all runs of a process."""
    return load_folder(DataRequest("toy", None, size, root, root.parent))


def load_toy(request: DataRequest) -> DataSet:
    """Load the data set ``toy[:quick|tiny]``, kept in the request's cache."""
    made = make_toy(_cached(request, "toy"), request.size or _DEFAULT)
    return replace(made, name=request.text)


def _cached(request: DataRequest, name: str) -> Path:
    """Return the cache's folder, which runs of another version do not share."""
    return request.cache / f"{name}-{request.size or _DEFAULT}-v{_VERSION}"


def load_toy_tracklets(request: DataRequest) -> DataSet:
    """Load the toy data set with the images of a person before a camera as one tracklet.

    The frames differ in pose, and in clothes where the person changed them.
    """
    made = make_toy(_cached(request, "toy"), request.size or _DEFAULT)
    specs = {name: made.train.fields[name] for name in ("parts", "garments", "keypoints")}
    train = replace(made.train, samples=_tracklets(made.train.samples, specs), fields=specs)
    query, gallery = (_tracklets(samples, specs) for samples in (made.query, made.gallery))
    name = request.text
    return replace(made, name=name, train=train, query=query, gallery=gallery, query_fields=specs)


def _tracklets(samples: Sequence[Sample], specs: Iterable[str]) -> tuple[Sample, ...]:
    shown: dict[tuple[int, int], list[Sample]] = {}
    for sample in samples:
        shown.setdefault((sample.pid, sample.camid), []).append(sample)
    return tuple(
        replace(
            frames[0],
            frames=tuple(frame.path for frame in frames),
            fields={name: tuple(_file(frame, name) for frame in frames) for name in specs},
        )
        for frames in shown.values()
    )


def make_toy_pairs(
    root: Path, size: str = "tiny", seed: int = 0, name: str = "toy/pairs"
) -> Source:
    """Write images with the textures of people whom `make_toy` does not have, and load them.

    Args:
        root: its folder; what is in it must be toy pairs, or nothing.
        size: ``tiny`` or ``quick``.
        seed: of people, cameras and pictures.
        name: the source's name.

    Returns:
        A source without identities, with the field ``texture``.

    Raises:
        DataError: there is no such size, or ``root`` holds something else.
    """
    scale = _scale(size)
    _write_once(
        root, {"toy-pairs": size, "seed": seed}, lambda folder: _write_pairs(folder, scale, seed)
    )
    samples = tuple(
        Sample(path, -1, 0, fields={"texture": root / "texture" / f"{path.stem}.png"})
        for path in sorted((root / "images").iterdir())
    )
    spec = replace(SHARED_FIELDS["texture"], layout=TOY_LAYOUT)
    return Source(name, samples, {"texture": spec}, identities=False)


def load_toy_pairs(request: DataRequest) -> Source:
    """Load the source of `make_toy_pairs`, kept in the request's cache."""
    folder = _cached(request, "toy-pairs")
    return make_toy_pairs(folder, request.size or _DEFAULT, name=request.name)


@dataclass(frozen=True, eq=False)
class _Dressed:
    """A person in one outfit: the texture's file is encoded once for all images."""

    body: Body
    atlas: NDArray[np.uint8]
    garments: NDArray[np.uint8]
    texture: bytes


@dataclass(frozen=True)
class _Shot:
    """One image to make."""

    split: str
    pid: int
    outfit: int
    camera: int
    number: int


def _scale(size: str) -> _Scale:
    if size not in _SCALES:
        raise DataError(
            f"the toy data has no size '{size}'{did_you_mean(size, _SCALES)} "
            f"(sizes: {', '.join(_SCALES)})"
        )
    return _SCALES[size]


def _write(root: Path, scale: _Scale, seed: int) -> None:
    """Draw and write the whole data set."""
    cameras = [
        ToyCamera(np.random.default_rng([seed, _CAMERAS, number]), scale.size, scale.strength)
        for number in range(scale.cameras)
    ]
    dressed = lru_cache(maxsize=4)(_dressed)
    for split in SPLITS:
        (root / split).mkdir()
        for field in TOY_FIELDS:
            (root / "fields" / field / split).mkdir(parents=True)
    (root / "fields" / "texture" / "layout.txt").write_text(f"{TOY_LAYOUT}\n")
    for shot in _shots(scale):
        person = dressed(seed, _PEOPLE, shot.pid, shot.outfit)
        key = [seed, _PICTURES, shot.pid, shot.outfit, shot.camera, shot.number]
        image, figure, pose = _picture(person, cameras[shot.camera], key)
        stem = f"{shot.pid:04d}_c{shot.camera + 1}_o{shot.outfit + 1}_{shot.number:02d}"
        suffix = "png" if scale.quality is None else "jpg"
        path = root / shot.split / f"{stem}.{suffix}"
        path.write_bytes(image_bytes(image, scale.quality))
        for field, name, data in (
            ("parts", "png", label_bytes(figure.parts)),
            ("garments", "png", label_bytes(figure.garments)),
            ("keypoints", "npy", array_bytes(figure.keypoints)),
            ("pose", "npy", array_bytes(np.array(pose.view, np.int64))),
            ("texture", "png", person.texture),
        ):
            (root / "fields" / field / shot.split / f"{stem}.{name}").write_bytes(data)


def _write_pairs(root: Path, scale: _Scale, seed: int) -> None:
    """Draw and write images and textures of people who appear once."""
    (root / "images").mkdir()
    (root / "texture").mkdir()
    for number in range(scale.pairs):
        person = _dressed(seed, _PAIRS, number, 0)
        rng = np.random.default_rng([seed, _PAIRS, number, _CAMERAS])
        camera = ToyCamera(rng, scale.size, scale.strength)
        image, _, _ = _picture(person, camera, [seed, _PAIRS, number, _PICTURES])
        suffix = "png" if scale.quality is None else "jpg"
        (root / "images" / f"{number:05d}.{suffix}").write_bytes(image_bytes(image, scale.quality))
        (root / "texture" / f"{number:05d}.png").write_bytes(person.texture)


def _shots(scale: _Scale) -> Iterator[_Shot]:
    """List all images; test identities follow the training identities."""
    for pid in range(1, scale.train + scale.test + 1):
        training = pid <= scale.train
        for outfit in range(2):
            for camera in range(scale.cameras):
                shots = scale.shots[pid % len(scale.shots)] if training else scale.test_shots
                for number in range(shots):
                    # Which cameras ask goes round, so that every camera has queries and gallery.
                    asks = (camera - pid) % scale.cameras < scale.query_cameras and number == 0
                    split = "train" if training else ("query" if asks else "gallery")
                    yield _Shot(split, pid, outfit, camera, number)


def _dressed(seed: int, stream: int, person: int, outfit: int) -> _Dressed:
    body = draw_body(np.random.default_rng([seed, stream, person]))
    clothes = draw_outfit(np.random.default_rng([seed, stream, person, outfit + 1]))
    atlas, garments = dress(body, clothes)
    return _Dressed(body, atlas, garments, image_bytes(atlas))


def _picture(
    person: _Dressed, camera: ToyCamera, key: list[int]
) -> tuple[NDArray[np.uint8], Figure, Pose]:
    rng = np.random.default_rng(key)
    pose = camera.draw_pose(rng)
    framing = camera.draw_framing(rng)
    figure = draw_figure(person.body, person.atlas, person.garments, pose, framing)
    return camera.take(figure, rng), figure, pose


def _write_once(root: Path, what: dict[str, object], write: Callable[[Path], None]) -> None:
    """Make a folder with ``write`` unless it is there, whole and of this kind.

    Several processes may do so at once: each writes a folder of its own and one of them is kept.

    Raises:
        DataError: the folder holds something else.
    """
    what = {**what, "version": _VERSION}
    if _is_made(root, what):
        return
    if root.is_dir() and not (root / _MARKER).exists() and any(root.iterdir()):
        raise DataError(f"{root} is not empty and holds no toy data; name another folder")
    root.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
    try:
        write(made)
        files = sum(len(names) for _, _, names in os.walk(made))
        (made / _MARKER).write_text(json.dumps({**what, "files": files}))
        made.chmod(0o755)  # mkdtemp's folders are for the user alone
        stale = (root / _MARKER).exists()  # asked first: it may be another process's by now
        if not _is_made(root, what):
            if stale:
                shutil.rmtree(root)
            # Renaming onto an empty folder works; onto another process's finished one it fails.
            with suppress(OSError):
                os.replace(made, root)
        if not _is_made(root, what):
            raise DataError(f"{root}: could not be written")
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _is_made(root: Path, what: dict[str, object]) -> bool:
    """Return whether a folder holds what its marker promises, and that is what is wanted."""
    try:
        marker = json.loads((root / _MARKER).read_text())
    except (OSError, ValueError):
        return False
    files = sum(len(names) for _, _, names in os.walk(root)) - 1
    return bool(marker == {**what, "files": files})


def _file(sample: Sample, name: str) -> Path:
    found = sample.fields[name]
    assert isinstance(found, Path)  # as `load_folder` gives them
    return found

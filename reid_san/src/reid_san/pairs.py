"""The source ``san-pairs``: a user's folder of person images and their textures (PIT)."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from reid_core import SHARED_FIELDS, DataError, DataRequest, FieldSpec, Sample, Source
from reid_core.data.sidecars import laid_out
from reid_san.guides import FRONTAL

LAYOUT = (
    "ROOT/images/NAME.jpg or .png, ROOT/textures/NAME.png and ROOT/textures/layout.txt; "
    "ROOT/frontal/NAME.png where it is there; ROOT/pairs.csv (image,texture) where images share a "
    "texture"
)
"""The folder's layout in one line."""

SIDE = 256
"""Height and width of textures where nothing else is said."""

_IMAGES = (".jpg", ".jpeg", ".png")


def load_pairs(request: DataRequest, root: Path | None, side: int | None) -> Source:
    """Load a folder of pairs.

    Args:
        request: what was asked for.
        root: the folder.
        side: height and width that textures must have; None takes `SIDE`.

    Raises:
        DataError: no folder, images without a texture, no layout id, or textures of another size.
    """
    if root is None:
        raise DataError(
            f"'{request.name}' reads pairs that you have: give their folder with "
            f"-s san.pairs_root=DIR ({LAYOUT})"
        )
    images = _files(root / "images", _IMAGES)
    if not images:
        raise DataError(f"{root}: there are no images of people; expected {LAYOUT}")
    textures = _textures(root, images)
    _check_sides(textures, side or SIDE)
    specs = {"texture": _spec(root / "textures")}
    values = {name: {"texture": texture} for name, texture in textures.items()}
    if (root / "frontal").is_dir():
        frontal = _files(root / "frontal", (".png", ".jpg"))
        _refuse_missing(root / "frontal", images, frontal)
        specs[FRONTAL.name] = FRONTAL
        for name in values:
            values[name][FRONTAL.name] = frontal[name]
    samples = tuple(Sample(images[name], -1, 0, fields=values[name]) for name in sorted(images))
    return Source(request.name, samples, specs, identities=False)


def _files(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Return a folder's files by stem."""
    if not folder.is_dir():
        return {}
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in suffixes}


def _textures(root: Path, images: Mapping[str, Path]) -> dict[str, Path]:
    """Return the texture of every image, by the image's stem."""
    there, table = _files(root / "textures", (".png",)), root / "pairs.csv"
    if table.is_file():
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if not rows or not {"image", "texture"} <= set(rows[0]):
            raise DataError(f"{table}: expected the columns image,texture")
        named = {Path(row["image"]).stem: Path(row["texture"]).stem for row in rows}
        there = {name: there[texture] for name, texture in named.items() if texture in there}
    _refuse_missing(root / "textures", images, there)
    return {name: there[name] for name in images}


def _refuse_missing(folder: Path, images: Mapping[str, Path], there: Mapping[str, Path]) -> None:
    missing = [name for name in images if name not in there]
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} of {len(images)} images have no file there, first "
            f"{', '.join(missing[:3])}"
        )


def _spec(folder: Path) -> FieldSpec:
    spec = laid_out(SHARED_FIELDS["texture"], folder)
    if not spec.layout:
        raise DataError(
            f"{folder / 'layout.txt'} is missing: write the id of the textures' layout into it, "
            "such as 'smpl', so that textures of different layouts are never mixed"
        )
    return spec


def _check_sides(textures: Mapping[str, Path], side: int) -> None:
    """Refuse textures of another size, by their headers."""
    for path in sorted(set(textures.values())):
        try:
            with Image.open(path) as image:
                width, height = image.size
        except OSError as error:
            raise DataError(f"{path}: cannot be read as an image") from error
        if (height, width) != (side, side):
            raise DataError(
                f"{path}: the texture is {height} x {width}, and {side} x {side} is wanted; bring "
                "all textures in one size, and say which with -s san.texture_size=N"
            )

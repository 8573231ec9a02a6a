"""People of the toy data: bodies, outfits, and the atlas that holds a dressed person's surface.

The atlas (layout ``toy-v1``) is an image of 32 x 32 texels in 4 x 4 cells, one per piece of surface
(`Cell`). Beside it lies a map of the same size that names the garment of every texel, so that the
garment of a drawn pixel is known exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from reid_core.contract.fields import GARMENT_CLASSES

TOY_LAYOUT = "toy-v1"
"""Layout id of the toy atlas."""

CELL = 8
"""Texels of a cell's side."""

ATLAS = 4 * CELL
"""Texels of the atlas's side."""

HAT, HAIR, UPPER, LOWER, SKIN, FACE, SHOES = (
    GARMENT_CLASSES.index(name)
    for name in ("hat", "hair", "upper", "lower", "skin", "face", "shoes")
)

Colour = tuple[int, int, int]


class Cell(IntEnum):
    """Cells of the atlas, row by row; in a cell, rows run down the body and columns across."""

    HEAD_FRONT = 0
    HEAD_SIDE = 1
    HEAD_BACK = 2
    NECK = 3
    TORSO_FRONT = 4
    TORSO_SIDE = 5
    TORSO_BACK = 6
    PELVIS = 7
    UPPER_ARM = 8
    LOWER_ARM = 9
    HAND = 10
    BELT = 11
    UPPER_LEG = 12
    LOWER_LEG = 13
    FOOT = 14
    SOLE = 15


@dataclass(frozen=True)
class Body:
    """A person's build and colours; lengths are shares of the body's height.

    Args:
        height: share of the frame's usual height.
        shoulders, hips: half widths.
        legs: where the hips are, from the top.
        arm, leg: radii of the limbs.
        head: half height of the head.
        skin, hair: colours.
        hairstyle: ``short``, ``long`` or ``bald``.
    """

    height: float
    shoulders: float
    hips: float
    legs: float
    arm: float
    leg: float
    head: float
    skin: Colour
    hair: Colour
    hairstyle: str


@dataclass(frozen=True)
class Outfit:
    """Clothes: colours, pattern and cut."""

    upper: Colour
    accent: Colour
    pattern: str
    long_sleeves: bool
    lower: Colour
    stripe: bool
    long_trousers: bool
    shoes: Colour
    hat: Colour | None


_SKINS = ((241, 205, 178), (224, 172, 140), (198, 134, 94), (141, 85, 54), (92, 56, 38))
_HAIRS = ((28, 24, 22), (74, 48, 30), (128, 86, 44), (196, 158, 92), (150, 148, 146), (140, 56, 32))
_CLOTHS = (
    (30, 30, 34),
    (232, 232, 228),
    (128, 130, 134),
    (170, 36, 40),
    (34, 62, 122),
    (86, 132, 190),
    (40, 98, 62),
    (206, 172, 60),
    (104, 66, 44),
    (120, 60, 124),
    (214, 122, 58),
    (190, 170, 140),
)
_PATTERNS = ("plain", "plain", "plain", "rows", "columns", "checks", "band", "halves")


def draw_body(rng: np.random.Generator) -> Body:
    """Draw a person's build."""
    return Body(
        height=rng.uniform(0.84, 1.0),
        shoulders=rng.uniform(0.085, 0.125),
        hips=rng.uniform(0.05, 0.075),
        legs=rng.uniform(0.47, 0.54),
        arm=rng.uniform(0.024, 0.038),
        leg=rng.uniform(0.034, 0.054),
        head=rng.uniform(0.062, 0.078),
        skin=_near(rng, _SKINS),
        hair=_near(rng, _HAIRS),
        hairstyle=("short", "short", "long", "long", "bald")[rng.integers(5)],
    )


def draw_outfit(rng: np.random.Generator) -> Outfit:
    """Draw clothes."""
    return Outfit(
        upper=_near(rng, _CLOTHS),
        accent=_near(rng, _CLOTHS),
        pattern=_PATTERNS[rng.integers(len(_PATTERNS))],
        long_sleeves=bool(rng.random() < 0.6),
        lower=_near(rng, _CLOTHS),
        stripe=bool(rng.random() < 0.25),
        long_trousers=bool(rng.random() < 0.75),
        shoes=_near(rng, _CLOTHS),
        hat=_near(rng, _CLOTHS) if rng.random() < 0.2 else None,
    )


def dress(body: Body, outfit: Outfit) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Paint the surface of a dressed person.

    Returns:
        The atlas, uint8 ``3 32 32``, and the garment of every texel, uint8 ``32 32``.
    """
    canvas = _Canvas()
    paint = canvas.paint
    for cell in Cell:
        paint(cell, body.skin, SKIN)
    _paint_head(canvas, body, outfit)
    sleeve = slice(None) if outfit.long_sleeves else slice(0, 0)
    for cell in (Cell.TORSO_FRONT, Cell.TORSO_SIDE, Cell.TORSO_BACK, Cell.UPPER_ARM):
        paint(cell, outfit.upper, UPPER)
    paint(Cell.LOWER_ARM, outfit.upper, UPPER, rows=sleeve)
    for cell in (Cell.TORSO_FRONT, Cell.TORSO_SIDE, Cell.TORSO_BACK):
        pattern = _pattern(outfit.pattern, front=cell is Cell.TORSO_FRONT)
        canvas.colours[slice_of(cell)][pattern] = outfit.accent
    shin = slice(None) if outfit.long_trousers else slice(0, 0)
    for cell in (Cell.PELVIS, Cell.BELT, Cell.UPPER_LEG):
        paint(cell, outfit.lower, LOWER)
    paint(Cell.LOWER_LEG, outfit.lower, LOWER, rows=shin)
    if outfit.stripe:
        paint(Cell.UPPER_LEG, outfit.accent, LOWER, cols=slice(0, 2))
        paint(Cell.LOWER_LEG, outfit.accent, LOWER, rows=shin, cols=slice(0, 2))
    for cell in (Cell.FOOT, Cell.SOLE):
        paint(cell, outfit.shoes, SHOES)
    return np.ascontiguousarray(canvas.colours.transpose(2, 0, 1)), canvas.garments


def slice_of(cell: Cell) -> tuple[slice, slice]:
    """Return a cell's rows and columns in the atlas."""
    row, column = divmod(int(cell), 4)
    return slice(row * CELL, (row + 1) * CELL), slice(column * CELL, (column + 1) * CELL)


class _Canvas:
    """The atlas while it is painted: colours and garments change together."""

    def __init__(self) -> None:
        self.colours = np.zeros((ATLAS, ATLAS, 3), np.uint8)
        self.garments = np.zeros((ATLAS, ATLAS), np.uint8)

    def paint(
        self,
        cell: Cell,
        colour: Colour,
        garment: int,
        rows: slice = slice(None),
        cols: slice = slice(None),
    ) -> None:
        area = slice_of(cell)
        self.colours[area][rows, cols] = colour
        self.garments[area][rows, cols] = garment


def _paint_head(canvas: _Canvas, body: Body, outfit: Outfit) -> None:
    paint = canvas.paint
    paint(Cell.HEAD_FRONT, body.skin, FACE)
    paint(Cell.HEAD_SIDE, body.skin, FACE, cols=slice(4, None))
    if body.hairstyle != "bald":
        paint(Cell.HEAD_FRONT, body.hair, HAIR, rows=slice(0, 2))
        paint(Cell.HEAD_SIDE, body.hair, HAIR, rows=slice(0, 2))
        paint(Cell.HEAD_SIDE, body.hair, HAIR, rows=slice(0, 5), cols=slice(0, 4))
        paint(Cell.HEAD_BACK, body.hair, HAIR, rows=slice(0, 6))
    if body.hairstyle == "long":
        paint(Cell.HEAD_FRONT, body.hair, HAIR, cols=slice(0, 1))
        paint(Cell.HEAD_FRONT, body.hair, HAIR, cols=slice(7, 8))
        paint(Cell.HEAD_SIDE, body.hair, HAIR, cols=slice(0, 4))
        paint(Cell.HEAD_BACK, body.hair, HAIR)
    dark = (body.skin[0] // 3, body.skin[1] // 3, body.skin[2] // 3)
    paint(Cell.HEAD_FRONT, dark, FACE, rows=slice(3, 4), cols=slice(2, 3))
    paint(Cell.HEAD_FRONT, dark, FACE, rows=slice(3, 4), cols=slice(5, 6))
    paint(Cell.HEAD_SIDE, dark, FACE, rows=slice(3, 4), cols=slice(6, 7))
    if outfit.hat is not None:
        for cell in (Cell.HEAD_FRONT, Cell.HEAD_SIDE, Cell.HEAD_BACK):
            paint(cell, outfit.hat, HAT, rows=slice(0, 3))


def _pattern(name: str, front: bool) -> NDArray[np.bool_]:
    """Return which texels of a torso cell have the accent's colour."""
    rows, columns = np.mgrid[:CELL, :CELL]
    nowhere = np.zeros((CELL, CELL), np.bool_)
    patterns: dict[str, NDArray[np.bool_]] = {
        "plain": nowhere,
        "rows": rows % 2 == 1,
        "columns": columns % 4 >= 2,
        "checks": (rows // 2 + columns // 2) % 2 == 1,
        "band": (rows >= 2) & (rows < 4),
        "halves": rows >= CELL // 2 if front else nowhere,
    }
    return patterns[name]


def _near(rng: np.random.Generator, palette: tuple[Colour, ...]) -> Colour:
    """Draw a colour of a palette and shift it a little."""
    colour = np.array(palette[rng.integers(len(palette))]) + rng.integers(-14, 15, 3)
    red, green, blue = np.clip(colour, 0, 255).tolist()
    return red, green, blue

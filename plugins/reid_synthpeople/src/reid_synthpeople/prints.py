"""What is printed on clothes or sewn to them: letters, pictures, emblems, bands, other sleeves.

Everything lies on cloth that is there already and keeps its label: skin, bags and hair stay free.
"""

from __future__ import annotations

import numpy as np

from reid_synthpeople.garments import Outfit
from reid_synthpeople.randomness import generator, smooth_noise
from reid_synthpeople.sheets import LOWER, UPPER, Canvas, Mask, Sheet

_STREAM = 78
"""Under the seed of the prints."""

_LETTERS, _PICTURE, _EMBLEM = 1, 2, 3


def paint_prints(canvas: Canvas, outfit: Outfit) -> None:
    """Paint an outfit's prints, if it has any."""
    prints = outfit.prints
    if prints is None:
        return
    rng = generator(prints.seed, _STREAM)
    (torso,) = canvas.charts("torso")
    if prints.yoke:
        _lay(torso, torso.v < rng.uniform(0.22, 0.32), prints.colour, UPPER)
    if prints.bands:
        middle, width = rng.uniform(0.3, 0.5), rng.uniform(0.015, 0.05)
        for number in range(int(rng.integers(1, 4))):
            band = np.abs(torso.v - middle - 2.5 * width * number) < width
            _lay(torso, band, (prints.colour, prints.second)[number % 2], UPPER)
    _print(torso, prints.chest, torso.u, outfit, rng)
    behind = np.where(torso.u > 0, 0.5 - torso.u, -0.5 - torso.u)
    _print(torso, prints.back, behind, outfit, rng)
    for arm in canvas.charts("upper arm") + canvas.charts("lower arm"):
        if prints.sleeves == 1:
            _lay(arm, np.ones_like(arm.v, bool), prints.colour, UPPER)
        elif prints.sleeves == 2:
            for place in (0.22, 0.30):
                _lay(arm, np.abs(arm.u - place) < 0.025, prints.second, UPPER)
    if prints.stripe:
        for leg in canvas.charts("upper leg") + canvas.charts("lower leg"):
            _lay(leg, np.abs(leg.u - 0.25) < 0.035, prints.second, LOWER)


def _print(
    torso: Sheet, kind: int, across: np.ndarray, outfit: Outfit, rng: np.random.Generator
) -> None:
    prints = outfit.prints
    assert prints is not None
    if kind == _LETTERS:
        width, top = rng.uniform(0.06, 0.14), rng.uniform(0.24, 0.36)
        rows, height = int(rng.integers(1, 4)), rng.uniform(0.03, 0.06)
        letters = rng.random((rows, 24)) < 0.62
        row = np.floor((torso.v - top) / height).astype(int)
        column = np.floor((across + width) / 0.013).astype(int)
        inside = (row >= 0) & (row < rows) & (np.abs(across) < width) & (column < 24)
        inside &= ((torso.v - top) / height) % 1 < 0.72
        hit = letters[np.clip(row, 0, rows - 1), np.clip(column, 0, 23)]
        _lay(torso, inside & hit, prints.colour, UPPER)
    elif kind == _PICTURE:
        width, height, middle = rng.uniform(0.07, 0.14), rng.uniform(0.08, 0.17), 0.40
        x, y = across / width, (torso.v - middle) / height
        shape = (x**2 + y**2 < 1) if rng.random() < 0.4 else (np.abs(x) < 0.9) & (np.abs(y) < 0.9)
        side = max(torso.v.shape)
        blots = smooth_noise(rng, side, 9)[: torso.v.shape[0], : torso.v.shape[1]]
        _lay(torso, shape, prints.colour, UPPER)
        _lay(torso, shape & (blots > 0.2), prints.second, UPPER)
        _lay(torso, shape & (blots < -0.7), outfit.upper.accent, UPPER)
    elif kind == _EMBLEM:
        x, y = (across - 0.075) / 0.022, (torso.v - 0.30) / 0.03
        _lay(torso, x**2 + y**2 < 1, prints.colour, UPPER)


def _lay(sheet: Sheet, mask: Mask, colour: np.ndarray, garment: int) -> None:
    sheet.put(mask & (sheet.garment == garment), colour, garment)

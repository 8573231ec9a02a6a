"""Tests of a trained embedder beside those of its own data set, by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid_core import ConfigError

WARD = "EVIDENCE_WARD"
"""Environment variable with the folder of WARD in the layout of Market-1501.

70 people before three cameras (Martinel and Micheloni 2012). Photographs: they are measured on, and
nothing is learnt from them that leaves this machine.
"""


@dataclass(frozen=True)
class Elsewhere:
    """A further test.

    Args:
        data: as after ``--data``.
        protocols: names.
        root: makes or finds its folder below the given one; None where it needs none.
    """

    data: str
    protocols: tuple[str, ...]
    root: Callable[[Path], Path] | None = None


def ward() -> Path:
    """Return the folder of WARD.

    Raises:
        ConfigError: it is not on this machine.
    """
    root = os.environ.get(WARD, "")
    if not (Path(root) / "query").is_dir() or not root:
        raise ConfigError(
            f"WARD is not here: set {WARD} to its folder in the layout of Market-1501"
        )
    return Path(root)


def _partial(work: Path) -> Path:
    """Make the test of partial images: queries of `synthpeople:quick` cut to a band.

    As the core's ``augment.partial`` cuts them: half to all of the height, from above, from below
    or anywhere, three quarters to all of the width. The gallery is whole.
    """
    from PIL import Image

    from reid_core.runs.finding import open_dataset

    root = work / "partial"
    if (root / "made").is_file():
        return root
    dataset, rng = open_dataset("synthpeople:quick", cache=work / "cache"), np.random.default_rng(0)
    for split, samples in (
        ("train", dataset.train.samples[:8]),
        ("query", dataset.query),
        ("gallery", dataset.gallery),
    ):
        folder = root / split
        folder.mkdir(parents=True, exist_ok=True)
        for number, sample in enumerate(samples):
            name = f"{sample.pid}_c{sample.camid}_o{max(sample.clothes, 0)}_{number}.png"
            with Image.open(sample.path) as file:
                picture = file.convert("RGB")
            if split == "query":
                width, height = picture.size
                high = round(height * rng.uniform(0.5, 1.0))
                wide = round(width * rng.uniform(0.75, 1.0))
                top = (0, height - high, int(rng.integers(height - high + 1)))[rng.integers(3)]
                left = int(rng.integers(width - wide + 1))
                picture = picture.crop((left, top, left + wide, top + high))
            picture.save(folder / name)
    (root / "made").touch()
    return root


TESTS = {
    "ward": Elsewhere("market1501", ("standard",), lambda work: ward()),
    "partial": Elsewhere("folder", ("standard",), _partial),
    "quick": Elsewhere("synthpeople:quick", ("standard", "same-clothes", "cross-clothes")),
}
"""By name; its protocols are written ``NAME:PROTOCOL``."""

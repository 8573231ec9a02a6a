"""A generated set on disk: for measurements, and for training without generating online."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image

from reid_core import RunContext, checked_folder
from reid_dgnet.generating import BATCH, Composer, pixels_of


def write_generated(
    ctx: RunContext,
    folder: Path,
    per_image: int = 1,
    seed: int = 0,
    with_real: bool = False,
    advance: Callable[[int], None] | None = None,
) -> int:
    """Write generated images in the layout of the data set `folder`; return how many.

    Every training image lends its appearance to the structure of ``per_image`` random others, and
    the file carries its identity and the structure's camera.

    Args:
        ctx: a restored run.
        folder: must be empty or new.
        per_image: structures for every appearance.
        seed: of the partners.
        with_real: whether real training, query and gallery images are copied beside them.
        advance: is told how many more images are done.

    Raises:
        ConfigError: the folder holds something, or cannot be written to.
    """
    checked_folder(folder)
    composer, samples = Composer.of(ctx), list(ctx.main.samples)
    train = folder / "train"
    train.mkdir(parents=True)
    rng, written = np.random.default_rng(seed), 0
    for start in range(0, len(samples), BATCH):
        some = samples[start : start + BATCH]
        appearance, _ = composer.codes(composer.read(some))
        for turn in range(per_image):
            partners = [samples[row] for row in rng.integers(len(samples), size=len(some))]
            _, structure = composer.codes(composer.read(partners))
            images = pixels_of(composer.compose(structure, appearance)).numpy()
            for number, (sample, partner) in enumerate(zip(some, partners, strict=True)):
                name = f"{sample.pid}_c{partner.camid}_generated{start + number}-{turn}.png"
                PIL.Image.fromarray(images[number]).save(train / name)
            written += len(some)
            if advance:
                advance(len(some))
    if with_real:
        _copy_real(ctx, folder)
    return written


def _copy_real(ctx: RunContext, folder: Path) -> None:
    dataset = ctx.dataset
    splits = (("train", ctx.main.samples), ("query", dataset.query), ("gallery", dataset.gallery))
    for split, samples in splits:
        (folder / split).mkdir(exist_ok=True)
        for number, sample in enumerate(samples):
            outfit = f"_o{sample.clothes}" if sample.clothes >= 0 else ""
            name = f"{sample.pid}_c{sample.camid}{outfit}_real{number}{sample.path.suffix}"
            shutil.copyfile(sample.path, folder / split / name)

"""Write a generated set: for measurements, and for training without generating online."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import PIL.Image

from reid_core import RunContext, checked_folder, pixels_of, write_json
from reid_dgnet.generating import BATCH, Composer
from reid_dgnet.offline import CARD, label_order
from reid_dgnet.people import Split, identities_of, other_people, samples_of

NamedAfter = Literal["structure", "appearance"]


def write_generated(
    composer: Composer,
    folder: Path,
    per_image: int = 1,
    seed: int = 0,
    named_after: NamedAfter = "structure",
    advance: Callable[[int], None] | None = None,
) -> int:
    """Write generated images in the layout of the data set `folder`; return how many.

    Every image lends its appearance to the structures of ``per_image`` random images of other
    people.

    Args:
        composer: what composes, and the images that it composes of.
        folder: must be empty or new.
        per_image: structures for every appearance.
        seed: of the partners.
        named_after: whose identity a file carries: the structure's person, as fine-grained features
            learn (section 4.3), or the appearance's. The camera is the structure's.
        advance: is told how many more images are done.

    Raises:
        ConfigError: the folder holds something, or nobody has a partner.
    """
    checked_folder(folder)
    samples, pids = list(composer.samples), identities_of(composer.samples)
    train = folder / "train"
    train.mkdir(parents=True)
    card = {"named_after": named_after, "labels": label_order(samples)}
    write_json(folder / CARD, card)
    rng, written = np.random.default_rng(seed), 0
    for start in range(0, len(samples), BATCH):
        some = np.arange(start, min(start + BATCH, len(samples)))
        looks = [samples[row] for row in some]
        appearance, _ = composer.codes(composer.read(looks))
        for turn in range(per_image):
            poses = [samples[row] for row in other_people(pids, some, rng)]
            _, structure = composer.codes(composer.read(poses))
            images = pixels_of(composer.compose(structure, appearance)).numpy()
            for number, (look, pose) in enumerate(zip(looks, poses, strict=True)):
                pid = pose.pid if named_after == "structure" else look.pid
                name = f"{pid}_c{pose.camid}_generated{start + number}-{turn}.png"
                PIL.Image.fromarray(images[number]).save(train / name)
            written += len(some)
            if advance:
                advance(len(some))
    return written


def copy_real(ctx: RunContext, folder: Path) -> None:
    """Copy a run's training, query and gallery images beside the generated ones."""
    for split in get_args(Split):
        (folder / split).mkdir(exist_ok=True)
        for number, sample in enumerate(samples_of(ctx, split)):
            outfit = f"_o{sample.clothes}" if sample.clothes >= 0 else ""
            name = f"{sample.pid}_c{sample.camid}{outfit}_real{number}{sample.path.suffix}"
            shutil.copyfile(sample.path, folder / split / name)

"""How diverse and how real generated images are (table 2)."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid_core import ConfigError, RunContext, Sample, pixels_of
from reid_dgnet.generating import BATCH, Composer
from reid_dgnet.people import identities_of, other_people
from reid_dgnet.weights import read_tensors
from reid_dgnet.writing import write_generated

WINDOW = 11
"""Side of the Gaussian window of SSIM, in pixels (Wang et al., 2004)."""


def diversity_within_people(
    composer: Composer, pairs: int = 10, rounds: int = 5, seed: int = 0
) -> dict[str, float]:
    """Return how different two images of a person are, generated and real ones: more is better.

    Table 2 calls it SSIM: it is ``(1 - SSIM) / 2`` of the images in CIE Lab, over random pairs of
    generated images of one identity. Both have an appearance of that person, which two random
    images of his lend, and the structure of somebody else each.

    Args:
        composer: what composes, and the images that it composes of.
        pairs: of every identity with two images or more, in every round.
        rounds: how often all identities have their turn.
        seed: of the pairs.

    Returns:
        ``diversity_generated`` and ``diversity_real``, means over all pairs; the same in RGB with
        ``_rgb``; ``diversity_spread``, the standard deviation of the rounds' means in Lab.
    """
    samples, rng = composer.samples, np.random.default_rng(seed)
    pids = identities_of(samples)
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        once: dict[str, list[Tensor]] = {}
        drawn = pairs_of_people(pids, pairs, rng)
        for start in range(0, len(drawn), BATCH):
            looks = drawn[start : start + BATCH]
            poses = other_people(pids, looks.reshape(-1), rng).reshape(looks.shape)
            real = [composer.read(_chosen(samples, looks[:, side])) for side in range(2)]
            made = [
                composer.compose(
                    composer.codes(composer.read(_chosen(samples, poses[:, side])))[1],
                    composer.codes(real[side])[0],
                )
                for side in range(2)
            ]
            for name, (one, two) in (("generated", made), ("real", real)):
                once.setdefault(name, []).append(dissimilarity(one, two, "lab"))
                once.setdefault(f"{name}_rgb", []).append(dissimilarity(one, two, "rgb"))
        for name, values in once.items():
            found.setdefault(name, []).append(float(torch.cat(values).mean()))
    means = {f"diversity_{name}": float(np.mean(values)) for name, values in found.items()}
    spread = float(np.std(found["generated"], ddof=1)) if rounds > 1 else 0.0
    return {**means, "diversity_spread": spread}


def pairs_of_people(
    pids: NDArray[np.int64], pairs: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return random pairs of different rows of one identity: int64 ``P * pairs, 2``.

    Args:
        pids: int64 ``N``; ``-1`` is nobody.
        pairs: of every one of the P identities that have two rows or more.
        rng: what draws.

    Raises:
        ConfigError: no identity has two rows.
    """
    drawn = []
    for pid in np.unique(pids[pids >= 0]):
        rows = np.flatnonzero(pids == pid)
        if len(rows) > 1:
            drawn += [rng.choice(rows, 2, replace=False) for _ in range(pairs)]
    if not drawn:
        raise ConfigError("diversity within people needs people with more than one image")
    return np.stack(drawn)


def dissimilarity(first: Tensor, second: Tensor, colours: Literal["lab", "rgb"] = "lab") -> Tensor:
    """Return ``(1 - SSIM) / 2`` of normalised images ``N 3 H W``, pair by pair: ``N``, 0 to 1.

    SSIM is the mean over the pixels and the three channels, whose range is 100 in Lab, the one of
    its lightness, and 1 in RGB.
    """
    from kornia.color import rgb_to_lab
    from kornia.metrics import ssim

    one, two = (pixels_of(images).permute(0, 3, 1, 2).float() / 255 for images in (first, second))
    largest = 1.0
    if colours == "lab":
        one, two, largest = rgb_to_lab(one), rgb_to_lab(two), 100.0
    similarity: Tensor = ssim(one, two, WINDOW, largest)
    return (1 - similarity.mean((1, 2, 3))) / 2


def inception_weights(path: Path) -> dict[str, Tensor]:
    """Read the weights of the Inception network that FID is defined by.

    Args:
        path: safetensors, or a state dict of tensors alone.

    Raises:
        ConfigError: the library or the weights are not there, with where to get them.
        CheckpointError: the file holds other things than tensors.
    """
    if not path.is_file():
        raise ConfigError(
            f"--inception {path}: there is no such file; FID needs the weights of TensorFlow's "
            "Inception network, weights-inception-2015-12-05-6726825d.pth of "
            "https://github.com/toshas/torch-fidelity/releases"
        )
    weights = read_tensors(path)
    if importlib.util.find_spec("torch_fidelity") is None:
        raise ConfigError("FID needs torch-fidelity: pip install 'reid-dgnet[fid]'")
    return weights


def frechet_distance(ctx: RunContext, weights: Mapping[str, Tensor], seed: int = 0) -> float:
    """Return the FID between the training images and one generated image of each.

    Args:
        ctx: a restored run.
        weights: see `inception_weights`.
        seed: of the partners.
    """
    fidelity = importlib.import_module("torch_fidelity")
    composer = Composer.of(ctx)
    with TemporaryDirectory() as temporary:
        made, real = Path(temporary) / "made", Path(temporary) / "real"
        # The library unpickles what it is given: it is given what was read as tensors, and no more.
        safe = Path(temporary) / "inception.pth"
        torch.save(dict(weights), safe)
        write_generated(composer, made, seed=seed)
        real.mkdir()
        for number, sample in enumerate(composer.samples):
            # At the generator's size, so that sharpness is compared like with like.
            (pixels,) = pixels_of(composer.read([sample])).numpy()
            PIL.Image.fromarray(pixels).save(real / f"{number}.png")
        found = fidelity.calculate_metrics(
            input1=str(made / "train"),
            input2=str(real),
            fid=True,
            cuda=ctx.device.type == "cuda",
            feature_extractor_weights_path=str(safe),
            verbose=False,
        )
    return float(found["frechet_inception_distance"])


def _chosen(samples: Sequence[Sample], rows: NDArray[np.int64]) -> list[Sample]:
    return [samples[row] for row in rows]

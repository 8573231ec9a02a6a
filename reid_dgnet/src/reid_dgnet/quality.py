"""How diverse and how real generated images are (table 2)."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from reid_core import ConfigError, RunContext, Sample
from reid_dgnet.generating import BATCH, Composer, pixels_of
from reid_dgnet.offline import write_generated

WINDOW = 11
"""Side of the Gaussian window of SSIM, in pixels (Wang et al., 2004)."""

WEIGHTS = (
    "https://github.com/toshas/torch-fidelity/releases (weights-inception-2015-12-05-6726825d.pth)"
)
"""Where a user finds the Inception weights that FID is defined by."""


def similarity_within_people(ctx: RunContext, pairs: int, seed: int = 0) -> dict[str, float]:
    """Return how alike two images of a person are, generated and real ones: less is more diverse.

    A pair of generated images has one appearance and two structures, of random training images; a
    pair of real ones is two images of a person.

    Args:
        ctx: a restored run.
        pairs: how many of each.
        seed: of the pairs.

    Returns:
        ``ssim_generated`` and ``ssim_real``, means of the structural similarity.
    """
    composer, rng = Composer.of(ctx), np.random.default_rng(seed)
    samples = list(ctx.main.samples)
    by_person: dict[int, list[Sample]] = {}
    for sample in samples:
        by_person.setdefault(sample.pid, []).append(sample)
    several = [own for pid, own in sorted(by_person.items()) if pid >= 0 and len(own) > 1]
    if not several:
        raise ConfigError("SSIM within people needs people with more than one training image")
    generated, real = [], []
    for start in range(0, pairs, BATCH):
        count = min(BATCH, pairs - start)

        def drawn(count: int = count) -> list[Sample]:
            return [samples[row] for row in rng.integers(len(samples), size=count)]

        appearance, _ = composer.codes(composer.read(drawn()))
        made = [
            composer.compose(composer.codes(composer.read(drawn()))[1], appearance)
            for _ in range(2)
        ]
        generated.append(_similarity(*made))
        chosen = [several[row] for row in rng.integers(len(several), size=count)]
        both = [rng.choice(len(own), 2, replace=False) for own in chosen]
        first, second = (
            composer.read([own[two[i]] for own, two in zip(chosen, both, strict=True)])
            for i in range(2)
        )
        real.append(_similarity(first, second))
    return {
        "ssim_generated": float(torch.cat(generated).mean()),
        "ssim_real": float(torch.cat(real).mean()),
    }


def _similarity(first: Tensor, second: Tensor) -> Tensor:
    """Return the structural similarity ``N`` of normalised images, in the range of pixels."""
    from kornia.metrics import ssim

    one, two = (pixels_of(images).permute(0, 3, 1, 2).float() / 255 for images in (first, second))
    similarity: Tensor = ssim(one, two, WINDOW)
    return similarity.mean((1, 2, 3))


def frechet_distance(ctx: RunContext, inception: Path, seed: int = 0) -> float:
    """Return the FID between the training images and one generated image of each.

    Args:
        ctx: a restored run.
        inception: file of the Inception network's weights.
        seed: of the partners.

    Raises:
        ConfigError: the library or the weights are not there, with where to get them.
    """
    if not inception.is_file():
        raise ConfigError(
            f"--inception {inception}: there is no such file; FID needs the weights of "
            f"TensorFlow's Inception network, which you find at {WEIGHTS}"
        )
    if importlib.util.find_spec("torch_fidelity") is None:
        raise ConfigError("FID needs torch-fidelity: pip install 'reid-dgnet[fid]'")
    fidelity = importlib.import_module("torch_fidelity")
    composer = Composer.of(ctx)
    with TemporaryDirectory() as temporary:
        made, real = Path(temporary) / "made", Path(temporary) / "real"
        write_generated(ctx, made, seed=seed)
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
            feature_extractor_weights_path=str(inception),
            verbose=False,
        )
    return float(found["frechet_inception_distance"])

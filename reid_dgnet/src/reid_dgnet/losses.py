"""Losses of the paper, as plain functions; sums over directions are the caller's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from reid_core import at_least_float32
from reid_dgnet.settings import Gan


def reconstruction(found: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute error (equations 1, 2, 4 and 5); the target gets no gradient."""
    return (found.float() - target.detach().float()).abs().mean()


def discriminator_loss(real: Sequence[Tensor], fake: Sequence[Tensor], gan: Gan) -> Tensor:
    """Return the discriminator's side of equation 7, summed over the scales.

    Args:
        real, fake: scores of real and of generated images by scale.
        gan: the form.
    """
    values = [
        _towards(r, 1.0, gan) + _towards(f, 0.0, gan) for r, f in zip(real, fake, strict=True)
    ]
    return torch.stack(values).sum()


def generator_loss(fake: Sequence[Tensor], gan: Gan) -> Tensor:
    """Return the generator's side of equation 7, summed over the scales.

    With least squares it counts twice, as in the authors' code.
    """
    factor = 2.0 if gan == "lsgan" else 1.0
    return factor * torch.stack([_towards(scores, 1.0, gan) for scores in fake]).sum()


def _towards(scores: Tensor, wanted: float, gan: Gan) -> Tensor:
    scores = at_least_float32(scores)
    if gan == "lsgan":
        return (scores - wanted).square().mean()
    return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, wanted))


def gradient_penalty(scores: Sequence[Tensor], images: Tensor) -> Tensor:
    """Return R1 (Mescheder et al., 2018): the squared gradient at real images.

    The gradient is that of a scale's summed scores; its squared norm is summed over the scales
    and averaged over the images. To be computed in float32: in half precision it overflows.

    Args:
        scores: of the real images by scale, with their graph.
        images: ``B 3 H W``, a leaf that requires a gradient.
    """
    penalty = images.new_zeros(())
    for score in scores:
        (slope,) = torch.autograd.grad(score.sum(), images, create_graph=True)
        penalty = penalty + slope.square().flatten(1).sum(1).mean()
    return penalty


def soft_label_divergence(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of equation 8, the mean over the rows.

    Args:
        logits: the student's, ``B K``.
        targets: the teacher's distribution q, ``B K``; ``q log(q / p)`` is summed over the classes.
    """
    logarithms = F.log_softmax(at_least_float32(logits), 1)
    return F.kl_div(logarithms, targets.to(logarithms.dtype), reduction="batchmean")

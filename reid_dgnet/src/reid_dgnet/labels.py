"""What the primary embedding should say about a generated image (section 3.2, primary feature)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from reid_dgnet.settings import LabelStyle


def flip_ensemble(logits: Tensor, mirrored: Tensor) -> Tensor:
    """Return the distribution ``B K`` that a teacher gives an image and its mirror image together.

    Args:
        logits, mirrored: ``B K``, of the image and of its mirror image.
    """
    both = F.softmax(logits.float(), 1) + F.softmax(mirrored.float(), 1)
    return both / both.sum(1, keepdim=True)


def primary_targets(
    style: LabelStyle, soft: Tensor | None, appearance: Tensor, structure: Tensor, classes: int
) -> Tensor:
    """Return the targets ``B K`` of a style.

    Args:
        style: see `DgnetSettings.labels`.
        soft: the teacher's distribution ``B K``; None for styles that ask nobody.
        appearance, structure: int64 ``B``, identities of the donors.
        classes: K.
    """
    if style == "appearance":
        return _one_hot(appearance, classes)
    if style == "uniform":
        return torch.full((len(appearance), classes), 1 / classes, device=appearance.device)
    assert soft is not None
    if style == "hard":
        return _one_hot(soft.argmax(1), classes)
    if style == "masked":
        donors = _one_hot(appearance, classes) + _one_hot(structure, classes)
        kept = soft * (donors > 0)
        return kept / kept.sum(1, keepdim=True).clamp(min=torch.finfo(kept.dtype).tiny)
    return soft


def _one_hot(labels: Tensor, classes: int) -> Tensor:
    """Return ``B K``; zeros where a label is -1. Unlike torch's, it never waits for the device."""
    return (labels[:, None] == torch.arange(classes, device=labels.device)).float()

"""Masks: what the shape extractor sees of a parser's logits, differentiable throughout.

The paper does not say how a mask is represented. Probabilities of all classes sum to one, so a
first layer with equal weights for all of them (an RGB layer averaged over channels, say) would be
blind: its output is the same for every mask, and no gradient reaches the parser. Representations of
other than three channels therefore get a first layer of their own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from reid_core import normalise
from reid_core.data.encoding import label_colours
from reid_fsam.settings import MaskKind
from reid_parsing import resized_logits

PICTURES = ("foreground", "palette")
"""Representations that an extractor takes for pictures, with the first layer of RGB images."""


def body_masks(logits: Tensor, kind: MaskKind, size: tuple[int, int]) -> Tensor:
    """Return masks ``B C H W``, float32; differentiable in the logits.

    Args:
        logits: ``B K h w``, class 0 is background.
        kind: ``prob`` (softmax, C = K), ``parts`` (without background, C = K - 1), ``foreground``
            (their sum, C = 1), ``palette`` (the mean of fixed class colours, C = 3) or ``logits``.
        size: height and width wanted.
    """
    logits = resized_logits(logits.float(), size)
    if kind == "logits":
        return logits
    probabilities = logits.softmax(1)
    if kind == "prob":
        return probabilities
    if kind == "parts":
        return probabilities[:, 1:]
    if kind == "foreground":
        return 1 - probabilities[:, :1]
    colours = torch.tensor(label_colours()[: logits.shape[1]].astype("float32") / 255)
    return torch.einsum("bkhw,kc->bchw", probabilities, colours.to(logits.device))


def mask_channels(kind: MaskKind, classes: int) -> int:
    """Return the number of channels of a representation."""
    return {"parts": classes - 1, "foreground": 1, "palette": 3}.get(kind, classes)


def as_picture(mask: Tensor) -> Tensor:
    """Return a mask of one or three channels as an ImageNet-normalised picture ``B 3 H W``."""
    return normalise(mask.expand(-1, 3, -1, -1))


def resized_images(images: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Resize images ``B 3 H W`` bilinearly; None leaves them alone."""
    if size is None or tuple(images.shape[2:]) == tuple(size):
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=True)

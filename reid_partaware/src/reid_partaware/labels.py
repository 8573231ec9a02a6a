"""Part labels for a head: granularity, resizing, and what random erasing leaves of them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from reid_partaware.losses import IGNORED

Resizing = Literal["nearest-exact", "nearest", "bilinear_bug"]
Erased = Literal["keep", "ignore", "background"]


def part_targets(
    parts: Tensor,
    size: tuple[int, int],
    table: Tensor,
    resizing: Resizing = "nearest-exact",
) -> Tensor:
    """Return labels of a granularity at the size of a head's prediction.

    Args:
        parts: uint8 ``B H W``, the seven parts and background at image size.
        size: height and width of the prediction.
        table: int64 ``8``, the class of every part.
        resizing: ``nearest-exact`` takes the pixel at each cell's centre, ``nearest`` the one at
            its upper left corner. ``bilinear_bug`` interpolates between class numbers and so
            invents arms between foot and background; it is what the author's released code does
            by mistake, and is here for studies of that code alone.

    Returns:
        int64 ``B h w``.
    """
    if resizing == "bilinear_bug":
        small = F.interpolate(parts[:, None].float(), size, mode="bilinear").round()
    else:
        small = F.interpolate(parts[:, None].float(), size, mode=resizing)
    return table.to(parts.device)[small[:, 0].long()]


def without_erased(labels: Tensor, clean: Tensor, shown: Tensor, policy: Erased) -> Tensor:
    """Return labels in which the erased rectangles are left as they are, ignored or background.

    Args:
        labels: int64 ``B h w``.
        clean: ``B 3 H W`` before erasing.
        shown: the same images as the network saw them.
        policy: ``keep`` (erasing acts on the image only), ``ignore`` or ``background``.
    """
    if policy == "keep" or shown is clean:
        return labels
    erased = (shown != clean).any(1, keepdim=True)
    small = F.interpolate(erased.float(), labels.shape[1:], mode="nearest-exact")[:, 0] > 0
    return torch.where(small, IGNORED if policy == "ignore" else 0, labels)

"""`pise`: clothing transfer through the codes of garment regions, after PISE (Zhang et al., 2021).

A style encoder turns an image into one code per garment class, the mean of a map over the region.
A structure encoder says what is where. The fusion paints codes onto the structure, region by
region, after it has normalised away what each region looked like. Somebody is dressed by the
exchange of the codes of clothing. The network that PISE calls ParsingNet and its attention stage
have no part in it: pose and parsing stay, and attention would bring the old texture back.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_core.contract.fields import GARMENT_CLASSES
from reid_unsup_cc.dressing import CLOTHING
from reid_unsup_cc.pise_blocks import (
    Codes,
    Decoder,
    MapEncoder,
    Norm,
    RegionFusion,
    Residual,
    exchange,
    region_means,
)

STRIDE = 16
"""Heights and widths are padded to its multiples."""

CODE_STRIDE = 4


class PISE(nn.Module):
    """Put the clothing of templates on people; a `Dresser`.

    Args:
        width: of all layers; the codes have ``4 * width`` numbers.
        norm: see `Norm`; the published model has ``instance``.
        keep: leave every pixel as it is whose clothing is not exchanged. The published model paints
            all of them.
        flat: let codes carry the mean colour of their region, too, and paint the difference from
            it. The published model has to learn colours from nothing.
    """

    def __init__(
        self,
        width: int = 16,
        norm: Norm = "sample",
        keep: bool = True,
        flat: bool = True,
    ) -> None:
        super().__init__()
        wide, classes = 4 * width, len(GARMENT_CLASSES)
        self.keep, self.flat = keep, flat
        self.style = nn.Sequential(
            MapEncoder(3, width, norm, gated=False), nn.Conv2d(wide, wide, 1), nn.Tanh()
        )
        # Garments twice: of the pose that is shown, and of the one that is wanted.
        self.structure = MapEncoder(2 * classes + 3, width, norm, gated=True)
        self.fusion = RegionFusion(wide, classes)
        self.refine = Residual(wide, norm)
        self.decoder = Decoder(width, norm)
        if flat:
            self.decoder.start_small()

    def forward(
        self,
        images: Tensor,
        garments: Tensor,
        template_images: Tensor,
        template_garments: Tensor,
    ) -> Tensor:
        """Return the people of ``images`` in the templates' clothing; see `Dresser.__call__`."""
        own = self.codes(images, garments)
        other = self.codes(template_images, template_garments)
        painted = self.paint(images, garments, exchange(own, other, CLOTHING))
        painted = painted.clamp(0, 1)
        if not self.keep:
            return painted
        return torch.where(changed(garments, other)[:, None], painted, images.to(painted.dtype))

    def codes(self, images: Tensor, garments: Tensor) -> Codes:
        """Return the codes of images ``B 3 H W`` in 0 .. 1 with garments int64 ``B H W``."""
        images, garments = padded(images, garments)
        centred = 2 * images - 1
        codes = region_means(self.style(centred), self._regions(garments))
        if not self.flat:
            return codes
        colours = region_means(centred, one_hot(garments))
        return Codes(torch.cat([codes.rows, colours.rows], 2), codes.present)

    def paint(self, images: Tensor, garments: Tensor, codes: Codes) -> Tensor:
        """Return the images with every region painted after its code, float32, about 0 .. 1."""
        height, width = garments.shape[1:]
        images, garments = padded(images, garments)
        shown = one_hot(garments).to(images.dtype)
        maps = self.structure(torch.cat([shown, shown, 2 * images - 1], 1))
        used = codes.used()
        wide = len(self.fusion.own.weight)
        maps = self.fusion(maps, used[:, :, :wide], self._regions(garments))
        painted: Tensor = self.decoder(self.refine(maps)).float()
        if self.flat:
            colours = used[:, :, wide:].float()
            painted = painted + torch.einsum("bkc,bkhw->bchw", colours, shown.float())
        return ((painted + 1) / 2)[:, :, :height, :width]

    def _regions(self, garments: Tensor) -> Tensor:
        height, width = (length // CODE_STRIDE for length in garments.shape[1:])
        small = F.interpolate(garments[:, None].float(), (height, width), mode="nearest-exact")
        return one_hot(small[:, 0].long())


def one_hot(garments: Tensor) -> Tensor:
    """Return bool ``B K H W`` of classes int64 ``B H W``: every pixel in exactly one region."""
    classes = torch.arange(len(GARMENT_CLASSES), device=garments.device)
    return garments[:, None] == classes[:, None, None]


def changed(garments: Tensor, template: Codes) -> Tensor:
    """Return which pixels wear something that the template shows, bool ``B H W``."""
    shown = torch.zeros_like(template.present)
    shown[:, list(CLOTHING)] = template.present[:, list(CLOTHING)]
    return shown.gather(1, garments.flatten(1)).view_as(garments)


def padded(images: Tensor, garments: Tensor) -> tuple[Tensor, Tensor]:
    """Return both, filled up to multiples of `STRIDE` at the bottom and on the right.

    Images repeat their last row and column; garments are background.
    """
    below, right = (-length % STRIDE for length in garments.shape[1:])
    if not below and not right:
        return images, garments
    return (
        F.pad(images, (0, right, 0, below), mode="replicate"),
        F.pad(garments, (0, right, 0, below)),
    )

"""What `PISE` is told to paint, and how far it is from that."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reid_core import full_precision, unit_images
from reid_unsup_cc.dressing import CLOTHING
from reid_unsup_cc.pise import PISE
from reid_unsup_cc.pise_blocks import exchange

_THIRD, _HALF, _SIXTH = 3**-0.5, 2**-0.5, 6**-0.5

OPPONENT = (
    (_THIRD, _THIRD, _THIRD),
    (_HALF, 0.0, -_HALF),
    (_SIXTH, -2 * _SIXTH, _SIXTH),
)
"""Luminance, red against blue, and both against green: an orthonormal basis of RGB."""


class Lesson(nn.Module):
    """Dress people in a template's clothes, some of them in their own, and weigh the errors.

    Args:
        network: what is trained.
        share: of the rows whose template is the picture itself.
        elsewhere: weight of a pixel outside clothing; one of clothing weighs 1.
    """

    def __init__(self, network: PISE, share: float, elsewhere: float) -> None:
        super().__init__()
        self.network = network
        self.share, self.elsewhere = share, elsewhere

    def forward(
        self,
        image: Tensor,
        garments: Tensor,
        template: Tensor,
        template_garments: Tensor,
        dressed: Tensor,
        dressed_garments: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return errors and weights of people in others' and in their own clothes, ``B 2`` each.

        Rows of the other kind are 0.

        Args:
            image: ``B 3 H W``, ImageNet-normalised.
            garments: uint8 ``B H W``.
            template: uint8 ``B 3 H W``; `template_garments` is uint8 ``B H W``.
            dressed: the truth, uint8 ``B 3 H W``; `dressed_garments` is uint8 ``B H W``.
        """
        images, garments = unit_images(image), garments.long()
        templates, worn = template.float() / 255, template_garments.long()
        wanted, wanted_garments = dressed.float() / 255, dressed_garments.long()
        rows = torch.arange(len(images), device=images.device)
        alone = rows < round(self.share * len(images))
        templates, wanted = (
            torch.where(alone[:, None, None, None], images, other) for other in (templates, wanted)
        )
        worn, wanted_garments = (
            torch.where(alone[:, None, None], garments, other) for other in (worn, wanted_garments)
        )
        network = self.network
        codes = exchange(network.codes(images, garments), network.codes(templates, worn), CLOTHING)
        painted = network.paint(images, garments, codes)
        weights = pixel_weights(garments, wanted_garments, self.elsewhere)
        errors = weighted_errors(painted, wanted, weights)
        return errors * ~alone[:, None], errors * alone[:, None]


def pixel_weights(garments: Tensor, wanted: Tensor, elsewhere: float) -> Tensor:
    """Return the weight of every pixel, float32 ``B H W``.

    The parsing stays, so the network cannot know where a coat is longer than the jacket that it
    replaces: pixels whose class changes weigh nothing.

    Args:
        garments: what the picture shows, int64 ``B H W``.
        wanted: what the true picture shows.
        elsewhere: weight outside clothing.
    """
    clothing = torch.zeros_like(garments, dtype=torch.bool)
    for kind in CLOTHING:
        clothing |= garments == kind
    weights = torch.where(clothing, 1.0, elsewhere)
    return weights * (garments == wanted)


def weighted_errors(painted: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """Return the sum of weighted absolute errors and of weights of every image, ``B 2``.

    Errors are those of opponent colours: of red, green and blue, the error of the luminance gives
    all three their sign where it is the largest, and hues are hardly learned.

    Args:
        painted, wanted: ``B 3 H W`` in 0 .. 1.
        weights: ``B H W``.
    """
    basis = torch.tensor(OPPONENT, device=wanted.device)
    with full_precision(painted):
        off = torch.einsum("kc,bchw->bkhw", basis, painted.float() - wanted.float()).abs().mean(1)
    return torch.stack([(off * weights).sum((1, 2)), weights.sum((1, 2))], 1)


def mean_error(errors: Tensor) -> Tensor:
    """Return the mean error of rows as `weighted_errors` makes them; 0 without any weight."""
    error, weight = errors.sum(0).unbind()
    return error / weight.clamp(min=1)

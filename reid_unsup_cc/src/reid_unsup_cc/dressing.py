"""Dressers: how a person is put into the clothing of another picture.

A dresser is a function, or a network, of two pictures with their garment maps. It keeps the first
picture's person and pose and gives it the second one's clothing, region by region. So the result
has the first picture's garment map, and whatever else that says about its geometry.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from reid_core.contract.fields import GARMENT_CLASSES

CLOTHING = tuple(GARMENT_CLASSES.index(name) for name in ("upper", "lower", "shoes"))
"""Classes of the field ``garments`` that a change of clothes exchanges, region by region.

Hats stay: they are no part of PISE's exchange, and a head that gains or loses one changes its
outline.
"""


class Dresser(Protocol):
    """Put the clothing of templates on people."""

    def __call__(
        self, images: Tensor, garments: Tensor, template_images: Tensor, template_garments: Tensor
    ) -> Tensor:
        """Return the people of ``images``, in their pose, in the templates' clothing.

        Rows correspond: row ``b`` wears the clothing of template row ``b``. A region that the
        template does not show keeps the person's own look.

        Args:
            images: float ``B 3 H W`` in 0 .. 1.
            garments: int64 ``B H W``, classes of the field ``garments``.
            template_images: float ``B 3 H W`` in 0 .. 1.
            template_garments: int64 ``B H W``.

        Returns:
            Float ``B 3 H W`` in 0 .. 1.
        """

"""Drawing people on their surroundings: mesh, projection, visibility, light, and what is seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid_synthpeople.atlas import SIDE
from reid_synthpeople.figure import shape_figures
from reid_synthpeople.mesh import Mesh
from reid_synthpeople.optics import cast_shadows
from reid_synthpeople.projection import project
from reid_synthpeople.rasteriser import rasterise
from reid_synthpeople.scenery import add_ground_shadow
from reid_synthpeople.scenes import Scene
from reid_synthpeople.shading import Shader, find_surface, light_vertices
from reid_synthpeople.truth import Truth

_ANKLES = slice(15, 17)
"""Among the COCO joints."""


class Painter:
    """Draw people.

    Args:
        size: height and width in samples.
        device: where it works.
        smooth: interpolate between texels.
    """

    def __init__(self, size: tuple[int, int], device: torch.device, smooth: bool) -> None:
        self._size = size
        self._device = device
        self._mesh = Mesh(device)
        self._shader = Shader(self._mesh, device, smooth)

    def draw_people(
        self, canvas: Tensor, scenes: Sequence[Scene], surfaces: Sequence[NDArray[np.uint8]]
    ) -> Truth:
        """Draw people and their shadows on a canvas, float32 ``B H W 3``, in place.

        Args:
            canvas: their surroundings.
            scenes: one per row.
            surfaces: one per row, as `paint_surface` makes them; rows may share one.
        """
        cameras, views = [scene.camera for scene in scenes], [scene.view for scene in scenes]
        figures = shape_figures(
            [scene.person for scene in scenes],
            [scene.outfit for scene in scenes],
            [scene.pose for scene in scenes],
            self._device,
        )
        projected = project(figures, views, self._mesh.framing, self._size)
        add_ground_shadow(canvas, projected.joints[:, _ANKLES])
        fragments = rasterise(projected.points, projected.nearness, self._mesh.faces, self._size)
        cast_shadows(canvas, fragments.pixel, projected.joints[:, _ANKLES], cameras, views)
        seen = find_surface(self._mesh, fragments)
        drapes = [scene.outfit.drape for scene in scenes]
        light = light_vertices(figures, projected, cameras, views)
        texels, first_texel = self._stack(surfaces)
        colours, garments = self._shader.shade(
            fragments, seen, light, texels, first_texel, views, drapes
        )
        canvas.view(-1, 3).index_copy_(0, fragments.pixel, colours)
        x, y = seen.place.to(torch.uint8).unbind(1)
        labels = torch.stack([seen.part, garments, x, y], 1)
        return Truth.of_people(self._size, fragments, labels, projected)

    def _stack(self, surfaces: Sequence[NDArray[np.uint8]]) -> tuple[Tensor, Tensor]:
        """Return the texels of distinct surfaces in a row, and where each row's begin."""
        distinct = {id(surface): surface for surface in surfaces}
        order = {key: row for row, key in enumerate(distinct)}
        texels = torch.from_numpy(np.concatenate(list(distinct.values()))).view(-1, 4)
        first = [order[id(surface)] * SIDE**2 for surface in surfaces]
        return texels.to(self._device), torch.tensor(first, device=self._device)

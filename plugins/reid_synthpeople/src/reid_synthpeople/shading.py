"""Light and colour of visible surfaces.

Vertices get hemispheric ambient light and a wrapped sun, interpolated over triangles; cloth has
folds; pixels that lie behind their neighbourhood are darkened (ambient occlusion from the depth
buffer, at a reduced resolution).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from reid_core.contract.fields import PART_CLASSES
from reid_synthpeople.atlas import SIDE
from reid_synthpeople.camera import Camera, View
from reid_synthpeople.figure import Figures
from reid_synthpeople.mesh import Mesh
from reid_synthpeople.projection import Projected, rotate
from reid_synthpeople.randomness import generator, smooth_noise
from reid_synthpeople.rasteriser import Fragments

_HEAD = PART_CLASSES.index("head")

_FOLDS_KEY = (9, 9)
"""Of the stream of folds, the same in all worlds."""

_FOLDS = 2 * SIDE
"""Side of the square of folds; each picture shows another part of it."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What the visible pixels show.

    Args:
        part: class of the field ``parts``, uint8 ``P``.
        place: x and y on the atlas, float32 ``P 2``.
    """

    part: Tensor
    place: Tensor


def find_surface(mesh: Mesh, fragments: Fragments) -> Seen:
    """Return where on the body the visible pixels lie."""
    face = fragments.triangle - fragments.image * len(mesh.faces)
    corners = mesh.texels.index_select(0, face)
    first, second, third = fragments.weights[..., None].unbind(1)
    place = corners[:, 0] * first + corners[:, 1] * second + corners[:, 2] * third
    return Seen(mesh.parts.index_select(0, face), place)


def light_vertices(
    figures: Figures, projected: Projected, cameras: Sequence[Camera], views: Sequence[View]
) -> Tensor:
    """Return the light that falls on every vertex, ``B N``, about 1 in full light."""
    device = figures.vertices.device
    table = [
        [c.sun_azimuth, c.sun_elevation, c.ambient, c.sun * v.sun]
        for c, v in zip(cameras, views, strict=True)
    ]
    columns = torch.tensor(table, dtype=torch.float32, device=device).unbind(1)
    azimuth, elevation, ambient, sun = columns
    normals = rotate(projected.rotation, figures.normals)
    direction = torch.stack(
        [azimuth.sin() * elevation.cos(), elevation.sin(), azimuth.cos() * elevation.cos()], -1
    )
    facing = (normals * direction[:, None]).sum(-1)
    sky = (0.72 + 0.28 * normals[..., 1]) * (0.80 + 0.20 * normals[..., 2].clamp(min=0))
    light = ambient[:, None] * sky + sun[:, None] * (facing * 0.85 + 0.15).clamp(min=0)
    # Less light near the ground.
    level = figures.vertices[..., 1].float()
    level = (level / level.amax(1, keepdim=True)).clamp(0, 1)
    return light * (0.86 + 0.14 * (level * 2.5).clamp(max=1))


class Shader:
    """Colours of visible pixels.

    Args:
        mesh: whose triangles are seen.
        device: where it works.
        smooth: interpolate between texels; not worth it where pixels are averaged anyway.
    """

    def __init__(self, mesh: Mesh, device: torch.device, smooth: bool) -> None:
        self._mesh = mesh
        rng = generator(*_FOLDS_KEY)
        folds = smooth_noise(rng, _FOLDS, 9) + np.float32(0.7) * smooth_noise(rng, _FOLDS, 4)
        self._folds = torch.from_numpy(folds).to(device).reshape(-1)
        self._drape = torch.from_numpy(_long_folds()).to(device).reshape(-1)
        self._smooth = smooth

    def _drape_at(self, place: Tensor) -> Tensor:
        nearest = place.long()
        return self._drape.index_select(0, nearest[:, 1] * SIDE + nearest[:, 0])

    def shade(
        self,
        fragments: Fragments,
        seen: Seen,
        light: Tensor,
        texels: Tensor,
        first_texel: Tensor,
        views: Sequence[View],
        drapes: Sequence[float],
    ) -> tuple[Tensor, Tensor]:
        """Return what visible pixels look like and what they are.

        Args:
            fragments, seen: what is visible.
            light: on every vertex, ``B N``.
            texels: of all atlases in a row: red, green, blue and class of ``garments``, uint8
                ``T 4``.
            first_texel: where the atlas of each row of the batch begins, int64 ``B``.
            views: of the batch.
            drapes: light and dark of the folds of each row's outfit, beside the usual ones.

        Returns:
            Colours, float32 ``P 3``, 1 is white in full light, and classes of ``garments``, uint8
            ``P``.
        """
        device, image = light.device, fragments.image
        corners = light.index_select(1, self._mesh.faces.view(-1)).view(-1, 3)
        corners = corners.index_select(0, fragments.triangle)
        # Written out: sums over three numbers are slow.
        first, second, third = fragments.weights.unbind(1)
        shade = corners[:, 0] * first + corners[:, 1] * second + corners[:, 2] * third
        offsets = torch.tensor(
            [int(view.folds_y * 255) * _FOLDS + int(view.folds_x * 255) for view in views],
            device=device,
        )
        corner = (seen.place - 0.5).floor().long()
        fold = self._folds.index_select(
            0, offsets.index_select(0, image) + corner[:, 1] * _FOLDS + corner[:, 0]
        )
        cloth = seen.part > _HEAD
        shade = shade * (1 + 0.07 * fold * cloth)
        if any(drapes):
            depth = torch.tensor(drapes, dtype=torch.float32, device=device).index_select(0, image)
            shade = shade * (1 + depth * self._drape_at(seen.place) * cloth).clamp(min=0.3)
        start = first_texel.index_select(0, image)
        nearest = seen.place.long()
        # Four bytes are gathered as one integer.
        packed = texels.view(torch.int32).view(-1)
        texel = packed.index_select(0, start + nearest[:, 1] * SIDE + nearest[:, 0])
        texel = texel.view(-1, 1).view(torch.uint8)
        albedo, garment = texel[:, :3].float(), texel[:, 3]
        if self._smooth:
            albedo = _interpolate(packed, start, corner, seen.place)
        factor = shade / 255 * (1 - 3.0 * _occlusion(fragments, views))
        return albedo * factor[:, None], garment


def _long_folds() -> NDArray[np.float32]:
    """Return folds that hang down or run aslant, ``256 256``, about -1 to 1."""
    rng = generator(*_FOLDS_KEY, 1)
    fine, coarse = smooth_noise(rng, 4 * SIDE, 12), smooth_noise(rng, 4 * SIDE, 22)
    rows, columns = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
    hanging = fine[rows // 2, columns * 2 + rows // 8]
    aslant = coarse[rows * 2, columns * 2 + rows]
    folds: NDArray[np.float32] = np.tanh(0.8 * hanging + 0.6 * aslant)
    return folds


def _interpolate(packed: Tensor, start: Tensor, corner: Tensor, place: Tensor) -> Tensor:
    """Return bilinear colours ``P 3``, 0 to 255, at places on atlases of packed texels."""
    x, y = (place - 0.5 - corner).unbind(1)
    first = start + corner[:, 1] * SIDE + corner[:, 0]
    colour = torch.zeros(len(place), 4, device=place.device)
    for step, weight in (
        (0, (1 - x) * (1 - y)),
        (1, x * (1 - y)),
        (SIDE, (1 - x) * y),
        (SIDE + 1, x * y),
    ):
        texel = packed.index_select(0, first + step).view(-1, 1).view(torch.uint8)
        colour.addcmul_(texel.float(), weight[:, None])
    return colour[:, :3]


def _occlusion(fragments: Fragments, views: Sequence[View]) -> Tensor:
    """Return how far visible pixels lie behind their neighbourhood in metres, ``P``, 0 to 0.12."""
    nearness = fragments.nearness[:, None]
    height, width = nearness.shape[2:]
    cell = max(1, height // 64)

    def pool(values: Tensor) -> Tensor:
        return functional.avg_pool2d(functional.avg_pool2d(values, cell), 3, 1, 1)

    mean = pool(nearness) / pool((nearness > 0).float()).clamp(min=1e-3)
    mean = functional.interpolate(mean, (height, width), mode="bilinear", align_corners=False)
    near = nearness.reshape(-1).index_select(0, fragments.pixel)
    around = mean.reshape(-1).index_select(0, fragments.pixel)
    distance = torch.tensor([view.distance for view in views], device=near.device)
    behind = (around / near - 1) * distance.index_select(0, fragments.image)
    return behind.clamp(0, 0.12)

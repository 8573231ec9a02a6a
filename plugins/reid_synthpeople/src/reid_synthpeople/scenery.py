"""What surrounds a person in a picture: backdrop, bystander, shadow on the ground, occluder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reid_synthpeople.camera import Occluder, View


@dataclass(frozen=True, eq=False)
class Sprite:
    """Somebody to put beside a person: colours float32 ``H W 3`` and where they are, ``H W``."""

    colour: Tensor
    mask: Tensor


def cut_backdrops(
    backdrops: Sequence[Tensor], views: Sequence[View], size: tuple[int, int]
) -> Tensor:
    """Return the part of each backdrop (uint8) that its view shows, float32 ``B H W 3``."""
    height, width = size
    parts = []
    for backdrop, view in zip(backdrops, views, strict=True):
        top = int(view.backdrop_y * (backdrop.shape[0] - height) * 0.35)
        left = int(view.backdrop_x * (backdrop.shape[1] - width))
        parts.append(backdrop[top : top + height, left : left + width])
    return torch.stack(parts).float() / 255


def add_bystander(scene: Tensor, sprite: Sprite, x: float, y: float) -> None:
    """Put a sprite into a scene ``H W 3``, moved by shares of its size, a little darker."""
    height, width = scene.shape[:2]
    across, down = int(x * width), int(y * height)
    left, right = max(0, across), min(width, width + across)
    top, bottom = max(0, down), min(height, height + down)
    source = slice(top - down, bottom - down), slice(left - across, right - across)
    target = scene[top:bottom, left:right]
    mask = sprite.mask[source][..., None]
    target.copy_(torch.where(mask, sprite.colour[source] * 0.8, target))


def add_ground_shadow(scenes: Tensor, ankles: Tensor) -> None:
    """Darken the ground of scenes ``B H W 3`` softly around the feet (``B 2 2``, pixels)."""
    height, width = scenes.shape[1:3]
    centre = ankles.mean(1)
    radius = (ankles[:, 0, 0] - ankles[:, 1, 0]).abs() * 0.7 + 0.11 * width
    top = int(height * 0.84)
    y = torch.arange(top, height, device=scenes.device)[None, :, None]
    x = torch.arange(width, device=scenes.device)[None, None]
    away = ((x - centre[:, 0, None, None]) / radius[:, None, None]) ** 2
    away = away + ((y - centre[:, 1, None, None] - 0.02 * height) / (0.045 * height)) ** 2
    scenes[:, top:] *= (1 - 0.45 * torch.exp(-away))[..., None]


def occluded_area(occluder: Occluder, size: tuple[int, int]) -> tuple[slice, slice]:
    """Return the rows and columns that an occluder covers."""
    height, width = size
    top, bottom = max(0, round(occluder.top * height)), round(occluder.bottom * height)
    left, right = max(0, round(occluder.left * width)), round(occluder.right * width)
    return slice(top, bottom), slice(left, min(right, width))


def add_occluder(
    scene: Tensor, occluder: Occluder, area: tuple[slice, slice], backdrop: Tensor
) -> None:
    """Cover an area of a scene ``H W 3`` with an occluder, tinged by a patch of the backdrop."""
    target = scene[area]
    height, width = target.shape[:2]
    top = int(occluder.patch_y * (backdrop.shape[0] - height))
    left = int(occluder.patch_x * (backdrop.shape[1] - width))
    patch = backdrop[top : top + height, left : left + width].float() / 255
    colour = torch.from_numpy(occluder.colour).to(scene)
    target.copy_(patch * 0.4 + colour * 0.6)

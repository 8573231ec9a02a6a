"""Perspective projection of figures into the frames of their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reid_synthpeople.camera import View
from reid_synthpeople.figure import Figures
from reid_synthpeople.mesh import constant

_TARGET_HEIGHT = 0.95
"""Metres above the ground at which cameras look."""


@dataclass(frozen=True, eq=False)
class Projected:
    """Figures in pictures.

    Args:
        points: vertices in pixels, float32 ``B N 2``.
        nearness: inverse distance along the view, 1 per metre, ``B N``.
        joints: in pixels, ``B 17 2``; `joint_nearness` is ``B 17``.
        rotation: from the figure's axes to the camera's (right, up, towards it), ``B 3 3``.
    """

    points: Tensor
    nearness: Tensor
    joints: Tensor
    joint_nearness: Tensor
    rotation: Tensor


def project(
    figures: Figures, views: Sequence[View], framing: Tensor, size: tuple[int, int]
) -> Projected:
    """Project figures so that each fills its frame.

    Args:
        figures: in metres.
        views: one per figure.
        framing: indices of the vertices that define the frame: those of the bare body, so that
            hair, bag and skirt do not move it.
        size: height and width of the frame in pixels.
    """
    device = figures.vertices.device
    table = [
        [v.yaw, v.pitch, v.distance, v.roll, v.scale, v.centre_x, v.centre_y, v.aspect]
        for v in views
    ]
    columns = torch.tensor(table, dtype=torch.float64, device=device).unbind(1)
    yaw, pitch, distance, roll, scale, centre_x, centre_y, aspect = columns
    rotation = _rotation(yaw, pitch, roll)
    target = constant([0.0, _TARGET_HEIGHT, 0.0], device)

    def see(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        seen = rotate(rotation, points - target)
        nearness = 1 / (distance[:, None] - seen[..., 2])
        return seen[..., 0] * nearness, -seen[..., 1] * nearness, nearness

    x, y, nearness = see(figures.vertices)
    joint_x, joint_y, joint_nearness = see(figures.joints)
    left, right = x[:, framing].aminmax(dim=1)
    top, bottom = y[:, framing].aminmax(dim=1)
    height = bottom - top
    zoom_y = size[0] / (height * scale)
    zoom_x = zoom_y * aspect
    middle_x = (left + right) / 2 + centre_x * height
    middle_y = (top + bottom) / 2 + centre_y * height

    def frame(x: Tensor, y: Tensor) -> Tensor:
        across = (x - middle_x[:, None]) * zoom_x[:, None] + size[1] / 2
        down = (y - middle_y[:, None]) * zoom_y[:, None] + size[0] / 2
        return torch.stack([across, down], -1)

    return Projected(
        frame(x, y).float(),
        nearness.float(),
        frame(joint_x, joint_y).float(),
        joint_nearness.float(),
        rotation.float(),
    )


def rotate(rotation: Tensor, vectors: Tensor) -> Tensor:
    """Return rotated vectors ``B N 3``; summed in a fixed order, unlike a matrix product."""
    x, y, z = vectors[..., None].unbind(2)
    to_x, to_y, to_z = rotation[:, None].unbind(3)
    return x * to_x + y * to_y + z * to_z


def _rotation(yaw: Tensor, pitch: Tensor, roll: Tensor) -> Tensor:
    """Return rotations ``B 3 3`` whose rows are the camera's right, up and backwards."""
    sin_yaw, cos_yaw, sin_pitch, cos_pitch = yaw.sin(), yaw.cos(), pitch.sin(), pitch.cos()
    zero = torch.zeros_like(yaw)
    level = torch.stack([cos_yaw, zero, -sin_yaw], -1)
    upright = torch.stack([-sin_yaw * sin_pitch, cos_pitch, -cos_yaw * sin_pitch], -1)
    backwards = torch.stack([sin_yaw * cos_pitch, sin_pitch, cos_yaw * cos_pitch], -1)
    sin_roll, cos_roll = roll.sin()[:, None], roll.cos()[:, None]
    right = level * cos_roll + upright * sin_roll
    up = upright * cos_roll - level * sin_roll
    return torch.stack([right, up, backwards], 1)

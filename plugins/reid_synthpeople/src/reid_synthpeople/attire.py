"""The tubes that only clothes have: a skirt or the tail of a coat, and a bag."""

from __future__ import annotations

import torch
from torch import Tensor

from reid_synthpeople.mesh import Columns, angles, constant, steps, tube
from reid_synthpeople.skeleton import Skeleton, scaled, vector


def skirt_tube(build: Columns, cut: Columns, skeleton: Skeleton) -> Tensor:
    """Return a tube around both legs, which encloses them at every height; ``B R C 3``.

    Legs in stride push it outwards, and it never narrows below a knee that pushed it.
    """
    s, device = skeleton, skeleton.height.device
    h = s.height[:, None]
    rows = steps(0, 1, 8, device)
    top = s.waist[:, 1, None] * 0.25
    level = top - rows * (cut.skirt_length[:, None] * h + top)
    legs = _legs_at(level, s)
    centre = legs.mean(1)
    apart = (legs[:, 0, :, 0] - legs[:, 1, :, 0]).abs() * 0.5
    forwards = legs[..., 2] - centre[:, None, :, 2]
    # What a slanting leg measures across at one height.
    slant = (1 / s.thigh[..., 1].abs().clamp(min=0.55).amin(1))[:, None]
    upper, lower = cut.top_thickness, cut.bottom_thickness
    padding = torch.maximum(torch.maximum(upper * 1.1, lower), 0.6 * upper) + 0.006
    leg = (build.thigh_radius * 1.08)[:, None] * h * (1 - 0.22 * rows)
    leg = leg + (lower + 0.5 * upper + 0.004)[:, None] * h
    flare = cut.skirt_flare[:, None] * h * rows
    narrowing = h * (1 - 0.08 * rows)

    def radius(of_legs: Tensor, of_hips: Tensor) -> Tensor:
        return torch.maximum(of_legs, (of_hips + padding)[:, None] * narrowing) + flare

    ahead = (forwards.amax(1) + leg * slant).cummax(1).values
    behind = ((-forwards).amax(1) + leg * slant).cummax(1).values
    fit = constant([0.88, 0.96, 1, 1, 1, 1, 1, 1], device) * cut.skirt[:, None]
    radii = (
        radius(apart + leg, build.hip_width) * fit,
        radius(ahead, build.waist_depth + 0.8 * build.belly) * fit,
        radius(behind, build.waist_depth + build.glute) * fit,
    )
    centres = torch.stack([centre[..., 0], level, centre[..., 2]], -1)
    axes = (s.pelvis_side[:, None], s.pelvis_front[:, None])
    return tube(centres, axes, radii, angles("skirt", device), 0.9)


def _legs_at(level: Tensor, skeleton: Skeleton) -> Tensor:
    """Return the points of both legs at some heights ``B R``: ``B 2 R 3``."""
    hip, knee, ankle = skeleton.hip, skeleton.knee, skeleton.ankle

    def share(upper: Tensor, lower: Tensor) -> Tensor:
        length = (upper[..., 1] - lower[..., 1]).clamp(min=0.05)
        return ((upper[..., 1, None] - level[:, None]) / length[..., None]).clamp(0, 1)[..., None]

    thigh, shank = (knee - hip)[..., None, :], (ankle - knee)[..., None, :]
    return hip[..., None, :] + thigh * share(hip, knee) + shank * share(knee, ankle)


def bag_tube(build: Columns, cut: Columns, skeleton: Skeleton) -> Tensor:
    """Return a backpack, or a bag on the subject's left hip or in the left hand; ``B R C 3``."""
    s, device = skeleton, skeleton.height.device
    h = s.height
    zero = torch.zeros_like(h)
    pack, bag, hand = cut.backpack, cut.shoulder_bag, cut.hand_bag
    on_back = (
        s.waist
        + scaled(s.upper_up, 0.34 * s.trunk)
        - scaled(s.chest_front, (build.chest_depth + 0.045 + cut.top_thickness) * h)
    )
    on_hip = (
        s.pelvis
        + scaled(s.pelvis_side, (build.hip_width + 0.03) * h)
        + vector(zero, 0.01 * h, zero)
    )
    in_hand = s.wrist[:, 0] - vector(zero, 0.15 * h * cut.bag_size, zero)
    centre = on_back * pack[:, None] + on_hip * bag[:, None] + in_hand * hand[:, None]
    size = cut.bag_size * h
    half = (0.125 * pack + 0.07 * bag + 0.085 * hand) * size
    rows = constant([-0.99, -0.88, -0.5, -0.17, 0.17, 0.5, 0.88, 0.99], device)
    outline = (1 - rows.abs() ** 4) ** 0.5
    radii = (
        outline * ((0.085 * pack + 0.025 * bag + 0.022 * hand) * size)[:, None],
        outline * ((0.05 * pack + 0.075 * bag + 0.085 * hand) * size)[:, None],
        outline * ((0.055 * pack + 0.075 * bag + 0.085 * hand) * size)[:, None],
    )
    centres = centre[:, None] - s.upper_up[:, None] * (rows[:, None] * half[:, None, None])
    axes = (s.chest_side[:, None], s.chest_front[:, None])
    return tube(centres, axes, radii, angles("bag", device), 0.7)

"""The head's tubes: head, hair or hat, bun or ponytail."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reid_synthpeople.mesh import Columns, angles, constant, steps, tube
from reid_synthpeople.skeleton import Skeleton, scaled

_PROFILE = (0.04, 0.42, 0.68, 0.85, 0.95, 1.0, 1.0, 0.98, 0.94, 0.90, 0.84, 0.64, 0.08)
"""Radius from the crown to the chin."""

_JAW = (0.0, 0, 0, 0, 0, 0, 0, 0.1, 0.3, 0.55, 0.8, 1.0, 1.0)
"""How much the width of the jaw counts."""

_NAPE = (1.0, 1, 1, 1, 1, 1, 1, 0.97, 0.9, 0.8, 0.7, 0.6, 0.5)
"""Radius behind, relative to the front."""

_NOSE = ((7, 0.7), (8, 1.0))
"""Rows of the nose and how far it stands out."""


def head_tubes(
    build: Columns, hair: Columns, cut: Columns, skeleton: Skeleton
) -> dict[str, Tensor]:
    """Return head, hair and bun by chart name, ``B R C 3`` each."""
    return {
        "head": _head(build, skeleton),
        "hair": _hair(build, hair, cut, skeleton),
        "bun": _bun(build, hair, cut, skeleton),
    }


def _head(build: Columns, skeleton: Skeleton) -> Tensor:
    s, h, device = skeleton, skeleton.height, skeleton.height.device
    rows = steps(0, 1, 13, device)
    centres = s.crown[:, None] - s.head_up[:, None] * (
        rows[:, None] * (build.head * h)[:, None, None]
    )
    profile = constant(_PROFILE, device)
    profile = profile * (1 - constant(_JAW, device) * (1 - build.jaw)[:, None])
    width, depth = (build.head_width * h)[:, None], (build.head_depth * h)[:, None]
    behind = profile * constant(_NAPE, device)
    head = tube(
        centres,
        (s.head_side[:, None], s.head_front[:, None]),
        (profile * width, profile * depth * 0.95, behind * depth * 1.08),
        angles("head", device),
        0.95,
    )
    middle = head.shape[2] // 2
    for row, share in _NOSE:
        head[:, row, middle] += share * scaled(s.head_front, 0.016 * h)
    return head


def _hair(build: Columns, hair: Columns, cut: Columns, skeleton: Skeleton) -> Tensor:
    """Return the shell of hair, whose length is its own in front, at the sides and behind.

    A hat is a short, thick shell; bald heads have theirs inside the skull.
    """
    s, device = skeleton, skeleton.height.device
    h = s.height[:, None]
    around = angles("hair", device)
    turns = (torch.remainder(around / (2 * math.pi) + 0.5, 1) - 0.5).abs()
    hat = cut.hat[:, None]
    front = (hair.front + hair.fringe * 0.6)[:, None]
    side, back = hair.side[:, None], hair.back[:, None]
    length = (
        front
        + (side - front) * ((turns - 0.11) / 0.11).clamp(0, 1)
        + (back - side) * ((turns - 0.26) / 0.14).clamp(0, 1)
    )
    length = length * (1 - hat) + hat * 0.36
    thickness = hair.thickness[:, None] * (1 - hat) + hat * 0.008
    inside = (hair.bald[:, None] > 0.5) & (hat < 0.5)
    offset = torch.where(inside, -0.02, thickness) * h
    rows = steps(0, 1, 11, device)[:, None]
    down = rows * length[:, None]
    # A half ellipsoid to the middle of the head, then a curtain that narrows a little.
    dome = torch.sqrt((1 - ((0.5 - down) / 0.5) ** 2).clamp(min=0.0016))
    shape = torch.where(down < 0.5, dome, torch.ones_like(down))
    shape = shape * (1 - 0.10 * (down - 1).clamp(0, 1.5))
    tuck = torch.ones(11, 1, device=device)
    tuck[-1] = 0.55
    sine, cosine = torch.sin(around), torch.cos(around)
    width, depth = build.head_width[:, None] * h, build.head_depth[:, None] * h
    across = (width[..., None] + offset[..., None]) * shape * tuck
    ahead = torch.where(cosine > 0, depth * 0.95, depth * 1.08)[:, None] + offset[..., None]
    ahead = ahead * shape * tuck
    head = (build.head * s.height)[:, None, None]
    drop = down * head - offset[..., None] * (1 - 2 * down).clamp(min=0)
    droop = (down - 0.9).clamp(min=0) * (head * 0.16)
    return (
        s.crown[:, None, None]
        - s.head_up[:, None, None] * drop[..., None]
        + (across * sine)[..., None] * s.head_side[:, None, None]
        + (ahead * cosine - droop)[..., None] * s.head_front[:, None, None]
    )


def _bun(build: Columns, hair: Columns, cut: Columns, skeleton: Skeleton) -> Tensor:
    """Return an ellipsoid behind the head: small for a bun (none under a hat), long for a tail."""
    s, device = skeleton, skeleton.height.device
    bun, tail = hair.bun * (1 - cut.hat), hair.ponytail
    head, depth = build.head * s.height, build.head_depth * s.height
    half = head * (0.20 * bun + 0.62 * tail)
    centre = (
        s.crown
        - scaled(s.head_up, head * (0.30 * bun + 0.85 * tail))
        - scaled(s.head_front, depth * (1.25 * bun + 1.3 * tail))
    )
    rows = constant([-0.99, -0.8, -0.3, 0.3, 0.8, 0.99], device)
    radius = torch.sqrt(1 - rows * rows) * (head * (0.19 * bun + 0.14 * tail))[:, None]
    centres = centre[:, None] - s.head_up[:, None] * (rows[:, None] * half[:, None, None])
    return tube(
        centres,
        (s.head_side[:, None], s.head_front[:, None]),
        (radius, radius, radius),
        angles("bun", device),
    )

"""The body's tubes: trunk, arms, legs, hands and feet, with the thickness of clothes on them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from reid_synthpeople.mesh import Columns, angles, constant, interpolate, spline, steps, tube
from reid_synthpeople.skeleton import Skeleton, pair, scaled, sides, vector

_LIMBS = tuple(
    f"{name} {side}"
    for name in ("upper arm", "lower arm", "upper leg", "lower leg")
    for side in ("left", "right")
)


def torso_tube(build: Columns, cut: Columns, skeleton: Skeleton) -> Tensor:
    """Return the trunk from the neck to between the legs, ``B R C 3``: nine knots, a spline."""
    b, s, device = build, skeleton, skeleton.height.device
    h = s.height
    axis = torch.stack(
        [
            s.neck_top + scaled(s.neck_up, 0.30 * b.head * h),
            s.neck_base + (s.neck_top - s.neck_base) * 0.35,
            s.neck_base,
            s.shoulder_line - scaled(s.upper_up, b.shoulder_slope * 0.75 * h),
            s.waist + scaled(s.upper_up, 0.36 * s.trunk),
            s.waist + scaled(s.upper_up, 0.17 * s.trunk),
            s.waist,
            s.pelvis + scaled(s.lower_up, 0.02 * h),
            s.pelvis - scaled(s.lower_up, 0.062 * h),
        ],
        1,
    )
    waist_front = b.waist_depth + b.belly
    knots_across = [
        b.neck_radius,
        b.neck_radius,
        b.shoulder * 0.30 + b.neck_radius * 1.05,
        b.shoulder * 0.90,
        b.chest_width,
        b.chest_width * 0.5 + b.waist_width * 0.5,
        b.waist_width,
        b.hip_width,
        b.hip_width * 0.86,
    ]
    knots_ahead = [
        b.neck_radius * 0.95,
        b.neck_radius * 0.95,
        b.neck_radius * 1.1,
        b.chest_depth * 0.78,
        b.chest_depth + b.bust,
        b.waist_depth * 0.6 + b.chest_depth * 0.4 + 0.4 * b.bust + 0.4 * b.belly,
        waist_front,
        b.waist_depth + b.belly * 0.6,
        b.waist_depth * 0.85,
    ]
    knots_behind = [
        b.neck_radius,
        b.neck_radius,
        b.neck_radius * 1.25 + 0.012 * cut.hood,
        b.chest_depth * 0.95 + 0.008 * cut.hood,
        b.chest_depth,
        b.waist_depth * 0.5 + b.chest_depth * 0.5,
        b.waist_depth,
        b.waist_depth + b.glute,
        b.waist_depth * 0.85 + b.glute,
    ]
    constants = _torso_constants(device)
    cloth = _cloth_on_torso(cut)
    radii = [
        interpolate(constants.weights, torch.stack(knots, -1) + cloth) * constants.closing
        for knots in (knots_across, knots_ahead, knots_behind)
    ]
    centres = interpolate(constants.weights, axis.transpose(1, 2)).transpose(1, 2)
    turned = constants.turning
    side = s.chest_side[:, None] * (1 - turned) + s.pelvis_side[:, None] * turned
    front = s.chest_front[:, None] * (1 - turned) + s.pelvis_front[:, None] * turned
    across, ahead, behind = (radius * h[:, None] for radius in radii)
    return tube(centres, (side, front), (across, ahead, behind), angles("torso", device), 0.85)


def _cloth_on_torso(cut: Columns) -> Tensor:
    """Return what clothes add at the nine knots of the trunk, in shares of the height."""
    top, bottom = cut.top_thickness, cut.bottom_thickness
    none = torch.zeros_like(top)
    return torch.stack(
        [
            none,
            none,
            0.4 * top,
            top,
            top,
            top * 1.15,
            torch.maximum(top * 1.3, bottom),
            torch.maximum(top * 1.1, bottom),
            bottom,
        ],
        -1,
    )


class _TorsoConstants:
    """Spline weights of the trunk's rows, how they close at its ends, and where it turns."""

    def __init__(self, device: torch.device) -> None:
        rows = np.concatenate([np.linspace(0, 3, 7)[:-1], np.linspace(3, 8, 13)])
        self.weights = spline(9, rows.tolist(), device)
        self.closing = torch.ones(19, device=device)
        self.closing[0], self.closing[-2], self.closing[-1] = 0.9, 0.72, 0.02
        self.turning = torch.cat([torch.zeros(5), torch.linspace(0, 1, 14)]).to(device)[
            None, :, None
        ]


@lru_cache(maxsize=4)
def _torso_constants(device: torch.device) -> _TorsoConstants:
    return _TorsoConstants(device)


def limb_tubes(
    build: Columns, cut: Columns, pose: Columns, skeleton: Skeleton
) -> dict[str, Tensor]:
    """Return arms, legs, hands and feet by chart name, ``B R C 3`` each."""
    s = skeleton
    start = torch.cat([s.shoulder, s.elbow, s.hip, s.knee], 1)
    end = torch.cat([s.elbow, s.wrist, s.knee, s.ankle], 1)
    bone = end - start
    length = bone.norm(dim=-1, keepdim=True)
    down = bone / length
    reference = torch.cat(
        [s.chest_side[:, None].expand(-1, 4, 3), s.pelvis_side[:, None].expand(-1, 4, 3)], 1
    )
    side = reference - (reference * down).sum(-1, keepdim=True) * down
    side = side / side.norm(dim=-1, keepdim=True)
    front = torch.linalg.cross(side, -down)
    radius = _limb_radii(build, cut)
    first, last = radius[..., :1], radius[..., -1:]
    # Two rows close each end to a cap.
    radii = torch.cat([first * 0.02, first * 0.69, radius, last * 0.69, last * 0.02], -1)
    between = steps(0, 1, 6, s.height.device) * length
    along = torch.cat(
        [-first, -first * 0.72, between, length + last * 0.576, length + last * 0.8], -1
    )
    centres = start[..., None, :] + along[..., None] * down[..., None, :]
    ahead, behind = radii.clone(), radii.clone()
    behind[:, 6:8, 3:6] *= 1.22  # calves
    ahead[:, 6:8, 3:6] *= 0.92
    ahead[:, 4:6, 2:6] *= 1.08  # thighs
    behind[:, 4:6, :4] *= 1.08
    tubes = tube(
        centres,
        (side[..., None, :], front[..., None, :]),
        (radii, ahead, behind),
        angles("limb", s.height.device),
    )
    named = dict(zip(_LIMBS, tubes.unbind(1), strict=True))
    named |= _hand_tubes(build, s, (side[:, 2:4, None], front[:, 2:4, None]))
    return named | _foot_tubes(build, pose, s)


def _limb_radii(build: Columns, cut: Columns) -> Tensor:
    """Return the radii of the eight limbs at six rows each, clothes included, ``B 8 6``."""
    b, device = build, build.height.device
    knots = constant([0.0, 1 / 3, 2 / 3, 1.0], device)

    def covered(share: Tensor) -> Tensor:
        # Cloth ends softly, so that sleeves and shorts have an edge but no step.
        return torch.sigmoid((share[:, None] - knots) * 30)

    top, bottom = 0.8 * cut.top_thickness[:, None], cut.bottom_thickness[:, None]
    flare = cut.trouser_flare[:, None] * knots
    thigh = torch.stack(
        [
            b.thigh_radius,
            b.thigh_radius * 0.92,
            b.knee_radius * 0.55 + b.thigh_radius * 0.45,
            b.knee_radius * 1.02,
        ],
        -1,
    )
    shank = torch.stack(
        [
            b.knee_radius,
            b.calf_radius,
            b.calf_radius * 0.55 + b.ankle_radius * 0.45,
            b.ankle_radius,
        ],
        -1,
    )
    upper_arm = torch.stack(
        [
            b.deltoid_radius,
            b.upper_arm_radius,
            b.upper_arm_radius * 0.75 + b.elbow_radius * 0.25,
            b.elbow_radius,
        ],
        -1,
    )
    forearm = torch.stack(
        [
            b.elbow_radius,
            b.lower_arm_radius,
            b.lower_arm_radius * 0.6 + b.wrist_radius * 0.4,
            b.wrist_radius,
        ],
        -1,
    )
    fit = constant([0.6, 1.0, 1.1, 1.0], device)
    upper_arm = upper_arm + top * covered(cut.upper_arm)
    forearm = forearm + top * covered(cut.lower_arm)
    thigh = thigh + bottom * covered(cut.upper_leg) * fit
    shank = shank + (bottom + flare) * covered(cut.lower_leg)
    limbs = [upper_arm, upper_arm, forearm, forearm, thigh, thigh, shank, shank]
    return interpolate(_limb_weights(device), torch.stack(limbs, 1) * b.height[:, None, None])


@lru_cache(maxsize=4)
def _limb_weights(device: torch.device) -> Tensor:
    return spline(4, np.linspace(0, 3, 6).tolist(), device)


def _hand_tubes(
    build: Columns, skeleton: Skeleton, axes: tuple[Tensor, Tensor]
) -> dict[str, Tensor]:
    h, device = skeleton.height, skeleton.height.device
    along = steps(-0.06, 1.0, 6, device)[:, None] * (0.098 * h)[:, None, None, None]
    profile = constant([0.02, 0.75, 1.0, 0.95, 0.7, 0.05], device)
    radius = (build.wrist_radius * h)[:, None, None] * profile
    centres = skeleton.wrist[..., None, :] + skeleton.forearm[..., None, :] * along
    thin, wide = (radius * 0.8).expand(-1, 2, 6), (radius * 1.35).expand(-1, 2, 6)
    hands = tube(centres, axes, (thin, wide, wide), angles("hand", device))
    return {"hand left": hands[:, 0], "hand right": hands[:, 1]}


def _foot_tubes(build: Columns, pose: Columns, skeleton: Skeleton) -> dict[str, Tensor]:
    """Return the feet; their axis runs from heel to toe, and the section's front is up."""
    s, h, device = skeleton, skeleton.height, skeleton.height.device
    zero = torch.zeros_like(h)
    vertical = vector(zero, zero + 1, zero)[:, None]
    pitch, out = pair(pose, "foot"), pose.toe_out[:, None] * sides(device)
    forwards = (
        torch.sin(out)[..., None] * s.pelvis_side[:, None]
        + (torch.cos(out) * torch.cos(pitch))[..., None] * s.pelvis_front[:, None]
        + torch.sin(pitch)[..., None] * vertical
    )
    up = vertical - (vertical * forwards).sum(-1, keepdim=True) * forwards
    up = up / up.norm(dim=-1, keepdim=True)
    side = torch.linalg.cross(up, forwards)
    along = constant([-0.26, -0.23, -0.08, 0.12, 0.36, 0.56, 0.70, 0.74], device)
    wide = constant([0.05, 0.62, 0.78, 0.80, 0.95, 1.0, 0.70, 0.05], device)
    high = constant([0.05, 0.8, 1.15, 0.95, 0.62, 0.45, 0.35, 0.04], device)
    deep = constant([0.05, 1, 1, 1, 1, 1, 0.9, 0.05], device)
    unit = h[:, None, None]
    centres = (
        s.ankle[..., None, :]
        + forwards[..., None, :] * (along[:, None] * (build.foot_length * h)[:, None, None, None])
        - up[..., None, :] * (0.022 * unit[..., None])
    )
    radii = (0.029 * unit * wide, 0.030 * unit * high, 0.019 * unit * deep)
    across, above, below = (radius.expand(-1, 2, 8) for radius in radii)
    feet = tube(
        centres,
        (-side[..., None, :], up[..., None, :]),
        (across, above, below),
        angles("foot", device),
        0.8,
    )
    return {"foot left": feet[:, 0], "foot right": feet[:, 1]}

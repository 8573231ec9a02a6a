"""The skeleton of a posed body: joints, directions and frames, from build and pose.

Axes: x to the subject's left, y up, z forwards; the pelvis is the origin. Lengths are metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reid_synthpeople.mesh import Columns, constant


@dataclass(frozen=True, eq=False)
class Skeleton:
    """Joints and frames of a batch of bodies; pairs are left and right, ``B 2 3``.

    Args:
        height: ``B``.
        trunk: length from hip joints to shoulder line, ``B``.
        pelvis_side, pelvis_front: the pelvis's frame, ``B 3``; its up is the vertical.
        chest_side, chest_front: the chest's, turned against it.
        lower_up, upper_up, neck_up: directions of the trunk's lower and upper half and the neck.
        pelvis, waist, shoulder_line, neck_base, neck_top: along the trunk.
        shoulder, elbow, wrist, hip, knee, ankle: joints.
        thigh, forearm: unit directions of upper leg and lower arm.
        head_side, head_up, head_front: the head's frame; `crown` is its top.
    """

    height: Tensor
    trunk: Tensor
    pelvis_side: Tensor
    pelvis_front: Tensor
    chest_side: Tensor
    chest_front: Tensor
    lower_up: Tensor
    upper_up: Tensor
    neck_up: Tensor
    pelvis: Tensor
    waist: Tensor
    shoulder_line: Tensor
    neck_base: Tensor
    neck_top: Tensor
    shoulder: Tensor
    elbow: Tensor
    wrist: Tensor
    hip: Tensor
    knee: Tensor
    ankle: Tensor
    thigh: Tensor
    forearm: Tensor
    head_side: Tensor
    head_up: Tensor
    head_front: Tensor
    crown: Tensor


def vector(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Return vectors ``B 3`` of coordinates ``B``."""
    return torch.stack([x, y, z], -1)


def scaled(direction: Tensor, length: Tensor) -> Tensor:
    """Return vectors of some lengths."""
    return direction * length[..., None]


def pair(columns: Columns, name: str) -> Tensor:
    """Return a left and a right number as ``B 2``."""
    return torch.stack([getattr(columns, f"{name}_left"), getattr(columns, f"{name}_right")], -1)


def pose_skeleton(build: Columns, pose: Columns) -> Skeleton:
    """Return the skeleton of bodies ``B`` (columns of `Build`) in poses (columns of `Pose`)."""
    height, zero = build.height, torch.zeros_like(build.height)
    twist = pose.twist
    pelvis_side = vector(torch.cos(twist), zero, -torch.sin(twist))
    pelvis_front = vector(torch.sin(twist), zero, torch.cos(twist))
    # The chest turns against the pelvis.
    chest_side = vector(torch.cos(twist), zero, torch.sin(twist))
    chest_front = vector(-torch.sin(twist), zero, torch.cos(twist))
    lower_up, upper_up, neck_up = (
        vector(zero, torch.cos(pitch), torch.sin(pitch))
        for pitch in (pose.lean, pose.lean + pose.hunch, pose.lean + 1.8 * pose.hunch)
    )
    trunk = build.torso * height
    pelvis = torch.zeros_like(height)[:, None].expand(-1, 3)
    sway = vector(pose.sway * height, zero, zero)
    waist = pelvis + scaled(lower_up, 0.42 * trunk) + sway * 0.5
    shoulder_line = waist + scaled(upper_up, 0.58 * trunk) + sway
    neck_base = shoulder_line + scaled(neck_up, 0.022 * height)
    neck_top = neck_base + scaled(neck_up, (build.neck + 0.01) * height)
    vertical = vector(zero, zero + 1, zero)
    hip, knee, ankle, thigh = _legs(build, pose, pelvis, (pelvis_side, vertical, pelvis_front))
    shoulder, elbow, wrist, forearm = _arms(
        build, pose, shoulder_line, (chest_side, upper_up, chest_front)
    )
    pitch, yaw = pose.head_pitch + (pose.lean + 1.8 * pose.hunch) * 0.35, pose.head_yaw
    head_front = vector(
        torch.sin(yaw) * torch.cos(pitch), -torch.sin(pitch), torch.cos(yaw) * torch.cos(pitch)
    )
    head_side = vector(torch.cos(yaw), zero, -torch.sin(yaw))
    head_up = torch.linalg.cross(head_front, head_side)
    crown = (
        neck_top + scaled(head_up, build.head * height * 0.86) + scaled(head_front, 0.010 * height)
    )
    return Skeleton(
        height=height,
        trunk=trunk,
        pelvis_side=pelvis_side,
        pelvis_front=pelvis_front,
        chest_side=chest_side,
        chest_front=chest_front,
        lower_up=lower_up,
        upper_up=upper_up,
        neck_up=neck_up,
        pelvis=pelvis,
        waist=waist,
        shoulder_line=shoulder_line,
        neck_base=neck_base,
        neck_top=neck_top,
        shoulder=shoulder,
        elbow=elbow,
        wrist=wrist,
        hip=hip,
        knee=knee,
        ankle=ankle,
        thigh=thigh,
        forearm=forearm,
        head_side=head_side,
        head_up=head_up,
        head_front=head_front,
        crown=crown,
    )


Frame = tuple[Tensor, Tensor, Tensor]
"""Unit vectors to the side, up and forwards, ``B 3`` each."""


def sides(device: torch.device) -> Tensor:
    """Return the signs of left and right, ``2``."""
    return constant([1.0, -1.0], device)


def _legs(
    build: Columns, pose: Columns, pelvis: Tensor, frame: Frame
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return hips, knees, ankles and the direction of the upper legs."""
    height = build.height
    leg = build.leg * height
    upper = leg * build.thigh_share
    lower = leg - upper
    side = sides(height.device)
    hip = (
        pelvis[:, None]
        + frame[0][:, None] * side[:, None] * (build.hip_joint * height)[:, None, None]
    )
    flexion = pair(pose, "hip")
    spread = pose.leg_spread[:, None].expand(-1, 2)
    thigh = _direction(flexion, spread, frame)
    knee = hip + thigh * upper[:, None, None]
    shank = _direction(flexion - pair(pose, "knee"), spread * 0.3, frame)
    return hip, knee, knee + shank * lower[:, None, None], thigh


def _arms(
    build: Columns, pose: Columns, shoulder_line: Tensor, frame: Frame
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return shoulders, elbows, wrists and the direction of the lower arms."""
    height = build.height
    arm = build.arm * height
    upper = arm * build.upper_arm_share
    lower = arm - upper
    side = sides(height.device)
    out = frame[0][:, None] * side[:, None] * (build.shoulder * 0.98 * height)[:, None, None]
    drop = (build.shoulder_slope + 0.55 * build.deltoid_radius) * height
    shoulder = shoulder_line[:, None] + out - frame[1][:, None] * drop[:, None, None]
    flexion, abduction = pair(pose, "shoulder"), pair(pose, "abduction")
    elbow = shoulder + _direction(flexion, abduction, frame) * upper[:, None, None]
    forearm = _direction(
        flexion + pair(pose, "elbow"), abduction * 0.4 - pair(pose, "inward"), frame
    )
    return shoulder, elbow, elbow + forearm * lower[:, None, None], forearm


def _direction(flexion: Tensor, abduction: Tensor, frame: Frame) -> Tensor:
    """Return unit vectors ``B 2 3`` of hanging limbs swung forwards and sideways (``B 2``)."""
    side, up, front = (axis[:, None] for axis in frame)
    outwards = torch.sin(abduction) * sides(flexion.device)
    downwards = torch.cos(flexion) * torch.cos(abduction)
    forwards = torch.sin(flexion) * torch.cos(abduction)
    return outwards[..., None] * side - downwards[..., None] * up + forwards[..., None] * front

"""Whole people: the mesh of dressed bodies in poses, and their joints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reid_synthpeople.attire import bag_tube, skirt_tube
from reid_synthpeople.body import limb_tubes, torso_tube
from reid_synthpeople.gait import Pose
from reid_synthpeople.garments import Outfit
from reid_synthpeople.head import head_tubes
from reid_synthpeople.identity import Person
from reid_synthpeople.mesh import Columns, Mesh
from reid_synthpeople.skeleton import Skeleton, pose_skeleton, scaled


@dataclass(frozen=True, eq=False)
class Figures:
    """A batch of people in metres, with their lowest point at height 0.

    Args:
        vertices: float64 ``B N 3``: x to the subject's left, y up, z forwards.
        normals: float32 ``B N 3``.
        joints: the 17 COCO joints, float64 ``B 17 3``.
    """

    vertices: Tensor
    normals: Tensor
    joints: Tensor


def shape_figures(
    people: Sequence[Person], outfits: Sequence[Outfit], poses: Sequence[Pose], device: torch.device
) -> Figures:
    """Return people in outfits and poses."""
    build = Columns([person.build for person in people], device)
    hair = Columns([person.hair for person in people], device)
    cut = Columns([outfit.cut for outfit in outfits], device)
    pose = Columns(poses, device)
    skeleton = pose_skeleton(build, pose)
    tubes = {
        "torso": torso_tube(build, cut, skeleton),
        "skirt": skirt_tube(build, cut, skeleton),
        "bag": bag_tube(build, cut, skeleton),
        **limb_tubes(build, cut, pose, skeleton),
        **head_tubes(build, hair, cut, skeleton),
    }
    vertices, normals = Mesh.assemble(tubes)
    joints = _joints(build, skeleton)
    ground = vertices[..., 1].amin(1)[:, None]
    vertices[..., 1] -= ground
    joints[..., 1] -= ground
    return Figures(vertices, normals, joints)


def _joints(build: Columns, skeleton: Skeleton) -> Tensor:
    """Return the joints in the order of COCO."""
    s, h = skeleton, skeleton.height
    head, width, depth = build.head * h, build.head_width * h, build.head_depth * h
    eyes = s.crown - scaled(s.head_up, head * 0.53) + scaled(s.head_front, depth * 0.85)
    ears = s.crown - scaled(s.head_up, head * 0.56)
    nose = s.crown - scaled(s.head_up, head * 0.66) + scaled(s.head_front, depth * 1.08)
    face = [
        nose,
        eyes + scaled(s.head_side, width * 0.38),
        eyes - scaled(s.head_side, width * 0.38),
        ears + scaled(s.head_side, width),
        ears - scaled(s.head_side, width),
    ]
    limbs = [s.shoulder, s.elbow, s.wrist, s.hip, s.knee, s.ankle]
    return torch.cat([torch.stack(face, 1), *limbs], 1)

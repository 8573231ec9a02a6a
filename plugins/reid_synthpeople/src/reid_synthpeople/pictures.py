"""What a world gives: pictures with their ground truth, and how the truth is read off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid_core.contract.fields import COCO_JOINTS, GARMENT_CLASSES, PART_CLASSES

OUTSIDE, HIDDEN, VISIBLE = 0, 1, 2
"""Visibility of a keypoint."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture with its ground truth.

    Args:
        image: uint8 ``H W 3``.
        parts: uint8 ``H W``, classes of the shared field ``parts``.
        garments: uint8 ``H W``, classes of the shared field ``garments``; 0 exactly where `parts`
            is.
        surface: uint8 ``H W 2``, x and y of the texel that is seen; 0 outside the person.
        keypoints: float32 ``17 3``: COCO joints, x, y in pixels, and 0 for outside the picture, 1
            for hidden, 2 for visible.
    """

    image: NDArray[np.uint8]
    parts: NDArray[np.uint8]
    garments: NDArray[np.uint8]
    surface: NDArray[np.uint8]
    keypoints: NDArray[np.float32]

    @property
    def silhouette(self) -> NDArray[np.bool_]:
        """Where the person is, ``H W``."""
        return self.parts > 0


_PARTS_OF = {
    "nose": ("head",),
    "eye": ("head",),
    "ear": ("head",),
    "shoulder": ("torso", "upper arm"),
    "elbow": ("upper arm", "lower arm"),
    "wrist": ("lower arm",),
    "hip": ("torso", "upper leg"),
    "knee": ("upper leg", "lower leg"),
    "ankle": ("lower leg", "foot"),
}

JOINT_PARTS: tuple[tuple[int, ...], ...] = tuple(
    tuple(PART_CLASSES.index(part) for part in _PARTS_OF[joint.split()[-1]])
    for joint in COCO_JOINTS
)
"""Classes of ``parts`` on which each joint may be seen."""

_FACE = torch.tensor([joint.split()[-1] in ("nose", "eye", "ear") for joint in COCO_JOINTS])
"""Joints on the surface: hair and hats hide them, and noses and ears may stand out beyond it."""

_COVERS = tuple(GARMENT_CLASSES.index(name) for name in ("hair", "hat"))

_HAIR = 0.03
"""How far a joint may stand out of the hair above it and still lie under it, in metres."""

_DEPTH = {"nose": 0.03, "eye": 0.03, "ear": 0.03, "hip": 0.22}
"""How far below the surface a visible joint lies at most, in metres; less than to the other leg."""

_USUAL_DEPTH = 0.15


def judge_keypoints(
    joints: Tensor, joint_nearness: Tensor, nearness: Tensor, labels: Tensor
) -> Tensor:
    """Return the visibility of joints, int64 ``B 17``.

    A joint is visible when what is seen at its pixel is one of its parts and lies little before it.
    One of the face is hidden under hair and hats, and visible where nothing lies before it: noses
    and ears have no shape of their own, so that in profile they lie beyond the head's outline.

    Args:
        joints: in pixels of `labels`, ``B 17 2``.
        joint_nearness: inverse distance of the joints, ``B 17``.
        nearness: inverse distance of what is seen, ``B H W``.
        labels: classes of part and of garment of what is seen, ``B H W 2``, 0 for what is not the
            person.
    """
    rows, height, width, _ = labels.shape
    x, y = joints.floor().long().unbind(-1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    place = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    seen, worn = (labels[..., i].reshape(rows, -1).gather(1, place).long() for i in (0, 1))
    before = nearness.reshape(rows, -1).gather(1, place).clamp(min=1e-6)
    allowed = torch.zeros(len(JOINT_PARTS), len(PART_CLASSES), dtype=torch.bool)
    for joint, classes in enumerate(JOINT_PARTS):
        allowed[joint, list(classes)] = True
    device = labels.device
    on_part = allowed.to(device)[torch.arange(len(JOINT_PARTS), device=device), seen]
    depths = [_DEPTH.get(joint.split()[-1], _USUAL_DEPTH) for joint in COCO_JOINTS]
    depth = torch.tensor(depths, device=device)
    below = 1 / joint_nearness - 1 / before
    visible = on_part & (below < depth)
    face = _FACE.to(device)
    covered = torch.isin(worn, torch.tensor(_COVERS, device=device)) & (below > -_HAIR)
    visible = torch.where(face, (visible | (below < 0)) & ~covered, visible)
    return torch.where(inside, torch.where(visible, VISIBLE, HIDDEN), OUTSIDE)

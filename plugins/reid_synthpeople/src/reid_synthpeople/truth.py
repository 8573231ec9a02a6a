"""Ground truth of a batch of pictures while it is rendered, at the resolution of the samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid_core.contract.fields import COCO_JOINTS
from reid_synthpeople.pictures import Picture, judge_keypoints
from reid_synthpeople.projection import Projected
from reid_synthpeople.rasteriser import Fragments

_NEAREST = 9.0
"""Inverse distance of an occluder: nearer than anybody."""


@dataclass(frozen=True, eq=False)
class Truth:
    """What every sample shows.

    Args:
        labels: class of ``parts``, class of ``garments``, x and y on the atlas, uint8 ``B H W 4``.
        nearness: inverse distance, float32 ``B H W``, 0 where nothing is.
        joints: in samples, float32 ``B 17 2``; `joint_nearness` is ``B 17``.
    """

    labels: Tensor
    nearness: Tensor
    joints: Tensor
    joint_nearness: Tensor

    @classmethod
    def of_people(
        cls, size: tuple[int, int], fragments: Fragments, labels: Tensor, projected: Projected
    ) -> Truth:
        """Return the truth of what is visible; `labels` are those of the fragments, ``P 4``."""
        rows = len(projected.joints)
        # Four bytes are written as one integer.
        packed = torch.zeros(rows * size[0] * size[1], dtype=torch.int32, device=labels.device)
        packed.index_copy_(0, fragments.pixel, labels.view(torch.int32).view(-1))
        return cls(
            packed.view(rows, *size, 1).view(torch.uint8),
            fragments.nearness,
            projected.joints,
            projected.joint_nearness,
        )

    @classmethod
    def of_nobody(cls, rows: int, size: tuple[int, int], device: torch.device) -> Truth:
        """Return the truth of pictures without people; their joints lie outside."""
        joints = torch.full((rows, len(COCO_JOINTS), 2), -1.0, device=device)
        return cls(
            torch.zeros(rows, *size, 4, dtype=torch.uint8, device=device),
            torch.zeros(rows, *size, device=device),
            joints,
            torch.ones_like(joints[..., 0]),
        )

    def cover(self, row: int, area: tuple[slice, slice]) -> None:
        """Hide an area of a picture behind something."""
        self.labels[row][area] = 0
        self.nearness[row][area] = _NEAREST

    def pictures(self, images: NDArray[np.uint8], step: int) -> list[Picture]:
        """Return finished pictures.

        Labels are those of one sample of each pixel, chosen among `step` x `step` by
        `commonest_sample`; keypoints are in pixels.
        """
        visibility = judge_keypoints(
            self.joints, self.joint_nearness, self.nearness, self.labels[..., :2]
        )
        keypoints = torch.cat([self.joints / step, visibility[..., None].float()], -1)
        labels = commonest_sample(self.labels, step).cpu().numpy()
        parts, garments = (np.ascontiguousarray(labels[..., layer]) for layer in (0, 1))
        surface = np.ascontiguousarray(labels[..., 2:])
        rows = zip(images, parts, garments, surface, keypoints.cpu().numpy(), strict=True)
        return [Picture(*row) for row in rows]


def commonest_sample(labels: Tensor, step: int) -> Tensor:
    """Return for every pixel the labels of a sample that shows what most of its samples show.

    A pixel is the person's when more than half of its samples are; of those with exactly half,
    every second one is, like the squares of a chessboard, so that areas are neither larger nor
    smaller. Then the part and garment that the most samples have wins; where several have as many,
    pixels take the first and the last sample in turn, so that no border moves.

    Args:
        labels: class of part, class of garment, x and y on the atlas, uint8 ``B sH sW 4``.
        step: samples per pixel in each direction, ``s``.

    Returns:
        uint8 ``B H W 4``.
    """
    if step == 1:
        return labels
    rows, high, wide, layers = labels.shape
    height, width = high // step, wide // step
    samples = (
        labels.view(rows, height, step, width, step, layers)
        .permute(0, 1, 3, 2, 4, 5)
        .reshape(rows, height, width, step * step, layers)
    )
    shown = samples[..., 0].int() * 256 + samples[..., 1].int()
    alike = (shown[..., :, None] == shown[..., None, :]).sum(-1)
    somebody = shown > 0
    place = torch.arange(step * step, device=labels.device)
    y, x = torch.meshgrid(
        torch.arange(height, device=labels.device),
        torch.arange(width, device=labels.device),
        indexing="ij",
    )
    first = ((y + x) % 2 == 0)[..., None]
    twice = 2 * somebody.sum(-1, keepdim=True)
    person = (twice > step * step) | ((twice == step * step) & first)
    votes = torch.where(somebody == person, alike, -1)
    order = torch.where(first, place.flip(0), place)
    best = (votes * step * step + order).argmax(-1)
    index = best[..., None, None].expand(-1, -1, -1, 1, layers)
    return samples.gather(3, index).squeeze(3)

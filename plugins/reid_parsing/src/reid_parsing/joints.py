"""Joints as heatmaps: where a network thinks each of them is, and how that is supervised."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from reid_core import clean_batches
from reid_core.contract.fields import COCO_JOINTS
from reid_core.machine.devices import autocast_of
from reid_parsing.detectors.heatmaps import mirrored_order
from reid_parsing.inference import image_size

if TYPE_CHECKING:
    from reid_core.contract.context import RunContext
    from reid_core.contract.samples import Sample

JOINTS = len(COCO_JOINTS)
"""Points of the field ``keypoints``."""

_SHOULDERS = tuple(COCO_JOINTS.index(f"{side} shoulder") for side in ("left", "right"))
_HIPS = tuple(COCO_JOINTS.index(f"{side} hip") for side in ("left", "right"))


def joint_cross_entropy(
    logits: Tensor,
    keypoints: Tensor,
    size: tuple[int, int],
    average: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Return the mean cross-entropy of finding each joint among all places of a heatmap.

    Args:
        logits: ``B J h w``; computed in float32.
        keypoints: float ``B J 3``: x and y in pixels of the image, visibility; a joint of
            visibility 0 has no place and counts nowhere, a hidden one (0.5) counts half.
        size: height and width of the image.
        average: of several ranks, returns the mean of a number over them, so that a joint counts
            the same on whichever rank it is.
    """
    height, width = logits.shape[2:]
    # (0, 0) is the middle of the first pixel.
    column = ((keypoints[..., 0] + 0.5) * (width / size[1])).floor().long().clamp(0, width - 1)
    row = ((keypoints[..., 1] + 0.5) * (height / size[0])).floor().long().clamp(0, height - 1)
    place = (row * width + column).flatten()
    loss = F.cross_entropy(logits.float().flatten(2).flatten(0, 1), place, reduction="none")
    weight = keypoints[..., 2].flatten()
    total = weight.sum() if average is None else average(weight.sum())
    return (loss * weight).sum() / total.clamp(min=1e-6)


def average_over_ranks(ctx: RunContext) -> Callable[[Tensor], Tensor] | None:
    """Return what averages a number over the ranks of a run; None where there is one."""
    if ctx.world_size == 1:
        return None
    return lambda value: ctx.gather(value[None]).mean(0)


def found_joints(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Return where heatmaps have their joints: the mean of the places around the likeliest one.

    Args:
        logits: ``B J h w``.
        size: height and width of the image.

    Returns:
        float32 ``B J 3``: x and y in pixels of the image, and the probability of the places that
        were averaged, in 0..1.
    """
    height, width = logits.shape[2:]
    probability = logits.float().flatten(2).softmax(2).view(logits.shape)
    around = F.avg_pool2d(probability, 3, 1, 1, divisor_override=1)
    best = around.flatten(2).argmax(2)
    row, column = best // width, best % width
    rows = torch.arange(height, device=logits.device).view(1, 1, height, 1)
    columns = torch.arange(width, device=logits.device).view(1, 1, 1, width)
    near = (rows - row[..., None, None]).abs().le(1) & (columns - column[..., None, None]).abs().le(
        1
    )
    local = probability * near
    mass = local.sum((2, 3))
    y = (local * (rows + 0.5)).sum((2, 3)) / mass.clamp(min=1e-12) * (size[0] / height) - 0.5
    x = (local * (columns + 0.5)).sum((2, 3)) / mass.clamp(min=1e-12) * (size[1] / width) - 0.5
    return torch.stack([x, y, mass.clamp(max=1)], 2)


def mirrored_joints(logits: Tensor) -> Tensor:
    """Return heatmaps ``B J h w`` of a mirrored image as those of the image itself."""
    return logits.flip(3)[:, mirrored_order()]


@torch.inference_mode()
def joints_in(network: torch.nn.Module, images: Tensor, mirror: bool = True) -> Tensor:
    """Return the joints in images; see `found_joints`.

    Args:
        network: of heatmaps, in evaluation mode.
        images: ``B 3 H W``, RGB, ImageNet-normalised.
        mirror: average the logits with those of the mirrored images.
    """
    logits = network(images).float()
    if mirror:
        logits = (logits + mirrored_joints(network(images.flip(3)).float())) / 2
    return found_joints(logits, (images.shape[2], images.shape[3]))


def found_in(
    ctx: RunContext,
    network: torch.nn.Module,
    size: tuple[int, int],
    samples: Sequence[Sample],
    mirror: bool = True,
) -> JointArrays:
    """Return the joints of samples, found on the run's device while they are gone through.

    Args:
        ctx: the run.
        network: of heatmaps, in evaluation mode.
        size: height and width of its input.
        samples: the images.
        mirror: see `joints_in`.
    """
    return JointArrays(
        network,
        size,
        samples,
        ctx.device,
        mirror=mirror,
        threads=ctx.config.data.threads,
        autocast=autocast_of(ctx.config.engine, ctx.device),
    )


class JointArrays(Sequence[NDArray[np.float32]]):
    """Joints of many images, found batch by batch while they are gone through.

    Args:
        network: of heatmaps, in evaluation mode.
        size: height and width of its input.
        samples: the images.
        device: where to compute.
        mirror: see `joints_in`.
        threads: decoding threads.
        autocast: opens mixed precision.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        size: tuple[int, int],
        samples: Sequence[Sample],
        device: torch.device,
        *,
        mirror: bool = True,
        threads: int = 2,
        autocast: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._network, self._size = network.to(device), size
        self._samples, self._device, self._mirror = samples, device, mirror
        self._threads, self._autocast = threads, autocast

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, place: int) -> NDArray[np.float32]:  # type: ignore[override]
        """Return the joints of one image, found anew."""
        return next(self._found(self._samples[place : place + 1 or None]))

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Yield float32 ``17 3``: x and y in pixels of each image, and how sure the network is."""
        return self._found(self._samples)

    def _found(self, samples: Sequence[Sample]) -> Iterator[NDArray[np.float32]]:
        batches = clean_batches(
            samples, self._size, self._device, batch_size=32, threads=self._threads
        )
        for batch in batches:
            with self._autocast():
                found = joints_in(self._network, batch.image, self._mirror).cpu().numpy()
            for row, joints in zip(batch.index.tolist(), found, strict=True):
                height, width = image_size(samples[row])
                scale = np.array([width / self._size[1], height / self._size[0]], np.float32)
                joints[:, :2] = (joints[:, :2] + 0.5) * scale - 0.5
                yield joints.astype(np.float32)


def correct_joints(
    found: NDArray[np.float32],
    truth: NDArray[np.float32],
    share: float = 0.1,
    of: Literal["figure", "torso"] = "figure",
) -> NDArray[np.bool_]:
    """Return which visible joints are near where they are (PCK).

    Args:
        found: ``17 3``.
        truth: ``17 3``; joints of visibility 0 are left out.
        share: how near, of the length that ``of`` says.
        of: the longer side of the box around the true joints, or the way from the middle of the
            true shoulders to that of the hips.

    Returns:
        One value per joint that the truth has; none where it lacks what the length is taken from.
    """
    there = truth[:, 2] > 0
    points = truth[there, :2]
    if of == "torso":
        if not there[[*_SHOULDERS, *_HIPS]].all():
            return np.zeros(0, bool)
        ends = (truth[list(pair), :2].mean(0) for pair in (_SHOULDERS, _HIPS))
        side = float(np.linalg.norm(np.subtract(*ends)))
    elif there.any():
        side = float(np.ptp(points, axis=0).max())
    else:
        return np.zeros(0, bool)
    near: NDArray[np.bool_] = np.linalg.norm(found[there, :2] - points, axis=1) <= share * max(
        side, 1.0
    )
    return near

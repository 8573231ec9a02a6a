"""The labeler of ``pose``: from keypoints to the cluster of every image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid_core import DataError, LabelContext, RunContext, Sample
from reid_core.data.label_store import content_hash, value_hash
from reid_fsam.keypoints import Joints, joints_of_field, joints_of_file, relative_joints
from reid_fsam.pose_files import DETECTED
from reid_fsam.poses import USABLE, PoseClusters, cluster_poses
from reid_fsam.settings import FsamSettings


def poses_key(ctx: RunContext, settings: FsamSettings) -> str:
    """Return what pose labels depend on: settings, and the training set's keypoints.

    Raises:
        DataError: the file of poses cannot be read.
    """
    digest = hashlib.sha256()
    if settings.poses is not None:
        digest.update(content_hash(settings.poses).encode())
    for sample in ctx.main.samples:
        digest.update(sample.path.as_posix().encode())
        if settings.poses is None:
            digest.update(value_hash(sample.fields["keypoints"]).encode())
    chosen = f"{settings.clusters}|{settings.pose_scale}|{settings.pose_threshold}|{DETECTED}"
    return f"poses 3|{chosen}|{USABLE}|{digest.hexdigest()}"


def clusters_file(ctx: RunContext, key: str) -> Path:
    """Return where the centres of pose labels are kept."""
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    return ctx.cache / "fsam" / "poses" / f"{name}.json"


def label_poses(
    labels: LabelContext, plugin: str, settings: FsamSettings, key: str
) -> NDArray[np.int64]:
    """Return the pose cluster of every sample asked for.

    The clusters are those of the training set, whatever is labelled, and are kept beside the
    labels.

    Raises:
        DataError: keypoints that cannot be used, or fewer poses than clusters.
    """
    ctx = labels.run
    path = clusters_file(ctx, key)
    if path.is_file():
        clusters = PoseClusters.load(path)
    else:
        joints = _joints(ctx.main.samples, plugin, settings)
        try:
            clusters = cluster_poses(joints, settings.clusters)
        except DataError as error:
            raise DataError(
                f"{plugin}.clusters = {settings.clusters}, but {error}: give better keypoints, or "
                f"do without with -s {plugin}.branches=single"
            ) from None
        clusters.save(path)
        ctx.say(f"{plugin}: images of each pose: {', '.join(map(str, clusters.counts))}")
    return clusters.assign(_joints(labels.samples, plugin, settings))


def _joints(samples: Sequence[Sample], plugin: str, settings: FsamSettings) -> Joints:
    if settings.poses is None:
        joints = joints_of_field(samples, threshold=settings.pose_threshold)
    else:
        try:
            joints = joints_of_file(samples, settings.poses, settings.pose_threshold)
        except DataError as error:
            raise DataError(f"{plugin}.poses: {error}") from None
    return relative_joints(joints, samples, settings.pose_scale)

"""Pose labels: clusters of joints by k-means, aware of which joints are visible."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid_core import DataError, write_json
from reid_fsam.keypoints import Joints

USABLE = 0.3
"""Mean visibility above which an image takes part in the clustering."""

SEED = 0
"""Of k-means: the run's seed must not decide about the labels, which many runs share."""

_STARTS = 10


@dataclass(frozen=True)
class PoseClusters:
    """Clusters of poses.

    Args:
        centres: ``K 17 2``, relative joints; the largest cluster comes first.
        counts: images of each in the training set.
    """

    centres: NDArray[np.float64]
    counts: tuple[int, ...]

    def assign(self, joints: Joints) -> NDArray[np.int64]:
        """Return the nearest centre of every row, by its visible joints alone.

        Rows without a visible joint belong to the largest cluster.

        Args:
            joints: relative, ``N 17 3``.
        """
        seen = (joints[:, :, 2] > 0).astype(np.float64)
        gaps = joints[:, None, :, :2].astype(np.float64) - self.centres[None]
        distances = np.einsum("nkjd,nj->nk", np.square(gaps), seen)
        # No joint seen: all distances are 0, and the first cluster is the largest.
        return np.asarray(distances.argmin(1), np.int64)

    def save(self, path: Path) -> None:
        """Write the centres as JSON."""
        content = {"centres": self.centres.round(6).tolist(), "counts": list(self.counts)}
        write_json(path, content, None)

    @classmethod
    def load(cls, path: Path) -> PoseClusters:
        """Read what `save` wrote."""
        content = json.loads(path.read_text("utf-8"))
        return cls(np.array(content["centres"]), tuple(content["counts"]))


def cluster_poses(joints: Joints, clusters: int) -> PoseClusters:
    """Cluster the poses of a training set by k-means.

    Images whose mean visibility is above `USABLE` take part. A joint that is not visible stands at
    its mean over the images that show it, so that it says nothing.

    Args:
        joints: relative, ``N 17 3``.
        clusters: how many.

    Raises:
        DataError: fewer different poses than clusters.
    """
    from sklearn.cluster import KMeans

    usable = joints[joints[:, :, 2].mean(1) > USABLE].astype(np.float64)
    seen = usable[:, :, 2:] > 0
    shown = np.maximum(seen.sum(0), 1)
    mean = (usable[:, :, :2] * seen).sum(0) / shown
    points = np.where(seen, usable[:, :, :2], mean).reshape(len(usable), 2 * usable.shape[1])
    different = len(np.unique(points.round(6), axis=0))
    if different < clusters:
        raise DataError(
            f"only {different} different poses are known of {len(joints)} images (mean "
            f"visibility above {USABLE})"
        )
    found = KMeans(clusters, n_init=_STARTS, random_state=SEED).fit(points)
    centres = found.cluster_centers_.reshape(clusters, -1, 2)
    counts = np.bincount(PoseClusters(centres, ()).assign(joints), minlength=clusters)
    order = np.argsort(-counts, kind="stable")
    # Rows without any joint were counted for the first; they go to the largest, whichever it is.
    ordered = PoseClusters(centres[order], ())
    counts = np.bincount(ordered.assign(joints), minlength=clusters)
    return PoseClusters(centres[order], tuple(int(count) for count in counts))

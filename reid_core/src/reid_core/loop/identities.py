"""Make identities by labelers, at every epoch's start."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reid_core.contract.context import RunContext
from reid_core.contract.labelers import FeatureMaker, LabelContext, Labeler
from reid_core.contract.samples import Source
from reid_core.errors import DataError, PluginError
from reid_core.machine.ranks import broadcast


def make_identities(
    ctx: RunContext,
    owner: str,
    labeler: Labeler,
    source: Source,
    features: FeatureMaker,
) -> NDArray[np.int64]:
    """Return an epoch's identity of every row, ``0 .. N-1`` without gaps; ``-1`` is left out.

    Raises:
        PluginError: another number of labels, or labels with gaps.
        DataError: no identity at all.
    """
    rows = np.arange(len(source))
    # Features are gathered from all ranks, so all of them ask; the labels are rank 0's.
    made = labeler.make(LabelContext(ctx, source, rows, features, ctx.progress.epoch))
    labels = np.asarray(broadcast(np.asarray(made, np.int64)))
    if labels.shape != (len(source),):
        raise PluginError(
            f"plugin '{owner}': its labeler of 'pid' returned shape {labels.shape} for "
            f"{len(source)} images"
        )
    found = np.unique(labels[labels >= 0])
    if not len(found):
        raise DataError(
            f"plugin '{owner}' found no identity in epoch {ctx.progress.epoch}: all "
            f"{len(source)} images are left out"
        )
    if found[-1] != len(found) - 1:
        raise PluginError(
            f"plugin '{owner}': identities must be 0 .. N-1 without gaps; got {len(found)} up to "
            f"{found[-1]}"
        )
    return labels

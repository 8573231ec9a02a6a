"""Make fields by labelers: once before training, cached by content, or at every epoch's start."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from reid_core.contract.context import RunContext
from reid_core.contract.fields import SPATIAL
from reid_core.contract.labelers import OF_SAMPLE, FeatureMaker, LabelContext, Labeler
from reid_core.contract.samples import Source
from reid_core.data.clips import with_field_of_frames
from reid_core.data.label_store import LabelStore
from reid_core.errors import DataError, PluginError
from reid_core.machine.ranks import barrier
from reid_core.runs.assembly.keys import label_contents, text_of


class Untried(Exception):
    """What stands behind this place cannot be tried out without training."""


def make_field(ctx: RunContext, owner: str, labeler: Labeler, source: Source) -> Source:
    """Return the source with a field that a labeler makes once; what the cache has is not made.

    Args:
        ctx: the run; in a trial nothing is trained or kept, and examples stand in place of labels.
        owner: the labeler's plugin.
        labeler: with ``when="once"``.
        source: what to label.

    Raises:
        Untried: this is a trial, and the labeler has no example.
        DataError: the source lacks a field that the labeler reads.
        PluginError: the labeler has no key, or returned another number of values.
    """
    spec = labeler.spec
    if source.tracklets and spec.kind in SPATIAL:
        return with_field_of_frames(
            source, spec.name, lambda frames: make_field(ctx, owner, labeler, frames)
        )
    if ctx.trial:
        if labeler.example is None:
            raise Untried
        # The first two rows, which models are built on, have their own; all others the second's.
        rows = np.arange(min(2, len(source)))
        examples = list(labeler.example(_asked(ctx, owner, labeler, source, rows)))
        return source.with_field(spec, [*examples, *examples[-1:] * (len(source) - len(examples))])
    if not labeler.key:
        raise PluginError(
            f"plugin '{owner}': its labeler of '{spec.name}' runs once and is cached, so it needs "
            "a key that changes whenever its labels would"
        )
    lacking = [n for n in labeler.reads if n not in source.fields and n not in OF_SAMPLE]
    if lacking:
        raise DataError(
            f"plugin '{owner}' makes '{spec.name}' from {', '.join(lacking)}, which the images of "
            f"'{source.name}' do not carry"
        )
    key = text_of(label_contents(ctx, owner, labeler))
    store = LabelStore(ctx.cache / "labels" / owner, key, spec, labeler.reads)
    samples = source.samples
    rows = np.asarray(store.missing(samples), np.int64)
    # All ranks look before any of them writes; then all make the stage, and rank 0 the labels.
    barrier()
    if len(rows):
        asked = _asked(ctx, owner, labeler, source, rows)
        ctx.say(f"{owner} makes '{spec.name}' for {len(rows)} of {len(samples)} images")
        if ctx.rank == 0:
            values = labeler.make(asked)
            # What can be counted is counted before anything is kept.
            made = len(values) if isinstance(values, Sized) else len(rows)
            if made == len(rows):
                made = 0
                for made, value in enumerate(islice(values, len(rows) + 1), 1):
                    if made <= len(rows):
                        store.put(samples[rows[made - 1]], value)
            if made != len(rows):
                more = "or more " if made > len(rows) else ""
                raise PluginError(
                    f"plugin '{owner}': its labeler of '{spec.name}' returned {made} {more}values "
                    f"for {len(rows)} images"
                )
    barrier()
    return source.with_field(spec, store.values(samples))


def _asked(
    ctx: RunContext, owner: str, labeler: Labeler, source: Source, rows: NDArray[np.int64]
) -> LabelContext:
    """Return what a labeler is asked for; the stage that it needs is made, or read."""
    stage = None if labeler.stage is None else ctx.stage(labeler.stage)
    return LabelContext(ctx, source, rows, _no_features(owner), stage=stage)


def _no_features(owner: str) -> FeatureMaker:
    def refuse(change: object = None, fields: Sequence[str] = ()) -> NDArray[np.float32]:
        raise PluginError(
            f"plugin '{owner}': features of the model exist only for labelers that run at each "
            "epoch's start"
        )

    return refuse

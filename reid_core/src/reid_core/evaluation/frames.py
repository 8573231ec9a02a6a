"""Tracklets seen frame by frame, where a protocol itself pools the features of single images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reid_core.contract.fields import FieldSpec
from reid_core.contract.samples import Sample
from reid_core.data.clips import frames_of
from reid_retrieval.features import FeatureSet
from reid_retrieval.labels import IntArray, Labels
from reid_retrieval.pools import Pools
from reid_retrieval.protocols import Protocol
from reid_retrieval.results import RetrievalResult

TRACKLET = "tracklet"
"""The label by which a protocol pools the frames of tracklets."""

Frames = tuple[bool, bool]
"""Of query and of gallery, whether frames are looked at one by one."""


def pools_frames(protocol: Protocol, query: Sequence[Sample], gallery: Sequence[Sample]) -> Frames:
    """Return of which sides a protocol pools frames: where it says ``tracklet`` and some are."""
    return (
        TRACKLET in protocol.pool and any(sample.frames for sample in query),
        TRACKLET in protocol.gallery_pool and any(sample.frames for sample in gallery),
    )


def after_pooling(protocol: Protocol, frames: Frames) -> Protocol:
    """Return a protocol for features of which some sides are pooled already (`Side.whole`).

    Args:
        protocol: says how they were pooled.
        frames: the sides that are, those whose frames it pools.
    """
    pool = () if frames[0] else protocol.pool
    gallery_pool = () if frames[1] else protocol.gallery_pool
    pooling = protocol.pooling if pool or gallery_pool else "mean"
    return replace(protocol, pool=pool, gallery_pool=gallery_pool, pooling=pooling)


@dataclass(frozen=True)
class Side:
    """The images of one side, as protocols see them.

    Args:
        samples: what is embedded.
        rows: int64, of which sample of the data set each is; None where it is that sample.
    """

    samples: tuple[Sample, ...]
    rows: IntArray | None = None

    @classmethod
    def of(cls, samples: Sequence[Sample], specs: Mapping[str, FieldSpec], frames: bool) -> Side:
        """Return samples as they are, or every frame as an image that knows its tracklet.

        Args:
            samples: of the data set.
            specs: fields to keep.
            frames: whether to look at frames one by one.
        """
        if not frames:
            return cls(tuple(samples))
        lengths = [len(sample.images) for sample in samples]
        rows = np.repeat(np.arange(len(samples)), lengths)
        shown = tuple(
            replace(frame, extra={**whole.extra, TRACKLET: str(whole.path)})
            for frame, whole in zip(
                frames_of(samples, specs), (samples[row] for row in rows.tolist()), strict=True
            )
        )
        return cls(shown, rows)

    @property
    def labels(self) -> Labels:
        """What is known of the images."""
        return Labels.of_samples(self.samples)

    def whole(self, features: FeatureSet, pooling: str) -> FeatureSet:
        """Return one feature per sample of the data set.

        Args:
            features: of the images.
            pooling: how those of frames become one.
        """
        if self.rows is None:
            return features
        starts = np.flatnonzero(np.diff(self.rows, prepend=-1))
        pools = Pools(np.arange(len(self.rows)), starts)
        return FeatureSet(pools.pooled(features.features, pooling), features.labels.take(starts))

    def told(self, advance: Callable[[int], None] | None) -> Callable[[int], None] | None:
        """Return what counts the samples of the data set that are done, told of images."""
        rows = self.rows
        if rows is None or advance is None:
            return advance
        done = 0

        def tell(images: int) -> None:
            nonlocal done
            before, done = done, done + images
            advance(int(rows[done - 1]) - (int(rows[before - 1]) if before else -1))

        return tell


def of_samples(result: RetrievalResult, query: Side, gallery: Side) -> RetrievalResult:
    """Return a result whose rows are those of the data set's samples.

    Args:
        result: of the images that the sides show.
        query, gallery: the sides.
    """
    scores = result.per_query
    if scores is None or (query.rows is None and gallery.rows is None):
        return result

    def home(side: Side, rows: IntArray) -> IntArray:
        return rows if side.rows is None else side.rows[rows]

    heads = tuple(
        replace(head, gallery=home(gallery, head.gallery), matched=home(gallery, head.matched))
        for head in scores.heads
    )
    return replace(result, per_query=replace(scores, rows=home(query, scores.rows), heads=heads))

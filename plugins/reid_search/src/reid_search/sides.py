"""Query and gallery of a data set, embedded as `reid eval` embeds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from reid_core import DataSet
from reid_core.evaluation.extraction import extract
from reid_core.evaluation.frames import Side, pools_frames
from reid_retrieval import Protocol
from reid_retrieval.features import FeatureSet

if TYPE_CHECKING:
    import torch

    from reid_core import Embedder

Sides = tuple[Side, Side]


def sides_of(dataset: DataSet, rules: Protocol | None) -> Sides:
    """Return query and gallery: samples, or their frames one by one where the rules pool these."""
    frames = pools_frames(rules, dataset.query, dataset.gallery) if rules else (False, False)
    query, gallery = (
        Side.of(samples, dataset.query_fields, pooled)
        for samples, pooled in zip((dataset.query, dataset.gallery), frames, strict=True)
    )
    return query, gallery


def embedded(
    embedder: Embedder,
    sides: Sides,
    dataset: DataSet,
    device: torch.device,
    advance: Callable[[int], None],
    **options: Any,
) -> tuple[FeatureSet, FeatureSet]:
    """Return the features of both sides; those of a tracklet are made of all its frames.

    Args:
        embedder: on the device.
        sides: see `sides_of`.
        dataset: theirs.
        device: where the embedder is.
        advance: is told how many more samples are done.
        options: of `reid_core.evaluation.extraction.extract`.
    """
    specs = dataset.query_fields
    query, gallery = (
        FeatureSet(
            extract(
                embedder,
                side.samples,
                device,
                specs=specs,
                advance=side.told(advance),
                **options,
            ),
            side.labels,
        )
        for side in sides
    )
    return query, gallery

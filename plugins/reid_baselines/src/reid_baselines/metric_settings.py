"""Settings of the adapter to pytorch-metric-learning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from reid_core import Settings

Value = bool | int | float | str | tuple[float, ...]


class MetricSettings(Settings):
    """Settings of the adapter; names are those of the library."""

    loss: str = "CircleLoss"
    """Class of ``pytorch_metric_learning.losses``."""
    loss_kwargs: dict[str, Value] = Field(default_factory=dict)
    """Its arguments; a distance, a reducer or a regulariser goes by its class. Numbers of
    identities and lengths of vectors are filled in."""
    miner: str | None = None
    """Class of ``pytorch_metric_learning.miners`` that chooses the pairs or triplets."""
    miner_kwargs: dict[str, Value] = Field(default_factory=dict)
    """Its arguments."""
    vector: Literal["raw", "neck", "unit"] = "neck"
    """Which vector of an embedding the loss compares; ``raw`` trains the neck with
    ``cross_entropy`` alone."""
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Factor on the loss."""
    cross_entropy: bool | None = None
    """Whether the core's cross-entropy (``identity.ce_weight``) stands beside it; none: beside a
    loss that does not classify by itself."""

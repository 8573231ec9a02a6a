"""Baselines on tracklets: temporal average and temporal attention (Gao and Nevatia, 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from reid_baselines.temporal_attention import TemporalAttention
from reid_core import Need, Plugin, PoolingProvider, Settings, hookimpl

if TYPE_CHECKING:
    from torch import nn


class TrackletsSettings(Settings):
    """Settings of temporal attention; the defaults are the report's."""

    width: Annotated[int, Field(ge=1)] = 256
    """Channels between the vectors of frames and their scores."""


class Tracklets(Plugin):
    """Train on tracklets: the mean of their frames, or attention over them by name.

    The mean is the core's; ``-s model.frame_pooling=temporal_attention`` weighs the frames of every
    embedding of the run, whoever declares it.
    """

    Settings = TrackletsSettings
    needs = (Need("frames", "choose mars, ilids-vid, ccvid or synthpeople/tracklets"),)

    @hookimpl
    def reid_poolings(self) -> Sequence[PoolingProvider]:
        """Offer temporal attention."""
        return [
            PoolingProvider(
                "temporal_attention",
                self._attention,
                summary="frames weighed by what they and their neighbours show",
                pools="frames",
            )
        ]

    def _attention(self, channels: int) -> nn.Module:
        return TemporalAttention(channels, self.settings.width)

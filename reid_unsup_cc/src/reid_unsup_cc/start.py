"""A contrastive start that has seen people in other clothes, before other backgrounds.

The core's contrastive stage knows one image as two crops of it. Here each crop is accompanied by
one of the image's synthetic images, and all four are each other's positives. Not in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from reid_core import (
    Batch,
    Need,
    PassView,
    Plugin,
    RunConfig,
    RunContext,
    Settings,
    Start,
    Synthetic,
    hookimpl,
)
from reid_core.defaults.contrastive import contrastive_stage
from reid_unsup_cc.outfits import cached_outfits, joined_outfits


class ViewSettings(Settings):
    """What the synthetic images depend on, so that others make another stage."""

    made: str = ""


class DressedViews(Plugin):
    """Let one of its images in other clothes join the batch beside every view of an image."""

    Settings = ViewSettings

    @property
    def needs(self) -> Sequence[Need]:  # type: ignore[override]
        """The images in other clothes: the stage runs under the name of the run's plugin."""
        return (Need(self.own("outfits")),)

    @hookimpl
    def reid_data_synthesis(
        self, ctx: RunContext, batch: Batch, feats: Mapping[str, PassView] | None, update: str
    ) -> list[Synthetic]:
        """Return one image per row, drawn among the row's synthetic ones."""
        if feats is not None or update != "main":
            return []
        rows = len(batch)
        name = self.own("outfits")
        images = cached_outfits(batch, name).unflatten(0, (rows, -1))
        drawn = torch.randint(images.shape[1], (rows,)).to(images.device)
        own = torch.arange(rows, device=images.device)
        return [joined_outfits(name, images[own, drawn], rows)]


def dressed_start(config: RunConfig, plugin: str, made: Mapping[str, Any]) -> Start:
    """Return the start of a run's encoder and neck: the core's contrastive stage with more views.

    The synthetic images of an image are further positives of it.

    Args:
        config: of the run; the stage is as long, and its batches as large, as the core's would be.
        plugin: whose images in other clothes they are.
        made: what the synthetic images depend on.
    """
    rows = config.model.start_batch_size or config.data.batch_size
    stage = contrastive_stage(
        config.model.start_epochs,
        data={"batch_size": rows},
        plugins={plugin: {"made": str(dict(made))}},
    )
    plugins = {**stage.plugins, plugin: DressedViews}
    return Start(
        replace(stage, name=f"{plugin}/contrastive", plugins=plugins),
        remedy=f"set -s {plugin}.start=core",
        optional=("heads.core/global.neck.running_*",),
    )

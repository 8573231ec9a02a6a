"""Self-supervised pre-training for everybody: two views of one image against all other images.

SimCLR (Chen et al., ICML 2020): a batch holds every image twice, augmented independently; the two
views of an image are each other's positives, all other rows negatives (NT-Xent, eq. 1), on a
projection that is thrown away afterwards. No identity, camera or outfit is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reid_core.config import OptimSection
from reid_core.contract.context import RunContext
from reid_core.contract.hookspecs import hookimpl
from reid_core.contract.model import Branch, Tap
from reid_core.contract.plugin import Plugin, Settings
from reid_core.contract.stages import Stage
from reid_core.contract.step import LossTerm
from reid_core.contract.views import StepView
from reid_core.model.precision import inner_products


class ContrastiveSettings(Settings):
    """Settings of the contrastive stage."""

    temperature: Annotated[float, Field(gt=0)] = 0.2
    dim: Annotated[int, Field(ge=1)] = 128


class Contrastive(Plugin):
    """Attract the two views of an image, repel all others."""

    Settings = ContrastiveSettings

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Project the pooled map by two layers."""

        def project(known: Mapping[str, Tap]) -> nn.Module:
            channels = known["core/pooled"].channels
            return nn.Sequential(
                nn.Linear(channels, channels, bias=False),
                nn.BatchNorm1d(channels),
                nn.ReLU(),
                nn.Linear(channels, self.settings.dim),
            )

        reads, writes = ("core/pooled",), (self.own("projected"),)
        return [Branch(self.own("projection"), project, reads, writes)]

    @hookimpl
    def reid_losses(self, ctx: RunContext, step: StepView) -> Sequence[LossTerm]:
        """Return NT-Xent over the rows of the main pass, of all ranks."""
        if step.update != "main":
            return []
        view = step.main
        projected = ctx.gather(view.output(self.own("projected")))
        value = nt_xent(projected, ctx.gather(view.batch.index), self.settings.temperature)
        return [LossTerm(self.own("nt_xent"), value)]


def nt_xent(vectors: Tensor, images: Tensor, temperature: float) -> Tensor:
    """Return the normalised temperature-scaled cross-entropy of SimCLR, eq. 1.

    Args:
        vectors: ``B D``; normalised here, in float32.
        images: int64 ``B``; rows with equal values are views of one image.
        temperature: divides the cosine similarities.

    Returns:
        Scalar: the mean over rows of minus the log share of the row's other views among all other
        rows.
    """
    unit = F.normalize(vectors.float(), dim=1)
    own = torch.eye(len(images), dtype=torch.bool, device=images.device)
    similarity = (inner_products(unit) / temperature).masked_fill(own, -torch.inf)
    positive = (images[:, None] == images[None, :]) & ~own
    hits = similarity.masked_fill(~positive, -torch.inf)
    return (similarity.logsumexp(1) - hits.logsumexp(1)).mean()


def contrastive_stage(epochs: int = 10, **settings: Mapping[str, object]) -> Stage:
    """Return the stage that trains the run's encoder on its main source without any label.

    Args:
        epochs: its length.
        settings: configuration by section over the stage's own.
    """
    sections: dict[str, dict[str, object]] = {
        "data": {"sampler": "twice"},
        "augment": {
            "flip": 0.5,
            "pad": 0,
            "enlarge": 1.25,
            "enlarge_p": 1.0,
            "erasing": 0.0,
            "brightness": 0.4,
            "contrast": 0.4,
            "saturation": 0.4,
            "hue": 0.1,
            "grayscale": 0.2,
        },
        "optim": OptimSection(name="adam", lr=1e-3, weight_decay=1e-5).model_dump(mode="json"),
        "schedule": {"epochs": epochs, "warmup_epochs": 1, "decay": "cosine"},
    }
    for name, values in settings.items():
        sections[name] = {**sections.get(name, {}), **values}
    plugins = {"contrastive": Contrastive}
    return Stage("core/contrastive", plugins, sections, identities=False)

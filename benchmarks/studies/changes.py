"""Changes of pictures and of features in training that no distribution offers, to be measured.

They act while the run's encoder learns, from hooks; what is stored is the encoder as it is. It
begins where a stage has ended that has seen plain pictures alone, the same for all arms of a seed:
weights that are shipped have seen all changes but these, and random ones learn nothing in a few
hundred steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from kornia.augmentation.auto import RandAugment
from pydantic import Field
from torch import Tensor, nn

from reid_core import Encoder, Plugin, RunContext, Settings, Stage, Start, hookimpl
from reid_core.config import RunConfig
from reid_core.data.augmentation import normalise, unit_images

CHANGES = ("brightness", "contrast", "saturation", "hue", "blur", "grayscale", "erasing")
"""Changes of the core's section ``augment`` that plain pictures do not have."""

LIKE = 4
"""Images that RandAugment changes by the same operations, each by a strength of its own."""

STYLED = 2
"""Stages behind which styles are mixed: the first ones, as by the authors, not the last."""


def mixed(feature: Tensor, share: Tensor, others: Tensor) -> Tensor:
    """Return features with a mean and deviation between their own and another image's.

    Zhou et al., *Domain Generalization with MixStyle* (ICLR 2021), section 3.2.

    Args:
        feature: ``B C H W``.
        share: ``B 1 1 1``, 1 for nothing of the other.
        others: int64 ``B``, whose style is mixed in.
    """
    mean = feature.mean((2, 3), keepdim=True).detach()
    deviation = feature.var((2, 3), keepdim=True).add(1e-6).sqrt().detach()
    plain = (feature - mean) / deviation
    towards = share * deviation + (1 - share) * deviation[others]
    return plain * towards + share * mean + (1 - share) * mean[others]


def cast(images: Tensor, gains: Tensor) -> Tensor:
    """Return images under lights of other colours: a gain for every channel (von Kries).

    Args:
        images: ``B 3 H W`` in 0 to 1.
        gains: ``B 3``; their mean over the channels is taken out, so that brightness stays.
    """
    return (images * (gains / gains.mean(1, keepdim=True))[:, :, None, None]).clamp(0, 1)


class Changes:
    """What is done to an encoder's images and features while it learns.

    Args:
        operations: of RandAugment, 0 for none.
        magnitude: of them, 0 to 30.
        casts: largest logarithm of a channel's gain, 0 for none.
        styles: parameter of the Beta distribution from which an image's share of its own style is
            drawn, 0 for none.
    """

    def __init__(self, operations: int, magnitude: int, casts: float, styles: float) -> None:
        self.casts = casts
        self.operations = RandAugment(operations, magnitude) if operations else None
        self.shares = torch.distributions.Beta(styles, styles) if styles else None

    def watch(self, encoder: Encoder) -> None:
        """Change what an encoder gets, and what its first stages return."""
        if self.casts or self.operations is not None:
            encoder.register_forward_pre_hook(self._images)
        if self.shares is not None:
            for stage in list(encoder.stages)[:STYLED]:  # type: ignore[arg-type]
                stage.register_forward_hook(self._styles)

    def _images(self, encoder: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if not encoder.training:
            return None
        image, *read = given
        return self.changed(image), *read

    @torch.no_grad()
    def changed(self, image: Tensor) -> Tensor:
        """Return other normalised images, ``B 3 H W``."""
        unit = unit_images(image)
        if self.casts:
            gains = torch.empty(len(unit), 3, device=unit.device).uniform_(-1, 1) * self.casts
            unit = cast(unit, gains.exp())
        if self.operations is not None:
            for rows in torch.randperm(len(unit), device=unit.device).split(LIKE):
                unit[rows] = self.operations(unit[rows])
        return normalise(unit.clamp(0, 1))

    def _styles(self, stage: nn.Module, given: Any, feature: Tensor) -> Tensor | None:
        if self.shares is None or not stage.training or torch.rand(()) < 0.5:
            return None  # half of the batches are mixed
        share = self.shares.sample((len(feature), 1, 1, 1)).to(feature)
        return mixed(feature, share, torch.randperm(len(feature), device=feature.device))


class ChangedSettings(Settings):
    """Settings of `Changed`."""

    operations: Annotated[int, Field(ge=0)] = 0
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9
    casts: Annotated[float, Field(ge=0)] = 0.0
    start_epochs: Annotated[int, Field(gt=0)] = 24
    styles: Annotated[float, Field(ge=0)] = 0.0


class Changed(Plugin):
    """Let the run's encoder learn from changed images, after plain ones."""

    Settings = ChangedSettings
    settings: ChangedSettings
    claims = ("backbone",)

    def starts(self, config: RunConfig) -> Sequence[Start]:
        """Begin with weights that have learnt from mirrored and shifted pictures."""
        schedule = {**config.schedule.model_dump(mode="json"), "epochs": self.settings.start_epochs}
        settings = {
            "data": {"height": 96, "width": 48},
            "augment": {"flip": 0.5, "pad": 4, **dict.fromkeys(CHANGES, 0.0)},
            "optim": {"lr": 4e-3},
            "schedule": schedule,
            "identity": config.identity.model_dump(mode="json"),
            "plugins": {"synthpeople": config.plugins["synthpeople"] | {"factors": None}},
        }
        plugins = {"synthpeople": None}
        stage = Stage(self.own("plain"), plugins, settings, data="synthpeople/market:quick")
        return (Start(stage),)

    @hookimpl
    def reid_backbone(self, ctx: RunContext) -> Encoder:
        """Return the run's encoder, watched."""
        encoder = ctx.build_encoder()
        Changes(**self.settings.model_dump(exclude={"start_epochs"})).watch(encoder)
        return encoder


CLASSES: Mapping[str, type[Plugin]] = {"changed": Changed}
"""Plugins that need no entry point, by name."""

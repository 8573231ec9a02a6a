"""Plugins of the studies alone: a stream that sees what it is told to, and a frozen teacher.

FSAM stands on a shape stream S that knows people across clothes better than the appearance stream
A, and on A's learning it from S's predictions. Here both are taken apart: S sees the true part
masks of synthetic people at the size of the image, is trained first (a stage) and then frozen, and
another network learns its predictions (KL) beside identities.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from timm.models import register_model
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from reid_core import (
    Branch,
    Embedding,
    Encoder,
    LossTerm,
    Need,
    NoEncoder,
    Plugin,
    RunContext,
    Settings,
    Stage,
    StepView,
    Supervision,
    Tap,
    hookimpl,
)
from reid_core.contract.fields import PART_CLASSES
from reid_fsam.extractor import ShapeExtractor
from reid_fsam.losses import divergence

Sees = Literal["image", "mask", "both"]


def _resnet18(channels: tuple[int, int, int, int], num_classes: int) -> ResNet:
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes=num_classes, channels=channels)  # type: ignore[arg-type]


@register_model
def narrow_resnet18(num_classes: int = 0, **of_weights: Any) -> ResNet:
    """Return a ResNet-18 of half the width, a quarter of the work; there are no weights of it."""
    return _resnet18((32, 64, 128, 256), num_classes)


@register_model
def slim_resnet18(num_classes: int = 0, **of_weights: Any) -> ResNet:
    """Return a ResNet-18 of a quarter of the width; there are no weights of it."""
    return _resnet18((16, 32, 64, 128), num_classes)


class Stream(nn.Module):
    """One network that sees the image, the true mask, or both.

    Args:
        sees: which.
        network: a ResNet of timm.
        size: height and width.
    """

    def __init__(self, sees: Sees, network: str, size: tuple[int, int]) -> None:
        super().__init__()
        channels = {"image": 3, "mask": len(PART_CLASSES), "both": 3 + len(PART_CLASSES)}[sees]
        self.network = ShapeExtractor(network, size, channels, routing="single")
        self.sees = sees

    def forward(self, image: Tensor, parts: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last map and its mean; see the class."""
        planes = [] if self.sees == "mask" else [image]
        if self.sees != "image":
            planes.append(F.one_hot(parts.long(), len(PART_CLASSES)).permute(0, 3, 1, 2).float())
        *_, last, pooled = self.network(torch.cat(planes, 1))
        return last, pooled


class SeenSettings(Settings):
    """Settings of `Seen`."""

    sees: Sees = "image"
    network: str = "narrow_resnet18"


class Seen(Plugin):
    """The run's only network: it takes the encoder's and the embedding's place."""

    Settings = SeenSettings
    settings: SeenSettings
    claims = ("backbone", "embedding")
    needs = (Need("identities"), Need("parts"))

    @hookimpl
    def reid_backbone(self, ctx: RunContext) -> Encoder:
        """Leave the encoder's place empty; the stream sees more than the image."""
        return NoEncoder()

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Add the stream."""
        person = Embedding(self.own("person"), reads=self.own("pooled"), supervision=Supervision())
        stream = Stream(self.settings.sees, self.settings.network, ctx.image_size)
        writes = (self.own("map"), self.own("pooled"))
        return [Branch(self.own("stream"), stream, ("image", "parts"), writes, (person,))]


class TaughtSettings(Settings):
    """Settings of `Taught`: the teacher's network, who learns, how much, and at which heat."""

    network: str = "narrow_resnet18"
    embedding: str = "core/global"
    weight: Annotated[float, Field(gt=0)] = 1.0
    temperature: Annotated[float, Field(gt=0)] = 4.0


class Teacher(nn.Module):
    """A trained stream with neck and classifier: identity logits of a mask.

    Args:
        model: of the stage that trained it.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.stream, self.head = model.branches["seen/stream"], model.heads["seen/person"]
        self.classifier = model.criteria["seen/person"].classifier

    def forward(self, image: Tensor, parts: Tensor) -> Tensor:
        """Return logits ``B K``."""
        return self.classifier(self.head(self.stream(image, parts)[1]).neck)  # type: ignore[operator, no-any-return]


class Taught(Plugin):
    """Let an embedding learn the predictions of a shape stream that was trained before."""

    Settings = TaughtSettings
    settings: TaughtSettings
    needs = (Need("identities"), Need("parts"))

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Add the teacher: S, trained as long as the run on the same people."""
        schedule = ctx.config.schedule.model_dump(mode="json", exclude_none=True)
        seen = {"sees": "mask", "network": self.settings.network}
        stage = Stage(
            self.own("shape"),
            plugins={"seen": Seen},
            settings={"schedule": schedule, "plugins": {"seen": seen}},
        )
        teacher, reads = Teacher(ctx.stage(stage).model), ("image", "parts")
        return [Branch(self.own("teacher"), teacher, reads, (self.own("taught"),), frozen=True)]

    @hookimpl
    def reid_losses(self, ctx: RunContext, step: StepView) -> list[LossTerm]:
        """Return the divergence of the embedding's predictions from the teacher's."""
        heat, view = self.settings.temperature, step.main
        taught = view.output(self.own("taught")).detach() / heat
        value = heat**2 * divergence(taught, view.logits[self.settings.embedding] / heat)
        return [LossTerm(self.own("divergence"), value, self.settings.weight)]


CLASSES: Mapping[str, type[Plugin]] = {"seen": Seen, "taught": Taught}
"""Plugins that need no entry point, by name."""

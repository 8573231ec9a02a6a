"""The stage that trains `PISE` on people who are shown twice: as they are, and in others' outfits.

Such pairs exist only where people are drawn. What is minimised is the L1 distance to the true
picture in the template's outfit, and to the picture itself where that is its own template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import nn

from reid_core import (
    Branch,
    Encoder,
    LossTerm,
    Need,
    NoEncoder,
    Plugin,
    RunContext,
    Settings,
    Stage,
    StageResult,
    StepView,
    Tap,
    hookimpl,
)
from reid_core.config import (
    AugmentSection,
    Count,
    DataSection,
    ModelSection,
    OptimSection,
    Positive,
    Probability,
)
from reid_unsup_cc.pise import PISE
from reid_unsup_cc.pise_losses import Lesson, mean_error

PLUGIN = "unsup_cc"
"""Name under which the stage runs its plugin."""

NETWORK = f"{PLUGIN}/pise"
"""Name of the branch that holds the network."""

PAIRS = "synthpeople-redressed"
"""What the network learns from where nothing else is said."""

FIELDS = (
    "synthpeople/garments",
    "synthpeople/template",
    "synthpeople/template_garments",
    "synthpeople/redressed",
    "synthpeople/redressed_garments",
)
"""What a sample carries: its garment map, somebody else's image and garment map, and itself in
their outfit, again with the garment map."""


class NetworkSettings(Settings):
    """What the network is, and what its loss weighs."""

    width: Count = 16
    """Channels of the narrowest layers; the published model has 64."""
    norm: Literal["sample", "instance"] = "sample"
    """What is normalised over: all channels of an image, which keeps its colours, or each channel,
    as in the published model."""
    keep: bool = True
    """Leave pixels alone whose clothing is not exchanged; otherwise the whole image is painted."""
    flat: bool = True
    """Paint the difference from the mean colours of regions; otherwise colours themselves, as the
    published model does."""
    reconstruction: Probability = 0.25
    """Share of a batch in which everybody is their own template."""
    elsewhere: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1
    """Weight of a pixel outside clothing, where one of clothing weighs 1."""


class PISESettings(NetworkSettings):
    """Settings of the stage."""

    data: str = PAIRS
    """Source of people who are shown in somebody else's outfit, too, as after ``--data``."""
    size: tuple[Count, Count] = (128, 64)
    """Height and width at which the network works."""
    epochs: Count = 4
    """Length of the training; the defaults are those of its benchmark, minutes of one core."""
    iterations: Count | None = 180
    """Steps of an epoch; none goes through the pairs once."""
    batch: Count = 8
    """Batch size."""
    lr: Positive = 1e-3
    """Learning rate of Adam; it falls along a cosine."""


class PISETraining(Plugin):
    """Train the network; the only plugin of its stage."""

    Settings = NetworkSettings
    settings: NetworkSettings
    claims = ("backbone",)

    @property
    def needs(self) -> Sequence[Need]:  # type: ignore[override]
        """People in two outfits."""
        return tuple(Need(name) for name in FIELDS)

    @hookimpl
    def reid_backbone(self, ctx: RunContext) -> Encoder:
        """Give the run an encoder without parameters: nothing is embedded."""
        return NoEncoder()

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Add the network with what it is told to paint."""
        settings = self.settings

        def build(known: Mapping[str, Tap]) -> nn.Module:
            network = PISE(
                settings.width, norm=settings.norm, keep=settings.keep, flat=settings.flat
            )
            return Lesson(network, settings.reconstruction, settings.elsewhere)

        writes = tuple(self.own(name) for name in ("transfer", "reconstruction"))
        return [Branch(NETWORK, build, ("image", *FIELDS), writes)]

    @hookimpl
    def reid_losses(self, ctx: RunContext, step: StepView) -> list[LossTerm]:
        """Return the mean errors of people in others' clothes and in their own."""
        names = [self.own(name) for name in ("transfer", "reconstruction")]
        return [LossTerm(name, mean_error(step.main.output(name))) for name in names]


def pise_stage(settings: PISESettings) -> Stage:
    """Return the stage that trains the network.

    Nothing of the run that asks for it but the seed, the device and the precision matters to it, so
    that runs with other encoders or data share one network.
    """
    height, width = settings.size
    data = DataSection(
        name=settings.data,
        height=height,
        width=width,
        batch_size=settings.batch,
        instances=1,
        sampler="random",
    )
    own: dict[str, Mapping[str, Any]] = {
        "data": data.model_dump(mode="json"),
        "augment": AugmentSection().model_dump(mode="json"),
        "model": ModelSection(backbone="none", neck="none").model_dump(mode="json"),
        "optim": OptimSection(
            name="adam", lr=settings.lr, weight_decay=0.0, clip_norm=1.0
        ).model_dump(mode="json"),
        "engine": {"compile": False},
        "schedule": {
            "epochs": settings.epochs,
            "iterations_per_epoch": settings.iterations,
            "warmup_epochs": 0,
            "decay": "cosine",
            "per_iteration": True,
        },
        "plugins": {
            PLUGIN: settings.model_dump(mode="json", include=set(NetworkSettings.model_fields))
        },
    }
    return Stage(
        NETWORK,
        plugins={PLUGIN: PISETraining},
        settings=own,
        data=settings.data,
        identities=False,
    )


def trained_pise(result: StageResult) -> PISE:
    """Return the network that a stage made by `pise_stage` has trained, in evaluation mode.

    Args:
        result: what ``ctx.stage(pise_stage(...))`` returned.
    """
    lesson: Any = result.module(NETWORK)
    network: PISE = lesson.network
    return network.eval()

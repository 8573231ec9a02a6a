"""The stage that trains a parsing network on a labelled source, and what it leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from reid_core import NoEncoder, Stage
from reid_core.config import AugmentSection, DataSection, ModelSection, OptimSection
from reid_core.contract.fields import SHARED_FIELDS
from reid_core.contract.hookspecs import hookimpl
from reid_core.contract.model import Branch, Tap
from reid_core.contract.plugin import Need, Plugin, Settings
from reid_core.contract.step import LossTerm
from reid_parsing.inference import BodyParser
from reid_parsing.lookup import label_set
from reid_parsing.losses import edge_cross_entropy, pixel_cross_entropy
from reid_parsing.networks.build import build_parser
from reid_parsing.networks.in_training import NetworkInTraining
from reid_parsing.recipes import RECIPES, TrainingRecipe

if TYPE_CHECKING:
    from reid_core import StageResult
    from reid_core.contract.context import RunContext
    from reid_core.contract.encoder import Encoder
    from reid_core.contract.views import StepView

PLUGIN = "parsing"
"""Name under which the stage runs its plugin; its branch is ``parsing/network``."""

NETWORK = f"{PLUGIN}/network"
"""Name of the branch that holds the network."""


class TrainingSettings(Settings):
    """What the stage trains."""

    field: Literal["parts", "garments"] = "parts"
    network: Literal["light", "danet", "schp"] = "light"
    pretrained: bool | Path = False
    canvas: tuple[int, int] = (128, 64)
    scale: tuple[float, float] = (1.0, 1.0)
    rotation: float = 0.0


class ParserTraining(Plugin):
    """Train one parsing network on a field of the source; the only plugin of its stage."""

    Settings = TrainingSettings
    claims = ("backbone",)

    @property
    def needs(self) -> Sequence[Need]:  # type: ignore[override]
        """The labels to learn from."""
        return (Need(self.settings.field),)

    @hookimpl
    def reid_backbone(self, ctx: RunContext) -> Encoder:
        """Give the run an encoder without parameters: a parser has no embedding."""
        return NoEncoder()

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Add the network; it reads image and labels, because both are moved together."""
        settings = self.settings

        def build(known: Mapping[str, Tap]) -> Any:
            classes = len(SHARED_FIELDS[settings.field].classes)
            network = build_parser(settings.network, classes, settings.pretrained)
            return NetworkInTraining(network, settings.canvas, settings.scale, settings.rotation)

        return [Branch(NETWORK, build, ("image", settings.field), self._outputs())]

    def _outputs(self) -> tuple[str, ...]:
        more = ("decoded", "edges") if self.settings.network == "schp" else ()
        return tuple(self.own(name) for name in ("labels", "logits", *more))

    @hookimpl
    def reid_losses(self, ctx: RunContext, step: StepView) -> list[LossTerm]:
        """Return cross-entropy over pixels; for SCHP also of the decoder and of the edges."""
        view = step.main
        labels, terms = view.output(self.own("labels")), []
        for name in self._outputs()[1:]:
            loss = edge_cross_entropy if name.endswith("/edges") else pixel_cross_entropy
            terms.append(LossTerm(name, loss(view.output(name), labels)))
        return terms


def parser_stage(
    field: str = "parts",
    network: str = "light",
    data: str = "synthpeople-crops",
    *,
    pretrained: bool | Path = False,
    recipe: TrainingRecipe | None = None,
    epochs: int | None = None,
    iterations: int | None = None,
) -> Stage:
    """Return the stage that trains a parser on labelled images.

    Nothing of the run that asks for it but the seed, the device and the precision matters to it,
    so that runs with other encoders or input sizes share one parser.

    Args:
        field: ``parts`` or ``garments``, which ``data`` must carry.
        network: ``light``, ``danet`` or ``schp``.
        data: data set or source by name, as after ``--data``.
        pretrained: ImageNet weights of DANet's trunk.
        recipe: None takes the network's, from `RECIPES`.
        epochs: None takes the recipe's.
        iterations: steps of an epoch; None goes through the images once.
    """
    recipe = recipe or RECIPES[network]
    drawn = {
        "field": field,
        "network": network,
        "pretrained": pretrained if isinstance(pretrained, bool) else str(pretrained),
        "canvas": list(recipe.canvas),
        "scale": list(recipe.scale),
        "rotation": recipe.rotation,
    }
    height, width = recipe.size
    own: dict[str, Mapping[str, Any]] = {
        "data": {
            **DataSection().model_dump(mode="json"),
            "name": data,
            "height": height,
            "width": width,
            "batch_size": recipe.batch_size,
            "instances": 1,
            "sampler": "random",
        },
        "augment": {**AugmentSection().model_dump(mode="json"), **recipe.colours},
        "model": {**ModelSection().model_dump(mode="json"), "backbone": "none", "neck": "none"},
        "optim": {**OptimSection().model_dump(mode="json"), **recipe.optim},
        "engine": {"compile": False},
        "schedule": {
            **recipe.schedule,
            "epochs": epochs or recipe.epochs,
            "iterations_per_epoch": iterations,
        },
        "plugins": {PLUGIN: drawn},
    }
    return Stage(
        f"{PLUGIN}/{field}",
        plugins={PLUGIN: ParserTraining},
        settings=own,
        data=data,
        identities=False,
    )


def trained_parser(result: StageResult) -> BodyParser:
    """Return the parser that a stage made by `parser_stage` has trained.

    Args:
        result: what ``ctx.stage(parser_stage(...))`` returned, or a labeler's stage.
    """
    config = result.config
    settings = config.plugins[PLUGIN]
    network: Any = result.module(NETWORK)
    return BodyParser(
        settings["network"], network.network, label_set(settings["field"]), config.data.size
    )

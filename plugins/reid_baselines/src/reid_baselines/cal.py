"""Clothes-based adversarial loss (Gu et al., CVPR 2022): features from which no outfit is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from reid_baselines.cal_modules import (
    MaxAvgPool,
    OutfitClassifier,
    outfit_cross_entropy,
    outfit_loss,
)
from reid_baselines.own_optimiser import like_the_runs
from reid_core import (
    Branch,
    DataError,
    Group,
    LossTerm,
    Need,
    Pass,
    Plugin,
    PoolingProvider,
    Schedule,
    Settings,
    Update,
    hookimpl,
)

if TYPE_CHECKING:
    from torch import nn

    from reid_core import RunContext, StepView, Tap


class CalSettings(Settings):
    """Settings of the clothes-based adversarial loss; the defaults are the paper's."""

    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    """Weight of the adversarial loss."""
    begin: Annotated[int, Field(ge=0)] = 25
    """Epoch from which the classifier learns and the features work against it."""
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 16.0
    """Factor on the cosines: the inverse of the temperature."""
    epsilon: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the target that is spread over all outfits of the person."""


class Cal(Plugin):
    """Train a classifier of outfits on the features, and the features against it.

    The classifier learns on the vectors that ``main`` has computed, so it costs no forward.
    """

    Settings = CalSettings
    takes_frames = True
    needs = (
        Need("fixed_identities", "leave one of them out: an outfit must be somebody's who stays"),
        Need("identities"),
    )

    @hookimpl
    def reid_poolings(self) -> Sequence[PoolingProvider]:
        """Offer the paper's pooling."""
        return [PoolingProvider("maxavg", _build_pool, summary="maximum and mean, joined")]

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Classify outfits by the deployed vector behind its necks.

        Raises:
            DataError: nobody's outfit is known.
        """
        samples = ctx.main.samples
        if all(sample.clothes < 0 for sample in samples):
            raise DataError(
                f"plugin '{self.name}' needs outfits, and '{ctx.dataset.name}' labels none: take a "
                "data set with clothes (prcc, ltcc, synthpeople), or name your files "
                "PID_cCAM_oOUTFIT_ANYTHING.jpg"
            )
        wearer = [-1] * (1 + max(sample.clothes for sample in samples))
        for sample in samples:
            if sample.clothes >= 0:
                wearer[sample.clothes] = sample.pid

        def build(known: Mapping[str, Tap]) -> nn.Module:
            return OutfitClassifier(known["deployed:neck"].channels, wearer)

        return [Branch(self.own("outfits"), build, reads=(), sizes=("deployed:neck",))]

    @hookimpl
    def reid_schedule(self, ctx: RunContext, params: Mapping[str, Sequence[str]]) -> Schedule:
        """Let the classifier learn behind ``main``, on what that has computed, at a fixed rate."""
        seen = Pass(self.own("seen"), of="main", detached=True)
        outfits = self.own("outfits")
        # The authors' scheduler moves the rate of the features and of identities alone.
        group = Group(
            outfits,
            (outfits,),
            like_the_runs(ctx.config, follows_schedule=False),
            lr_scale=ctx.config.optim.new_layers_scale,
        )
        learn = Update(self.own("learn"), (outfits,), passes=(seen,), begin=self.settings.begin)
        return Schedule(groups=(group,), updates=(learn,))

    @hookimpl
    def reid_losses(self, ctx: RunContext, step: StepView) -> list[LossTerm]:
        """Return the classifier's loss or the adversarial loss."""
        settings, learn = self.settings, self.own("learn")
        adversarial = step.update == "main" and step.epoch >= settings.begin
        if step.update != learn and not (adversarial and settings.weight):
            return []

        view = step.main if adversarial else step.passes[self.own("seen")]
        # Means are over the rows whose outfit is known, which ranks need not have as many of.
        vector = ctx.gather(view.output("deployed:neck"))
        clothes = ctx.gather(view.batch.clothes)
        classifier = ctx.module(self.own("outfits"))
        if not adversarial:
            logits = settings.scale * classifier(vector)
            return [LossTerm(learn, outfit_cross_entropy(logits, clothes))]
        # The classifier itself gets no gradient here.
        logits = settings.scale * classifier(vector, fixed=True)
        value = outfit_loss(logits, clothes, classifier.wearer, settings.epsilon)  # type: ignore[arg-type]
        return [LossTerm(self.own("hide"), value, settings.weight)]


def _build_pool(channels: int) -> nn.Module:
    return MaxAvgPool()

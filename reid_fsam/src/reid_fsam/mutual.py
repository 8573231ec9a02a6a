"""What the streams learn beside identity: L_R, L_SI and L_KL of a step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from reid_core import ConfigError, LossTerm, PassView, RunContext, StepView, identity_cross_entropy
from reid_fsam.losses import dense_similarity, divergence, mask_drift, mutual_divergence
from reid_fsam.settings import BLOCKS, FsamSettings

GLOBAL = "core/global"


class MutualLearning:
    """The loss terms of one step; vectors of all ranks are compared.

    Args:
        name: the plugin's.
        settings: its settings.
        blocks: maps of the appearance stream.
        ctx: the run.
    """

    def __init__(
        self, name: str, settings: FsamSettings, blocks: Sequence[str], ctx: RunContext
    ) -> None:
        self._name, self._settings, self._blocks, self._ctx = name, settings, blocks, ctx

    def terms(self, step: StepView) -> list[LossTerm]:
        """Return the terms over all shared passes on which the shape stream ran.

        What has weight 0 is not computed, but for the drift of masks, which is logged all the same.
        """
        settings = self._settings
        views = list(step.passes_with(self._own("pooled")))
        found = [self._term("keep", (self._kept(v) for v in views), settings.keep_weight)]
        if settings.mutual != "none" and settings.si_weight:
            similar = (self._similar(v) for v in views)
            found.append(self._term("similarity", similar, settings.si_weight))
            if step.iteration == 0 and views:
                found += self._compared_gradients(views[0])
        if settings.mutual != "none" and settings.kl_weight:
            diverging = (self._diverging(v) for v in views)
            found.append(self._term("divergence", diverging, settings.kl_weight))
        return [term for term in found if term is not None]

    def _own(self, name: str) -> str:
        return f"{self._name}/{name}"

    def _term(self, name: str, values: Iterator[Tensor | None], weight: float) -> LossTerm | None:
        there = [value for value in values if value is not None]
        if not there:
            return None
        value = torch.stack(there).mean()
        return LossTerm(self._own(name), value if weight else value.detach(), weight)

    def _kept(self, view: PassView) -> Tensor | None:
        mask, coarse = self._own("mask"), self._own("coarse_mask")
        if not view.has(mask, coarse):
            return None
        drift = mask_drift(view.output(mask), view.output(coarse))
        return self._ctx.gather(drift).mean()  # eq. 4

    def _similar(self, view: PassView) -> Tensor:
        appearance = [self._pooled(view.output(name)) for name in self._blocks]
        names = [self._own(f"block{number + 1}") for number in range(BLOCKS)]
        shape = [self._pooled(view.output(name)) for name in names]
        if self._settings.mutual == "to_appearance":
            shape = [vectors.detach() for vectors in shape]
        return dense_similarity(appearance, shape, self._settings.si_norm)  # eq. 9

    def _pooled(self, feature: Tensor) -> Tensor:
        return self._ctx.gather(feature.float().mean((2, 3)))

    def _diverging(self, view: PassView) -> Tensor | None:
        ours = view.logits.get(self._own("shape"))
        theirs = self._classified(view)
        if ours is None or not theirs:
            if view.name == "main":
                raise ConfigError(
                    f"{self._name}.kl_weight compares identity logits, but "
                    f"{'the shape stream' if ours is None else 'the appearance stream'} has none "
                    f"here; set -s {self._name}.kl_weight=0, or -s {self._name}.appearance=NAME"
                )
            return None
        gather, values = self._ctx.gather, []
        shape = gather(ours)
        for name in theirs:
            appearance = gather(view.logits[name])
            if self._settings.mutual == "to_appearance":
                values.append(divergence(shape.detach(), appearance))
            else:
                values.append(mutual_divergence(appearance, shape, self._settings.kl_detach))
        return torch.stack(values).mean()  # eq. 11

    def _classified(self, view: PassView) -> list[str]:
        """Return the classified embeddings of the appearance stream."""
        if self._settings.appearance is not None:
            return [name for name in (self._settings.appearance,) if name in view.logits]
        if GLOBAL in view.logits:
            return [GLOBAL]
        return [name for name in sorted(view.logits) if name != self._own("shape")]

    def _compared_gradients(self, view: PassView) -> list[LossTerm]:
        """Compare the gradients of L_SI and of cross-entropy on the last appearance block.

        Reported once, as terms of weight 0: the cosine between the two, and the weighted length of
        the first over that of the second.
        """
        names, feature = self._classified(view), view.output(self._blocks[-1])
        if not names or not feature.requires_grad:
            return []
        gather = self._ctx.gather
        labels = gather(view.batch.pid)
        losses = [identity_cross_entropy(gather(view.logits[name]), labels) for name in names]
        gradients = []
        for value in (self._similar(view), torch.stack(losses).mean()):
            (found,) = torch.autograd.grad(value, feature, retain_graph=True, allow_unused=True)
            gradients.append(torch.zeros_like(feature) if found is None else found)
        similar, classified = (gather(g.float().flatten(1)).flatten() for g in gradients)
        lengths = similar.norm(), classified.norm().clamp(min=1e-12)
        cosine = (similar * classified).sum() / (lengths[0].clamp(min=1e-12) * lengths[1])
        ratio = self._settings.si_weight * lengths[0] / lengths[1]
        return [
            LossTerm(self._own("similarity_gradient_cosine"), cosine.detach(), 0.0),
            LossTerm(self._own("similarity_gradient_ratio"), ratio.detach(), 0.0),
        ]

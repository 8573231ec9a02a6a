"""Averaged weights, to evaluate (`ema`) and to learn from (`meanteacher`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field
from torch import stack

from reid_baselines.soft_labels import soft_cross_entropy, soft_triplet
from reid_core import LossTerm, Pass, Plugin, Schedule, Settings, Weights, hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from reid_core import PassView, RunContext, StepView

_CRITERIA = "criteria."
"""What the names of the identity criteria's entries begin with."""


class EmaSettings(Settings):
    """Settings of the averaged weights."""

    decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Factor on the average in a step, once there have been that many; before, all steps count
    alike."""


class Ema(Plugin):
    """Keep an exponential average of the weights, which is evaluated and exported in their place.

    Step ``t`` (from 0) has the factor ``min(1 - 1 / (t + 1), decay)`` on the average, as in MMT
    (Ge et al., ICLR 2020).
    """

    Settings = EmaSettings

    def __init__(self, name: str, settings: EmaSettings | None = None) -> None:
        super().__init__(name, settings)
        self._average: dict[str, Tensor] = {}

    @property
    def defaults(self) -> Mapping[str, Any]:  # type: ignore[override]
        """The average is what is evaluated."""
        return {"evaluation.weights": self.own("weights")}

    @hookimpl
    def reid_after_step(self, ctx: RunContext) -> None:
        """Move the average towards the weights that the step left."""
        assert ctx.model is not None
        share = max(1 / (ctx.progress.iteration + 1), 1 - self.settings.decay)
        kept, now = [], []
        # Whoever makes identities anew at every epoch makes the criteria anew, too.
        skipped = (_CRITERIA,) if "labels:pid" in ctx.slots else ()
        self._move(ctx.device)
        for entry, value in ctx.model.state_dict().items():
            if entry.startswith(skipped):
                continue
            if entry not in self._average:
                self._average[entry] = value.clone()
            elif value.is_floating_point():
                kept.append(self._average[entry])
                now.append(value)
            else:
                self._average[entry].copy_(value)  # counters
        if kept:
            torch._foreach_lerp_(kept, now, share)

    @hookimpl
    def reid_weights(self, ctx: RunContext) -> Sequence[Weights]:
        """Offer the average, once there is one."""
        self._move(ctx.device)
        return [Weights(self.own("weights"), self._average)] if self._average else []

    def checkpoint_state(self) -> Mapping[str, Any]:
        """Return the average."""
        return self._average

    def load_checkpoint_state(self, state: Mapping[str, Any]) -> None:
        """Take the average over."""
        self._average = dict(state)

    def _move(self, device: Any) -> None:
        """Bring an average that a checkpoint held to the device, once."""
        if any(value.device != device for value in self._average.values()):
            self._average = {name: value.to(device) for name, value in self._average.items()}


class MeanTeacherSettings(EmaSettings):
    """Settings of the mean teacher; the weights are those of MMT."""

    ce_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.5
    """Weight of the cross-entropy with the teacher's identities as targets."""
    triplet_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.8
    """Weight of the triplet loss with the teacher's distances as targets."""


class MeanTeacher(Ema):
    """Learn from the soft labels of the averaged model, on the same images.

    One of the two networks of mutual mean-teaching, which is then taught by its own average.
    """

    Settings = MeanTeacherSettings
    takes_frames = True

    @hookimpl
    def reid_schedule(self, ctx: RunContext, params: Mapping[str, Sequence[str]]) -> Schedule:
        """Let the averaged model see the batch."""
        if not (self.settings.ce_weight or self.settings.triplet_weight):
            return Schedule()
        seen = Pass(self.own("teacher"), branches=("deployed",), weights=self.own("weights"))
        return Schedule(passes=(seen,))

    @hookimpl
    def reid_losses(self, ctx: RunContext, step: StepView) -> list[LossTerm]:
        """Return the soft cross-entropy and the soft triplet loss of MMT."""
        if step.update != "main" or self.own("teacher") not in step.passes:
            return []

        settings, teacher = self.settings, step.passes[self.own("teacher")]
        rows = len(teacher.batch)  # generated images stand behind the real ones
        terms = []
        classified = [name for name in teacher.logits if name in step.main.logits]
        if settings.ce_weight and classified:
            values = [
                soft_cross_entropy(step.main.logits[name][:rows], teacher.logits[name])
                for name in classified
            ]
            terms.append(LossTerm(self.own("ce"), stack(values).mean(), settings.ce_weight))
        if settings.triplet_weight and teacher.batch.identities:
            ours, theirs = (ctx.gather(_raw(view)[:rows]) for view in (step.main, teacher))
            value = soft_triplet(ours, theirs, ctx.gather(teacher.batch.pid))
            terms.append(LossTerm(self.own("triplet"), value, settings.triplet_weight))
        return terms


def _raw(view: PassView) -> Tensor:
    return view.output("deployed:raw")

"""Probe plugins: one small plugin for each shape that a paper can have.

Here a head on a field, a second stream with an identity of its own, and adversarial synthesis with
an update and optimisers of its own; `probes_of_data` has those that bring data. The head can be
broken on purpose (``HeadSettings.broken``), so that the checks of the conformance suite can be
shown to fail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from reid_core.contract.fields import SHARED_FIELDS
from reid_core.contract.hookspecs import hookimpl
from reid_core.contract.model import ENCODER_MAP, Branch, Embedding, Supervision, Tap
from reid_core.contract.plugin import Need, Plugin, Settings
from reid_core.contract.step import (
    Group,
    LossTerm,
    Optimiser,
    Pass,
    Schedule,
    Synthetic,
    Update,
)

if TYPE_CHECKING:
    from torch import Tensor

    from reid_core.contract.batches import Batch
    from reid_core.contract.context import RunContext
    from reid_core.contract.views import PassView, StepView


Breakage = Literal[
    "", "foreign_name", "idle", "extra_forward", "patched_encoder", "unsaved", "module_state"
]
"""Ways to break the contract: a name of somebody else, a layer without use, a forward pass that
moves batch-norm statistics, a patched encoder, state that no checkpoint holds, state that
outlives a run."""


class HeadSettings(Settings):
    """Settings of `Head`."""

    weight: float = 1.0
    stream: str = ENCODER_MAP
    dropout: float = 0.2
    broken: Breakage = ""


class Head(Plugin):
    """A part-segmentation head: one branch, one term, one field."""

    Settings = HeadSettings
    takes_frames = True
    needs = (Need("parts"),)
    calls_of_all_runs = 0
    calls = 0

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Add a head on the stream's map, whoever writes it."""
        from reid_core.testing import probe_modules

        classes = len(SHARED_FIELDS["parts"].classes)
        stream, broken = self.settings.stream, self.settings.broken
        kind = probe_modules.IdleHead if broken == "idle" else probe_modules.PartHead
        return [
            Branch(
                "other/head" if broken == "foreign_name" else self.own("head"),
                lambda known: kind(known[stream].channels, classes, self.settings.dropout),
                reads=(stream,),
                writes=(self.own("logits"),),
            )
        ]

    @hookimpl
    def reid_losses(self, ctx: RunContext, step: StepView) -> list[LossTerm]:
        """Classify the parts on every pass that carries them."""
        import torch
        import torch.nn.functional as F

        values: list[Tensor] = []
        for view in step.passes_with(self.own("logits"), "parts"):
            logits = view.output(self.own("logits")).float()
            labels = view.batch.fields["parts"][:, None].float()
            labels = F.interpolate(labels, logits.shape[2:], mode="nearest-exact")
            values.append(F.cross_entropy(logits, labels[:, 0].long()))
        if not values:
            return []
        value = torch.stack(values).mean() * self._break(ctx, step)
        return [LossTerm(self.own("parts"), value, self.settings.weight)]

    def _break(self, ctx: RunContext, step: StepView) -> float:
        """Return 1, or do what the settings ask for."""
        model = ctx.model
        assert model is not None
        match self.settings.broken:
            case "extra_forward":
                model.encoder(step.main.image)
            case "patched_encoder" if not self.calls:
                model.encoder.register_forward_hook(
                    lambda module, inputs, maps: {n: 2 * m for n, m in maps.items()}
                )
            case "unsaved":
                self.calls += 1
                return float(self.calls)
            case "module_state":
                Head.calls_of_all_runs += 1
                return float(Head.calls_of_all_runs)
        self.calls += 1
        return 1.0


class StreamSettings(Settings):
    """Settings of `Stream`."""

    weight: float = 1.0
    identity_weight: float = 1.0


class Stream(Plugin):
    """A second stream with an embedding of its own, a frozen copy of it, and mutual learning."""

    Settings = StreamSettings
    takes_frames = True
    needs = (Need("identities"),)

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Add the stream with its embedding, and the frozen copy."""
        from copy import deepcopy

        from reid_core.testing.probe_modules import Stream as Network

        live = Network()
        embedding = Embedding(
            self.own("shape"),
            reads=self.own("pooled"),
            at_test=False,
            weight=self.settings.identity_weight,
            supervision=Supervision(triplet=None),
        )
        writes = (self.own("map"), self.own("pooled"))
        frozen = (self.own("map0"), self.own("pooled0"))
        return [
            Branch(self.own("live"), live, ("image",), writes, (embedding,)),
            Branch(self.own("frozen"), deepcopy(live), ("image",), frozen, frozen=True),
        ]

    @hookimpl
    def reid_losses(self, ctx: RunContext, step: StepView) -> list[LossTerm]:
        """Keep close to the frozen copy, and the two embeddings' unit vectors consistent."""
        if step.update != "main":
            return []
        view = step.main
        kept = (view.output(self.own("map")) - view.output(self.own("map0"))).square().mean()
        terms = [LossTerm(self.own("keep"), kept.float(), self.settings.weight)]
        others = [n for n in sorted(view.embedded) if n != self.own("shape")]
        from reid_core.model.precision import inner_products

        shape = ctx.gather(view.embedded[self.own("shape")].unit)
        for name in others[:1]:
            unit = ctx.gather(view.embedded[name].unit)
            gap = (inner_products(shape) - inner_products(unit)).square().mean()
            terms.append(LossTerm(self.own("similar"), gap, self.settings.weight))
        return terms


class AdversarialSettings(Settings):
    """Settings of `Adversarial`."""

    weight: float = 1.0
    route: Literal["join", "detached", "frozen_copy"] = "detached"
    identity_weight: float = 0.0


class Adversarial(Plugin):
    """A generator and a discriminator: own update, own optimisers, images made in the step."""

    Settings = AdversarialSettings

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Add both networks; the plugin itself calls them."""
        from reid_core.testing.probe_modules import Discriminator, Generator

        return [
            Branch(self.own("generator"), Generator(), reads=()),
            Branch(self.own("discriminator"), Discriminator(), reads=()),
        ]

    @hookimpl
    def reid_schedule(self, ctx: RunContext, params: Mapping[str, Sequence[str]]) -> Schedule:
        """Step the discriminator before main, both networks with Adam of their own."""
        adam = Optimiser("adam", lr=1e-3, betas=(0.0, 0.999), follows_schedule=False)
        generator, discriminator = self.own("generator"), self.own("discriminator")
        return Schedule(
            groups=(
                Group(generator, (generator,), adam),
                Group(discriminator, (discriminator,), adam),
            ),
            updates=(
                Update(
                    self.own("critic"),
                    groups=(discriminator,),
                    passes=(Pass(self.own("real"), image="clean"),),
                    after=(),
                    before=("main",),
                ),
            ),
        )

    @hookimpl
    def reid_data_synthesis(
        self, ctx: RunContext, batch: Batch, feats: PassView | None, update: str
    ) -> list[Synthetic]:
        """Recolour every image, before the forward with ``join`` and after it otherwise."""
        import torch

        route = self.settings.route
        if update != "main" or (feats is None) != (route == "join"):
            return []
        images = ctx.module(self.own("generator"))(batch.image)
        rows = torch.arange(len(batch), device=images.device)
        return [
            Synthetic(
                self.own("recoloured"),
                images,
                spatial_from=rows,
                identity_from=rows.roll(1),
                route=route,
                identity_weight=0.0 if route == "join" else self.settings.identity_weight,
            )
        ]

    @hookimpl
    def reid_losses(self, ctx: RunContext, step: StepView) -> list[LossTerm]:
        """Least-squares adversarial terms of both sides, and reconstruction."""
        discriminator = ctx.module(self.own("discriminator"))
        generator = ctx.module(self.own("generator"))
        if step.update == self.own("critic"):
            real = step.passes[self.own("real")].batch.image
            scores = discriminator(real), discriminator(generator(real).detach())
            loss = (scores[0] - 1).square().mean() + scores[1].square().mean()
            return [LossTerm(self.own("critic"), loss.float(), 1.0)]
        if step.update != "main":
            return []
        real = step.main.batch.image[: ctx.config.data.batch_size]
        fake = generator(real)
        fooled = (discriminator(fake) - 1).square().mean()
        kept = (fake - real).abs().mean()
        weight = self.settings.weight
        return [
            LossTerm(self.own("fool"), fooled.float(), weight),
            LossTerm(self.own("keep"), kept.float(), weight),
        ]


class Rival(Plugin):
    """A claimant of the slot ``embedding``: what describes a person is the mean of the map."""

    claims = ("embedding",)

    @hookimpl
    def reid_auxiliary_branches(self, ctx: RunContext, taps: Mapping[str, Tap]) -> list[Branch]:
        """Embed the pooled map, where the slot is its own."""
        from reid_core.model.blocks import GlobalPool

        if not ctx.owns(self.name, "embedding"):
            return []
        pooled = self.own("pooled")
        embedding = Embedding(self.own("global"), reads=pooled)
        return [
            Branch(self.own("pool"), GlobalPool("avg"), (ENCODER_MAP,), (pooled,), (embedding,))
        ]

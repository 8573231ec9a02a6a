"""Probe plugins that break one rule each; the head of the core's own has further ways to do so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from reid_core.contract.hookspecs import hookimpl
from reid_core.contract.model import Branch
from reid_core.contract.plugin import Plugin
from reid_core.contract.samples import DataProvider, Source, SourceRequest
from reid_core.errors import ConflictError
from reid_core.testing.probe_modules import PartHead, Stream as StreamNetwork
from reid_core.testing.probes import Head, Rival, Stream


class Heavy(Head):
    """The module that its entry point would name imports torch."""

    __module__ = "reid_core.testing.probe_modules"


class Greedy(Rival):
    """It embeds whether it has the slot or not."""

    @hookimpl
    def reid_auxiliary_branches(self, ctx: Any, taps: Any) -> list[Branch]:
        ctx = replace(ctx, slots={**ctx.slots, "embedding": self.name})
        return super().reid_auxiliary_branches(ctx, taps)


class Deployed(Greedy):
    """Its embedding describes people at test, though it does not claim that slot."""

    claims = ()


class GrowingHead(PartHead):
    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        logits = super().forward(feature)
        return nn.functional.interpolate(logits, scale_factor=2) if self.training else logits


class Growing(Head):
    """Its logits are larger in training than when others were told of them."""

    @hookimpl
    def reid_auxiliary_branches(self, ctx: Any, taps: Any) -> list[Branch]:
        (head,) = super().reid_auxiliary_branches(ctx, taps)
        return [replace(head, module=lambda known: GrowingHead(known["encoder/map"].channels, 8))]


class Wasteful(Head):
    """It asks for a source on which nothing runs."""

    sources = (SourceRequest("head/textures", fields=("texture",), batch_size=4),)


class Nameless(Head):
    """It refuses company without saying whose."""

    @hookimpl
    def reid_auxiliary_branches(self, ctx: Any, taps: Any) -> list[Branch]:
        if len(ctx.config.run.plugins) > 1:
            raise ConflictError("the head trains alone")
        return super().reid_auxiliary_branches(ctx, taps)


class Attached(Plugin):
    """Its source has samples that only this process can hold."""

    sources = (SourceRequest("attached/pairs", provider="attached-pairs", batch_size=4),)

    @hookimpl
    def reid_datasets(self) -> list[DataProvider]:
        return [DataProvider("attached-pairs", self._load, kind="source")]

    def _load(self, request: Any) -> Source:
        from reid_core.testing.toy.making import load_toy_pairs

        source = load_toy_pairs(replace(request, name="toy-pairs", size="tiny"))
        samples = tuple(replace(one, extra={"open": lambda: None}) for one in source.samples)
        return replace(source, samples=samples)


class Lonely(Head):
    """Every rank moves its head by the images that it alone sees."""

    @hookimpl
    def reid_data_synthesis(self, ctx: Any, batch: Any, feats: Any, update: str) -> list[Any]:
        with torch.no_grad():
            for parameter in ctx.module("head/head").parameters() if feats is None else ():
                parameter.add_(batch.image.mean() * 1e-3)
        return []


class CentredNetwork(StreamNetwork):
    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        feature, pooled = super().forward(image)
        return feature, pooled - pooled.mean(0)


class Centred(Stream):
    """Its embedding is relative to the rows of the rank, not of the batch."""

    @hookimpl
    def reid_auxiliary_branches(self, ctx: Any, taps: Any) -> list[Branch]:
        live, frozen = super().reid_auxiliary_branches(ctx, taps)
        return [replace(live, module=CentredNetwork()), frozen]


class Halved(Head):
    """It leaves a loss in the precision of the features."""

    @hookimpl
    def reid_losses(self, ctx: Any, step: Any) -> list[Any]:
        (term,) = super().reid_losses(ctx, step)
        return [replace(term, value=term.value.bfloat16())]


class Wrapping(Head):
    """It compiles a module by wrapping it, which renames all that is in it."""

    @hookimpl
    def reid_losses(self, ctx: Any, step: Any) -> list[Any]:
        if ctx.progress.iteration == 1:
            ctx.model.branches["head/head"] = torch.compile(ctx.model.branches["head/head"])
        return super().reid_losses(ctx, step)


class Waiting(Head):
    """It looks at its loss in every step."""

    @hookimpl
    def reid_losses(self, ctx: Any, step: Any) -> list[Any]:
        (term,) = super().reid_losses(ctx, step)
        return [term] if term.value.item() >= 0 else []


class Comparing(Stream):
    """It compares the rows of its rank with each other, and not with those of all."""

    @hookimpl
    def reid_losses(self, ctx: Any, step: Any) -> list[Any]:
        ctx = replace(ctx)
        ctx.gather = lambda rows: rows
        return super().reid_losses(ctx, step)


class Scaled(Stream):
    """Its rows are gathered, and their gradient counts this rank's loss alone."""

    @hookimpl
    def reid_losses(self, ctx: Any, step: Any) -> list[Any]:
        ctx = replace(ctx)
        ctx.gather = lambda rows: torch.cat(
            [
                part if number == ctx.rank else part.detach()
                for number, part in enumerate(type(ctx).gather(ctx, rows).chunk(ctx.world_size))
            ]
        )
        return super().reid_losses(ctx, step)


class Rounded(Stream):
    """It looks for every row's nearest other by products that mixed precision rounds."""

    @hookimpl
    def reid_losses(self, ctx: Any, step: Any) -> list[Any]:
        found = super().reid_losses(ctx, step)
        if found:
            unit = step.main.embedded["stream/shape"].unit
            nearest = (unit @ unit.T).fill_diagonal_(-1).argmax(1)
            found[0] = replace(found[0], value=(unit - unit[nearest]).square().mean())
        return found

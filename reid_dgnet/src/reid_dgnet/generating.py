"""Compose images with a trained model, outside of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reid_core import ENCODER_MAP, PluginError, RunContext, Sample, clean_batches
from reid_core.model.modes import evaluating
from reid_dgnet.composing import Generator
from reid_dgnet.networks.appearance import appearance_code

BATCH = 32
"""Images composed at a time."""


@dataclass(frozen=True)
class Composer:
    """A trained appearance encoder and generative module, and where images come from.

    Args:
        encoder: the appearance encoder.
        generator: the generative module.
        samples: images to compose.
        size: height and width of the networks' input.
        device: where they are.
    """

    encoder: nn.Module
    generator: Generator
    samples: Sequence[Sample]
    size: tuple[int, int]
    device: torch.device

    @classmethod
    def of(cls, ctx: RunContext, samples: Sequence[Sample] | None = None) -> Composer:
        """Return the composer of a run.

        Args:
            ctx: the run.
            samples: images to compose; None takes its training images.

        Raises:
            PluginError: the run has no generator.
        """
        if ctx.model is None or "dgnet/decoder" not in ctx.model.branches:
            raise PluginError(
                "this run has no generator: --plugins dgnet makes one, but not with dgnet.offline"
            )
        chosen = ctx.main.samples if samples is None else samples
        return cls(ctx.model.encoder, Generator.of(ctx), chosen, ctx.image_size, ctx.device)

    def read(self, samples: Sequence[Sample]) -> Tensor:
        """Return images ``N 3 H W``, normalised, on the device."""
        batches = clean_batches(samples, self.size, self.device)
        return torch.cat([batch.image for batch in batches])

    @torch.no_grad()
    def codes(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return appearance and structure codes of normalised images."""
        with evaluating(self.encoder):
            parts = [
                (appearance_code(self.encoder(some)[ENCODER_MAP]), self.generator.encode(some))
                for some in images.split(BATCH)
            ]
        appearance, structure = zip(*parts, strict=True)
        return torch.cat(appearance), torch.cat(structure)

    @torch.no_grad()
    def compose(self, structure: Tensor, appearance: Tensor) -> Tensor:
        """Return normalised images ``N 3 H W`` of codes, row by row."""
        pairs = zip(structure.split(BATCH), appearance.split(BATCH), strict=True)
        return torch.cat([self.generator.compose(*pair) for pair in pairs])

"""Regressed images of test people, drawn and measured: at every evaluation, and on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reid_core import Evaluated, RunContext, Sample, Source, append_json, evenly
from reid_core.contract.encoder import TrainedModel
from reid_san.decoder import Decoder
from reid_san.guides import Guide
from reid_san.measuring import Channels, Comparison, Distances, watched
from reid_san.names import DECODER
from reid_san.pictures import draw_regressed
from reid_san.regressing import regress

SHOWN, MEASURED = 12, 192
"""People in the picture, and in the measurement."""


@dataclass(frozen=True)
class Measurement:
    """What is found by looking at people with a decoder.

    Args:
        channels: of the decoder, over all people.
        distances: to the truth, where it is known.
    """

    channels: Channels
    distances: Distances | None

    def lines(self) -> list[str]:
        """Return it for the user."""
        known = [] if self.distances is None else [self.distances.line()]
        dead, total = self.channels.dead, self.channels.total
        return [*known, f"{dead} of the decoder's {total} channels are always zero"]

    def to_json(self) -> Mapping[str, float]:
        """Return plain numbers."""
        known = {} if self.distances is None else self.distances.to_json()
        return {**known, "dead": self.channels.dead, "channels": self.channels.total}


def draw_and_measure(
    ctx: RunContext,
    model: TrainedModel,
    guide: Guide,
    pairs: Source | None,
    people: Sequence[Sample],
    path: Path,
    shown: int = SHOWN,
) -> Measurement:
    """Draw people with what is regressed, and measure it where the truth is known.

    Args:
        ctx: the run.
        model: with the decoder.
        guide: what is regressed.
        pairs: the pairs that SAN-PG has learned from, whose mean is the guess to beat; None
            takes the training images.
        people: test samples, at least one.
        path: the picture to write.
        shown: how many are drawn, evenly spread.

    Returns:
        What is found; without distances where the test images carry no truth of the same layout.
    """
    trained = pairs or ctx.main
    spec = trained.fields[guide.field] if guide.spec is not None else None
    compared = Comparison(spec, ctx.dataset.query_fields, trained, people, shown)
    decoder = model.branches[DECODER]
    assert isinstance(decoder, Decoder)
    with watched(decoder) as channels:
        for sample, (image, found) in zip(people, regress(ctx, model, people), strict=True):
            compared.add(sample, image, found)
    draw_regressed(compared.columns, path)
    return Measurement(channels, compared.distances)


def report(ctx: RunContext, event: Evaluated, guide: Guide, pairs: Source | None) -> None:
    """Leave ``san/<when>.png`` (``san/epoch_7.png``) and a line in ``san/textures.jsonl``.

    Args:
        ctx: the run, with its model.
        event: what has been evaluated.
        guide, pairs: see `draw_and_measure`.
    """
    people = [*ctx.dataset.query, *ctx.dataset.gallery]
    if ctx.folder is None or ctx.model is None or not people:
        return
    name = f"epoch_{event.epoch + 1}" if event.when in ("epoch", "validation") else event.when
    folder = ctx.folder / "san"
    chosen = evenly(people, MEASURED)
    found = draw_and_measure(ctx, ctx.model, guide, pairs, chosen, folder / f"{name}.png")
    for text in found.lines():
        ctx.say(f"san: {text}")
    where = {"when": event.when, "epoch": event.epoch, "iteration": event.iteration}
    append_json(folder / "textures.jsonl", {**where, **found.to_json()})

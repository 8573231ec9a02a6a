"""Regressed images of test people, drawn and measured: at every evaluation, and on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reid_core import Evaluated, FieldSpec, RunContext, Sample, Source, append_json
from reid_core.contract.encoder import TrainedModel
from reid_san.decoder import Decoder
from reid_san.guides import Guide
from reid_san.labelling import column, comparable, summary
from reid_san.measuring import Channels, Distances, watched
from reid_san.names import DECODER
from reid_san.pictures import draw_regressed
from reid_san.regressing import evenly, mean_of, regress, to_pixels

SHOWN, MEASURED = 12, 192
"""People in the picture, and in the measurement."""

_ABREAST = 4


@dataclass(frozen=True)
class Measurement:
    """What is found by looking at people with a decoder.

    Args:
        channels: of the decoder, over all people.
        distances: to the truth, where it is known.
    """

    channels: Channels
    distances: Distances | None

    def lines(self, guide: Guide) -> list[str]:
        """Return it for the user."""
        known = [] if self.distances is None else [summary(guide.field, self.distances)]
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
    spec: FieldSpec | None = None
    if guide.spec is not None and comparable(ctx.dataset.query_fields, trained.fields[guide.field]):
        spec = trained.fields[guide.field]
    drawn = {id(sample) for sample in evenly(people, shown)}
    columns, distances = [], None
    decoder = model.branches[DECODER]
    assert isinstance(decoder, Decoder)
    with watched(decoder) as channels:
        for sample, (image, found) in zip(people, regress(ctx, model, people), strict=True):
            if id(sample) in drawn:
                columns.append(column(image, to_pixels(found), sample, spec))
            if spec is not None:
                if distances is None:
                    size = (found.shape[1], found.shape[2])
                    distances = Distances(spec, mean_of(trained, spec, size))
                distances.add(sample, found.clamp(-1, 1))
    draw_regressed(columns, path, _ABREAST)
    return Measurement(channels, distances)


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
    for text in found.lines(guide):
        ctx.say(f"san: {text}")
    where = {"when": event.when, "epoch": event.epoch, "iteration": event.iteration}
    append_json(folder / "textures.jsonl", {**where, **found.to_json()})

"""Regressed images of test people, drawn and measured: at every evaluation, and on demand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reid_core import Evaluated, FieldSpec
from reid_san.labelling import column, comparable, summary
from reid_san.pictures import draw_regressed
from reid_san.regressing import Distances, evenly, mean_of, regress, to_pixels

if TYPE_CHECKING:
    from reid_core import RunContext, Sample, Source
    from reid_core.contract.encoder import TrainedModel
    from reid_san.guides import Guide

SHOWN, MEASURED = 12, 192
"""People in the picture, and in the measurement."""

_ABREAST = 4


def draw_and_measure(
    ctx: RunContext,
    model: TrainedModel,
    guide: Guide,
    pairs: Source | None,
    people: Sequence[Sample],
    path: Path,
    shown: int = SHOWN,
) -> Distances | None:
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
        The distances, or None where the test images carry no truth of the same layout.
    """
    trained = pairs or ctx.main
    spec: FieldSpec | None = None
    if guide.spec is not None and comparable(ctx.dataset.query_fields, trained.fields[guide.field]):
        spec = trained.fields[guide.field]
    drawn = {id(sample) for sample in evenly(people, shown)}
    columns, distances = [], None
    for sample, (image, found) in zip(people, regress(ctx, model, people), strict=True):
        if id(sample) in drawn:
            columns.append(column(image, to_pixels(found), sample, spec))
        if spec is not None:
            if distances is None:
                size = (found.shape[1], found.shape[2])
                distances = Distances(spec, mean_of(trained, spec, size))
            distances.add(sample, found.clamp(-1, 1))
    draw_regressed(columns, path, _ABREAST)
    return distances


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
    distances = draw_and_measure(ctx, ctx.model, guide, pairs, chosen, folder / f"{name}.png")
    if distances is not None:
        ctx.say(f"san: {summary(guide.field, distances)}")
        line = {"when": event.when, "epoch": event.epoch, **distances.to_json()}
        with (folder / "textures.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

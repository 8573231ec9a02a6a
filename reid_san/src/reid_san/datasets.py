"""Regressed images as a data set of their own: textures as the input of recognition."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from reid_core import RunContext
from reid_core.contract.encoder import TrainedModel
from reid_san.regressing import regress, to_pixels


def write_dataset(ctx: RunContext, model: TrainedModel, out: Path) -> Mapping[str, int]:
    """Write what is regressed of all images of a run's data set, as ``folder`` reads it.

    Names hold person, camera and, where it is known, outfit: ``0002_c12_o3_000041.png``.

    Args:
        ctx: the run, whose data set it is.
        model: with the decoder; the run's, or SAN-PG's.
        out: the folder, in which ``train``, ``query`` and ``gallery`` are made.

    Returns:
        How many images each part has.
    """
    dataset, counts = ctx.dataset, {}
    parts = {"train": ctx.main.samples, "query": dataset.query, "gallery": dataset.gallery}
    for part, samples in parts.items():
        folder = out / part
        folder.mkdir(parents=True, exist_ok=True)
        regressed = regress(ctx, model, samples)
        for row, (sample, (_, found)) in enumerate(zip(samples, regressed, strict=True)):
            worn = f"_o{sample.clothes}" if sample.clothes >= 0 else ""
            name = f"{sample.pid:04d}_c{sample.camid}{worn}_{row:06d}.png"
            Image.fromarray(to_pixels(found).transpose(1, 2, 0)).save(folder / name)
        counts[part] = len(samples)
    return counts

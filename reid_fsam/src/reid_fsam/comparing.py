"""Compare the masks of trained runs: with each other, with the coarse ones and with the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from reid_core import SHARED_FIELDS, ConfigError, Sample, clean_batches, evenly, restore
from reid_core.loop.assembly import Assembly
from reid_core.model.modes import evaluating
from reid_fsam.losses import mask_drift
from reid_fsam.masks import body_masks
from reid_fsam.parsing import MaskingParser
from reid_fsam.plugin import Fsam
from reid_fsam.reporting import SHOWN, mask_sheet, soft_masks
from reid_parsing import resized_logits

_ROWS = 256
"""Images over which masks are measured."""


def compare_masks(folders: Sequence[Path], out: Path) -> list[str]:
    """Draw the masks of several runs below their images, and say how they differ.

    Args:
        folders: of the runs.
        out: the picture.

    Returns:
        One line per run.

    Raises:
        ConfigError: a run has no live parser of FSAM.
    """
    rows: dict[str, NDArray[np.uint8]] = {}
    lines, samples = [], []
    for folder in folders:
        assembly = restore(folder, needs=Fsam, say=lambda line: None)
        ctx = assembly.ctx
        live, coarse = (parser_of(assembly, folder, name) for name in ("parser", "coarse"))
        if not rows:
            samples = evenly(ctx.main.samples, SHOWN)
            rows["coarse"] = soft_masks(coarse, samples, ctx.image_size, ctx.device)
        rows[folder.name] = soft_masks(live, samples, ctx.image_size, ctx.device)
        facts = measure_masks(assembly, live, coarse)
        lines.append(f"{folder}: " + ", ".join(f"{k} {v:.4f}" for k, v in facts.items()))
    mask_sheet(samples, rows, out)
    return lines


@torch.inference_mode()
def measure_masks(
    assembly: Assembly, live: MaskingParser, coarse: MaskingParser
) -> dict[str, float]:
    """Return how far fine masks are from the coarse ones, and how often either meets the truth.

    Args:
        assembly: of the run.
        live, coarse: its parsers.

    Returns:
        ``drift`` (equation 4, of probabilities), and where the training set has ``parts`` the
        shares of pixels ``fine agrees`` and ``coarse agrees``.
    """
    ctx = assembly.ctx
    every = max(1, len(ctx.main) // _ROWS)
    samples: list[Sample] = list(ctx.main.samples[::every])[:_ROWS]
    known = {"parts": SHARED_FIELDS["parts"]} if "parts" in ctx.fields else {}
    batches = clean_batches(samples, ctx.image_size, ctx.device, fields=known, batch_size=32)
    drifts, agreeing = [], {"fine agrees": 0.0, "coarse agrees": 0.0}
    pixels = 0
    with evaluating(live), evaluating(coarse):
        for batch in batches:
            logits = [parser.logits(batch.image) for parser in (live, coarse)]
            fine, plain = (body_masks(found, "prob", ctx.image_size) for found in logits)
            drifts.append(mask_drift(fine, plain))
            if known:
                truth = batch.fields["parts"]
                pixels += truth.numel()
                for name, found in zip(agreeing, logits, strict=True):
                    best = resized_logits(found, ctx.image_size).argmax(1)
                    agreeing[name] += float((best == truth).sum())
    facts = {"drift": float(torch.cat(drifts).mean())}
    if pixels and live.network.classes == len(SHARED_FIELDS["parts"].classes):
        facts |= {name: count / pixels for name, count in agreeing.items()}
    return facts


def parser_of(assembly: Assembly, folder: Path, name: str) -> MaskingParser:
    """Return a parser of a run's FSAM, by whatever name that was asked for.

    Args:
        assembly: of the run.
        folder: of the run, for messages.
        name: ``parser`` for the live one, ``coarse`` for its frozen copy.

    Raises:
        ConfigError: the run has none.
    """
    branches = dict(assembly.model.branches)
    for plugin in assembly.plugins.values():
        module = branches.get(plugin.own(name)) if isinstance(plugin, Fsam) else None
        if isinstance(module, MaskingParser):
            return module
    raise ConfigError(f"{folder} is no run of FSAM with a parser that learns (stream=fine)")

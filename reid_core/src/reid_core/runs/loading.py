"""Load the embedder of a run, finished or not."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import torch

from reid_core.loop.trainer import Trainer
from reid_core.model import stored
from reid_core.model.embedder import Embedder
from reid_core.runs.running import restore


def load_embedder(
    path: str | Path,
    device: str | torch.device = "cpu",
    *,
    checkpoint: bool = False,
    say: Callable[[str], None] | None = None,
) -> Embedder:
    """Load a deployed model in evaluation mode; no plugin needs to be requested.

    Args:
        path: ``embedder.safetensors``, the run's folder, the name of shipped weights, or an address
            (``hf://owner/name@revision``).
        device: where to put it.
        checkpoint: take the last checkpoint of the run's folder, which need not have finished, with
            the weights and statistics that the run evaluates. Its plugins must be installed and its
            data set be there, as for `restore`.
        say: is told which weights of a checkpoint these are.

    Raises:
        CheckpointError: missing or truncated files, another format, a pickle, weights that do not
            fit, or a part of a distribution that is not installed.
        ReidError: what `restore` raises.
    """
    if not checkpoint:
        return stored.load_embedder(path, device)
    assembly = restore(Path(path), say=lambda line: None)
    assembly.model.train()  # or no statistics are re-estimated
    with Trainer(assembly).weights():
        embedder = deepcopy(assembly.embedder())
    embedder.learnt_from = assembly.learnt_from
    if say is not None:
        kind = assembly.config.evaluation.weights or "as trained"
        say(f"{path}: weights of its checkpoint at epoch {assembly.ctx.progress.epoch}, {kind}")
    return embedder.to(device).eval()

"""Load the embedder of a run, finished or not."""

from __future__ import annotations

from pathlib import Path

import torch

from reid_core.model import stored
from reid_core.model.embedder import Embedder
from reid_core.runs.running import restore


def load_embedder(
    path: str | Path, device: str | torch.device = "cpu", *, checkpoint: bool = False
) -> Embedder:
    """Load a deployed model in evaluation mode; no plugin needs to be requested.

    Args:
        path: ``embedder.safetensors``, the run's folder, the name of shipped weights, or an address
            (``hf://owner/name@revision``).
        device: where to put it.
        checkpoint: take the last checkpoint of the run's folder, which need not have finished. Its
            plugins must be installed and its data set be there, as for `restore`.

    Raises:
        CheckpointError: missing or truncated files, another format, a pickle, weights that do not
            fit, or a part of a distribution that is not installed.
        ReidError: what `restore` raises.
    """
    if not checkpoint:
        return stored.load_embedder(path, device)

    return restore(Path(path), say=lambda line: None).embedder().to(device).eval()

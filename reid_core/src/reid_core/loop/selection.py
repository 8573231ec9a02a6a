"""Select a checkpoint on held-out identities, never on the test."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from reid_core.errors import CheckpointError
from reid_core.loop.state import trainable_state
from reid_core.model.graph import ReidModel
from reid_core.model.tensors import write_tensors
from reid_core.outputs import write_json


@dataclass(frozen=True)
class Selected:
    """The best epoch so far.

    Args:
        epoch: 0-based.
        iteration: its last step, 0-based.
        mean_ap: on the held-out identities.
    """

    epoch: int
    iteration: int
    mean_ap: float


class Selection:
    """Keep the weights with the best validation score; the first of equals.

    Args:
        folder: of the run; ``best.safetensors`` and ``best.json`` lie there, so that a resumed run
            goes on selecting.
    """

    def __init__(self, folder: Path) -> None:
        self._weights = folder / "best.safetensors"
        self._note = folder / "best.json"

    @property
    def best(self) -> Selected | None:
        """The epoch of the best weights so far."""
        if not self._note.is_file():
            return None
        note = json.loads(self._note.read_text("utf-8"))
        return Selected(int(note["epoch"]), int(note.get("iteration", -1)), float(note["mean_ap"]))

    def consider(self, found: Selected, model: ReidModel) -> bool:
        """Keep the model's weights if they are the best so far; return whether they are."""
        best = self.best
        if best is not None and found.mean_ap <= best.mean_ap:
            return False
        write_tensors(self._weights, trainable_state(model))
        write_json(self._note, asdict(found), None)
        return True

    def restore(self, model: ReidModel) -> Selected:
        """Load the best weights into the model; return their epoch.

        Raises:
            CheckpointError: nothing was selected.
        """
        best = self.best
        if best is None or not self._weights.is_file():
            raise CheckpointError(f"no epoch was selected: {self._weights} is missing")
        state = trainable_state(model)
        with torch.no_grad():
            for name, value in load_file(self._weights).items():
                state[name].copy_(value)
        return best

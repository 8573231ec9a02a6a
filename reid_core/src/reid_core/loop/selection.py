"""Select a checkpoint on held-out identities, never on the test."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from reid_core.config import EvaluationSection, differences
from reid_core.errors import CheckpointError, ConfigError, did_you_mean
from reid_core.loop.state import copy_into, trainable_state
from reid_core.model.graph import ReidModel
from reid_core.model.tensors import write_tensors
from reid_core.outputs import write_json
from reid_retrieval.protocols import STANDARD
from reid_retrieval.results import Evaluation

_DECIDING = {"select", "select_by", "weights", "embed", "batch_norm", "distance", "vector", "flip"}
"""Settings of ``evaluation`` that decide which weights are kept, and their score."""


@dataclass(frozen=True)
class Selected:
    """The best epoch so far.

    Args:
        epoch: 0-based.
        iteration: its last step, 0-based.
        mean_ap: on the held-out identities.
        by: what it is the best by (``evaluation.select_by``).
        score: that number; None where it is the mean average precision.
        smaller_is_better: whether less of it is better.
    """

    epoch: int
    iteration: int
    mean_ap: float
    by: str = "mAP"
    score: float | None = None
    smaller_is_better: bool = False

    @property
    def said(self) -> str:
        """The number that it was selected by, for people."""
        number = f"{100 * self.mean_ap:.1f}" if self.score is None else f"{self.score:.4g}"
        return f"{self.by} {number}"

    def beats(self, other: Selected) -> bool:
        """Return whether it is better than another one; of equals neither is."""
        ours, theirs = (one.mean_ap if one.score is None else one.score for one in (self, other))
        return ours < theirs if self.smaller_is_better else ours > theirs

    def note(self) -> dict[str, Any]:
        """Return it as plain data; what is selected by the usual number says no more."""
        content = asdict(self)
        usual = ("by", "score", "smaller_is_better") if self.score is None else ()
        return {name: value for name, value in content.items() if name not in usual}


def check_select_by(name: str, measuring: tuple[str, ...]) -> None:
    """Refuse, before the training, a number that nobody gives.

    Args:
        name: ``evaluation.select_by``.
        measuring: plugins with the hook ``reid_metrics``.

    Raises:
        ConfigError: with what there is.
    """
    known = ("mAP", "mAP_trapezoid", "mINP", *(f"rank{rank}" for rank in STANDARD.ranks))
    if name not in known and name.partition("/")[0] not in measuring:
        listed = ", ".join([*known, *(f"{plugin}/..." for plugin in measuring)])
        raise ConfigError(
            f"evaluation.select_by = '{name}' is no number of this run{did_you_mean(name, known)} "
            f"(there are: {listed})"
        )


def selected_by(
    by: str,
    evaluation: Evaluation,
    epoch: int,
    iteration: int,
    *,
    smaller_is_better: bool = False,
) -> Selected:
    """Return an epoch with the number that ``evaluation.select_by`` names.

    Raises:
        ConfigError: the plugin did not measure it.
    """
    first = evaluation.results[0]
    if by == "mAP":
        return Selected(epoch, iteration, first.mean_ap)
    numbers = {**first.metrics(), **evaluation.metrics}
    if by not in numbers:
        raise ConfigError(
            f"evaluation.select_by = '{by}': the validation did not measure it"
            f"{did_you_mean(by, numbers)} (it has: {', '.join(numbers)})"
        )
    return Selected(epoch, iteration, first.mean_ap, by, numbers[by], smaller_is_better)


class Selection:
    """Keep the weights with the best validation score; the first of equals.

    Args:
        folder: of the run; ``best.safetensors`` and ``best.json`` lie there, so that a resumed run
            goes on selecting.
        config: how it is selected; what was selected otherwise does not count.
    """

    def __init__(self, folder: Path, config: EvaluationSection) -> None:
        self._weights = folder / "best.safetensors"
        self._note = folder / "best.json"
        self._settings = config.model_dump(mode="json", include=_DECIDING)

    def forget(self) -> None:
        """Remove what was selected: it was of another training."""
        self._note.unlink(missing_ok=True)
        self._weights.unlink(missing_ok=True)

    @property
    def changed(self) -> list[str]:
        """How the best weights so far were selected otherwise, in words."""
        return self._read()[1]

    @property
    def best(self) -> Selected | None:
        """The epoch of the best weights so far."""
        found, changed = self._read()
        return None if changed else found

    def _read(self) -> tuple[Selected | None, list[str]]:
        """Return what is kept, and how it was selected otherwise."""
        if not self._note.is_file():
            return None, []
        try:
            note = json.loads(self._note.read_text("utf-8"))
            # An earlier version kept no settings.
            settings = note.pop("settings", self._settings)
            changed = differences(settings, self._settings, prefix="evaluation.")
            return Selected(**{"iteration": -1, **note}), changed
        except (AttributeError, TypeError, ValueError) as error:
            raise CheckpointError(f"{self._note} is damaged ({error})") from None

    def consider(self, found: Selected, model: ReidModel) -> bool:
        """Keep the model's weights if they are the best so far; return whether they are."""
        best = self.best
        if best is not None and not found.beats(best):
            return False
        write_tensors(self._weights, trainable_state(model))
        write_json(self._note, {**found.note(), "settings": self._settings}, None)
        return True

    def restore(self, model: ReidModel) -> Selected:
        """Load the best weights into the model; return their epoch.

        Raises:
            CheckpointError: nothing was selected.
        """
        best = self.best
        if best is None or not self._weights.is_file():
            raise CheckpointError(f"no epoch was selected: {self._weights} is missing")
        copy_into(trainable_state(model), load_file(self._weights))
        return best

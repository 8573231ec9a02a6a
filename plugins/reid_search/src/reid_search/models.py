"""MODEL, as every command takes it: a run, an embedder, an address, or shipped weights by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid_core import CheckpointError, ConfigError, write_json
from reid_core.weights import EMBEDDER, embedder_file, shipped_weights

if TYPE_CHECKING:
    import torch

    from reid_core import Embedder

DEFAULT_MODEL = "people/osnet_x0_25"
"""What a command takes where no MODEL is named."""

CALIBRATION = "calibration"
"""Key of an embedder's JSON under which its calibration lies, ``threshold`` among it."""


@dataclass(frozen=True)
class OpenModel:
    """An embedder that is ready, and where it came from.

    Args:
        name: what the user called it.
        weights: its ``.safetensors``; the description lies beside it.
        embedder: in evaluation mode, on the device that was asked for.
    """

    name: str
    weights: Path
    embedder: Embedder

    @property
    def calibration(self) -> Mapping[str, Any] | None:
        """What `reid calibrate` stored, or None."""
        return read_calibration(self.weights)


def is_model(text: str) -> bool:
    """Return whether a text names a model, so that a command can tell it from an image.

    An unfinished run is one, too, which says so itself: it is no folder of pictures.
    """
    path = Path(text)
    if "://" in text or path.suffix == ".safetensors":
        return True
    if path.is_dir():
        return any((path / name).is_file() for name in (EMBEDDER, "run.json", "checkpoint.pt"))
    return not path.exists() and text in shipped_weights()


def resolve_model(text: str | Path | None = None) -> Path:
    """Return the ``.safetensors`` that MODEL means.

    Args:
        text: a run's folder or any folder with an ``embedder.safetensors``, such a file, an address
            (``hf://...``), or the name of shipped weights; None takes `DEFAULT_MODEL`.

    Raises:
        CheckpointError: there is no such file, folder or name.
        ConfigError: nothing that is installed knows addresses of that kind.
    """
    return embedder_file(DEFAULT_MODEL if text is None else text)


def open_model(text: str | Path | None = None, device: str | torch.device = "cpu") -> OpenModel:
    """Load the embedder that MODEL means; see `resolve_model`.

    Raises:
        CheckpointError: it is not there, or cannot be loaded.
    """
    from reid_core import load_embedder

    weights = resolve_model(text)
    name = DEFAULT_MODEL if text is None else str(text)
    return OpenModel(name, weights, load_embedder(weights, device))


def read_calibration(weights: Path) -> Mapping[str, Any] | None:
    """Return what `reid calibrate` stored beside an embedder, or None.

    Raises:
        CheckpointError: the JSON cannot be read, or what is stored has no threshold.
    """
    path = weights.with_suffix(".json")
    try:
        found = json.loads(path.read_text("utf-8")).get(CALIBRATION)
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} cannot be read as an embedder's ({error})") from None
    if found is None:
        return None
    if not isinstance(found, Mapping) or not isinstance(found.get("threshold"), int | float):
        raise CheckpointError(
            f"{path}: '{CALIBRATION}' has no threshold; calibrate again with: reid calibrate"
        )
    return found


def write_calibration(weights: Path, calibration: Mapping[str, Any]) -> Path:
    """Store a calibration in an embedder's JSON, whole or not at all.

    Args:
        weights: the embedder's ``.safetensors``.
        calibration: plain values; ``threshold`` is the least cosine of one person's pictures.

    Returns:
        The JSON file.

    Raises:
        ConfigError: the file cannot be written.
    """
    path = weights.with_suffix(".json")
    description = {**json.loads(path.read_text("utf-8")), CALIBRATION: dict(calibration)}
    try:
        write_json(path, description)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written ({error.strerror or error}); copy the embedder to a folder "
            "of your own and calibrate that"
        ) from error
    return path

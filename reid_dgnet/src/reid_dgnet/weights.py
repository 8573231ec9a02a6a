"""Files of other people's weights, read as tensors and never unpickled."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from reid_core import CheckpointError


def read_tensors(path: Path | str) -> dict[str, Tensor]:
    """Return the tensors of a file by name: safetensors, or a state dict of tensors alone.

    A dictionary with the single key ``a``, as the authors of DG-Net write, is opened.

    Raises:
        CheckpointError: there is no such file, or it holds other things than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise CheckpointError(
            f"{path} does not hold tensors alone, and nothing else of it is read: {reason}"
        ) from None
    if isinstance(content, Mapping) and set(content) == {"a"}:
        content = content["a"]
    if not isinstance(content, Mapping) or not all(
        isinstance(value, Tensor) for value in content.values()
    ):
        raise CheckpointError(
            f"{path} holds no tensors by name, but {type(content).__name__}; save the network's "
            "state_dict() alone"
        )
    return {str(name): value for name, value in content.items()}

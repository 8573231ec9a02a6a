"""Tensors as a file: safetensors, written whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from reid_core.outputs import whole_file


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write tensors as safetensors.

    Args:
        path: the file; see `reid_core.whole_file`.
        tensors: by name, on any device.
        metadata: text that the file carries.

    Raises:
        OutputError: see `reid_core.whole_file`.
    """
    content = save({name: value.contiguous().cpu() for name, value in tensors.items()}, metadata)
    with whole_file(path) as part:
        part.write_bytes(content)

"""FSAM: fine-grained shape-appearance mutual learning (Hong et al., CVPR 2021)."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reid_fsam.plugin import Fsam as Fsam

__version__ = version("reid-fsam")


def __getattr__(name: str) -> Any:
    # On first use, so that `reid fsam --help` does not wait for torch.
    if name == "Fsam":
        return import_module("reid_fsam.plugin").Fsam
    raise AttributeError(f"module 'reid_fsam' has no attribute '{name}'")

"""Part-awareness learning (Huang et al., TIP 2020): a part-segmentation head on any stream."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reid_partaware.plugin import Partaware as Partaware

__version__ = version("reid-partaware")


def __getattr__(name: str) -> Any:
    # On first use, so that `reid partaware --help` does not wait for torch.
    if name == "Partaware":
        return import_module("reid_partaware.plugin").Partaware
    raise AttributeError(f"module 'reid_partaware' has no attribute '{name}'")

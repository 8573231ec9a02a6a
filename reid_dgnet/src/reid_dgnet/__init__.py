"""DG-Net (Zheng et al., CVPR 2019): joint discriminative and generative learning."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reid_dgnet.plugin import Dgnet as Dgnet

__version__ = version("reid-dgnet")


def __getattr__(name: str) -> Any:
    # On first use, so that `reid dgnet --help` does not wait for torch.
    if name == "Dgnet":
        return import_module("reid_dgnet.plugin").Dgnet
    raise AttributeError(f"module 'reid_dgnet' has no attribute '{name}'")

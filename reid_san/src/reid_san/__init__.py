"""SAN (Jin et al., AAAI 2020): semantics-aligned representation by texture regression."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reid_san.plugin import San as San

__version__ = version("reid-san")


def __getattr__(name: str) -> Any:
    # On first use, so that `reid san --help` does not wait for torch.
    if name == "San":
        return import_module("reid_san.plugin").San
    raise AttributeError(f"module 'reid_san' has no attribute '{name}'")

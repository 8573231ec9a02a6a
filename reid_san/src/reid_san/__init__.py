"""SAN (Jin et al., AAAI 2020): semantics-aligned representation by texture regression."""

from importlib.metadata import version
from typing import TYPE_CHECKING

from reid_core import on_first_use

if TYPE_CHECKING:
    from reid_san.plugin import San as San

__version__ = version("reid-san")
# On first use, so that `reid san --help` does not wait for torch.
__getattr__ = on_first_use(__name__, San="plugin")

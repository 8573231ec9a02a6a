"""FSAM: fine-grained shape-appearance mutual learning (Hong et al., CVPR 2021)."""

from importlib.metadata import version
from typing import TYPE_CHECKING

from reid_core import on_first_use

if TYPE_CHECKING:
    from reid_fsam.plugin import Fsam as Fsam

__version__ = version("reid-fsam")
# On first use, so that `reid fsam --help` does not wait for torch.
__getattr__ = on_first_use(__name__, Fsam="plugin")

"""DG-Net (Zheng et al., CVPR 2019): joint discriminative and generative learning."""

from importlib.metadata import version
from typing import TYPE_CHECKING

from reid_core import on_first_use

if TYPE_CHECKING:
    from reid_dgnet.plugin import Dgnet as Dgnet

__version__ = version("reid-dgnet")
# On first use, so that `reid dgnet --help` does not wait for torch.
__getattr__ = on_first_use(__name__, Dgnet="plugin")

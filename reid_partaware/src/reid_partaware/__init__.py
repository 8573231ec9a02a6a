"""Part-awareness learning (Huang et al., TIP 2020): a part-segmentation head on any stream."""

from importlib.metadata import version
from typing import TYPE_CHECKING

from reid_core import on_first_use

if TYPE_CHECKING:
    from reid_partaware.plugin import Partaware as Partaware

__version__ = version("reid-partaware")
# On first use, so that `reid partaware --help` does not wait for torch.
__getattr__ = on_first_use(__name__, Partaware="plugin")

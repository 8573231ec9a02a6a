"""Part-awareness learning (Huang et al., TIP 2020): a part-segmentation head on any stream."""

from importlib.metadata import version

from reid_partaware.plugin import Partaware as Partaware

__version__ = version("reid-partaware")

"""Part-awareness learning: a part-segmentation head on any stream (not implemented yet)."""

from importlib.metadata import version

__version__ = version("reid-partaware")

"""FSAM: fine-grained shape-appearance mutual learning (Hong et al., CVPR 2021)."""

from importlib.metadata import version

from reid_fsam.plugin import Fsam as Fsam

__version__ = version("reid-fsam")

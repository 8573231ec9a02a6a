"""DG-Net: joint discriminative and generative learning (not implemented yet)."""

from importlib.metadata import version

__version__ = version("reid-dgnet")

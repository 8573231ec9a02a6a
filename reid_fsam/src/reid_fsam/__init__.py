"""FSAM: fine-grained shape-appearance mutual learning (not implemented yet)."""

from importlib.metadata import version

__version__ = version("reid-fsam")

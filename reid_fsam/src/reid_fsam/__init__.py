"""FSAM: fine-grained shape-appearance mutual learning for cloth-changing people (not implemented yet)."""

from importlib.metadata import version

__version__ = version("reid-fsam")

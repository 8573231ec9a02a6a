"""SAN: semantics-aligned representation by texture regression (not implemented yet)."""

from importlib.metadata import version

__version__ = version("reid-san")

"""Loaders and evaluation protocols of the public data sets (not implemented yet)."""

from importlib.metadata import version

__version__ = version("reid-benchmarks")

"""Loaders and evaluation protocols of the public data sets."""

from importlib.metadata import version

from reid_benchmarks.plugin import Benchmarks

__all__ = ["Benchmarks"]
__version__ = version("reid-benchmarks")

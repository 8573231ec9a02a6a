"""Procedural people with complete ground truth: the embedded data set (not implemented yet)."""

from importlib.metadata import version

__version__ = version("reid-synthpeople")

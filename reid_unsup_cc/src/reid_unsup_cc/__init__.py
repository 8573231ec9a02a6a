"""Sync-Person-Cloud: unsupervised cloth-changing person re-identification (not implemented yet)."""

from importlib.metadata import version

__version__ = version("reid-unsup-cc")

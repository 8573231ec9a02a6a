"""Sync-Person-Cloud: unsupervised cloth-changing person re-identification."""

from importlib.metadata import version

from reid_unsup_cc.plugin import UnsupCC as UnsupCC

__version__ = version("reid-unsup-cc")

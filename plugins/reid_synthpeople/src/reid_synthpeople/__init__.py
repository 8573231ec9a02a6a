"""Procedural people with complete ground truth: the embedded data set."""

from importlib.metadata import version

from reid_synthpeople.plugin import Synthpeople
from reid_synthpeople.settings import SynthpeopleSettings

__all__ = ["Synthpeople", "SynthpeopleSettings"]
__version__ = version("reid-synthpeople")

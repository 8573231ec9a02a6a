"""Procedural people with complete ground truth: the embedded data set."""

from importlib.metadata import version
from typing import TYPE_CHECKING

from reid_core import on_first_use

if TYPE_CHECKING:
    from reid_synthpeople.plugin import Synthpeople as Synthpeople
    from reid_synthpeople.settings import SynthpeopleSettings as SynthpeopleSettings

__version__ = version("reid-synthpeople")
# On first use, so that `reid data make --help` does not wait for NumPy.
__getattr__ = on_first_use(__name__, Synthpeople="plugin", SynthpeopleSettings="settings")

"""Loaders and evaluation protocols of the public data sets, and a doctor for copies of any."""

from importlib.metadata import version
from typing import TYPE_CHECKING

from reid_core import on_first_use

if TYPE_CHECKING:
    from reid_benchmarks.plugin import Benchmarks as Benchmarks

__version__ = version("reid-benchmarks")
# On first use, so that `reid data check --help` does not wait for NumPy.
__getattr__ = on_first_use(__name__, Benchmarks="plugin")

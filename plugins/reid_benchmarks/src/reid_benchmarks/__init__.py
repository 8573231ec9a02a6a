"""Loaders and evaluation protocols of the public data sets, and a doctor for copies of any."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reid_benchmarks.plugin import Benchmarks as Benchmarks

__version__ = version("reid-benchmarks")


def __getattr__(name: str) -> Any:
    # On first use, so that `reid data check --help` does not wait for NumPy.
    if name == "Benchmarks":
        return import_module("reid_benchmarks.plugin").Benchmarks
    raise AttributeError(f"module 'reid_benchmarks' has no attribute '{name}'")

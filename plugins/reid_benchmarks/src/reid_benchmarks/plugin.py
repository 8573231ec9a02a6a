"""The plugin ``benchmarks``: offers the public data sets and their protocols, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reid_benchmarks.datasets import index
from reid_benchmarks.datasets.table import BENCHMARKS
from reid_benchmarks.protocols import PROTOCOLS
from reid_core import Plugin, hookimpl

if TYPE_CHECKING:
    from reid_core import DataProvider, Protocol


class Benchmarks(Plugin):
    """Offer the loaders and the published evaluation protocols of the public data sets."""

    @hookimpl
    def reid_datasets(self) -> Sequence[DataProvider]:
        """Offer a loader of every data set; the files are the user's."""
        return [index.provider(), *(benchmark.provider() for benchmark in BENCHMARKS)]

    @hookimpl
    def reid_evaluation_protocols(self) -> Sequence[Protocol]:
        """Offer the protocols by which results on them are published."""
        return PROTOCOLS

"""The smallest data sets, made once per test run; nobody writes into their folders."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from reid_core import DataSet
from reid_core.contract.samples import DataRequest
from reid_synthpeople import Synthpeople
from reid_synthpeople.provider import load_dataset

Load = Callable[[str], DataSet]


@pytest.fixture(scope="session")
def tiny(reid_cache: Path) -> Load:
    """Return a function that loads a variant in its smallest size."""

    @cache
    def load(variant: str) -> DataSet:
        request = DataRequest("synthpeople", variant, "tiny", None, reid_cache)
        return load_dataset(request, Synthpeople("synthpeople").settings)

    return load

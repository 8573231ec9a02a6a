"""What assembling refuses before anything is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from reid_core.contract.samples import DataSet, Source
from reid_core.errors import DataError
from reid_core.runs.assembly.assembling import assemble
from reid_core.runs.resolve import resolve
from reid_core.testing.tiny import tiny_flags


def test_a_data_set_that_is_for_testing_alone_says_what_it_is_for(
    toy_tiny: DataSet, tmp_path: Path
) -> None:
    dataset = DataSet("partial:tiny", Source("main", ()), toy_tiny.query, toy_tiny.gallery)
    with pytest.raises(DataError) as caught:
        assemble(resolve(tiny_flags()), cache=tmp_path, dataset=dataset)
    assert str(caught.value) == (
        "the data set 'partial:tiny' has no training images; train on another one, and evaluate "
        "that run on it with `reid eval RUN --data partial:tiny`"
    )

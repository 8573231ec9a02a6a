"""A cache for those who count what is made."""

from pathlib import Path

import pytest

from reid_core import DataSet


@pytest.fixture
def own_cache(toy_tiny: DataSet, tmp_path: Path) -> Path:
    """Return a cache folder of the test's own, which has the smallest toy data and nothing else."""
    made, folder = toy_tiny.train.samples[0].path.parents[1], tmp_path / "own-cache"
    folder.mkdir()
    (folder / made.name).symlink_to(made)
    return folder

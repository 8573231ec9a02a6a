"""What several files of these tests use."""

from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from house import DISTRIBUTIONS


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the wheels of all distributions, built once per test run."""
    folder = tmp_path_factory.mktemp("wheels")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REID_RELEASE", "1")
        for distribution in DISTRIBUTIONS:
            list(WheelBuilder(str(distribution.folder)).build(directory=str(folder)))
    return folder

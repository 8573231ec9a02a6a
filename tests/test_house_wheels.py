"""Every distribution builds a wheel that holds its package and nothing else."""

import re
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from house import DISTRIBUTIONS, Distribution


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
def test_the_wheel_is_the_package(distribution: Distribution, tmp_path: Path):
    (built,) = WheelBuilder(str(distribution.folder)).build(directory=str(tmp_path))
    with zipfile.ZipFile(built) as wheel:
        names = set(wheel.namelist())
        info = next(name.partition("/")[0] for name in names if ".dist-info/" in name)
        metadata = message_from_bytes(wheel.read(f"{info}/METADATA"))

    shipped = {
        path.relative_to(distribution.source.parent).as_posix()
        for path in distribution.source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    package = distribution.package
    assert {f"{package}/__init__.py", f"{package}/py.typed"} <= names
    assert {name for name in names if not name.startswith(f"{info}/")} == shipped
    assert f"{info}/licenses/LICENSE" in names

    assert metadata["Name"] == distribution.project["name"]
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    required = {re.split(r"[^\w.-]", line)[0] for line in metadata.get_all("Requires-Dist", [])}
    assert package == "reid_core" or "reid-core" in required

import re
from importlib.metadata import distribution
from pathlib import Path

import reid_baselines


def test_the_version_is_the_metadata_s() -> None:
    assert reid_baselines.__version__ == distribution("reid-baselines").version


def test_every_baseline_is_a_plugin() -> None:
    found = distribution("reid-baselines").entry_points
    names = {"agw", "bot", "cal", "ema", "ibn", "meanteacher", "metric"}
    assert {entry.name for entry in found} >= {"globalpool", "mgn", "osnet", "pcb", *names}
    assert {entry.group for entry in found} == {"reid.plugins"}


def test_baselines_stand_on_public_names_of_the_core_alone() -> None:
    sources = Path(reid_baselines.__file__).parent.glob("*.py")
    imported = {
        f"{path.name}: {line}"
        for path in sources
        for line in re.findall(r"^ *(?:from|import) reid_core\..*", path.read_text("utf-8"), re.M)
    }
    assert imported == set()

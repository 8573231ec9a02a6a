"""``reid data make``: whatever a plugin computes, written into a folder of the user's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_distributions import FakeSite, fake_site

from reid_core.testing.fixtures import RunReid
from reid_core.testing.toy.making import make_toy, make_toy_pairs

MADE = """
from reid_core import DataProvider, Plugin, Settings, hookimpl


class MadeSettings(Settings):
    colour: str = "grey"


class Made(Plugin):
    Settings = MadeSettings

    @hookimpl
    def reid_datasets(self):
        def make(request, folder, advance):
            folder.mkdir()
            for done in range(3):
                advance(done, 2)
            (folder / "asked.txt").write_text(f"{request.text} {self.settings.colour}")

        def fail(request, folder, advance):
            raise OSError(28, "No space left on device")

        def load(request):
            raise AssertionError("nothing is loaded")

        return [
            DataProvider("swatches", load, variants=("wide",), sizes=("few", "many"), make=make),
            DataProvider("heavy", load, make=fail),
        ]
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FakeSite]:
    with fake_site(tmp_path / "site") as made:
        made.add("reid-made", {"made": "made_module:Made"}, modules={"made_module": MADE})
        yield made


def test_its_options_are_these(run_reid: RunReid) -> None:
    code, out, _ = run_reid("data", "make", "--help")
    shown = {word.rstrip(",.") for word in out.split() if word.startswith("--")}
    assert (code, shown) == (0, {"--out", "--set", "--help"})
    assert "\n  make " in run_reid("data", "--help")[1]


@pytest.mark.parametrize("make", [make_toy, make_toy_pairs])
def test_the_toy_data_are_made(
    make: Callable[[Path, str], object], run_reid: RunReid, tmp_path: Path
) -> None:
    name = "toy" if make is make_toy else "toy-pairs"
    code, out, err = run_reid("data", "make", f"{name}:tiny", "--out", tmp_path / "made")
    assert (code, out, err) == (0, f"{name}:tiny is in {tmp_path / 'made'}\n", "")
    make(tmp_path / "known", "tiny")
    made, known = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "made", tmp_path / "known")
    )
    assert made == known


def test_request_folder_and_settings_reach_the_plugin(
    run_reid: RunReid, site: FakeSite, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    code, _, _ = run_reid(
        "data", "make", "swatches/wide:many", "-o", folder, "-s", "made.colour=red"
    )
    assert code == 0
    assert (folder / "asked.txt").read_text() == "swatches/wide:many red"


def test_progress_is_shown_on_a_terminal(
    run_reid: RunReid, site: FakeSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    code, _, err = run_reid("data", "make", "swatches:few", "-o", tmp_path / "out")
    assert code == 0
    assert "swatches:few" in err
    assert "2/2" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("swatchez",), "there is no data set 'swatchez'; did you mean 'swatches'?"),
        (("swatches:some",), "data set 'swatches' has no size 'some'"),
        (("swatches", "-s", "made.color=red"), "did you mean 'plugins.made.colour'?"),
        (("swatches", "-s", "data.batch_size=4"), "-s data.KEY=VALUE: making 'swatches' depends"),
        (("toy", "-s", "made.colour=red"), "-s made.KEY=VALUE: making 'toy' depends on the settin"),
        (("folder",), "'folder' is read from files that somebody has and cannot be made (these c"),
        (("heavy",), "cannot be written (No space left on device); free some space, or name anoth"),
    ],
)
def test_what_cannot_be_made_is_said_in_a_line(
    arguments: tuple[str, ...], said: str, run_reid: RunReid, site: FakeSite, tmp_path: Path
) -> None:
    code, out, err = run_reid("data", "make", *arguments, "-o", tmp_path / "out")
    assert (code, out) == (2, "")
    assert said in err
    assert err.startswith("reid: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_out_is_required(run_reid: RunReid) -> None:
    code, _, err = run_reid("data", "make", "toy:tiny")
    assert code == 2
    assert "Missing option '--out'" in err

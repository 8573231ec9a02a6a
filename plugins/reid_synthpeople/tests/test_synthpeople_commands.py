"""The commands that make and show synthetic people."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from reid_core import DataSet
from reid_core.testing.fixtures import RunReid


@pytest.fixture
def reid(run_reid: RunReid, tiny: Callable[[str], DataSet]) -> RunReid:
    """Return `run_reid` with a data set that is made already."""
    tiny("mixed")
    return run_reid


def test_it_is_listed(reid: RunReid) -> None:
    out = "".join(reid("data", "list")[1].split())  # lines break anywhere
    variants = "{mixed,market,prcc,ltcc,vcclothes,tracks,street,tracklets}"
    assert f"synthpeople/{variants}:{{quick,tiny,full}}:synthetic" in out
    assert "synthpeople-pairs:{quick,tiny,full}(trainingsource):othersynthetic" in out
    assert "synthpeople-crops:{quick,tiny,full}(trainingsource):othersynthetic" in out


def test_make_writes_a_folder_that_show_and_run_read(
    reid: RunReid, tmp_path: Path, tiny: Callable[[str], DataSet]
) -> None:
    root = tmp_path / "people"
    code, out, err = reid("data", "make", "synthpeople:tiny", "--out", root)
    assert (code, out, err) == (0, f"synthpeople:tiny is in {root}\n", "")
    sheet = tmp_path / "sheet.png"
    code, out, err = reid("data", "show", "synthpeople", "--data-root", root, "-o", sheet)
    assert (code, err) == (0, "")
    assert out.splitlines()[:2] == [
        "synthetic people: figures on them say nothing about real ones",
        "train: 64 images, 8 people, 4 cameras, 16 outfits",
    ]
    assert "fields: garments, keypoints, parts, texture" in out
    with Image.open(sheet) as picture:
        assert min(picture.size) > 800


def test_settings_act(reid: RunReid, tmp_path: Path) -> None:
    for name, settings in (("a", ()), ("b", ("-s", "synthpeople.seed=7"))):
        code, _, _ = reid(
            "data", "make", "synthpeople-pairs:tiny", "-o", tmp_path / name, *settings
        )
        assert code == 0
    first, second = ((tmp_path / n / "textures/00000_o1.png").read_bytes() for n in "ab")
    assert first != second
    assert "seed 7" in (tmp_path / "b" / "README.txt").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("synthpeople/mixt:tiny",), "has no variant 'mixt'; did you mean 'mixed'?"),
        (("synthpeople:tiny", "-s", "synthpeople.mask_noise=4"), "less than or equal to 3"),
        (("synthpeople:tiny", "-s", "synthpeople.sead=2"), "mean 'plugins.synthpeople.seed'?"),
    ],
)
def test_what_cannot_be_made_is_said(
    arguments: tuple[str, ...], said: str, reid: RunReid, tmp_path: Path
) -> None:
    code, _, err = reid("data", "make", *arguments, "-o", tmp_path / "set")
    assert code == 2
    assert said in err
    assert not (tmp_path / "set").exists()

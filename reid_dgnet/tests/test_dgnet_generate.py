"""The commands: pictures, a generated set that can be trained on, and its measurements."""

import json

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner
from test_dgnet_gradients import SMALL

from reid_core import ConfigError, open_dataset, restore, run
from reid_core.errors import PluginError, ReidError
from reid_core.testing.tiny import tiny_assembly, tiny_flags
from reid_dgnet.commands import dgnet
from reid_dgnet.generating import Composer, different_people, pixels_of
from reid_dgnet.quality import frechet_distance

SECTIONS = {
    "plugins": {"dgnet": {**SMALL, "picture": 3}},
    "schedule": {"epochs": 1, "iterations_per_epoch": 1},
}
GAP = 2


@pytest.fixture(scope="module")
def folder(reid_cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("dgnet") / "run"
    run(tiny_flags(("dgnet",), SECTIONS), out=out, cache=reid_cache, say=lambda line: None)
    return out


@pytest.fixture(scope="module")
def ctx(folder, reid_cache):
    return restore(folder, cache=reid_cache, say=lambda line: None).ctx


def invoke(*arguments):
    result = CliRunner().invoke(dgnet, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def size(path):
    with PIL.Image.open(path) as image:
        return image.size


def test_a_run_leaves_a_picture_of_swapped_codes(folder):
    assert size(folder / "dgnet" / "swaps_1.png") == (4 * (32 + GAP) - GAP, 4 * (64 + GAP) - GAP)


def test_a_grid_shows_the_real_people_and_their_swaps(folder, ctx, tmp_path):
    path = tmp_path / "grid.png"
    assert str(path) in invoke("generate", "swaps", folder, "--people", 2, "--out", path)
    sheet = np.asarray(PIL.Image.open(path))
    composer = Composer.of(ctx)
    images = composer.read(different_people(ctx.main.samples, 2))
    appearance, structure = composer.codes(images)
    real = pixels_of(images).numpy()
    assert (sheet[:64, :32] == 255).all()
    assert (sheet[66:130, :32] == real[0]).all()
    assert (sheet[:64, 68:100] == real[1]).all()
    # Row 1, column 2: the first one's appearance in the second one's structure.
    made = pixels_of(composer.compose(structure[1:2], appearance[0:1])).numpy()[0]
    assert np.abs(sheet[66:130, 68:100].astype(int) - made).max() <= 1


@pytest.mark.parametrize("codes", ["appearance", "structure"])
def test_interpolations_begin_and_end_with_real_images(codes, folder, ctx, tmp_path):
    path = tmp_path / "between.png"
    options = ("--codes", codes, "--rows", 2, "--steps", 3, "--out", path)
    invoke("generate", "interpolate", folder, *options)
    sheet = np.asarray(PIL.Image.open(path))
    assert sheet.shape == (2 * 66 - GAP, 5 * 34 - GAP, 3)
    composer = Composer.of(ctx)
    first = pixels_of(composer.read(different_people(ctx.main.samples, 4)[:1])).numpy()[0]
    assert (sheet[:64, :32] == first).all()


def test_a_generated_set_can_be_trained_on(folder, ctx, tmp_path):
    out = tmp_path / "set"
    invoke("generate", "set", folder, "--with-real", "--out", out)
    found = open_dataset("folder", out)
    real = ctx.main.samples
    assert len(found.train.samples) == 2 * len(real)
    assert len(found.query) == len(ctx.dataset.query)
    assert len(found.gallery) == len(ctx.dataset.gallery)
    made = [s for s in found.train.samples if "generated" in s.path.name]
    assert len(made) == len(real)
    assert sorted(s.pid for s in made) == sorted(s.pid for s in real)
    assert size(made[0].path) == (32, 64)


def test_a_set_does_not_overwrite_anything(folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="holds something already; name another folder"):
        invoke("generate", "set", folder, "--out", tmp_path)


def test_partners_are_drawn_by_the_seed(folder, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        invoke("generate", "set", folder, "--seed", seed, "--out", tmp_path / name)
    content = [
        sorted((p.name, p.read_bytes()) for p in (tmp_path / name / "train").iterdir())
        for name in "abc"
    ]
    assert content[0] == content[1]
    assert content[0] != content[2]


def test_quality_measures_how_alike_images_of_a_person_are(folder, tmp_path):
    path = tmp_path / "quality.json"
    output = invoke("quality", folder, "--pairs", 40, "--json", path)
    found = json.loads(path.read_text())
    assert -1 <= found["ssim_real"] < 1
    assert -1 <= found["ssim_generated"] <= 1
    assert "fid" not in found
    assert f"ssim_real: {found['ssim_real']:.4f}" in output


def test_fid_says_what_is_missing(ctx, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"no such file; FID needs the weights of TensorFlow's"):
        frechet_distance(ctx, tmp_path / "inception.pth")
    (tmp_path / "inception.pth").touch()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'reid-dgnet\[fid\]'"):
        frechet_distance(ctx, tmp_path / "inception.pth")


def test_a_run_without_a_generator_is_refused(reid_cache):
    plain = tiny_assembly((), cache=reid_cache)
    with pytest.raises(PluginError, match="not made with --plugins dgnet"):
        Composer.of(plain.ctx)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ReidError):
        invoke("generate", "swaps", tmp_path, "--out", tmp_path / "x.png")


def test_pixels_are_clipped_to_what_can_be_shown():
    images = torch.tensor([-9.0, 0.0, 9.0]).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    shown = pixels_of(images)
    assert shown.shape == (3, 2, 2, 3)
    assert shown[0].unique().tolist() == [0]
    assert shown[1, 0, 0].tolist() == [124, 116, 104]
    assert shown[2].unique().tolist() == [255]

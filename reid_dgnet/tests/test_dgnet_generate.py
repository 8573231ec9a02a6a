"""The commands: pictures, a generated set that can be trained on, and its measurements."""

import json

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner
from test_dgnet_gradients import SMALL

from reid_core import ConfigError, open_dataset, pixels_of, restore, run
from reid_core.errors import PluginError, ReidError
from reid_core.runs.resolve import resolve
from reid_core.testing.tiny import tiny_assembly, tiny_flags
from reid_dgnet.commands import dgnet
from reid_dgnet.generating import Composer
from reid_dgnet.offline import CARD
from reid_dgnet.people import different_people
from reid_dgnet.weighing import evaluate_betas

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


def test_pictures_of_fewer_people_than_asked_for_say_so(folder, ctx, tmp_path):
    first, second = different_people(ctx.main.samples, 2)
    (tmp_path / "deeper" / "there").mkdir(parents=True)
    PIL.Image.open(first.path).save(tmp_path / "deeper" / "one.png")
    given = ("--images", tmp_path / "deeper", "--out", tmp_path / "drawn.png")
    with pytest.raises(ConfigError, match="all images show one person: there is nobody to change"):
        invoke("generate", "interpolate", folder, *given)
    PIL.Image.open(second.path).save(tmp_path / "deeper" / "there" / "two.png")
    said = invoke("generate", "swaps", folder, *given)
    assert said.endswith("drawn.png; there are 2 people to show, and room for 8\n")
    said = invoke("generate", "interpolate", folder, *given, "--rows", 1)
    assert said.endswith("drawn.png\n")


def generated(folder):
    return sorted(path for path in (folder / "train").iterdir() if "generated" in path.name)


def test_a_set_is_named_after_its_structure_s_people(folder, ctx, tmp_path):
    out = tmp_path / "set"
    invoke("generate", "set", folder, "--out", out)
    made, real = generated(out), ctx.main.samples
    assert len(made) == len(real)
    assert size(made[0]) == (32, 64)
    own = {f"generated{number}-0": sample for number, sample in enumerate(real)}
    for path in made:
        pid, camera, number = path.stem.split("_")
        assert int(pid) != own[number].pid
        assert any((s.pid, s.camid) == (int(pid), int(camera[1:])) for s in real)
    assert json.loads((out / CARD).read_text())["named_after"] == "structure"


def test_a_set_named_after_its_appearance_is_more_images_of_the_same_people(folder, ctx, tmp_path):
    out = tmp_path / "set"
    invoke("generate", "set", folder, "--named-after", "appearance", "--with-real", "--out", out)
    found = open_dataset("folder", out)
    real = ctx.main.samples
    assert len(found.train.samples) == 2 * len(real)
    assert len(found.query) == len(ctx.dataset.query)
    assert len(found.gallery) == len(ctx.dataset.gallery)
    made = [s for s in found.train.samples if "generated" in s.path.name]
    assert [s.pid for s in sorted(made, key=lambda s: int(s.path.stem[:-2].split("ted")[1]))] == [
        s.pid for s in real
    ]


def test_a_folder_or_another_split_is_composed(folder, ctx, tmp_path):
    path = tmp_path / "grid.png"
    invoke("generate", "swaps", folder, "--people", 2, "--split", "query", "--out", path)
    people = different_people(ctx.dataset.query, 2)
    shown = pixels_of(Composer.of(ctx).read(people)).numpy()
    assert (np.asarray(PIL.Image.open(path))[66:130, :32] == shown[0]).all()
    for number, sample in enumerate(people):
        PIL.Image.open(sample.path).save(tmp_path / f"{1 - number}.bmp")
    images = ("--images", tmp_path, "--out", tmp_path / "between.png")
    (tmp_path / "grid.png").rename(tmp_path / "grid.txt")
    invoke("generate", "interpolate", folder, "--rows", 1, "--steps", 2, *images)
    sheet = np.asarray(PIL.Image.open(tmp_path / "between.png"))
    assert (sheet[:, :32] == shown[1]).all()
    assert (sheet[:, -32:] == shown[0]).all()


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


def test_quality_prints_and_writes_its_figures(folder, tmp_path):
    path = tmp_path / "quality.json"
    output = invoke("quality", folder, "--pairs", 2, "--rounds", 2, "--json", path)
    found = json.loads(path.read_text())
    assert (found["data"], found["pairs"], found["rounds"]) == ("toy:tiny", 2, 2)
    # Two images of a person differ more than two that this untrained generator made.
    assert 0.02 < found["diversity_generated"] < found["diversity_real"] < 0.5
    assert found["diversity_spread"] > 0
    assert "fid" not in found
    assert f"diversity_real: {found['diversity_real']:.4f}" in output


def test_betas_are_weighed_on_a_trained_run(folder, ctx, tmp_path):
    path = tmp_path / "betas.json"
    output = invoke("betas", folder, "--betas", "0,0.5,100", "--json", path)
    rows = json.loads(path.read_text())
    assert [row["beta"] for row in rows] == [0, 0.5, 100]
    assert "beta 0.5: rank-1" in output


def test_a_weight_is_the_similarity_s(folder, ctx, reid_cache):
    assembly = restore(folder, cache=reid_cache, say=lambda line: None)
    seen = []

    class Watching:
        dataset = assembly.evaluator.dataset

        def evaluate(self, embedder):
            seen.append(embedder.embeddings["dgnet/fine"].test_weight)
            return assembly.evaluator.evaluate(embedder)

    assembly.validator = Watching()
    rows = evaluate_betas(assembly, [0.0, 4.0])
    assert seen == [0.0, 2.0]
    embedder = assembly.embedder().eval()
    own = assembly.evaluator.evaluate(embedder).results[0]
    again = evaluate_betas(assembly, [0.5])[0]
    assert (again["map"], again["rank1"]) == (own.mean_ap, own.cmc[0])
    assert rows[0]["data"] == assembly.evaluator.dataset.name


def test_a_run_without_a_generator_is_refused(reid_cache):
    plain = tiny_assembly((), cache=reid_cache)
    with pytest.raises(
        PluginError, match=r"no generator: .*makes one, but not with dgnet\.offline"
    ):
        Composer.of(plain.ctx)


@pytest.mark.parametrize(
    "words",
    [
        ("generate", "swaps", "--out", "x.png"),
        ("generate", "interpolate", "--out", "x.png"),
        ("generate", "set", "--out", "set"),
        ("quality",),
        ("betas",),
    ],
)
def test_commands_refuse_a_run_without_the_plugin_before_its_data_is_made(
    words, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text(resolve(tiny_flags()).config.to_toml())
    with pytest.raises(PluginError, match=r"made without reid_dgnet's Dgnet \(its plugins: none\)"):
        invoke(*words, tmp_path)


def test_commands_look_at_their_options_before_the_run(tmp_path):
    nowhere = tmp_path / "run"
    with pytest.raises(ConfigError, match=r"--betas: a weight is 0 or more, not -1"):
        invoke("betas", nowhere, "--betas", "0.5,-1")
    with pytest.raises(ConfigError, match=r"--betas: a weight is 0 or more, not nan"):
        invoke("betas", nowhere, "--betas", "0.5,nan")
    with pytest.raises(ConfigError, match=r"--betas x: expected numbers"):
        invoke("betas", nowhere, "--betas", "x")
    with pytest.raises(ConfigError, match=r"--inception .*: there is no such file"):
        invoke("quality", nowhere, "--inception", tmp_path / "inception.pth")


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

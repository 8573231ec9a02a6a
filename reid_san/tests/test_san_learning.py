"""Whole runs: it learns, it leaves pictures and figures, and the command looks at them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from san_runs import SHORT, san

from reid_core import DataRequest, restore, run
from reid_core.data.folder import load_folder
from reid_core.runs.resolve import resolve
from reid_core.testing.tiny import Recorder, tiny_flags
from reid_san.commands import san as command
from reid_san.decoder import Decoder
from reid_san.measuring import watched
from reid_san.regressing import mean_field, regress
from reid_san.settings import SanSettings


def test_regressed_textures_beat_the_mean_and_the_constraints_fall(
    reid_cache: Path, tmp_path: Path
) -> None:
    """Enough training to know shirts from trousers, in seconds."""
    settings = {"pg_epochs": 4, "pg_iterations": 15, "pg_batch": 16, "pg_lr": 4e-3}
    said: list[str] = []
    assembly = san(
        reid_cache,
        {**settings, "synthetic_every": 0},
        said=said,
        folder=tmp_path,
        sources={"san/pairs": "toy-pairs:quick"},
        schedule={"epochs": 1, "iterations_per_epoch": 20},
        augment={"erasing": 0.0},
    )
    scores = json.loads((tmp_path / "san" / "pseudo.json").read_text())
    assert scores["l1"] < 0.95 * scores["l1_of_mean"], "people whom SAN-PG has never seen"
    trainer = Recorder(assembly)
    trainer.fit()
    # The targets are what the decoder itself gave at the start, so L_Rec has no way but up.
    assert trainer.trace[0]["main:san/rec"] < scores["l1"]
    early, late = (
        sum(s["main:san/tr"] for s in part) for part in (trainer.trace[:4], trainer.trace[-4:])
    )
    assert late < early


@pytest.mark.parametrize(("scale", "least", "most"), [(0.2, 0, 4), (1.0, 8, 320)])
def test_at_the_encoder_s_rate_channels_of_the_decoder_die_and_at_its_own_they_live(
    reid_cache: Path, scale: float, least: int, most: int
) -> None:
    """The quick recipe made small: with its rates, and with one rate for both."""
    quick = resolve({}, recipe="san/synthpeople").config
    own = SanSettings(**quick.plugins["san"]).decoder_lr_scale
    assembly = san(
        reid_cache,
        {"pg_iterations": 10, **({} if scale == own else {"decoder_lr_scale": scale})},
        optim={"name": quick.optim.name, "lr": quick.optim.lr},
        schedule={"epochs": 1, "iterations_per_epoch": 25, "warmup_epochs": 0},
    )
    Recorder(assembly).fit()
    decoder = assembly.model.branches["san/decoder"]
    assert isinstance(decoder, Decoder)
    with watched(decoder) as channels:
        assert len(list(regress(assembly.ctx, assembly.model, assembly.ctx.main.samples))) == 48
    assert channels.total == 320
    assert least <= channels.dead <= most


@pytest.fixture(scope="module")
def folder(reid_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "san"
    flags = tiny_flags(
        ("san",),
        {"plugins": {"san": SHORT}, "evaluation": {"untrained": True, "every": 1}},
    )
    run(flags, out=out, cache=reid_cache, say=lambda line: None)
    return out


def test_a_run_leaves_pictures_and_distances_of_every_evaluation(folder: Path) -> None:
    left = {path.name for path in (folder / "san").iterdir()}
    assert {"untrained.png", "epoch_1.png", "final.png", "textures.jsonl"} <= left
    text = (folder / "san" / "textures.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["when"] for line in lines] == ["untrained", "epoch", "final"]
    assert all(0 < line["l1"] < 2 and line["images"] == 48 for line in lines)
    assert all(0 <= line["dead"] < line["channels"] for line in lines)
    assert {"red_green", "blue_green", "spread"} <= set(lines[-1])
    with Image.open(folder / "san" / "final.png") as picture:
        assert picture.size[1] == 3 * 160 + 2 * 6


def test_the_command_draws_and_measures(
    folder: Path, tmp_path: Path, reid_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = tmp_path / "textures.png"
    done = CliRunner().invoke(command, ["textures", str(folder), "-o", str(picture)])
    assert done.exit_code == 0, done.output
    first, second, _ = done.output.splitlines()
    assert first.startswith("texture of 48 images against the truth: L1 ")
    assert "; colour: R-G " in first
    assert second.endswith("channels are always zero")
    assert picture.exists()


@pytest.mark.parametrize("by", ["pg", "run"])
def test_textures_become_a_data_set_to_recognise_people_by(
    folder: Path, tmp_path: Path, reid_cache: Path, by: str
) -> None:
    out = tmp_path / "textures"
    done = CliRunner().invoke(command, ["dataset", str(folder), "--by", by, "-o", str(out)])
    assert done.exit_code == 0, done.output
    request = DataRequest("folder", None, None, out, reid_cache)
    found, toy = load_folder(request), restore(folder, say=lambda line: None).ctx.dataset
    for ours, theirs in (
        (found.train.samples, toy.train.samples),
        (found.query, toy.query),
        (found.gallery, toy.gallery),
    ):
        assert sorted((s.pid, s.camid) for s in ours) == sorted((s.pid, s.camid) for s in theirs)
        assert len({s.path for s in ours}) == len(theirs)
    assert found.train.num_identities == toy.train.num_identities
    with Image.open(found.query[0].path) as image:
        assert image.size == (32, 32)
    again = CliRunner().invoke(command, ["dataset", str(folder), "-o", str(out)])
    assert "holds something already" in str(again.exception)


@pytest.mark.parametrize("name", ["textures", "dataset"])
def test_a_run_without_the_plugin_is_refused_before_its_data_is_made(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text(resolve(tiny_flags()).config.to_toml())
    words = [name, str(tmp_path), "-o", str(tmp_path / "new" / "x.png")]
    done = CliRunner().invoke(command, words)
    assert "this run was made without reid_san's San (its plugins: none)" in str(done.exception)


def test_the_mean_is_that_of_the_textures(reid_cache: Path) -> None:
    main = san(reid_cache).ctx.main
    spec = main.fields["texture"]
    one, two = (mean_field([sample], spec, (32, 32)) for sample in main.samples[:2])
    both = mean_field(main.samples[:2], spec, (32, 32))
    assert both.allclose((one + two) / 2, atol=1e-6)

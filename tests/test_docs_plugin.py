"""The pages on plugins, the how-to pages and the one on the embedder: their code is run."""

import csv
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from house import ROOT

from reid_core import ConfigError, DataError, DataSet, Plugin, load_embedder
from reid_core.cli.main import cli
from reid_core.runs.resolve import resolve
from reid_core.runs.running import run
from reid_core.testing.conformance import CHECKS, Subject
from reid_core.testing.subject import Shared
from reid_core.testing.tiny import Recorder, tiny_assembly, tiny_flags

DOCS = ROOT / "docs"
PAGE = (DOCS / "writing_a_plugin.md").read_text(encoding="utf-8")
HOWTO = {path.stem: path.read_text("utf-8") for path in sorted((DOCS / "howto").glob("*.md"))}
FILES = dict(re.findall(r"```\w+ file=(\S+)\n(.*?)```", "".join([PAGE, *HOWTO.values()]), re.S))
SHAPES = {
    "part_head": "PartHead",
    "silhouette": "Silhouette",
    "camera_blind": "CameraBlind",
    "stripes": "Stripes",
    "tones": "Tones",
    "mixup": "Mixup",
    "cosine": "Cosine",
    "agreement": "Agreement",
    "distilled": "Distilled",
    "averaged": "Averaged",
    "cheap_adversary": "CheapAdversary",
    "clothes_blind": "ClothesBlind",
    "each_blind": "EachBlind",
    "leak": "Leak",
    "camera_aware": "CameraAware",
    "top_share": "TopShare",
    "deviation": "Deviation",
    "small": "Small",
    "narrow": "Narrow",
    "from_csv": "FromCsv",
    "front_door": "FrontDoor",
    "journal": "Journal",
    "walks": "Walks",
    "steady": "Steady",
    "motion": "Motion",
    "wardrobe": "Wardrobe",
}
"""Plugins of the how-to pages by module."""

SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "small": {"model": {"backbone": "small"}},
    "steady": {"data": {"name": "toy/tracklets:tiny"}, "model": {"frame_pooling": "steady"}},
    "top_share": {"model": {"pooling": "top_share"}},
    "cheap_adversary": {"plugins": {"cheap_adversary": {"begin": 0}}},
    "stripes": {"labels": {"parts": "stripes"}},
    "front_door": {"evaluation": {"protocols": ["standard", "front-door"]}},
}
"""What a tiny run needs beside the plugin's name, so that the plugin does something."""

ALONE = (
    "small",
    "camera_aware",
    "top_share",
    "from_csv",
    "cosine",
    "agreement",
    "narrow",
    "deviation",
    "walks",
    "steady",
    "motion",
)
"""Pages on encoders (MGN brings its own), on a pooling (which a stage finds where it is installed),
on data, on another criterion and another sampler."""

SOME = ("names", "gradients", "export")
FULL = [check for check in CHECKS if check != "light_import"]  # pages have no manifests
IN_FULL = ("camera_blind", "distilled")
"""Who goes through the whole conformance suite: a second stream, and a stage. The others make
sense of `SOME` of its checks."""

SHARED = {name: Shared() for name in SHAPES}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write every file of the pages, as a reader would."""
    folder = tmp_path_factory.mktemp("pages")
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def site(pages: Path) -> Path:
    """Install the page's distribution into a folder of its own."""
    target = pages / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    how = ["--no-deps", "--no-build-isolation", "--target", str(target)]
    subprocess.run([*pip, *how, str(pages / "reid-centre")], check=True, cwd=pages)
    return target


def _first_on_path(folder: Path) -> str:
    """Return a PYTHONPATH on which a folder comes first."""
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


@pytest.fixture
def centre(site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let this process and its children see the installed distribution."""
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("PYTHONPATH", _first_on_path(site))
    return site


@pytest.fixture
def shapes(pages: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, type[Plugin]]:
    """Import the plugins of the how-to pages."""
    monkeypatch.syspath_prepend(str(pages))
    monkeypatch.setenv("PYTHONPATH", _first_on_path(pages))
    return {name: getattr(importlib.import_module(name), cls) for name, cls in SHAPES.items()}


@pytest.fixture(scope="module")
def trained(site: Path, pages: Path, reid_cache: Path) -> Path:
    """Train as the page says, in a process of its own; return the run's folder."""
    block = re.search(
        r"^reid run --plugins centre --data (.*?)--out runs/centre$", PAGE, re.M | re.S
    )
    assert block, "the page lost its training command"
    words = block[0].replace("\\\n", " ").split()
    environment = {**os.environ, "PYTHONPATH": _first_on_path(site), "REID_CACHE": str(reid_cache)}
    command = [sys.executable, "-c", "from reid_core.cli import main; main()", *words[1:]]
    done = subprocess.run(
        command, cwd=pages, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return pages / "runs" / "centre"


def _recorded(name: str, shapes: Mapping[str, type[Plugin]], cache: Path, *others: str) -> Recorder:
    settings = SETTINGS.get(name, {})
    recorder = Recorder(tiny_assembly((name, *others), settings, cache=cache, classes=shapes))
    recorder.fit()
    return recorder


# The distribution of the page ---------------------------------------------------------------


def test_the_first_plugin_has_at_most_forty_lines():
    files = [FILES["reid-centre/pyproject.toml"], FILES["reid-centre/reid_centre.py"]]
    lines = [line for text in files for line in text.splitlines() if line.strip()]
    assert len(lines) <= 40


def test_the_first_plugin_trains_through_the_command_line(trained: Path):
    lines = (trained / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    step = next(entry for entry in map(json.loads, lines) if entry["kind"] == "step")
    assert step["loss/centre/pull"] > 0
    assert step["weight/centre/pull"] == 5e-4
    assert step["lr/main:centre/table"] == 0.5
    facts = json.loads((trained / "run.json").read_text(encoding="utf-8"))
    assert facts["plugins"]["centre"] == "0.1.0"
    assert facts["parameters_deployed"] < facts["parameters"]


def test_the_page_shows_what_plugins_check_prints(centre: Path, reid_cache: Path):
    shown = re.search(r"```text output=check\n(.*?)```", PAGE, re.DOTALL)
    assert shown
    printed = CliRunner().invoke(cli, ["plugins", "check", "centre"]).stdout
    assert shown[1].splitlines() == printed.splitlines()


def test_the_centres_follow_the_features(centre: Path, reid_cache: Path):
    recorder = Recorder(tiny_assembly(["centre"], cache=reid_cache))
    table = recorder.assembly.ctx.module("centre/table").weight
    assert not table.any()
    recorder.fit()
    seen = table.detach().abs().sum(1) > 0
    assert seen.any()
    # Equation 2 at the first step, when all centres are 0: half the mean squared length.
    assert recorder.trace[0]["main:centre/pull"] == recorder.trace[0]["main:centre/move"]


@pytest.mark.parametrize("check", CHECKS)
def test_the_first_plugin_conforms(
    check: str,
    centre: Path,
    pages: Path,
    reid_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
):
    monkeypatch.syspath_prepend(str(pages / "reid-centre"))
    importlib.import_module("test_centre").test_conforms(check, reid_cache, tmp_path, request)


def test_the_page_lists_the_checks_of_the_suite():
    part = PAGE.partition("## 2.")[2].partition("## 3.")[0]
    assert re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE) == list(CHECKS)


# The how-to pages ---------------------------------------------------------------------


def test_every_plugin_of_the_pages_is_tested():
    pattern = re.compile(r"^class (\w+)\(Plugin\):", re.MULTILINE)
    assert pattern.findall(PAGE) == ["Centre"]
    found = {name: pattern.findall(text) for name, text in HOWTO.items()}
    assert [name for name, plugins in found.items() if not plugins] == []
    assert {plugin for plugins in found.values() for plugin in plugins} == set(SHAPES.values())


def test_every_page_is_short_and_linked():
    for name, text in HOWTO.items():
        assert f"](howto/{name}.md)" in PAGE
        assert len(text.splitlines()) <= 100, name
    tasks = {"data_set", "protocol", "sampler", "second_stream", "labeler", "stage"}
    assert {*tasks, "adversarial_update"} <= set(HOWTO)


@pytest.mark.parametrize(
    ("name", "check"),
    [(name, check) for name in SHAPES for check in (FULL if name in IN_FULL else SOME)],
)
def test_every_shape_conforms(
    name: str, check: str, shapes: dict[str, type[Plugin]], reid_cache: Path, tmp_path: Path
):
    given = SETTINGS.get(name, {}), shapes
    CHECKS[check](Subject(name, reid_cache, tmp_path, *given, shared=SHARED[name]))


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("part_head", {"main:part_head/parts"}),
        ("silhouette", {"main:silhouette/shape/ce", "main:silhouette/shape/triplet"}),
        ("camera_blind", {"camera_blind/learn:camera_blind/learn", "main:camera_blind/confuse"}),
        ("tones", {"tones/learn:tones/colour"}),
        ("agreement", {"main:agreement/apart"}),
        ("distilled", {"main:distilled/follow"}),
        ("leak", {"main:leak/camera"}),
        (
            "cheap_adversary",
            {"cheap_adversary/learn:cheap_adversary/learn", "main:cheap_adversary/hide"},
        ),
        ("clothes_blind", {"main:clothes_blind/outfit"}),
        ("each_blind", {"main:each_blind/outfit"}),
    ],
)
def test_a_shape_adds_its_terms(
    name: str, terms: set[str], shapes: dict[str, type[Plugin]], reid_cache: Path
):
    core = {"main:core/global/ce", "main:core/global/triplet"}
    for step in _recorded(name, shapes, reid_cache).trace:
        assert set(step) == core | terms


def test_the_labeler_serves_the_head(shapes: dict[str, type[Plugin]], reid_cache: Path):
    settings = {"labels": {"parts": "stripes"}}
    assembly = tiny_assembly(("part_head", "stripes"), settings, cache=reid_cache, classes=shapes)
    drawn = assembly.ctx.main.samples[0].fields["parts"]
    assert "stripes" in str(drawn)
    assert "stripes" not in str(assembly.truth.samples[0].path)


def test_the_sampler_makes_pairs_and_another_one_is_refused(
    shapes: dict[str, type[Plugin]], reid_cache: Path
):
    recorder = Recorder(tiny_assembly(("agreement",), cache=reid_cache, classes=shapes))
    streams = recorder.streams(1)
    batch = recorder.batches(streams)["main"]
    for stream in streams.values():
        stream.close()
    assert batch.pid[0::2].equal(batch.pid[1::2])
    assert not batch.index[0::2].equal(batch.index[1::2])
    chosen = {"data": {"sampler": "pk"}}
    with pytest.raises(ConfigError, match=r"needs data\.sampler = 'pairs' \(given: 'pk'\)"):
        tiny_assembly(("agreement",), chosen, cache=reid_cache, classes=shapes)


def test_the_teacher_of_the_stage_stays_as_it_is(shapes: dict[str, type[Plugin]], reid_cache: Path):
    recorder = Recorder(tiny_assembly(("distilled",), cache=reid_cache, classes=shapes))
    teacher = recorder.assembly.ctx.module("distilled/teacher")
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    recorder.fit()
    assert all(value.equal(before[name]) for name, value in teacher.state_dict().items())


def test_the_averaged_weights_are_evaluated_exported_and_resumed(
    shapes: dict[str, type[Plugin]], reid_cache: Path, tmp_path: Path
):
    def trained(out: Path, weights: str, resume: bool = False) -> dict[str, torch.Tensor]:
        flags = tiny_flags(["averaged"], {"evaluation": {"weights": weights}})
        resolved = resolve(flags, classes=shapes)
        run(resolved=resolved, out=out, resume=resume, cache=reid_cache, say=lambda line: None)
        return load_embedder(out).state_dict()

    averaged = trained(tmp_path / "run", "averaged/weights")
    kept = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["kept"]["averaged"]
    plain = trained(tmp_path / "run", "none", resume=True)
    assert all(value.equal(kept[name]) for name, value in averaged.items())
    assert not any(averaged[n].equal(plain[n]) for n in plain if n.endswith("conv1.weight"))
    baseline = Recorder(tiny_assembly((), cache=reid_cache))
    baseline.fit()
    assert all(v.equal(plain[n]) for n, v in baseline.assembly.embedder().state_dict().items())


def test_the_metric_is_reported_observed_and_selects(
    shapes: dict[str, type[Plugin]], reid_cache: Path, tmp_path: Path
):
    chosen = {
        "data": {"validation": 0.34},
        "evaluation": {"every": 1, "select": "validation", "select_by": "leak/accuracy"},
    }
    resolved = resolve(tiny_flags(["leak"], chosen), classes=shapes)
    said: list[str] = []
    out = tmp_path / "run"
    summary = run(resolved=resolved, out=out, cache=reid_cache, say=said.append)
    told = summary.metrics["leak/accuracy"]
    content = json.loads((out / "results.json").read_text())
    assert content["metrics"] == {"leak/accuracy": told}
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    validated = [line for line in lines if line.get("when") == "validation"]
    seen = {line["epoch"]: line["metrics"]["leak/accuracy"] for line in validated}
    assert len(seen) == 2
    best = min(seen, key=lambda epoch: (seen[epoch], epoch))
    selected = content["selected"]
    assert (selected["epoch"], selected["by"]) == (best, "leak/accuracy")
    assert selected["score"] == seen[best]
    assert lines[-1]["selected_leak/accuracy"] == seen[best]
    assert f"selected epoch {best + 1} on validation (leak/accuracy {seen[best]:.4g})" in said


@pytest.mark.parametrize("embedding", ["pcb", "mgn"])
def test_the_pages_compose_with_whoever_fills_the_slot_embedding(
    embedding: str, shapes: dict[str, type[Plugin]], centre: Path, reid_cache: Path
):
    others = [name for name in shapes if name not in ALONE]
    names = [embedding, "centre", *others]
    given = {section: values for one in others for section, values in SETTINGS.get(one, {}).items()}
    tall = {"data": {"height": 96, "width": 48}}  # six stripes
    one_step = {"schedule": {"epochs": 1, "iterations_per_epoch": 1, "warmup_epochs": 0}}
    assembly = tiny_assembly(names, given, tall, one_step, cache=reid_cache, classes=shapes)
    assert assembly.ctx.slots["embedding"] == embedding
    recorder = Recorder(assembly)
    recorder.fit()
    seen = {name.rpartition(":")[2].partition("/")[0] for name in recorder.trace[0]}
    losses = {name for name in others if hasattr(shapes[name], "reid_losses")}
    assert losses | {"centre"} <= seen
    assert {name.partition("/")[0] for name in assembly.embedder().heads} == {embedding}


def test_the_camera_is_read_stored_evaluated_and_exported(
    shapes: dict[str, type[Plugin]], reid_cache: Path, tmp_path: Path
):
    onnxruntime = pytest.importorskip("onnxruntime")
    resolved = resolve(tiny_flags(["camera_aware"]), classes=shapes)
    folder = tmp_path / "run"
    summary = run(resolved=resolved, out=folder, cache=reid_cache, say=lambda line: None)
    embedder = load_embedder(folder)
    images = torch.rand(3, 3, *embedder.size)
    with torch.inference_mode():
        plain, first, second = (
            embedder(images, given) if given else embedder(images)
            for given in (None, {"camid": torch.zeros(3).long()}, {"camid": torch.ones(3).long()})
        )
        assert torch.equal(embedder(images, {"camid": torch.full((3,), -1)}), plain)
    assert not torch.allclose(plain, first)
    assert not torch.allclose(first, second)
    called = CliRunner().invoke(cli, ["export", str(folder)])
    assert "camid (unknown: -1)" in called.stdout, called.output
    session = onnxruntime.InferenceSession(str(folder / "embedder.onnx"))
    assert [given.name for given in session.get_inputs()] == ["images", "camid"]
    asked = {"images": images.numpy(), "camid": torch.ones(3).long().numpy()}
    torch.testing.assert_close(torch.tensor(session.run(None, asked)[0]), second, atol=1e-5, rtol=0)
    (told,) = json.loads(session.get_modelmeta().custom_metadata_map["reid.inputs"])
    assert (told["name"], told["default"], told["dtype"]) == ("camid", -1, "int64")
    # As the run computes: processors that multiply bfloat16 would take it.
    evaluate = ["eval", str(folder), "--data", "toy:tiny", "--precision", "fp32"]
    evaluate += ["--json", str(tmp_path / "found.json")]
    assert CliRunner().invoke(cli, evaluate).exit_code == 0
    (found,) = json.loads((tmp_path / "found.json").read_text())
    assert found["metrics"]["mAP"] == pytest.approx(summary.results[0].mean_ap, abs=1e-6)
    done = CliRunner().invoke(cli, [*evaluate, "--unknown", "camid"])
    assert done.exit_code == 0, done.output
    with pytest.raises(ConfigError, match=r"'camd' cannot be unknown.*did you mean 'camid'"):
        CliRunner().invoke(cli, [*evaluate, "--unknown", "camd"], catch_exceptions=False)


def test_mixup_adds_a_mixed_row_per_image(shapes: dict[str, type[Plugin]], reid_cache: Path):
    recorder = _recorded("mixup", shapes, reid_cache)
    assembly = recorder.assembly
    streams = recorder.streams(1)
    batch = recorder.batches(streams)["main"]
    for stream in streams.values():
        stream.close()
    plugin = assembly.plugins["mixup"]
    (made,) = plugin.reid_data_synthesis(assembly.ctx, batch, None, "main")  # type: ignore[attr-defined]
    assert made.images.shape == batch.image.shape
    torch.testing.assert_close(made.soft_targets.sum(1), torch.ones(len(batch)))


def test_the_criterion_replaces_the_cores(shapes: dict[str, type[Plugin]], reid_cache: Path):
    assert set(_recorded("cosine", shapes, reid_cache).trace[0]) == {"main:core/global/cosine"}


def test_the_encoder_is_built_on_request(shapes: dict[str, type[Plugin]], reid_cache: Path):
    for name, width in (("small", 32), ("narrow", 16)):
        encoder = _recorded(name, shapes, reid_cache).assembly.model.encoder
        assert (type(encoder).__name__, encoder.width) == ("SmallEncoder", width)


def test_the_table_becomes_a_data_set(
    shapes: dict[str, type[Plugin]], toy_tiny: DataSet, reid_cache: Path, tmp_path: Path
):
    train = toy_tiny.train.samples
    splits = ("train", train), ("query", toy_tiny.query), ("gallery", toy_tiny.gallery)
    with (tmp_path / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "pid", "camid", "split"])
        for split, samples in splits:
            table.writerows([s.path, 7 + 2 * s.pid, s.camid, split] for s in samples)
    flags = {"data": {"name": "csv", "root": str(tmp_path)}}
    recorder = Recorder(tiny_assembly(["from_csv"], flags, cache=reid_cache, classes=shapes))
    recorder.fit()
    main = recorder.assembly.ctx.main
    assert len(main) == len(train)
    assert main.num_identities == toy_tiny.train.num_identities


def test_the_observer_writes_and_the_protocol_reports(
    shapes: dict[str, type[Plugin]], reid_cache: Path, tmp_path: Path
):
    flags = tiny_flags(["front_door", "journal"], SETTINGS["front_door"])
    folder = tmp_path / "run"
    summary = run(
        resolved=resolve(flags, classes=shapes), out=folder, cache=reid_cache, say=lambda line: None
    )
    whole, door = summary.results
    assert (whole.protocol, door.protocol) == ("standard", "front-door")
    assert door.gallery_images < whole.gallery_images
    lines = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    assert lines[0]["config"]["run"]["plugins"] == ["front_door", "journal"]
    assert [line["iteration"] for line in lines if "iteration" in line and "when" not in line] == [
        0,
        1,
        2,
        3,
    ]
    assert lines[-2]["front-door"]["mAP"] == door.mean_ap
    assert lines[-1] == {"outcome": "finished"}


def test_walks_are_read_pooled_and_seen_together(
    shapes: dict[str, type[Plugin]], toy_tiny: DataSet, reid_cache: Path, tmp_path: Path
):
    splits = (
        ("train", toy_tiny.train.samples),
        ("query", toy_tiny.query[:6]),
        (
            "gallery",
            toy_tiny.gallery[:24],
        ),
    )
    for split, samples in splits:
        for sample in samples:
            folder = tmp_path / split / f"{sample.pid + 5}_c{sample.camid + 1}_walk"
            folder.mkdir(parents=True, exist_ok=True)
            place = folder / f"{len(list(folder.iterdir())):03d}.png"
            place.write_bytes(sample.path.read_bytes())
    flags = {
        "data": {"name": "walks", "root": str(tmp_path), "frames": 3},
        "model": {"frame_pooling": "steady"},
    }
    names = ["motion", "steady", "walks"]
    recorder = Recorder(tiny_assembly(names, flags, cache=reid_cache, classes=shapes))
    recorder.fit()
    main = recorder.assembly.ctx.main
    assert main.people[0] == 5
    assert {len(sample.frames) for sample in main.samples} == {2}
    assert {"main:motion/calm", "main:motion/vector/ce"} <= set(recorder.trace[0])
    heads = recorder.assembly.model.heads
    assert [type(head.pool).__name__ for head in heads.values()] == ["SteadyPool", "NoneType"]
    with pytest.raises(DataError, match=r"plugin 'steady' needs tracklets \(frames\)"):
        tiny_assembly(["steady"], cache=reid_cache, classes=shapes)


def test_a_wardrobe_is_needed(shapes: dict[str, type[Plugin]], reid_cache: Path):
    assert "main:wardrobe/pull" in _recorded("wardrobe", shapes, reid_cache).trace[0]


# The page on deploying ----------------------------------------------------------------------------


def test_the_embedder_is_used_as_the_page_says(
    trained: Path, toy_tiny: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    page = (DOCS / "deploying.md").read_text(encoding="utf-8")
    block = re.search(r"```python file=use_embedder.py\n(.*?)```", page, re.DOTALL)
    assert block
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    Path("runs/demo").symlink_to(trained)
    Path("photos").mkdir()
    for name, sample in zip(("a.jpg", "b.jpg"), toy_tiny.query, strict=False):
        Path("photos", name).write_bytes(sample.path.read_bytes())
    found: dict[str, Any] = {}
    exec(compile(block[1], "use_embedder.py", "exec"), found)
    embedder = load_embedder(trained)
    assert found["features"].shape == (4, embedder.dim)
    assert found["vectors"].shape == (2, embedder.dim)
    torch.testing.assert_close(found["similarity"].diagonal(), torch.ones(2))

"""``reid report``: what is on the page, that it is whole in itself, and that it stays small."""

from __future__ import annotations

import hashlib
import html
import json
import re
import shutil
import xml.etree.ElementTree as ET
from contextlib import nullcontext
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from stored_runs import stored_run
from torch.nn import functional as F

from reid_core import ConfigError, DataRequest, DataSet, Embedder, run
from reid_core.errors import DataError
from reid_core.model.encoder import NoEncoder
from reid_core.testing.fixtures import RunReid
from reid_core.testing.tiny import tiny_flags
from reid_core.testing.toy.making import load_toy_tracklets, make_toy
from reid_retrieval.protocols import NO_CAMERA, STANDARD, TRACKLET_POOLS, Protocol
from reid_search.calibration.counting import count_pairs
from reid_search.calibration.pairs import Pairs
from reid_search.reporting import page as pages
from reid_search.reporting.attention import similarity_attention
from reid_search.reporting.charts import lines, scatter
from reid_search.reporting.features import available_methods, laid_out, some_people
from reid_search.reporting.gathering import read_folder
from reid_search.reporting.lists import chosen_queries
from reid_search.reporting.pictures import Album


class Page(HTMLParser):
    """What the tests ask of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if found.get("id"):
            self.ids.append(str(found["id"]))
        for key in ("src", "href", "xlink:href", "srcset", "action"):
            if found.get(key):
                self.addresses.append(str(found[key]))

    def classes(self, name: str) -> int:
        return sum(name in (found.get("class") or "").split() for _, found in self.tags)


@pytest.fixture(scope="module")
def finished(reid_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two tiny runs of the toy data that differ in their learning rate."""
    folder = tmp_path_factory.mktemp("runs")
    found = []
    for name, rate in (("slow", 1e-4), ("fast", 1e-3)):
        flags = tiny_flags((), {"optim": {"lr": rate}, "evaluation": {"untrained": True}})
        run(flags, out=folder / name, cache=reid_cache, say=lambda line: None)
        found.append(folder / name)
    (found[0] / "toy").mkdir()
    Image.new("RGB", (40, 30), "navy").save(found[0] / "toy" / "sketch.png")
    return found


@pytest.fixture(scope="module")
def page(finished: list[Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page about both."""
    from click.testing import CliRunner

    from reid_search.commands.report import report

    out = tmp_path_factory.mktemp("page") / "made" / "report.html"
    done = CliRunner().invoke(
        report,
        [*map(str, finished), "-o", str(out), "--queries", "2", "--attention", "2",
         "--map", "pca", "--map", "tsne", "--device", "cpu"],
        catch_exceptions=False,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert not out.with_suffix(".part").exists()
    return out.read_text("utf-8")


def test_a_page_needs_nothing_else(page: str) -> None:
    found = Page(page)
    assert found.addresses
    for address in found.addresses:
        assert address.startswith(("data:", "#")), address[:80]
    assert "default-src 'none'" in page
    styles = re.sub(r"data:[^\"')]*", "", page)
    assert not re.search(r"@import|url\((?!#)", styles)
    # Every link and every part of a chart leads to something of its own.
    assert len(set(found.ids)) == len(found.ids)
    for address in found.addresses:
        if address.startswith("#"):
            assert address[1:] in found.ids
    assert len(page.encode()) < 2_000_000


def test_a_page_shows_every_section(page: str, finished: list[Path]) -> None:
    for words in (
        "Metrics", "Comparison", "Training", "Ranked lists", "Similarities", "People", "Cameras",
        "Maps of features", "Where the model looks", "Drawn by plugins", "toy/sketch.png",
        "Configuration", "environment.torch", "standard v1", "junk same pid &amp; same camid",
        "optim.lr was 0.0001, is 0.001", "t-SNE of 48 images", "✓ and a solid frame",
    ):  # fmt: skip
        assert words in page.replace("<b>✓</b>", "✓"), words
    found = Page(page)
    # Of each run two worst, two random, two best; each with ten images.
    assert found.classes("query") == 2 * 6
    assert found.classes("same") + found.classes("other") == 2 * 6 * 10
    assert found.classes("pair") == 2 * 2
    assert "<td>slow</td>" not in page  # names are text, left
    stored = json.loads((finished[0] / "results.json").read_text("utf-8"))["results"][0]
    assert f'data-value="{stored["metrics"]["mAP"]}">{100 * stored["metrics"]["mAP"]:.1f}' in page


def test_charts_are_whole_and_say_what_they_are(page: str) -> None:
    charts = re.findall(r"<svg .*?</svg>", page, re.DOTALL)
    # One for both; of each run losses, metrics, similarities, ROC and two maps.
    assert len(charts) == 1 + 2 * 6
    for chart in charts:
        root = ET.fromstring(chart)
        assert root.get("role") == "img"
        assert root.get("aria-label")
        assert "width" not in root.attrib


def test_a_page_that_is_too_large_says_what_it_leaves_out(
    run_reid: RunReid, finished: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "small.html"
    code, said, err = run_reid(
        "report", finished[0], "-o", out, "--megabytes", "0.1", "--map", "pca", "--attention", "1"
    )
    assert code == 0, err
    text = out.read_text("utf-8")
    assert re.search(r"\d+ lists are left out: the page would grow too large", text)
    assert sum(len(a) for a in Page(text).addresses if a.startswith("data:image")) <= 110_000
    assert f"report: {out} (" in said


def test_without_images_no_data_set_is_needed(
    run_reid: RunReid, finished: list[Path], tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(finished[0], moved)
    config = (moved / "config.toml").read_text("utf-8")
    (moved / "config.toml").write_text(config.replace("toy:tiny", "nowhere"), "utf-8")
    shutil.rmtree(moved / "toy")
    (moved / "parsing").mkdir()
    Image.new("RGB", (8, 16)).save(moved / "parsing" / "parts.png")  # plugins draw people, too
    speeds = [
        {"runtime": "torch", "batch": 1, "images_per_second": 12.34, "peak_mib": None},
        {"runtime": "onnx", "batch": 32, "images_per_second": 2345.6, "peak_mib": 7.2},
    ]
    measured = {"parameters": 1234567, "multiply_adds": 89_000_000, "dim": 512, "left_out": "",
                "size": [256, 128], "device": "CPU", "threads": 2, "speeds": speeds}  # fmt: skip
    (moved / "efficiency.json").write_text(json.dumps(measured), "utf-8")
    code, _, err = run_reid("report", moved, "-o", tmp_path / "page.html")
    assert code == 2
    assert "nowhere" in err
    assert not (tmp_path / "page.html").exists()
    code, _, err = run_reid("report", moved, "-o", tmp_path / "page.html", "--without-images")
    assert code == 0, err
    text = (tmp_path / "page.html").read_text("utf-8")
    assert "Made without images" in text
    assert "data:image" not in text
    assert "parts.png" not in text
    assert Page(text).classes("people-table") == 1
    assert Page(text).classes("efficiency-table") == 1
    assert "1,234,567 parameters, 89.0 M multiply-adds per image of 256 × 128" in text
    assert "<td>32</td><td>2,345.6</td><td>7</td>" in text


def with_results(
    run: Path, folder: Path, changed: dict[str, str], without: tuple[str, ...] = ()
) -> Path:
    """Return a copy of a run, all results of which say something else."""
    shutil.copytree(run, folder)
    content = json.loads((run / "results.json").read_text("utf-8"))
    for result in content["results"]:
        for key in without:
            del result[key]
        result |= changed
    (folder / "results.json").write_text(json.dumps(content), "utf-8")
    return folder


def test_a_run_on_more_data_stands_beside_one_on_its_own(
    run_reid: RunReid, finished: list[Path], reid_cache: Path, tmp_path: Path
) -> None:
    shop = make_toy(tmp_path / "shop", "tiny").train.samples[0].path.parent.parent
    more = tmp_path / "more"
    flags = tiny_flags((), {"data": {"also": [f"folder={shop}"]}, "schedule": {"epochs": 1}})
    run(flags, out=more, cache=reid_cache, say=lambda line: None)
    code, _, err = run_reid("compare", finished[0], more, "--picture", tmp_path / "p.png")
    assert code == 0, err
    code, _, err = run_reid("report", finished[0], more, "-o", tmp_path / "p.html", "--map", "pca")
    assert code == 0, err


def test_fingerprints_of_earlier_results_are_compared_as_before(
    run_reid: RunReid, finished: list[Path], toy_tiny: DataSet, tmp_path: Path
) -> None:
    # What they were: a hash of the training images, queries and gallery.
    digest = hashlib.sha256()
    for sample in (*toy_tiny.train.samples, *toy_tiny.query, *toy_tiny.gallery):
        labels = (sample.split, sample.pid, sample.camid, sample.clothes)
        digest.update(f"{sample.path.name}|{sample.path.stat().st_size}|{labels}\n".encode())
    earlier = {"fingerprint": digest.hexdigest()[:16]}
    old = [with_results(one, tmp_path / f"old_{one.name}", earlier) for one in finished]
    code, _, err = run_reid("compare", *old, "--picture", tmp_path / "p.png")
    assert code == 0, err
    code, _, err = run_reid("compare", old[0], finished[1])
    assert code == 2
    assert "the data's fingerprint is" in err
    assert "evaluate both alike, with reid eval" in err


def test_results_of_the_first_version_still_make_a_page(
    run_reid: RunReid, finished: list[Path], tmp_path: Path
) -> None:
    strange = with_results(finished[0], tmp_path / "strange", {"fingerprint": "other"})
    code, _, err = run_reid("report", strange, "-o", tmp_path / "p.html")
    assert code == 2
    assert "data set 'toy:tiny' is not the one that the results are of" in err
    assert not (tmp_path / "p.html").exists()
    lacking = ("version", "rules", "queries")
    old = with_results(finished[0], tmp_path / "old", {"protocol": "gone"}, without=lacking)
    code, _, err = run_reid("report", old, finished[1], "-o", tmp_path / "p.html", "--map", "pca")
    assert code == 0, err
    text = (tmp_path / "p.html").read_text("utf-8")
    assert "keep no single queries: lists, tables and intervals are missing" in text
    assert "Not compared: " in text
    assert "histogram and ROC are missing: the rules that the result was scored by" in text


def test_a_result_with_statistics_of_cameras_has_no_scores_of_other_features(
    run_reid: RunReid, finished: list[Path], tmp_path: Path
) -> None:
    own = with_results(finished[0], tmp_path / "own", {"batch_norm": "camera"})
    code, _, err = run_reid("report", own, "-o", tmp_path / "p.html")
    assert code == 0, err
    text = (tmp_path / "p.html").read_text("utf-8")
    assert (
        "Of features with each camera's own statistics of batch normalisation, histogram and ROC "
        "are missing: the embedder computes others; reid eval takes those."
    ) in html.unescape(text)
    assert Page(text).classes("people-table") == 1
    assert Page(text).classes("pair") == 0


def test_a_page_finds_the_rules_that_a_result_was_scored_by(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\ngallery_pool = ["pid", "camid"]', "utf-8")
    named = {"evaluation": {"protocols": [str(file)]}}
    mine = Protocol("mine", gallery_pool=("pid", "camid"))
    cases = {
        "built-in": (None, STANDARD.text, STANDARD),
        "of-a-file": (named, mine.text, mine),
        "first-version": (None, None, STANDARD),
        "changed-since": (named, NO_CAMERA.text, None),
    }
    for name, (config, rules, expected) in cases.items():
        found = read_folder(stored_run(tmp_path / name, [1, 2, 3, 4], config, rules=rules))
        assert pages._rules(found, found.stored.result("standard")) == expected, name


@pytest.mark.parametrize("without_cameras", [False, True])
def test_pairs_of_tracklets_are_those_that_were_scored(
    without_cameras: bool, reid_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load_toy_tracklets(DataRequest("toy", "tracklets", "tiny", None, reid_cache))
    if without_cameras:
        sides = ([replace(s, camid=0) for s in side] for side in (dataset.query, dataset.gallery))
        dataset = replace(dataset, query=tuple(next(sides)), gallery=tuple(next(sides)))
    changes = {"protocol": TRACKLET_POOLS.name, "rules": TRACKLET_POOLS.text}
    folder = read_folder(stored_run(tmp_path / "run", [1, 2, 3, 4], **changes))
    Embedder.from_encoder(NoEncoder(), (64, 32)).save(tmp_path / "run" / "embedder.safetensors")
    counted: list[Pairs] = []

    def noted(pairs: Pairs) -> Any:
        counted.append(pairs)
        return count_pairs(pairs)

    monkeypatch.setattr(pages, "count_pairs", noted)
    told: list[int] = []
    found = pages._of_features(
        folder,
        folder.stored.result(TRACKLET_POOLS.name),
        dataset,
        pages.Options(attention=0, methods=(), device="cpu"),
        Album(1000),
        lambda name, total: nullcontext(told.append),
    )
    # Frames are embedded one by one, and a tracklet's are one image of the ranking.
    assert counted[0].search.query_pools is not None
    assert len(counted[0].search.query_pools.rows) == sum(len(s.images) for s in dataset.query)
    assert counted[0].shape == (len(dataset.query), len(dataset.gallery))
    assert sum(told) == len(dataset.query) + len(dataset.gallery)
    assert len(found["scores"]) == (0 if without_cameras else 2)
    assert ("all images are of one camera" in found["without_scores"]) == without_cameras


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-o", "page.pdf"), "the file's name must end in .html"),
        (("-o", "p.html", "--map", "tnse"), "there is no map 'tnse'; did you mean 'tsne'"),
        (("-o", "p.html", "--protocol", "standart"), "has no results of protocol 'standart'"),
    ],
)
def test_what_cannot_be_made_is_one_line(
    options: tuple[str, ...], said: str, run_reid: RunReid, finished: list[Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    code, _, err = run_reid("report", finished[0], *options)
    assert code == 2
    assert said in err
    assert not list(tmp_path.iterdir())


def test_runs_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("[]", "utf-8")
    with pytest.raises(DataError, match="a report is about run folders"):
        read_folder(tmp_path / "results.json")
    with pytest.raises(DataError, match="there is no run"):
        read_folder(tmp_path / "none")


def test_umap_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reid_search.reporting.features.find_spec", lambda name: None)
    assert available_methods(()) == ["pca", "tsne"]
    with pytest.raises(ConfigError, match="needs umap-learn: pip install umap-learn"):
        available_methods(["umap"])


def test_curves_are_those_of_the_log(tmp_path: Path) -> None:
    folder = stored_run(tmp_path / "run", [1, 2, 3, 4])
    log = [
        {"kind": "evaluation", "when": "untrained", "epoch": -1, "iteration": -1,
         "results": {"standard": {"mAP": 0.1}}},
        {"kind": "step", "epoch": 0, "iteration": 9, "loss/core/global/ce": 2.0,
         "total/main": 3.0, "lr/main:encoder": 0.1},
        {"kind": "evaluation", "when": "validation", "epoch": 0, "iteration": 9,
         "results": {"standard": {"mAP": 0.9}}},
        {"kind": "evaluation", "when": "final", "epoch": 0, "iteration": 9,
         "results": {"standard": {"mAP": 0.4}}},
        {"kind": "end", "outcome": "finished", "seconds": 3},
    ]  # fmt: skip
    text = "\n".join(map(json.dumps, log)) + '\n{"kind": "st'
    (folder / "metrics.jsonl").write_text(text, "utf-8")
    found = read_folder(folder)
    assert found.losses == {"main (sum)": ([10], [3.0]), "core/global/ce": ([10], [2.0])}
    assert found.curve("standard", "mAP") == ([0, 10], [0.1, 0.4])
    assert found.cost["seconds"] == 3


def test_worst_random_and_best_are_chosen_once_each() -> None:
    queries = [{"AP": value} for value in (0.5, 0.1, 0.9, 0.3, 0.7, 0.2, 0.8)]
    chosen = chosen_queries(queries, 2)
    assert [place for place, group in chosen if group == "worst"] == [1, 5]
    assert [place for place, group in chosen if group == "best"] == [2, 6]
    random = [place for place, group in chosen if group == "random"]
    assert len(random) == 2
    assert set(random) <= {0, 3, 4}
    assert [group for _, group in chosen_queries(queries[:2], 5)] == ["worst", "best"]
    assert chosen_queries(queries[:1], 5) == [(0, "worst")]


def test_attention_weighs_the_map_by_the_gradient_of_the_cosine() -> None:
    torch.manual_seed(0)
    embedder = Embedder.from_encoder(NoEncoder(), (64, 32))
    images, others = torch.rand(2, 3, 64, 32), torch.rand(2, 3, 64, 32)
    found = similarity_attention(embedder, images, others)
    assert found.shape == (2, 4, 2)

    # The feature is the mean of the map: the cosine's gradient by it is known.
    def maps(x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d((x - embedder.mean) / embedder.std, 16)

    feature, other = maps(images).mean((2, 3)), F.normalize(maps(others).mean((2, 3)), dim=1)
    unit = F.normalize(feature, dim=1)
    cosine = (unit * other).sum(1, keepdim=True)
    weights = (other - cosine * unit) / feature.norm(dim=1, keepdim=True)
    expected = (weights[:, :, None, None] * maps(images)).sum(1).relu()
    expected /= expected.amax((1, 2), keepdim=True)
    assert torch.allclose(found, expected, atol=1e-5)
    assert not embedder.encoder._forward_hooks


def test_what_plugins_drew_is_found_without_the_copies_of_trackers(tmp_path: Path) -> None:
    folder = stored_run(tmp_path / "run", [1, 2, 3, 4])
    names = ("san/textures.png", "ranked_lists.png", "track/wandb/textures.png", "san/note.txt")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    assert read_folder(folder).drawn == {"san/textures.png": folder / "san/textures.png"}


def test_people_are_drawn_whole(toy_tiny: DataSet) -> None:
    assert some_people(toy_tiny, 1000) is toy_tiny
    some = some_people(toy_tiny, 18)
    people = {sample.pid for sample in some.query}
    assert 2 <= len(people) <= 3
    assert {sample.pid for sample in some.gallery} == people
    for pid in people:
        assert sum(s.pid == pid for s in some.gallery) == sum(
            s.pid == pid for s in toy_tiny.gallery
        )


def test_a_plane_keeps_what_is_alike_together() -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((3, 16))
    features = (np.repeat(centres, 10, 0) + 0.05 * rng.standard_normal((30, 16))).astype(np.float32)
    points = laid_out(features * rng.uniform(1, 5, (30, 1)).astype(np.float32), "pca")
    groups = points.reshape(3, 10, 2)
    within = np.linalg.norm(groups - groups.mean(1, keepdims=True), axis=2).max()
    between = np.linalg.norm(groups.mean(1)[:, None] - groups.mean(1), axis=2)
    assert within < 0.3 * between[between > 0].min()
    assert laid_out(features, "tsne").shape == (30, 2)


def test_the_same_chart_has_the_same_text() -> None:
    curve = {"a<b": ([0, 1], [0.5, 0.25])}
    one, other = (lines(curve, x="x", y="y", title="t & <u>") for _ in range(2))
    assert one == other
    assert 'aria-label="t &amp; &lt;u&gt;"' in one
    points = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 0.0]])
    assert ">7<" in scatter(points, [7, 7, 8], [7], title="m").replace("\n", "")


def test_images_are_small_and_broken_ones_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (300, 600), "navy").save(path)
    album = Album(100_000)
    text = album.person(path)
    assert text.startswith("data:image/jpeg;base64,")
    assert album.left == 100_000 - len(text)
    pixels = np.zeros((600, 300, 3), np.uint8)
    pixels[:300] = 255
    turned = Image.Exif()
    turned[0x0112] = 6
    lying = tmp_path / "lying.png"
    Image.fromarray(np.rot90(pixels).copy()).save(lying, exif=turned)
    Image.fromarray(pixels).save(path)
    assert Album(100_000).person(lying) == Album(100_000).person(path)
    path.write_bytes(b"none")
    with pytest.raises(DataError, match=r"a\.png: cannot be read as an image"):
        Album(100_000).person(path)


def test_runs_of_one_name_have_a_curve_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [read_folder(stored_run(tmp_path / name, [1, 2, 3, 4])) for name in ("a/run", "b/run")]
    drawn = []
    monkeypatch.setattr(pages.charts, "lines", lambda curves, **how: drawn.append(list(curves)))
    pages._cmc([*runs, read_folder(stored_run(tmp_path / "other", [1, 2, 3, 4]))], None)
    assert drawn == [
        [f"{tmp_path}/a/run (standard)", f"{tmp_path}/b/run (standard)", "other (standard)"]
    ]

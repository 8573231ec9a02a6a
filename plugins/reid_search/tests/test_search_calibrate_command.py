"""``reid calibrate``: what it stores, what it shows, and what it refuses before the work."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from reid_core import DataError, load_embedder, open_dataset
from reid_core.evaluation.extraction import extract
from reid_core.testing.tiny import tiny_assembly
from reid_search import models
from reid_search.calibration import measuring
from reid_search.calibration.probability import Calibration
from reid_search.calibration.trained import check_not_trained_on

COLOURS = ("red", "lime", "blue", "yellow", "black", "white")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The words that name people of one colour each, whom any encoder tells apart."""
    root = tmp_path_factory.mktemp("people")
    for split, cameras in (("train", (1,)), ("query", (1,)), ("gallery", (2, 3))):
        (root / split).mkdir()
        for person, colour in enumerate(COLOURS, 10 if split == "train" else 1):
            for camera in cameras:
                picture = Image.effect_noise((16, 32), 20 * camera).convert("RGB")
                plain = Image.new("RGB", picture.size, colour)
                Image.blend(picture, plain, 0.7).save(root / split / f"{person:04}_c{camera}.png")
    return ("--data", "folder", "--data-root", root, "--draws", "5", "--operating-point", "tpr=0.5")


@pytest.fixture(scope="module")
def embedder(reid_cache, tmp_path_factory):
    """An embedder without training, in a folder that is no run's."""
    path = tmp_path_factory.mktemp("embedder") / "embedder.safetensors"
    tiny_assembly(cache=reid_cache).embedder().save(path)
    return path


@pytest.fixture
def model(embedder, tmp_path):
    """A copy of it to write to."""
    for suffix in (".safetensors", ".json"):
        (tmp_path / "m").mkdir(exist_ok=True)
        copy = (tmp_path / "m" / "embedder").with_suffix(suffix)
        copy.write_bytes(embedder.with_suffix(suffix).read_bytes())
    return tmp_path / "m"


def test_threshold_and_probability_are_stored_where_search_finds_them(
    model, data, run_reid, tmp_path
):
    before = json.loads((model / "embedder.json").read_text())
    picture, written = tmp_path / "c.png", tmp_path / "c.json"
    code, out, err = run_reid("calibrate", model, *data, "--picture", picture, "--json", written)
    assert code == 0, err
    found = models.open_model(model).calibration
    result = json.loads(written.read_text())
    assert found["threshold"] == result["chosen"]["threshold"]
    assert found["data"] == result["data"] == "folder"
    assert found["protocol"].startswith("standard v1")
    assert Calibration.from_json(found["probability"]).probability(0.99) > 0.3
    after = json.loads((model / "embedder.json").read_text())
    assert {key: after[key] for key in before} == before
    with Image.open(picture) as drawn:
        assert drawn.size == (2025, 660)
    assert f"stored in {model / 'embedder.json'}" in out
    assert f"Chosen by tpr=0.5: threshold {found['threshold']:.4f}" in out
    assert "does not say who was trained on" in err
    run_reid("calibrate", model, *data, "--operating-point", "eer", "--method", "isotonic")
    again = models.open_model(model).calibration
    assert (again["operating_point"], again["probability"]["method"]) == ("eer", "isotonic")


def test_a_copy_is_calibrated_where_the_model_is_not_to_change(model, data, run_reid, tmp_path):
    before = (model / "embedder.json").read_text()
    for suffix in (".safetensors", ".json"):
        (model / "embedder").with_suffix(suffix).rename((model / "small").with_suffix(suffix))
    code, _, err = run_reid(
        "calibrate", model / "small.safetensors", *data, "--out", tmp_path / "copy"
    )
    assert code == 0, err
    assert (model / "small.json").read_text() == before
    assert models.open_model(tmp_path / "copy").calibration["operating_point"] == "tpr=0.5"
    assert run_reid("calibrate", model / "small.safetensors", *data, "--no-store")[0] == 0
    assert (model / "small.json").read_text() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--operating-point", "recall=1"), "expected fpr=RATE or tpr=RATE"),
        (("--json", "{model}"), "--json {model}: is a folder"),
        (("--picture", "x.gif"), "--picture x.gif: the file's name must end in"),
        (("--out", "{model}"), "--out {model}: holds something already"),
        (("--out", "x", "--no-store"), "--out and --no-store exclude each other"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_work(
    words, message, model, data, run_reid, monkeypatch
):
    monkeypatch.setattr("reid_search.commands.calibrate.open_dataset", None)
    words = [word.format(model=model) for word in words]
    code, _, err = run_reid("calibrate", model, *data, *words)
    assert code == 2
    assert message.format(model=model) in err
    assert err.count("\n") == 1


def test_shipped_weights_are_not_changed(embedder, data, run_reid, monkeypatch):
    monkeypatch.setattr(models, "shipped_weights", lambda: {models.DEFAULT_MODEL: embedder})
    code, _, err = run_reid("calibrate", *data)
    assert code == 2
    assert err.startswith("reid: people/osnet_x0_25 is not yours to change: name a folder")


def test_a_model_that_cannot_be_written_is_refused(model, data, run_reid, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    code, _, err = run_reid("calibrate", model, *data)
    assert code == 2
    assert "the calibration cannot be stored with the embedder" in err
    assert "--out DIR" in err


def test_without_matplotlib_a_picture_is_refused(model, data, run_reid, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, _, err = run_reid("calibrate", model, *data, "--picture", "x.png")
    assert code == 2
    assert "pip install 'reid-core[plots]'" in err


def config(folder, name, root=None):
    place = f'root = "{root}"\n' if root else ""
    (folder / "config.toml").write_text(f'[data]\nname = "{name}"\n{place}')
    return models.OpenModel("run", folder / "embedder.safetensors", SimpleNamespace(learnt_from={}))


def test_people_who_were_trained_on_are_refused(tmp_path, toy_tiny):
    run = config(tmp_path, "toy:tiny")
    train = toy_tiny.train.samples
    assert check_not_trained_on(run, toy_tiny, "toy:tiny", None) == ""
    # The same person in other pictures, and the same picture under another number.
    known = replace(toy_tiny.query[0], extra=train[0].extra)
    person = train[0].extra["person"]
    again = replace(toy_tiny, query=(known, *toy_tiny.query[1:]))
    with pytest.raises(DataError, match=rf"1 people in 'toy:tiny' were trained on \({person}\)"):
        check_not_trained_on(run, again, "toy:tiny", None)
    picture = replace(toy_tiny, gallery=(*toy_tiny.gallery, replace(train[0], extra={}, pid=77)))
    with pytest.raises(DataError, match=r"were trained on \(77\)"):
        check_not_trained_on(run, picture, "toy:tiny", None)
    run = config(tmp_path, "toy:small")
    assert check_not_trained_on(run, again, "toy:tiny", None) == ""


def test_people_of_a_name_are_known_in_every_data_set(tmp_path, toy_tiny):
    """Shipped weights have no run beside them, but say whom they have learnt from."""
    named = [replace(s, extra={**s.extra, "who": f"zoo/{s.pid}"}) for s in toy_tiny.query]
    people = replace(toy_tiny, query=tuple(named))
    met = named[0].pid

    def learnt(*names):
        embedder = SimpleNamespace(learnt_from={"data": ["zoo"], "people": names})
        return models.OpenModel("w", tmp_path / "nowhere" / "w.safetensors", embedder)

    assert check_not_trained_on(learnt("zoo/900-950"), people, "toy:tiny", None) == ""
    with pytest.raises(DataError, match=r"have learnt from 1 of the .* calibrate on others"):
        check_not_trained_on(learnt(f"zoo/{met}", "zoo/900-950"), people, "toy:tiny", None)


def test_folders_of_pictures_are_compared_by_their_files(tmp_path):
    from reid_core import open_dataset

    def folder(name, people):
        for split, who in zip(("train", "query", "gallery"), people, strict=True):
            (tmp_path / name / split).mkdir(parents=True)
            for person in who:
                Image.new("RGB", (4, 8)).save(tmp_path / name / split / f"{person:04}_c1.png")
        return tmp_path / name

    first = folder("first", ([1, 2], [3], [3]))
    second = folder("second", ([7], [1], [1]))
    run = config(tmp_path, "folder", first)
    for root, shared in ((first, ""), (second, "")):
        dataset = open_dataset("folder", root)
        assert check_not_trained_on(run, dataset, "folder", root) == shared
    (second / "query" / "0009_c2.png").symlink_to(first / "train" / "0002_c1.png")
    with pytest.raises(DataError, match=r"were trained on \(9\)"):
        check_not_trained_on(run, open_dataset("folder", second), "folder", second)
    gone = config(tmp_path, "folder", tmp_path / "gone")
    line = check_not_trained_on(gone, open_dataset("folder", first), "folder", first)
    assert line.startswith("whether anybody in 'folder' was trained on cannot be told")
    assert str(Path(tmp_path / "gone")) in line


@pytest.mark.parametrize("protocol", ["standard", "standard/tracklet-pools"])
def test_of_a_tracklet_all_frames_are_embedded_as_an_evaluation_does(
    protocol, model, run_reid, monkeypatch
):
    measured = []

    def measure(*sides, **options):
        measured.extend(sides)
        raise DataError("enough")

    monkeypatch.setattr(measuring, "calibrate", measure)
    words = ("--data", "toy/tracklets:tiny", "--no-store", "--protocol", protocol)
    assert "reid: enough" in run_reid("calibrate", model, *words)[2]
    embedder, dataset = load_embedder(model), open_dataset("toy/tracklets:tiny")
    plain = extract(embedder, dataset.query, torch.device("cpu"), specs=dataset.query_fields)
    first = [replace(sample, frames=(), fields={}) for sample in dataset.query]
    frames = [len(sample.frames) for sample in dataset.query]
    assert max(frames) > 1
    if protocol == "standard":
        assert np.allclose(measured[0], plain, atol=1e-5)
        assert not np.allclose(
            measured[0], extract(embedder, first, torch.device("cpu")), atol=1e-3
        )
    else:
        # The protocol pools: what it gets are the frames, and which tracklet each is of.
        assert len(measured[0]) == sum(frames)
        assert len(set(measured[2].column("tracklet"))) == len(dataset.query)


def test_a_frame_that_was_trained_on_is_found_wherever_it_stands(tmp_path, toy_tiny):
    run = config(tmp_path, "toy:tiny")
    seen, sample = toy_tiny.train.samples[0].path, toy_tiny.gallery[0]
    tracklet = replace(sample, extra={}, pid=77, frames=(sample.path, seen))
    with pytest.raises(DataError, match=r"were trained on \(77\)"):
        check_not_trained_on(run, replace(toy_tiny, gallery=(tracklet,)), "toy:tiny", None)

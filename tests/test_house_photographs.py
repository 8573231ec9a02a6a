"""Rows on photographs that cost no training: how they are made, and what the page says of them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from house import ROOT
from PIL import Image

from reid_core import Sample, load_embedder
from reid_core.runs.finding import make_embedder

sys.path.insert(0, str(ROOT / "benchmarks"))

import street
import ward
from studies import declaring, photographs

SIZE = (64, 32)


@pytest.fixture(scope="module")
def embedders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two small networks with random weights."""
    files = []
    for seed in range(2):
        file = tmp_path_factory.mktemp("embedders") / f"{seed}.safetensors"
        make_embedder("osnet_x0_25", SIZE, weights="random", seed=seed, say=lambda line: None).save(
            file
        )
        files.append(file)
    return files


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Eight people before a camera, and before one that sees all darker."""
    folder, rng, found = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0), []
    for pid in range(8):
        picture = rng.integers(0, 256, (*SIZE, 3))
        for camid, gain in enumerate((1, 0.4)):
            path = folder / f"{pid}_{camid}.png"
            Image.fromarray((picture * gain).astype(np.uint8)).save(path)
            found.append(Sample(path, pid, camid))
    return found


def test_statistics_per_camera_are_those_of_its_images(
    embedders: list[Path], samples: list[Sample], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("reid_core.evaluation.statistics.LEAST", len(samples) // 2)
    embedder = load_embedder(embedders[0])
    before = {name: value.clone() for name, value in embedder.state_dict().items()}
    found = ward.per_camera(embedder, samples)
    after = embedder.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    for camera in range(2):
        own = [sample for sample in samples if sample.camid == camera]
        images = torch.stack(
            [torch.from_numpy(np.array(Image.open(sample.path))) for sample in own]
        ).permute(0, 3, 1, 2)
        with torch.no_grad():
            wanted = embedder.train()(images).numpy()
            usual = embedder.eval()(images).numpy()
        of_batch, of_training = (_cosines(found[camera::2], one) for one in (wanted, usual))
        assert of_batch.min() > max(0.97, of_training.max())


def _cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(1) / norms


def test_averages_of_weights_and_of_cosines(embedders: list[Path], samples: list[Sample]):
    first, second = (load_embedder(file).state_dict() for file in embedders)
    for name, value in ward.averaged(embedders).state_dict().items():
        wanted = (first[name].double() + second[name].double()) / 2
        assert torch.allclose(value.double(), wanted, atol=1e-6), name
    joined = ward.joined(embedders, samples[:3])
    one, other = (ward.joined([file], samples[:3]) for file in embedders)
    assert np.allclose(joined @ joined.T / 2, (one @ one.T + other @ other.T) / 2, atol=1e-5)


def test_a_metric_learns_what_tells_people_apart():
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(30), 6)
    who, camera = rng.normal(size=(30, 4)), rng.normal(size=(180, 4))
    features = np.concatenate([who[people], 5 * camera], 1).astype(np.float32)
    for seed in (None, 0):
        kept = np.abs(street.learnt(features, people, seed).scalings_[:, 0])
        assert kept[:4].max() > 10 * kept[4:].max(), seed


def test_intervals_cover_draws_and_people():
    people, alike = np.repeat(np.arange(10), 3), np.full((1 + street.DRAWS, 2, 30), 0.5)
    assert street.interval(alike, people) == [[50.0, 50.0, 50.0]] * 2
    draws = alike + np.linspace(-0.1, 0.1, 1 + street.DRAWS)[:, None, None]
    ((value, low, high), _) = street.interval(draws, people)
    assert (value, high) == (40.0, 60.0)
    assert low < 43
    persons = alike.copy()
    persons[:, :, people < 5] = 0
    ((value, low, high), _) = street.interval(persons, people)
    assert value == 25.0
    assert low < 12
    assert high > 38


def test_the_metric_s_arms_are_the_study_s():
    (study,) = (one for one in declaring.load_studies() if one.name == street.STUDY)
    names = [name for name, _ in street.arms(each=False)]
    assert names == ["street", "plain", "no photographic", "no clothes", "no scene", "market"]
    assert set(names) < study.arms.keys()
    left = {}
    for name, flags in street.arms(each=True):
        factors = flags["plugins"]["synthpeople"].get("factors", street.FACTORS)
        left[name] = set(street.FACTORS) - set(factors)
    assert left["street"] == set()
    assert left["plain"] == set(street.FACTORS)
    groups = [left[f"no {one}"] for one in ("photographic", "clothes", "scene")]
    assert sorted(factor for group in groups for factor in group) == sorted(street.FACTORS)
    assert all(left[f"no {one}"] == {one} for one in street.FACTORS)


def test_the_page_says_whether_what_was_wanted_is_reached(tmp_path: Path):
    metric = {
        "start": "people/x",
        "arms": [
            {"arm": "street", "images": 1200, "people": 9, "rank1": [1, 0, 2], "mAP": [3, 2, 4]}
        ],
        "comparisons": [
            {"of": "street", "against": name, "rank1": [0, 0, 0], "mAP": mean}
            for name, mean in (("a", [2, 1, 3]), ("b", [-2, -3, -1]), ("c", [0, -1, 1]))
        ],
    }
    (tmp_path / "street.json").write_text(json.dumps(metric))
    row = {"people": 35, "queries": 105, "model": "m", "way": "as it is", "mAP": [51, 40, 60]}

    def page(again: float) -> str:
        better = {**row, "way": "re-ranked", "rank1": [again, 40, 99]}
        foreign = {**row, "model": "ImageNet's", "rank1": [95, 90, 99]}
        rows = [{**row, "rank1": [59, 50, 70]}, better, foreign]
        (tmp_path / "ward.json").write_text(json.dumps(rows))
        return "\n".join(photographs.section(tmp_path))

    low = page(59.9)
    assert "| street against a | +0.0 [+0.0, +0.0] | +2.0 [+1.0, +3.0] | **shown** |" in low
    assert "-2.0 [-3.0, -1.0] | **refuted** |" in low
    assert "+0.0 [-1.0, +1.0] | **not shown** |" in low
    assert "*as it is* it is **not reached**: their best rank-1 and mAP are 59.0 and 51.0." in low
    assert "With more at the test it is **not reached**." in low
    assert "With more at the test it is **reached** by m, re-ranked." in page(60.0)

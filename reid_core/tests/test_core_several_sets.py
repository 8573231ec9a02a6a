"""Several training sets with their shares of a batch, and evaluation on several test sets."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from reid_core import Branch, ConfigError, DataError, Embedding, Plugin, hookimpl
from reid_core.data.mixing import make_mixed_sampler
from reid_core.runs.assembly.assembling import assemble
from reid_core.runs.resolve import resolve
from reid_core.runs.running import run
from reid_core.runs.stages import Stages
from reid_core.testing.fixtures import RunReid
from reid_core.testing.tiny import tiny_assembly, tiny_flags
from reid_core.testing.toy.making import make_toy

SETS = np.repeat([0, 1, 2], [40, 24, 8])
PIDS = np.r_[
    np.repeat(np.arange(10), 4), 10 + np.repeat(np.arange(4), 6), 14 + np.repeat([0, 1], 4)
]
CAMERAS = np.tile([0, 1], 36)


def mixed(kind: str, weights: list[float], batch: int = 12, **more: Any) -> Any:
    named = dict(zip("abc", weights, strict=True))
    return make_mixed_sampler(kind, PIDS, CAMERAS, SETS, named, batch, 2, **more)


@pytest.mark.parametrize("kind", ["pk", "pk_camera", "pairs"])
def test_every_set_has_the_same_number_of_people_in_every_batch(kind: str) -> None:
    sampler = mixed(kind, [1, 1, 1])
    batches = list(sampler.epoch(0, 40))
    for rows in batches:
        people = PIDS[rows].reshape(-1, 2)
        assert (people[:, 0] == people[:, 1]).all()
        found = SETS[rows].reshape(-1, 2)[:, 0]
        assert np.bincount(found).tolist() == [2, 2, 2]
        if kind != "pairs":
            assert len(set(people[:, 0].tolist())) == 6
    # Neither rank has a set for itself.
    assert len({tuple(SETS[rows]) for rows in batches}) > 5
    again = list(mixed(kind, [1, 1, 1]).epoch(0, 40))
    assert all((a == b).all() for a, b in zip(batches, again, strict=True))


@pytest.mark.parametrize("kind", ["random", "twice", "pk"])
def test_weights_hold_on_average_and_within_one_in_every_batch(kind: str) -> None:
    sampler, unit = mixed(kind, [0.5, 2.5, 1.5], 12), 1 if kind == "random" else 2
    units = 12 // unit
    share = np.array([0.5, 2.5, 1.5]) / 4.5 * units
    if kind == "pk":  # the last set has two people only
        sampler = mixed(kind, [2, 3, 1.5])
        share = np.array([2, 3, 1.5]) / 6.5 * units
    counts = np.stack(
        [np.bincount(SETS[rows], minlength=3) / unit for rows in sampler.epoch(3, 400)]
    )
    assert (np.abs(counts - share) < 1).all()
    assert np.abs(counts.mean(0) - share).max() < 0.1
    if kind == "twice":
        rows = next(sampler.epoch(0)).reshape(-1, 2)
        assert (rows[:, 0] == rows[:, 1]).all()


def test_an_epoch_is_as_long_as_without_shares() -> None:
    for kind in ("pk", "pairs", "random"):
        alone = make_mixed_sampler(kind, PIDS, CAMERAS, SETS, {"a": 1, "b": 1, "c": 1}, 12, 2)
        assert alone.count(1) == alone._whole.count(1)


def test_all_rows_of_a_small_set_come_up() -> None:
    rows = np.concatenate(list(mixed("random", [8, 3, 1]).epoch(0, 60)))
    assert set(rows.tolist()) == set(range(72))


def test_a_set_that_cannot_give_its_share_is_named() -> None:
    with pytest.raises(ConfigError, match=r"data\.mixture gives 'c' up to 4 of the 6 groups of a"):
        mixed("pk", [1, 1, 4])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return (
        make_toy(tmp_path_factory.mktemp("sets") / "shop", "tiny")
        .train.samples[0]
        .path.parent.parent
    )


def settings(folder: Path, **data: Any) -> dict[str, Any]:
    return {"data": {"also": [f"folder={folder}"], **data}}


def test_shares_reach_the_runs_batches(reid_cache: Path, folder: Path) -> None:
    assembly = tiny_assembly([], settings(folder, mixture=(3.0, 1.0)), cache=reid_cache)
    samples = assembly.ctx.main.samples
    for rows in assembly.samplers["main"].epoch(0, 5):
        assert sum(samples[row].extra.get("set", 0) for row in rows) == 2


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"mixture": "balanced", "also": []}, "data.mixture = 'balanced' needs several training"),
        ({"mixture": (1.0,)}, "data.mixture has 1 weights for 2 training sets: toy:tiny, folder"),
        ({"mixture": "balanced", "also": ["toy:tiny"]}, "the data set 'toy:tiny' is named twice"),
    ],
)
def test_shares_that_cannot_be_given_are_refused(
    data: dict[str, Any], said: str, reid_cache: Path, folder: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        tiny_assembly([], settings(folder, **data), cache=reid_cache)


def test_a_set_of_no_queries_or_no_name_cannot_be_tested_on(reid_cache: Path) -> None:
    with pytest.raises(DataError, match=r"--test folder: .*\(its folder: --test folder=DIR\)"):
        tiny_assembly([], {"evaluation": {"data": ["folder"]}}, cache=reid_cache)


def test_a_set_that_is_named_with_its_folder_is_that_folder_s(
    reid_cache: Path, folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "copy"
    shutil.copytree(folder, other)
    data = {"name": "folder", "root": folder}
    for tests, places in (
        ([f"folder={other}"], [other]),
        (["folder", f"folder={other}"], [folder, other]),
    ):
        layers = {"data": data, "evaluation": {"data": tests}}
        assembly = tiny_assembly([], layers, cache=reid_cache)
        found = [one.dataset.query[0].path for one in assembly.evaluators]
        assert all(p.is_relative_to(place) for p, place in zip(found, places, strict=True))


def test_a_test_has_one_fingerprint_whatever_is_trained_on(reid_cache: Path, folder: Path) -> None:
    data = [
        {"data": {"name": "toy:tiny"}},
        settings(folder, name="toy:tiny"),
        {
            "data": {"name": "folder", "root": str(folder)},
            "evaluation": {"data": ["folder", "toy:tiny"]},
        },
        {"data": {"name": "toy:tiny", "validation": 0.4}},
    ]
    found = [tiny_assembly((), one, cache=reid_cache).evaluators[-1].dataset for one in data]
    assert len({dataset.fingerprint() for dataset in found}) == 1
    query = (replace(found[0].query[0], camid=9), *found[0].query[1:])
    assert replace(found[0], query=query).fingerprint() != found[0].fingerprint()
    assert replace(found[0], gallery=()).fingerprint() != found[0].fingerprint()


@pytest.fixture(scope="module")
def several(
    tmp_path_factory: pytest.TempPathFactory, folder: Path, reid_cache: Path
) -> tuple[Path, Path, Any]:
    """A run that is trained on two sets and tested on both, with the folder of the second."""
    place = tmp_path_factory.mktemp("several")
    flags = tiny_flags(
        [],
        settings(folder, mixture="balanced", validation=0.4),
        {"evaluation": {"data": ["toy:tiny", "folder"], "every": 1, "select": "validation:folder"}},
    )
    return folder, place / "run", run(flags, out=place / "run", cache=reid_cache, say=str)


def test_every_test_set_has_its_numbers(several: tuple[Path, Path, Any]) -> None:
    shop, out, summary = several
    labels = [result.label for result in summary.results]
    assert labels == ["toy:tiny/standard", "folder/standard"]
    content = json.loads((out / "results.json").read_text())
    assert [one["data"] for one in content["results"]] == ["toy:tiny", "folder"]
    assert [one["metrics"] for one in content["results"]] == [
        result.metrics() for result in summary.results
    ]
    # Files are named below each set's own folder.
    for one in content["results"]:
        assert (shop / one["queries"][0]["file"]).is_file()
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    final = next(line for line in lines if line.get("when") == "final")
    assert set(final["results"]) == set(labels)


def test_the_people_of_the_named_set_choose_the_epoch(
    several: tuple[Path, Path, Any], reid_cache: Path
) -> None:
    shop, _, _ = several
    assembly = tiny_assembly(
        [],
        settings(shop, validation=0.4),
        {"evaluation": {"every": 1, "select": "validation:folder"}},
        cache=reid_cache,
    )
    assert {sample.extra.get("set", 0) for sample in assembly.validator.dataset.query} == {1}
    alone = tiny_assembly(cache=reid_cache).ctx.num_identities
    assert assembly.ctx.num_identities == 2 * alone - round(0.4 * alone)
    with pytest.raises(ConfigError, match=r"does not train on 'shop' .*toy:tiny, folder"):
        tiny_assembly(
            [],
            settings(shop, validation=0.4),
            {"evaluation": {"every": 1, "select": "validation:shop"}},
            cache=reid_cache,
        )


class Tinted(nn.Module):
    """A pooled map, and a number for the camera and for the outfit."""

    def forward(self, feature: Tensor, camid: Tensor, clothes: Tensor) -> Tensor:
        return feature.mean((2, 3)) + camid.float()[:, None] + clothes.float()[:, None]


class Tint(Plugin):
    """Read cameras, which may be unknown, and outfits, which may not."""

    @hookimpl
    def reid_auxiliary_branches(self, ctx: Any, taps: Any) -> list[Branch]:
        own, reads = Embedding("tint/own", "tint/seen"), ("encoder/map", "camid", "clothes")
        branch = Branch("tint/seen", Tinted(), reads, ("tint/seen",), (own,), defaults={"camid": 7})
        return [branch]


@pytest.mark.parametrize("learnt", [False, True])
def test_cameras_of_another_set_are_unknown(reid_cache: Path, folder: Path, learnt: bool) -> None:
    tested = ["toy:tiny", f"folder={folder}"]
    read = {"evaluation": {"data": tested, "embed": ["tint/own"], "vector": "raw"}}
    both = settings(folder) if learnt else {}  # the numbers of its cameras are others in training
    said: list[str] = []
    assembly = assemble(
        resolve(tiny_flags(["tint"], both, read), classes={"tint": Tint}),
        cache=reid_cache,
        say=said.append,
        stages=Stages(),
    )
    ours, theirs = assembly.evaluators
    assert (ours.unknown, theirs.unknown) == ((), ("camid",))
    lines = [line for line in said if "camid" in line]
    assert lines == ["'folder': camid is not the training's, and taken for unknown"]
    embedder = assembly.embedder().eval()
    known = replace(theirs, unknown=()).evaluate(embedder).query.features
    moved = theirs.evaluate(embedder).query.features - known
    cameras = np.array([sample.camid for sample in theirs.dataset.query])
    np.testing.assert_allclose(moved, (7 - cameras)[:, None] + 0 * known, atol=1e-3)


def test_a_stored_model_is_evaluated_on_several(
    several: tuple[Path, Path, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_reid: RunReid,
) -> None:
    shop, out, summary = several
    monkeypatch.chdir(shop.parent)
    found = tmp_path / "found.json"
    names = ("-d", "toy:tiny", "-d", f"folder={shop.name}")
    call = ("eval", str(out), *names, "--precision", "fp32", "--device", "cpu")
    code, said, _ = run_reid(*call, "--json", str(found))
    assert code == 0
    content = json.loads(found.read_text())
    for one, result in zip(content, summary.results, strict=True):
        assert (one["data"], one["metrics"]) == (result.provenance.data, result.metrics())
        assert result.label in said
    code, _, wrong = run_reid(*call, "--picture", str(tmp_path / "a.png"))
    assert code == 2
    assert "--picture shows the lists of one data set" in wrong

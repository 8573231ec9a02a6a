"""``reid compare``: runs as they are stored, grouped, compared, refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from stored_runs import result, stored_run

from reid_core import ConfigError, DataError, DataSet, RunConfig
from reid_core.testing.fixtures import RunReid
from reid_search.commands.sweep import effects
from reid_search.comparing.effects import compare, shared_labels
from reid_search.comparing.models import models_of
from reid_search.comparing.stored import place_of, read_run
from reid_search.comparing.tables import by_camera_pair, by_identity, most_changed
from reid_search.sweeping.points import SweepRun

SAN = {"run": {"plugins": ["san"], "seed": 0}}


def two(tmp_path: Path, **changes: object) -> list[Path]:
    before = stored_run(tmp_path / "before", [1, 2, 4, 2])
    return [before, stored_run(tmp_path / "after", [1, 1, 2, 4], SAN, **changes)]


def test_effects_are_those_of_the_stored_queries(tmp_path: Path) -> None:
    found = compare(models_of([read_run(path) for path in two(tmp_path)]), "standard")
    assert [model.name for model in found.models] == ["before", "after"]
    rank1, average = found.effects
    assert (rank1.measure, average.measure) == ("rank1", "mAP")
    assert (rank1.found.before, rank1.found.after) == (0.25, 0.5)
    assert average.found.before == pytest.approx((1 + 0.5 + 0.25 + 0.5) / 4)
    assert average.found.value == pytest.approx((0.5 + 0.25 - 0.25) / 4)
    assert (average.found.better, average.found.worse, average.found.equal) == (2, 1, 1)


def test_tables_by_person_by_cameras_and_by_query(tmp_path: Path) -> None:
    models = models_of([read_run(path) for path in two(tmp_path)])
    people = by_identity(models, "standard")
    assert [(row.pid, row.queries) for row in people] == [(1, 2), (2, 1), (3, 1)]
    assert people[0].average_precision == pytest.approx((0.75, 1.0))
    cameras = by_camera_pair(models, "standard")
    assert [(row.query, row.gallery, row.queries) for row in cameras] == [(0, 1, 2), (1, 0, 2)]
    assert cameras[0].found == (1.0, 1.0)
    changed = most_changed(*models, "standard", 2)
    assert [(one.file, one.before, one.after) for one in changed] == [
        ("query/d.png", 0.5, 0.25),
        ("query/b.png", 0.5, 1.0),
    ]
    assert len(most_changed(*models, "standard", 10)) == 3  # one did not change


def test_a_sweep_compares_its_points_with_the_first(tmp_path: Path) -> None:
    runs = [
        SweepRun({"optim.lr": lr}, seed, stored_run(tmp_path / f"{lr}-{seed}", ranks, **other), {})
        for lr, other in ((1, {}), (2, {}), (3, {"flip": "sum"}))
        for seed, ranks in ((0, [1, 2, 4, lr]), (1, [1, 2, 4, 2 * lr]))
    ]
    ((line, (table,)),) = effects(runs[:4])
    assert line == "\nstandard: standard v1: everything"
    assert table.title == "optim.lr=2 against optim.lr=1, per cent"
    cells = [list(column.cells) for column in table.columns]
    assert cells[3][4] == f"{100 * (0.375 - 0.75) / 4:+.1f}"
    assert "people and seeds" in cells[-1]
    ((line, tables),) = effects(runs)
    assert "no intervals" in line
    assert "mirrored images" in line
    assert tables == []
    assert list(effects(runs[:2])) == []


def test_a_match_that_comes_late_is_not_found(tmp_path: Path) -> None:
    late = read_run(stored_run(tmp_path / "late", [11, 10, 1, 1]))
    rows = by_camera_pair(models_of([late]), "standard")
    assert [row.found for row in rows] == [(0.5,), (1.0,)]


def test_one_camera_is_no_pair(tmp_path: Path) -> None:
    queries = result([1, 2, 3, 4])["queries"]
    for query in queries:
        query |= {"camid": 0, "cameras": {"0": query["rank"]}}
    run = read_run(stored_run(tmp_path / "run", [1, 2, 3, 4], queries=queries))
    assert by_camera_pair(models_of([run]), "standard") == []


def test_runs_that_differ_in_their_seed_alone_are_one_model(tmp_path: Path) -> None:
    paths = [
        stored_run(tmp_path / f"x={lr}-seed={seed}", [1, 2, 3, 4 - seed], flags)
        for lr in (1, 2)
        for seed in (0, 1)
        for flags in [{"run": {"seed": seed}, "optim": {"lr": lr / 100}}]
    ]
    models = models_of([read_run(path) for path in paths])
    assert [(model.name, len(model.runs)) for model in models] == [("x=1", 2), ("x=2", 2)]
    assert models[0].scores("standard", "mAP")[:, 3].tolist() == [1 / 4, 1 / 3]
    assert compare(models, "standard").effects[0].found.intervals.seeds is not None
    with pytest.raises(ConfigError, match="are seeds of one model; name a run of another"):
        compare(models[:1], "standard")
    with pytest.raises(ConfigError, match="two of them of one seed: leave one out"):
        models_of([read_run(paths[0]), read_run(paths[0])])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rules": "standard v2"}, "the protocol is 'standard v1' in the first and 'standard v2'"),
        ({"fingerprint": "def"}, "the data's fingerprint is 'abc' in the first"),
        ({"flip": "sum"}, "what becomes of mirrored images is 'off'"),
        ({"batch_norm": "camera"}, 'batch normalisation takes is "the model\'s own" in the first'),
        ({"distance": "euclidean"}, "the distance is 'cosine'"),
    ],
)
def test_other_protocol_lines_are_refused(
    changes: dict[str, str], said: str, tmp_path: Path
) -> None:
    models = models_of([read_run(path) for path in two(tmp_path, **changes)])
    with pytest.raises(ConfigError, match=said):
        compare(models, "standard")


def test_other_vectors_may_be_compared_but_not_other_queries(tmp_path: Path) -> None:
    before, after = (read_run(path) for path in two(tmp_path, features="unit fsam/shape"))
    compare(models_of([before, after]), "standard", resamples=20)
    content = json.loads((after.path / "results.json").read_text("utf-8"))
    content["results"][0]["queries"].pop()
    (after.path / "results.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(ConfigError, match="answer other queries under 'standard'"):
        compare(models_of([before, read_run(after.path)]), "standard")


def test_results_of_the_first_version_are_read_and_cannot_be_compared(tmp_path: Path) -> None:
    before, after = two(tmp_path)
    content = json.loads((after / "results.json").read_text("utf-8"))
    for key in ("version", "rules", "queries"):
        del content["results"][0][key]
    (after / "results.json").write_text(json.dumps(content), "utf-8")
    runs = [read_run(before), read_run(after)]
    assert runs[1].result("standard").content["metrics"]["mAP"] > 0
    with pytest.raises(DataError, match=r"keeps no single queries of 'standard'.*add --data NAME"):
        compare(models_of(runs), "standard")


def test_files_of_results_are_read_and_damaged_ones_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps([result([1, 2, 3, 4])]), "utf-8")
    run = read_run(file)
    assert (run.name, run.config, list(run.results)) == ("mine", None, ["standard"])
    for content, said in (
        ("{", "is damaged"),
        ("[1]", "holds no results of reid run or reid eval"),
        (json.dumps([result([1, 2, 3, 4], version=3)]), "is of version 3"),
        ("[]", "the run's data set has no queries"),
    ):
        file.write_text(content, "utf-8")
        with pytest.raises(DataError, match=said):
            read_run(file)
    with pytest.raises(DataError, match=r"there is no run .*nowhere"):
        read_run(tmp_path / "nowhere")
    file.write_bytes(b"\xff\xd8")
    with pytest.raises(DataError, match="is no file of results"):
        read_run(file)
    with pytest.raises(DataError, match="is no run's folder"):
        read_run(tmp_path)
    (tmp_path / "config.toml").touch()
    with pytest.raises(DataError, match="the run has not finished; go on with"):
        read_run(tmp_path)


def test_protocols_are_those_that_all_have(tmp_path: Path) -> None:
    runs = [read_run(path) for path in two(tmp_path, protocol="no-camera")]
    with pytest.raises(ConfigError, match="evaluated under different protocols"):
        shared_labels(runs)
    with pytest.raises(DataError, match="has no results of protocol 'standard'"):
        shared_labels(runs, ["standard"])


def test_the_mean_over_all_queries_counts_those_without_a_match(tmp_path: Path) -> None:
    path = stored_run(tmp_path / "all", [1, 1, 2, 2], denominator="all", total_queries=8)
    (model,) = models_of([read_run(path)])
    assert model.scores("standard", "rank1").mean() == pytest.approx(2 / 8)
    assert model.scores("standard", "mAP").sum() == pytest.approx(3 * 4 / 8)


def test_of_several_galleries_only_the_mean_reciprocal_rank_is_compared(tmp_path: Path) -> None:
    drawn = {"drawn": "seed", "trials": 10, "metrics": {"MRR": 0.5}}
    first = stored_run(tmp_path / "a", [1, 2, 3, 4], **drawn)
    second = stored_run(tmp_path / "b", [2, 1, 1, 1], SAN, **drawn)
    found = compare(models_of([read_run(first), read_run(second)]), "standard", resamples=20)
    assert [one.measure for one in found.effects] == ["MRR"]


def test_the_command_prints_an_interval_and_writes_everything(
    run_reid: RunReid, toy_tiny: DataSet, tmp_path: Path
) -> None:
    before, after = two(tmp_path)
    code, out, err = run_reid("compare", before, after, "--json", tmp_path / "found.json")
    assert code == 0, err
    assert "run.plugins was [], is ['san']" in out
    for words in ("people", "queries", "2 better, 1 worse", "from camera to camera"):
        assert words in out
    (content,) = json.loads((tmp_path / "found.json").read_text("utf-8"))
    assert content["effects"][1]["intervals"]["identities"]["low"] < 0
    assert content["models"][1]["name"] == "after"
    # The images are those of the run's data set, which has another fingerprint here.
    code, _, err = run_reid("compare", before, after, "--picture", tmp_path / "p.png")
    assert code == 2
    assert "data set 'toy:tiny' is not the one that the results are of" in err
    assert not (tmp_path / "p.png").exists()


@pytest.mark.parametrize("name", ["x.gif", "folder"])
def test_a_picture_that_cannot_be_written_is_refused_first(
    name: str, run_reid: RunReid, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    code, _, err = run_reid("compare", "nowhere", "nowhere", "--picture", tmp_path / name)
    assert code == 2
    assert "--picture" in err
    assert "nowhere" not in err.replace(str(tmp_path), "")


def test_models_are_evaluated_anew_and_drawn(
    run_reid: RunReid, reid_cache: Path, tmp_path: Path
) -> None:
    from reid_core.testing.tiny import tiny_assembly

    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        assembly = tiny_assembly((), {"run": {"seed": seed}}, cache=reid_cache)
        assembly.embedder().save(tmp_path / str(seed) / "embedder.safetensors")
    picture = tmp_path / "changed.png"
    code, out, err = run_reid(
        "compare", tmp_path / "0", tmp_path / "1", "--data", "toy:tiny", "--protocol", "no-camera",
        "--picture", picture, "--changed", "2", "--device", "cpu",
    )  # fmt: skip
    assert code == 0, err
    assert "no-camera: " in out
    with Image.open(picture) as image:
        # Two queries, each as either model answers it: four lines of a query and ten images.
        assert image.height > 4 * 128
        assert image.width > 11 * 64


def test_where_the_images_of_a_result_are_is_known(tmp_path: Path) -> None:
    sections = {"name": "toy:tiny", "also": [f"folder={tmp_path}"]}
    tests = {"data": ["toy:tiny", "folder"]}
    config = RunConfig.model_validate({"data": sections, "evaluation": tests})
    assert place_of(config, "toy:tiny") == ("toy:tiny", None)
    assert place_of(config, "folder") == ("folder", tmp_path)

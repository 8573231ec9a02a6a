"""Sweeps: every combination with every seed, what is kept, and how it is summed up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from reid_core import ConfigError
from reid_core.cli.main import cli
from reid_core.cli.options import to_flags
from reid_core.testing.tiny import tiny_flags
from reid_search.commands.sweep import table
from reid_search.sweeping.points import SweepRun, plot, summarise
from reid_search.sweeping.runs import sweep

OVER = {"optim.lr": ["0.001", "0.01"]}


def flags_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    assigned = to_flags({"settings": [f"{key}={value}" for key, value in settings.items()]})
    return tiny_flags((), assigned)


@pytest.fixture(scope="module")
def swept(
    reid_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[SweepRun], Path]:
    out = tmp_path_factory.mktemp("sweep")
    return sweep(OVER, (0, 1), out, flags_of, cache=reid_cache, say=lambda line: None), out


def test_every_combination_is_run_with_every_seed(
    swept: tuple[list[SweepRun], Path],
) -> None:
    runs, out = swept
    assert [(one.settings["optim.lr"], one.seed) for one in runs] == [
        ("0.001", 0), ("0.001", 1), ("0.01", 0), ("0.01", 1)
    ]  # fmt: skip
    for one in runs:
        content = json.loads((one.folder / "results.json").read_text())["results"][0]
        assert one.scores[content["protocol"]] == {
            "rank-1": content["cmc"][0], "mAP": content["metrics"]["mAP"]
        }  # fmt: skip
    config = (runs[3].folder / "config.toml").read_text()
    assert "lr = 0.01\n" in config
    assert "seed = 1\n" in config
    stored = json.loads((out / "sweep.json").read_text())
    assert [row["seed"] for row in stored] == [0, 1, 0, 1]


def test_what_is_finished_is_not_run_again(
    swept: tuple[list[SweepRun], Path], reid_cache: Path
) -> None:
    runs, out = swept
    said: list[str] = []
    more = {"optim.lr": ["0.01", "0.02"]}
    again = sweep(more, (1,), out, flags_of, cache=reid_cache, say=said.append)
    assert [line for line in said if line.startswith("run ")] == [
        "run 2 of 2: optim.lr=0.02-seed=1"
    ]
    assert again[0].scores == runs[3].scores


def point(weight: float, seed: int, rank: float) -> SweepRun:
    scores = {"standard": {"rank-1": rank, "mAP": rank / 2}}
    return SweepRun({"w": weight}, seed, Path(), scores)


def test_points_have_the_mean_and_the_sample_deviation_of_their_seeds() -> None:
    points = summarise([point(0, 0, 0.2), point(0, 1, 0.4), point(1, 0, 0.5), point(1, 1, 0.5)])
    assert [p.settings for p in points] == [{"w": 0}, {"w": 1}]
    assert points[0].mean["standard"]["rank-1"] == pytest.approx(0.3)
    assert points[0].spread is not None
    assert points[0].spread["standard"]["rank-1"] == pytest.approx(0.02**0.5)
    assert points[1].spread == {"standard": {"rank-1": 0.0, "mAP": 0.0}}
    assert summarise([point(0, 0, 0.2)])[0].spread is None


def test_a_table_shows_mean_and_spread_in_per_cent() -> None:
    points = summarise([point(0, 0, 0.2), point(0, 1, 0.4), point(1, 0, 0.5)])
    shown = table(points)
    assert [str(column.header) for column in shown.columns] == [
        "w", "seeds", "standard rank-1", "standard mAP"
    ]  # fmt: skip
    assert [list(column.cells) for column in shown.columns] == [
        ["0", "1"], ["2", "1"], ["30.0 ± 14.1", "50.0"], ["15.0 ± 7.1", "25.0"]
    ]  # fmt: skip


def test_a_plot_is_drawn(tmp_path: Path) -> None:
    points = summarise([point(0, 0, 0.2), point(0, 1, 0.4), point(1, 0, 0.5), point(1, 1, 0.5)])
    assert plot(points, "w", tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--over", "optim.lr"), "--over optim.lr: expected KEY=V1,V2"),
        (("--over", "optim.lr=1,1"), "different values of optim.lr, not ['1', '1']"),
        (("--over", "data.name=a/b,a_b"), "sweep over data.name has two runs of one folder's"),
        (("--seeds", "a"), "--seeds a: expected numbers such as 0,1,2"),
        (("--plot", "x.png"), "--plot needs one --over"),
        (("--seed", "7"), "--seed 7: a sweep takes its seeds from --seeds 0"),
        (("-s", "run.seed=5", "--seeds", "1,2"), "-s run.seed=5: a sweep takes its seeds from"),
        (("--over", "run.seed=1,2"), "a sweep over run.seed: give the seeds as such (--seeds"),
        (("--over", "optim.lr=1", "--over", "optim.lr=2"), "--over names optim.lr twice"),
        (("--on", "ray", "--resource", "a=1", "--resource", "a=2"), "--resource names a twice"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    found = CliRunner().invoke(cli, ["sweep", "--out", str(tmp_path / "s"), *arguments])
    assert isinstance(found.exception, ConfigError)
    assert message in str(found.exception)


def test_the_command_prints_a_table_and_draws_the_plot(
    reid_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REID_CACHE", str(reid_cache))
    monkeypatch.setenv("COLUMNS", "200")
    tiny = [
        f"{s}.{k}={v}" for s, keys in tiny_flags().items() for k, v in keys.items() if s != "run"
    ]
    options = [part for text in tiny for part in ("-s", text)]
    found = CliRunner().invoke(
        cli,
        ["sweep", *options, "--over", "identity.margin=0.1,0.5",
         "--out", str(tmp_path / "s"), "--plot", str(tmp_path / "plot.png")],
    )  # fmt: skip
    assert found.exception is None, found.output
    assert "identity.margin" in found.output
    assert f"sweep: {tmp_path / 's' / 'sweep.json'}" in found.output.replace("\n", "")
    assert (tmp_path / "plot.png").is_file()


def test_a_reranked_score_stands_beside_the_plain_one(tmp_path: Path) -> None:
    from reid_search.sweeping.runs import _scores

    def result(reranking: str, score: float) -> dict[str, Any]:
        metrics = {"mAP": score}
        return {
            "protocol": "standard", "reranking": reranking, "metrics": metrics, "cmc": [score / 2]
        }  # fmt: skip

    content = {"results": [result("none", 0.5), result("k_reciprocal", 0.75)]}
    (tmp_path / "results.json").write_text(json.dumps(content))
    assert _scores(tmp_path / "results.json") == {
        "standard": {"rank-1": 0.25, "mAP": 0.5},
        "standard+rerank": {"rank-1": 0.375, "mAP": 0.75},
    }

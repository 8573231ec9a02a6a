"""A whole run: what it leaves, what it refuses, and how it goes on after an interruption."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from reid_core import load_embedder
from reid_core.cli.run import gains
from reid_core.contract.plugin import Plugin
from reid_core.errors import CheckpointError, ConfigError, DataError, PluginError
from reid_core.loop.trainer import Interrupted, Trainer
from reid_core.runs import running
from reid_core.runs.resolve import resolve
from reid_core.runs.running import RunSummary
from reid_core.testing.probe_plugins import PROBES
from reid_core.testing.tiny import tiny_flags

SHOWN = {"evaluation": {"ranked_list": 2, "untrained": True, "every": 1}}


def run(out: Path, cache: Path, *plugins: str, resume: bool = False, **sections: Any) -> RunSummary:
    resolved = resolve(tiny_flags(plugins, sections), classes=PROBES)
    return running.run(
        resolved=resolved, out=out, cache=cache, say=lambda line: None, resume=resume
    )


def lines_of(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


@pytest.fixture(scope="module")
def finished(reid_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> RunSummary:
    out = tmp_path_factory.mktemp("runs") / "finished"
    engine = {"tensorboard": True}
    return run(out, reid_cache, "head", "adversarial", engine={"device": "cpu", **engine}, **SHOWN)


def test_a_run_leaves_these_files(finished: RunSummary) -> None:
    left = {path.name for path in finished.folder.iterdir()}
    assert left == {
        "checkpoint.pt", "config.toml", "embedder.json", "embedder.safetensors", "metrics.jsonl",
        "ranked_lists.png", "results.json", "run.json", "tensorboard", "untrained.json",
    }  # fmt: skip
    assert any((finished.folder / "tensorboard").iterdir())
    assert (finished.folder / "ranked_lists.png").read_bytes().startswith(b"\x89PNG")


def test_the_stored_configuration_is_the_resolved_one(finished: RunSummary) -> None:
    stored = tomllib.loads((finished.folder / "config.toml").read_text())
    assert stored["run"]["plugins"] == ["adversarial", "head"]
    assert stored["plugins"]["head"]["weight"] == 1.0
    assert stored["data"]["name"] == "toy:tiny"


def test_the_facts_of_a_run_are_stored(finished: RunSummary) -> None:
    facts = json.loads((finished.folder / "run.json").read_text())
    assert set(facts["plugins"]) == {"core", "head", "adversarial"}
    assert facts["slots"] == {"backbone": "core", "embedding": "core", "identity": "core"}
    assert facts["sources"]["main"]["identities"] == 8
    assert facts["updates"] == ["adversarial/critic", "main"]
    assert facts["embeddings"] == {"core/global": True}
    assert sum(facts["groups"].values()) <= facts["parameters"]
    assert facts["parameters_deployed"] < facts["parameters"]
    assert facts["environment"]["device"] == "cpu"
    embedder = load_embedder(finished.folder)
    assert facts["parameters_deployed"] == sum(p.numel() for p in embedder.parameters())


def test_every_step_and_evaluation_is_logged(finished: RunSummary) -> None:
    steps = lines_of(finished.folder, "step")
    assert [(line["epoch"], line["iteration"]) for line in steps] == [
        (0, 0),
        (0, 1),
        (1, 2),
        (1, 3),
    ]
    for key in (
        "loss/core/global/ce", "loss/head/parts", "loss/adversarial/critic:adversarial/critic",
        "weight/head/parts", "total/main", "total/adversarial/critic", "lr/main:encoder",
        "lr/adversarial/critic:adversarial/discriminator", "speed/images_per_second",
        "speed/share_of_waiting_for_data",
    ):  # fmt: skip
        assert key in steps[0], key
    assert steps[0]["lr/main:encoder"] == pytest.approx(7e-4 * 0.1)
    whens = [line["when"] for line in lines_of(finished.folder, "evaluation")]
    assert whens == ["untrained", "epoch", "final"]
    (end,) = lines_of(finished.folder, "end")
    assert end["outcome"] == "finished"
    assert end["images"] == 4 * 8


def test_results_are_stored_beside_those_of_the_untrained_encoder(finished: RunSummary) -> None:
    stored = json.loads((finished.folder / "results.json").read_text())
    assert stored["data"] == "toy:tiny"
    assert stored["plugins"] == ["adversarial", "head"]
    assert [set(result) for result in stored["results"]] == [
        {*result.to_json(), "version", "queries"} for result in finished.results
    ]
    for found, result in zip(stored["results"], finished.results, strict=True):
        assert {name: found[name] for name in result.to_json()} == result.to_json()
        assert len(found["queries"]) == result.valid_queries
    assert stored["untrained"] == [result.to_json() for result in finished.untrained]
    assert [r["protocol"] for r in stored["results"]] == [
        r["protocol"] for r in stored["untrained"]
    ]


def test_an_existing_run_is_never_overwritten(finished: RunSummary, reid_cache: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.folder.iterdir()}
    with pytest.raises(ConfigError, match=r"finished holds a run already; .*--out.*--resume"):
        run(finished.folder, reid_cache)
    assert {path: path.stat().st_mtime_ns for path in finished.folder.iterdir()} == before


def test_a_run_that_cannot_start_leaves_nothing(reid_cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(DataError, match="no data set 'tou'"):
        run(out, reid_cache, data={"name": "tou:tiny"})
    with pytest.raises(PluginError):
        run(out, reid_cache, "head", plugins={"head": {"stream": "nobody/map"}})
    with pytest.raises(ConfigError, match=r"no embedding 'core/globall'.*'core/global'"):
        run(out, reid_cache, evaluation={"embed": ["core/globall"]})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_has_the_name_of_what_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = resolve(tiny_flags(("head", "adversarial")), classes=PROBES).config
    name = running.run_folder(None, config, resume=False)
    assert name.parent == Path("runs")
    assert name.name.startswith("adversarial-head-toy-tiny-")
    baseline = running.run_folder(None, resolve(tiny_flags()).config, resume=False)
    assert baseline.name.startswith("baseline-toy-tiny-")


def test_runs_of_one_second_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reid_cache: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda form: "20300101-000000")
    config = resolve(tiny_flags()).config
    found = [running.run_folder(None, config, resume=False).name for _ in range(3)]
    first = "baseline-toy-tiny-20300101-000000"
    assert found == [first, f"{first}-2", f"{first}-3"]
    flags = tiny_flags((), {"evaluation": {"embed": ["core/globall"]}})
    with pytest.raises(ConfigError, match="no embedding"):
        running.run(flags, cache=reid_cache, say=lambda line: None)
    assert len(list(Path("runs").iterdir())) == 3, "what was refused left a folder"


def test_there_must_be_a_run_to_resume(reid_cache: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--resume needs the folder of the run: --out DIR"):
        running.run(resume=True)
    with pytest.raises(ConfigError, match=r"holds no run: config.toml"):
        running.run(resume=True, out=tmp_path, cache=reid_cache)


def test_a_run_is_restored_with_its_training_parts(reid_cache: Path, tmp_path: Path) -> None:
    folder = run(tmp_path / "run", reid_cache).folder
    assembly = running.restore(folder, cache=reid_cache, say=lambda line: None)
    assert not assembly.model.training
    assert assembly.ctx.progress.epoch == assembly.config.schedule.epochs
    assert set(assembly.model.criteria) == {"core/global"}
    images = torch.rand(2, 3, *assembly.config.data.size)
    deployed = load_embedder(folder)
    # Equal up to rounding: the training model is in another memory format.
    torch.testing.assert_close(assembly.embedder().eval()(images), deployed(images))
    (folder / "checkpoint.pt").unlink()
    with pytest.raises(CheckpointError, match=r"there is no checkpoint .*checkpoint\.pt"):
        running.restore(folder)


def test_a_run_without_a_plugin_that_is_needed_is_refused_before_its_data_is_opened(
    reid_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run(tmp_path / "run", reid_cache).folder
    monkeypatch.setattr(running, "assemble", None)
    with pytest.raises(PluginError, match=r"run was made without .*'s Rare \(its plugins: none\)"):
        running.restore(folder, needs=type("Rare", (Plugin,), {}))


@pytest.fixture
def interrupted_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that makes the next training stop after so many steps."""

    def arm(steps: int) -> None:
        emit = Trainer.emit

        def stop(self: Trainer, event: Any) -> None:
            emit(self, event)
            if type(event).__name__ == "StepEnded" and event.iteration == steps - 1:
                self.interrupt()

        monkeypatch.setattr(Trainer, "emit", stop)

    return arm


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_a_run_goes_on_where_it_was_stopped(
    steps: int,
    reid_cache: Path,
    tmp_path: Path,
    interrupted_after: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = {"evaluation": {"untrained": steps == 3}}
    whole = run(tmp_path / "whole", reid_cache, **shown)
    interrupted_after(steps)
    with pytest.raises(Interrupted, match=rf"step .*{steps} steps.*--resume --out .*parts"):
        run(tmp_path / "parts", reid_cache, **shown)
    monkeypatch.undo()
    (end,) = lines_of(tmp_path / "parts", "end")
    assert end["outcome"] == "interrupted"
    rest = running.run(resume=True, out=tmp_path / "parts", cache=reid_cache, say=lambda line: None)
    assert [r.to_json() for r in rest.results] == [r.to_json() for r in whole.results]
    assert [r.to_json() for r in rest.untrained] == [r.to_json() for r in whole.untrained]
    said = gains(rest.untrained, rest.results) if rest.untrained else []
    assert len(said) == (steps == 3)
    ours, theirs = (
        {line["iteration"]: line["total/main"] for line in lines_of(tmp_path / name, "step")}
        for name in ("whole", "parts")
    )
    assert ours == theirs


def test_an_interruption_exits_as_shells_expect() -> None:
    assert Interrupted.exit_code == 130


def test_a_failure_is_logged(reid_cache: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "fit", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(tmp_path / "run", reid_cache)
    (end,) = lines_of(tmp_path / "run", "end")
    assert end["outcome"] == "failed"


def test_a_run_can_be_built_without_training(reid_cache: Path) -> None:
    flags = tiny_flags()
    assembly = running.build_run(flags, cache=reid_cache, say=lambda line: None)
    assert assembly.ctx.progress.iteration == 0
    assert assembly.ctx.model is assembly.model
    assert assembly.config.data.name == "toy:tiny"


@pytest.mark.parametrize("batch_norm", ["running", "real"])
def test_a_checkpoint_s_embedder_has_the_run_s_statistics(
    batch_norm: str, reid_cache: Path, tmp_path: Path
) -> None:
    folder, said = tmp_path / "run", list[str]()
    with pytest.MonkeyPatch.context() as patch:
        # Statistics as an epoch in the middle leaves them; the run's end estimates them twice.
        patch.setattr("reid_core.loop.trainer.Trainer.calibrate", lambda trainer: None)
        run(folder, reid_cache, evaluation={"batch_norm": batch_norm})
        patch.undo()
        embedder = load_embedder(folder, checkpoint=True, say=said.append)
        running.run(resume=True, out=folder, cache=reid_cache, say=said.append)
    assert said[0] == f"{folder}: weights of its checkpoint at epoch 2, as trained"
    finished = load_embedder(folder)
    assert embedder.learnt_from == finished.learnt_from == {"data": ["toy:tiny"], "people": []}
    assert not embedder.training
    for name, value in finished.state_dict().items():
        torch.testing.assert_close(embedder.state_dict()[name], value, msg=name)

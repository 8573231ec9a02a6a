"""Held-out identities: a validation set out of the training split, and selection on it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from reid_core.config import EvaluationSection, RunConfig
from reid_core.contract.samples import DataSet, Sample
from reid_core.data.validation import split_validation
from reid_core.errors import CheckpointError, ConfigError, DataError
from reid_core.loop.selection import Selected, Selection
from reid_core.loop.trainer import Trainer
from reid_core.runs.assembly.assembling import assemble
from reid_core.runs.resolve import resolve, validated
from reid_core.runs.running import RunSummary, run
from reid_core.testing.tiny import tiny_assembly, tiny_flags
from reid_retrieval.protocols import STANDARD


def test_train_and_validation_share_nobody(toy_tiny: DataSet) -> None:
    smaller, validation = split_validation(toy_tiny, 0.25, seed=0)
    assert smaller.train.num_identities == 6
    assert sorted({s.pid for s in smaller.train.samples}) == list(range(6))
    kept = {s.path for s in smaller.train.samples}
    held = {s.path for s in (*validation.query, *validation.gallery)}
    assert not kept & held
    assert kept | held == {s.path for s in toy_tiny.train.samples}
    assert smaller.query == toy_tiny.query
    assert {s.pid for s in validation.query} == {s.pid for s in validation.gallery}


def test_one_query_per_person_and_camera(toy_tiny: DataSet) -> None:
    _, validation = split_validation(toy_tiny, 0.25, seed=0)
    asked = [(s.pid, s.camid) for s in validation.query]
    assert len(asked) == len(set(asked))


def test_the_seed_decides(toy_tiny: DataSet) -> None:
    first, again, other = (split_validation(toy_tiny, 0.5, seed)[1].query for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_too_few_identities_on_one_side(toy_tiny: DataSet, share: float) -> None:
    with pytest.raises(DataError, match=r"of 8 training identities; at least two"):
        split_validation(toy_tiny, share, seed=0)


def of_train(dataset: DataSet, samples: Iterable[Sample]) -> DataSet:
    return replace(dataset, train=replace(dataset.train, samples=tuple(samples)))


def test_people_with_one_image_per_camera_are_looked_for_among_other_cameras(
    toy_tiny: DataSet,
) -> None:
    seen = {(s.pid, s.camid): s for s in toy_tiny.train.samples}
    single = of_train(toy_tiny, seen.values())
    _, validation = split_validation(single, 0.25, seed=0)
    people = sorted({s.pid for s in validation.gallery})
    assert len(people) == 2
    assert sorted(s.pid for s in validation.query) == people
    assert len(validation.query) + len(validation.gallery) == sum(pid in people for pid, _ in seen)
    # Those with several images of a camera are looked for there, as before.
    more = [s for s in toy_tiny.train.samples if s.pid == people[0] or s in seen.values()]
    _, validation = split_validation(of_train(toy_tiny, more), 0.25, seed=0)
    asked = [(s.pid, s.camid) for s in validation.query]
    assert len([one for one in asked if one[0] == people[0]]) > 1
    assert len([one for one in asked if one[0] == people[1]]) == 1


def test_held_out_people_of_one_camera_are_named_as_such(
    toy_tiny: DataSet, reid_cache: Path
) -> None:
    alike = of_train(toy_tiny, (replace(s, camid=0) for s in toy_tiny.train.samples))
    resolved = resolve(tiny_flags((), {"data": {"validation": 0.3}}))
    with pytest.raises(DataError, match=r"^data.validation: of the people held out, protocol"):
        assemble(resolved, cache=reid_cache, dataset=alike)


def test_people_with_one_image_leave_nobody_to_search_for(toy_tiny: DataSet) -> None:
    seen = {s.pid: s for s in toy_tiny.train.samples}
    with pytest.raises(DataError, match="no held-out person has two images"):
        split_validation(of_train(toy_tiny, seen.values()), 0.25, seed=0)


@pytest.mark.parametrize(
    ("data", "evaluation", "message"),
    [
        ({}, {"every": 1}, "data.validation"),
        ({"validation": 0.3}, {}, "evaluation.every"),
    ],
)
def test_selection_needs_something_to_select_from(
    data: dict[str, float], evaluation: dict[str, int], message: str
) -> None:
    values = {"data": data, "evaluation": {**evaluation, "select": "validation"}}
    with pytest.raises(ConfigError, match=message):
        validated(RunConfig, values)


def test_the_best_is_kept_and_restored(reid_cache: Path, tmp_path: Path) -> None:
    model = tiny_assembly(cache=reid_cache).model
    selection = Selection(tmp_path, EvaluationSection())
    with pytest.raises(CheckpointError, match="no epoch was selected"):
        selection.restore(model)
    weight = next(model.encoder.parameters())
    best = weight.detach().clone()
    assert selection.consider(Selected(0, 3, 0.5), model)
    with torch.no_grad():
        weight.add_(1)
    assert not selection.consider(Selected(1, 7, 0.5), model), "the first of equals stays"
    assert Selection(tmp_path, EvaluationSection()).best == Selected(0, 3, 0.5)
    assert selection.restore(model) == Selected(0, 3, 0.5)
    assert torch.equal(weight, best)
    note = json.loads((tmp_path / "best.json").read_text("utf-8"))
    assert note.pop("settings")["select_by"] == "mAP"
    for settings, what in (
        ({"select_by": "rank1"}, "evaluation.select_by was 'mAP', is 'rank1'"),
        ({"weights": "ema/weights"}, "evaluation.weights was None, is 'ema/weights'"),
        ({"distance": "euclidean"}, "evaluation.distance was 'cosine', is 'euclidean'"),
        ({"flip": "sum", "every": 3}, "evaluation.flip was 'off', is 'sum'"),
    ):
        other = Selection(tmp_path, EvaluationSection.model_validate(settings))
        assert (other.best, other.changed) == (None, [what])
    (tmp_path / "best.json").write_text(json.dumps(note))
    assert other.best == Selected(0, 3, 0.5), "an earlier version kept no settings"
    selection.forget()
    assert not list(tmp_path.iterdir())


SELECTS = {
    "data": {"validation": 0.3},
    "evaluation": {"select": "validation", "every": 1},
    "schedule": {"epochs": 3},
}


@pytest.fixture(scope="module")
def selected(
    reid_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunSummary, list[str]]:
    """Return a run that selects its epoch, and what it said."""
    lines: list[str] = []
    out = tmp_path_factory.mktemp("selects") / "run"
    resolved = resolve(tiny_flags((), SELECTS))
    return run(resolved=resolved, out=out, cache=reid_cache, say=lines.append), lines


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]


def test_a_run_reports_the_selected_epoch(selected: tuple[RunSummary, list[str]]) -> None:
    summary, lines = selected
    note = json.loads((summary.folder / "best.json").read_text("utf-8"))
    best = f"selected epoch {note['epoch'] + 1} on validation (mAP {100 * note['mean_ap']:.1f})"
    assert best in lines
    # Two of eight people, each asked for once per camera with several images.
    assert "held out for validation: 2 people, 6 queries" in lines
    validated = [e for e in events(summary.folder) if e.get("when") == "validation"]
    scores = [event["results"]["standard"]["mAP"] for event in validated]
    assert len(scores) == 3
    assert max(scores) == note["mean_ap"] == scores[note["epoch"]]
    assert note["iteration"] == validated[note["epoch"]]["iteration"]


def test_files_and_last_events_name_the_selected_epoch(
    selected: tuple[RunSummary, list[str]],
) -> None:
    folder = selected[0].folder
    note = json.loads((folder / "best.json").read_text("utf-8"))
    assert note.pop("settings")["select"] == "validation"
    assert set(note) == {"epoch", "iteration", "mean_ap"}
    for name in ("results.json", "run.json"):
        assert json.loads((folder / name).read_text("utf-8"))["selected"] == note
    *_, final, end = events(folder)
    assert (final["when"], final["epoch"]) == ("final", note["epoch"])
    assert final["iteration"] == note["iteration"]
    assert (end["selected_epoch"], end["selected_mean_ap"]) == (note["epoch"], note["mean_ap"])


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_run_that_was_killed_while_validating_selects_the_same(
    epoch: int, selected: tuple[RunSummary, list[str]], reid_cache: Path, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pt"
    trainer = Trainer(tiny_assembly((), SELECTS, cache=reid_cache), path)
    evaluate = trainer.evaluate

    def killed(when: str, advance: Any = None) -> Any:
        if trainer.assembly.ctx.progress.epoch == epoch + 1:
            raise Killed
        return evaluate(when, advance)

    trainer.evaluate = killed  # type: ignore[method-assign]
    with pytest.raises(Killed):
        trainer.fit()
    again = Trainer(tiny_assembly((), SELECTS, cache=reid_cache), path)
    if path.exists():
        again.resume()
    assert again.assembly.ctx.progress.epoch == epoch, "the epoch is done again"
    again.fit()
    again.select()
    note = json.loads((selected[0].folder / "best.json").read_text("utf-8"))
    note.pop("settings")
    assert again.selected == Selected(**note)


def test_what_was_selected_otherwise_does_not_count(
    selected: tuple[RunSummary, list[str]], reid_cache: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(selected[0].folder, tmp_path / "run"))
    before = {path: path.read_bytes() for path in out.iterdir() if path.is_file()}

    def resumed(**flags: Any) -> list[str]:
        lines: list[str] = []
        run(flags, out=out, resume=True, longer="schedule" in flags, cache=reid_cache,
            say=lines.append)  # fmt: skip
        return lines

    other: dict[str, Any] = {"evaluation": {"select_by": "rank1", "flip": "sum"}}
    told = "flip was 'off', is 'sum'; evaluation.select_by was 'mAP', is 'rank1'"
    with pytest.raises(CheckpointError, match=rf"{told}; no epoch is left .*select=last"):
        resumed(**other)
    assert {path: path.read_bytes() for path in before} == before
    lines = resumed(**other, schedule={"epochs": 4})
    assert any(f"{told}; it does not count any more" in line for line in lines)
    note = json.loads((out / "best.json").read_text("utf-8"))
    assert (note["epoch"], note["by"]) == (3, "rank1")


def test_a_run_that_begins_anew_selects_among_its_own_epochs(
    reid_cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    settings = {**SELECTS, "engine": {"checkpoint_every": 3}}

    def killed(line: str) -> None:
        if line.startswith("epoch 2/3"):
            raise Killed

    with pytest.raises(Killed):
        run(tiny_flags((), settings), out=out, cache=reid_cache, say=killed)
    best = load_file(out / "best.safetensors")
    # A validation that nothing beats.
    note = json.loads((out / "best.json").read_text("utf-8"))
    (out / "best.json").write_text(json.dumps({**note, "mean_ap": 2.0}))
    lines: list[str] = []
    run(tiny_flags((), settings, {"optim": {"lr": 1e-5}}), out=out, resume=True, cache=reid_cache,
        say=lines.append)  # fmt: skip
    (anew,) = (line for line in lines if "begins anew" in line)
    assert anew.endswith("anew, with other settings than before: optim.lr was 0.0007, is 1e-05")
    assert json.loads((out / "best.json").read_text("utf-8"))["mean_ap"] <= 1
    stored = load_file(out / "embedder.safetensors")
    assert any(not torch.equal(value, best[name]) for name, value in stored.items())


def test_held_out_people_are_measured_by_the_plain_protocol(reid_cache: Path) -> None:
    named = {"evaluation": {**SELECTS["evaluation"], "protocols": ["cross-clothes"]}}
    assembly = tiny_assembly((), SELECTS, named, cache=reid_cache)
    assert assembly.validator is not None
    assert assembly.evaluator is not None
    assert assembly.validator.protocols == (STANDARD,)
    assert [protocol.name for protocol in assembly.evaluator.protocols] == ["cross-clothes"]
    assert {s.split for s in assembly.validator.dataset.query} == {"query"}
    assert not {s.path for s in assembly.validator.dataset.query} & {
        s.path for s in assembly.evaluator.dataset.query
    }


def test_images_without_identity_get_none(toy_tiny: DataSet) -> None:
    first, *others = toy_tiny.train.samples
    nobody = replace(first, pid=-1)
    dataset = replace(toy_tiny, train=replace(toy_tiny.train, samples=(nobody, *others)))
    smaller, validation = split_validation(dataset, 0.25, seed=0)
    assert smaller.train.samples[0] == nobody
    assert sorted({s.pid for s in smaller.train.samples}) == [-1, *range(6)]
    assert smaller.train.num_identities == 6
    assert all(s.pid >= 0 for s in (*validation.query, *validation.gallery))


def test_other_people_are_held_out_by_another_seed(toy_tiny: DataSet) -> None:
    held = [
        frozenset(s.path for s in (*other.query, *other.gallery))
        for other in (split_validation(toy_tiny, 0.25, seed)[1] for seed in range(5))
    ]
    assert len(set(held)) > 1


def test_every_second_epoch_and_the_last_one_are_validated(reid_cache: Path) -> None:
    every = {"evaluation": {"every": 2}, "data": {"validation": 0.3}, "schedule": {"epochs": 3}}
    trainer = Trainer(tiny_assembly((), every, cache=reid_cache))
    seen: list[tuple[str, int]] = []

    def evaluate(when: str, advance: Any = None, heads: int = 0) -> None:
        seen.append((when, trainer.assembly.ctx.progress.epoch))

    trainer.evaluate = evaluate  # type: ignore[assignment]
    trainer.fit()
    assert seen == [("validation", 2), ("validation", 3)]

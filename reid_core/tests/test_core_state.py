"""Checkpoints: written whole or not at all, safe to load, and refused where they do not belong."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from reid_core.errors import CheckpointError, OutputError
from reid_core.loop.state import (
    changed_settings,
    frozen_hashes,
    read_checkpoint,
    state_hash,
    trainable_state,
)
from reid_core.model.encoder import EARLIER
from reid_core.testing.probe_plugins import PROBES
from reid_core.testing.tiny import Recorder, tiny_assembly


def made(cache: Path, path: Path, *plugins: str, **sections: Any) -> Recorder:
    return Recorder(tiny_assembly(plugins, sections, cache=cache, classes=PROBES), path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.pt"


def edited(path: Path, change: Any) -> None:
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def test_a_checkpoint_restores_model_optimisers_and_progress(reid_cache: Path, path: Path) -> None:
    first = made(reid_cache, path, "stream", "adversarial")
    first.fit()
    second = made(reid_cache, path, "adversarial", "stream")
    second.resume()
    ours, theirs = first.assembly, second.assembly
    assert (theirs.ctx.progress.epoch, theirs.ctx.progress.iteration) == (2, 4)
    restored = trainable_state(theirs.model)
    for name, value in trainable_state(ours.model).items():
        assert torch.equal(value, restored[name]), name
    states = theirs.parts.optimisers.state_dict()
    for group, by_name in ours.parts.optimisers.state_dict().items():
        for name, state in by_name.items():
            for key, value in state.items():
                assert torch.equal(value, states[group][name][key]), (group, name, key)


def test_an_encoder_computes_as_when_its_checkpoint_was_written(
    reid_cache: Path, path: Path
) -> None:
    first = made(reid_cache, path)
    half = {"final_norm": True, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    first.assembly.model.encoder.follow(half)
    first.save()
    again = made(reid_cache, path)
    again.resume()
    assert again.assembly.model.encoder.conventions == half
    # An earlier version stored none, and its maps lacked the final norm.
    edited(path, lambda content: content.pop("conventions"))
    again.resume()
    assert again.assembly.model.encoder.conventions == EARLIER


def test_a_checkpoint_holds_these_entries(reid_cache: Path, path: Path) -> None:
    trainer = made(reid_cache, path, "stream")
    trainer.fit()
    content = read_checkpoint(path)
    assert set(content) == {
        "format", "progress", "plugins", "data", "ranks", "config", "model", "frozen",
        "optimisers", "conventions", "learnt_from",
    }  # fmt: skip
    assert content["conventions"] == trainer.assembly.model.encoder.conventions
    assert set(content["plugins"]) == {"core", "stream"}
    assert not any("stream/frozen" in name for name in content["model"])
    assert set(content["frozen"]) == {"stream/frozen"}
    assert (
        "encoder.trunk.conv1.0.weight" in content["model"]
        or "encoder.trunk.conv1.weight" in (content["model"])
    )
    assert {g for g in content["optimisers"] if g.startswith("stream")} == {
        "stream/live", "stream/shape/neck", "stream/shape/identity",
    }  # fmt: skip


@pytest.mark.parametrize("error", [OSError("no space left"), RuntimeError("unexpected pos")])
def test_a_failure_while_writing_leaves_the_previous_one_whole(
    error: Exception, reid_cache: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = made(reid_cache, path)
    trainer.save()
    before = path.read_bytes()

    def fail(content: Any, file: Any) -> NoReturn:
        file.write(b"half a checkpoint")
        raise error

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OutputError, match=rf"checkpoint\.pt: cannot be written \({error}\)"):
        trainer.save()
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path], "half a checkpoint was left behind"


def test_a_crash_while_writing_leaves_the_previous_one_whole(
    reid_cache: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = made(reid_cache, path)
    trainer.save()
    before = path.read_bytes()

    def crash(content: Any, file: Any) -> NoReturn:
        file.write(b"half a checkpoint")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", crash)
    with pytest.raises(KeyboardInterrupt):
        trainer.save()
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_written_is_one_line(reid_cache: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file.checkpoint\.pt: cannot be written \(File exists"):
        made(reid_cache, tmp_path / "file" / "checkpoint.pt").save()


def test_other_plugins_are_named(reid_cache: Path, path: Path) -> None:
    made(reid_cache, path, "stream").save()
    with pytest.raises(CheckpointError) as caught:
        made(reid_cache, path, "head").resume()
    message = str(caught.value)
    for word in ("stream", "head", "--plugins", str(path)):
        assert word in message


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"optim": {"lr": 0.5}}, ("optim.lr was 0.0007, is 0.5",)),
        ({"run": {"plugins": ["head"], "seed": 7}}, ("run.seed was 0, is 7",)),
        ({"plugins": {"head": {"weight": 0.5}}}, ("plugins.head.weight was 1.0, is 0.5",)),
        ({"loss_weights": {"head/parts": 0.5}}, ("loss_weights.head/parts was None, is 0.5",)),
        (
            {"optim": {"lr": 0.5}, "augment": {"flip": 0.0}},
            ("optim.lr was", "augment.flip was 0.5, is 0.0"),
        ),
    ],
)
def test_changed_settings_are_named(
    sections: dict[str, Any], words: tuple[str, ...], reid_cache: Path, path: Path
) -> None:
    made(reid_cache, path, "head").save()
    with pytest.raises(CheckpointError, match=r"other settings.*--out") as caught:
        made(reid_cache, path, "head", **sections).resume()
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_what_does_not_change_the_training_may_differ(reid_cache: Path, path: Path) -> None:
    made(reid_cache, path).save()
    made(reid_cache, path, engine={"log_every": 7}, evaluation={"flip": True}).resume()
    config = tiny_assembly(cache=reid_cache).config
    assert changed_settings(config.model_dump(mode="json"), config) == []


def test_a_longer_training_says_what_differs(reid_cache: Path, path: Path) -> None:
    made(reid_cache, path).save()
    with pytest.raises(CheckpointError, match=r"schedule\.epochs was 2, is 3"):
        made(reid_cache, path, schedule={"epochs": 3}).resume()


def test_another_frozen_branch_is_refused(reid_cache: Path, path: Path) -> None:
    made(reid_cache, path, "stream").save()
    other = made(reid_cache, path, "stream")
    with torch.no_grad():
        next(other.assembly.ctx.module("stream/frozen").parameters()).add_(1e-3)
    with pytest.raises(CheckpointError, match=r"another frozen branch 'stream/frozen'"):
        other.resume()


def test_a_hash_belongs_to_names_shapes_and_values(reid_cache: Path) -> None:
    from torch import nn

    one = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    two = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    two.load_state_dict(one.state_dict())
    assert state_hash(one) == state_hash(two)
    two[1].running_mean[0] = 1e-3
    assert state_hash(one) != state_hash(two)
    assert state_hash(nn.Linear(2, 3, bias=False)) != state_hash(nn.Linear(3, 2, bias=False))
    assembly = tiny_assembly(("stream",), cache=reid_cache, classes=PROBES)
    assert set(frozen_hashes(assembly.model)) == {"stream/frozen"}


def test_another_model_is_refused(reid_cache: Path, path: Path) -> None:
    trainer = made(reid_cache, path)
    trainer.save()
    name = "criteria.core/global.classifier.weight"

    def reshape(content: Any) -> None:
        content["model"][name] = content["model"][name][:3]

    edited(path, reshape)
    with pytest.raises(
        CheckpointError, match=rf"'{name}' has shape \(3, 96\), this model \(8, 96\)"
    ):
        trainer.resume()

    edited(path, lambda content: content["model"].pop(name))
    with pytest.raises(CheckpointError, match=rf"another model; first differing entry: {name}"):
        trainer.resume()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_checkpoint_is_one_line(share: float, reid_cache: Path, path: Path) -> None:
    trainer = made(reid_cache, path)
    trainer.save()
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt is truncated") as caught:
        trainer.resume()
    assert "\n" not in str(caught.value)


class Payload:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("unpickled",)


def test_a_pickle_is_refused_and_not_run(
    reid_cache: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    torch.save({"format": 1, "model": Payload()}, path)
    with pytest.raises(CheckpointError, match=r"more than tensors and plain values") as caught:
        made(reid_cache, path).resume()
    assert "\n" not in str(caught.value)
    assert not Path("unpickled").exists(), "loading a checkpoint ran code"


@pytest.mark.parametrize("content", [{}, {"format": 99}, [1, 2], {"state_dict": {}}])
def test_something_else_is_refused(content: Any, path: Path) -> None:
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"no checkpoint of this version \(format 1\)"):
        read_checkpoint(path)


def test_a_checkpoint_without_its_entries_is_one_line(reid_cache: Path, path: Path) -> None:
    trainer = made(reid_cache, path)
    torch.save({"format": 1}, path)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt"):
        trainer.resume()


def test_a_missing_checkpoint_is_one_line(path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no checkpoint .*checkpoint\.pt"):
        read_checkpoint(path)


def renamed(trainer: Recorder, change: Any) -> Recorder:
    """Let somebody change the first training image of a run before it is resumed."""
    truth = trainer.assembly.truth
    first, *others = truth.samples
    trainer.assembly.truth = replace(truth, samples=(change(first), *others))
    return trainer


def test_a_run_is_not_continued_on_other_people(reid_cache: Path, path: Path) -> None:
    made(reid_cache, path, "head").save()
    made(reid_cache, path, "head").resume()
    other = renamed(made(reid_cache, path, "head"), lambda sample: replace(sample, pid=3))
    with pytest.raises(
        CheckpointError, match=r"with other data: labels of 'main' have changed since.*--out$"
    ):
        other.resume()
    swapped = other.assembly.ctx.main.samples[1].fields["parts"]
    mapped = renamed(
        made(reid_cache, path, "head"),
        lambda sample: replace(sample, fields={**sample.fields, "parts": swapped}),
    )
    with pytest.raises(CheckpointError, match=r"other data: field parts of 'main' have changed"):
        mapped.resume()


def test_a_checkpoint_of_before_says_that_its_data_are_unknown(
    reid_cache: Path, path: Path
) -> None:
    trainer = made(reid_cache, path)
    trainer.save()
    edited(path, lambda content: content.pop("data"))
    lines: list[str] = []
    trainer.assembly.ctx.say = lines.append
    trainer.resume()
    assert lines == [
        f"{path} is of an earlier version and does not tell what data it was trained on"
    ]

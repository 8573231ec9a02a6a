"""Checkpoints: safe to load, written atomically, keyed by names and never by order.

Nothing random is stored, because every random draw is a function of the run's seed and of epoch,
iteration or position: where the run stands is enough.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reid_core.config import IDLE, RunConfig, differences
from reid_core.contract.model import Branch
from reid_core.errors import CheckpointError, ReidError, typed_reason
from reid_core.loop.assembly import Assembly
from reid_core.model.graph import ReidModel
from reid_core.outputs import whole_file

FORMAT = 1
"""Version of the checkpoint's layout."""

FREE = IDLE | {
    "data.root",
    "data.also",  # the folders; what is in them is compared
    "fields",
    "evaluation.embed",
    "evaluation.weights",
    "run.plugins",
}
"""Settings that a run's continuation may have others of; plugins are compared on their own."""


def save_checkpoint(path: Path, assembly: Assembly) -> None:
    """Write a checkpoint; a crash in the middle leaves the previous one whole.

    Args:
        path: the file.
        assembly: the run. Frozen branches are stored by hash, for they are made again from their
            own source.

    Raises:
        OutputError: see `whole_file`.
    """
    ctx, model = assembly.ctx, assembly.model
    content = {
        "format": FORMAT,
        "progress": dataclasses.asdict(ctx.progress),
        "plugins": assembly.versions(),
        "data": assembly.fingerprints(),
        "ranks": ctx.world_size,
        "config": ctx.config.model_dump(mode="json"),
        "model": trainable_state(model),
        "learnt_from": assembly.learnt_from,
        "conventions": model.encoder.conventions,
        "frozen": frozen_hashes(model),
        "optimisers": assembly.parts.optimisers.state_dict(),
    }
    states = {name: dict(one.checkpoint_state()) for name, one in assembly.plugins.items()}
    if any(states.values()):
        content["kept"] = {name: state for name, state in states.items() if state}
    with whole_file(path) as part, part.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # torch's word for a full disk
            raise OSError(str(error).partition("\n")[0]) from error


def load_checkpoint(path: Path, assembly: Assembly, longer: bool = False) -> None:
    """Restore model, optimisers, progress and what plugins keep from a checkpoint.

    Args:
        path: the file.
        assembly: the run, built from the same plugins and settings, in any order.
        longer: whether the schedule may have more epochs than the checkpoint's had.

    Raises:
        CheckpointError: missing or truncated, a pickle of anything but tensors and plain values,
            other plugins, other settings (which ones), other data, another frozen branch.
    """
    with _opened(path) as content:
        _restore(path, content, assembly, longer)


@contextmanager
def _opened(path: Path) -> Iterator[dict[str, Any]]:
    """Read a checkpoint, and say that it is of this file that entries are missing or otherwise."""
    content = read_checkpoint(path)
    try:
        yield content
    except ReidError:
        raise
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = typed_reason(error, 160)
        raise CheckpointError(f"{path} does not hold what a checkpoint holds ({reason})") from error


def _restore(path: Path, content: Mapping[str, Any], assembly: Assembly, longer: bool) -> None:
    ctx, model = assembly.ctx, assembly.model
    _check_settings(path, content, assembly.versions(), ctx.config, longer)
    harmless = differences(content["config"], ctx.config.model_dump(mode="json"))
    if harmless:
        ctx.say(f"resumed with other settings than before: {'; '.join(harmless)}")
    _check_data(path, content.get("data"), assembly)
    for name, value in frozen_hashes(model).items():
        if content["frozen"].get(name) != value:
            raise CheckpointError(
                f"{path} was written with another frozen branch '{name}' (hash "
                f"{content['frozen'].get(name)}, now {value})"
            )
    expected = trainable_state(model)
    if set(content["model"]) != set(expected):
        odd = sorted(set(content["model"]) ^ set(expected))
        raise CheckpointError(f"{path} holds another model; first differing entry: {odd[0]}")
    for name, value in content["model"].items():
        if value.shape != expected[name].shape:
            raise CheckpointError(
                f"{path}: '{name}' has shape {tuple(value.shape)}, this model "
                f"{tuple(expected[name].shape)}"
            )
    copy_into(expected, content["model"])
    # A checkpoint of an earlier version has none: its encoder computes as it did.
    model.encoder.follow(content.get("conventions", {}))
    assembly.parts.optimisers.load_state_dict(content["optimisers"])
    for name, state in content.get("kept", {}).items():
        if name in assembly.plugins:
            assembly.plugins[name].load_checkpoint_state(state)
    for name, value in content["progress"].items():
        setattr(ctx.progress, name, value)
    if content["ranks"] != ctx.world_size:
        ctx.say(
            f"the checkpoint was written by {content['ranks']} rank(s), this run has "
            f"{ctx.world_size}: batches stay the same, dropout draws other numbers, and results "
            "agree up to rounding"
        )


def check_checkpoint(
    path: Path, plugins: Iterable[str], config: RunConfig, longer: bool = False
) -> None:
    """Refuse a checkpoint for what can be known of it without data and models.

    Args:
        path, longer: as of `load_checkpoint`.
        plugins: names of the run's, the core among them.
        config: the run's.

    Raises:
        CheckpointError: it cannot be read, or was written with other plugins or settings.
    """
    with _opened(path) as content:
        _check_settings(path, content, plugins, config, longer)


def _check_settings(
    path: Path, content: Mapping[str, Any], plugins: Iterable[str], config: RunConfig, longer: bool
) -> None:
    theirs, ours = set(content["plugins"]), set(plugins)
    if theirs != ours:
        raise CheckpointError(
            f"{path} was written with the plugins {_listed(theirs)}, this run has "
            f"{_listed(ours)}; resume with the same --plugins"
        )
    changed = changed_settings(content["config"], config)
    if longer:
        changed = [one for one in changed if not one.startswith("schedule.epochs ")]
    if changed:
        more = any(one.startswith("schedule.epochs ") for one in changed)
        remedy = ", or make the schedule longer with --longer" if more else ""
        raise CheckpointError(
            f"{path} was written with other settings: {'; '.join(changed)}; resume with the same "
            f"ones, or start a new run with another --out{remedy}"
        )
    done = content["progress"]["epoch"]
    if done > config.schedule.epochs:
        raise CheckpointError(
            f"{path} has {done} epochs behind it, more than schedule.epochs = "
            f"{config.schedule.epochs}; resume with {done} or more"
        )
    if longer and done == config.schedule.epochs:
        raise CheckpointError(f"{path} has all {done} epochs behind it; give more --epochs")


def _check_data(
    path: Path, stored: Mapping[str, Mapping[str, str]] | None, assembly: Assembly
) -> None:
    if stored is None:
        assembly.ctx.say(
            f"{path} is of an earlier version and does not tell what data it was trained on"
        )
        return
    data = assembly.fingerprints()
    changed = [
        f"{part} of '{name}'"
        for name in sorted({*stored, *data})
        for part in sorted({*stored.get(name, {}), *data.get(name, {})})
        if stored.get(name, {}).get(part) != data.get(name, {}).get(part)
    ]
    if changed:
        raise CheckpointError(
            f"{path} was written with other data: {', '.join(changed)} have changed since (labels "
            "are people, cameras and outfits); resume with the data as they were, or start a new "
            "run with another --out"
        )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running any code that it may hold.

    Raises:
        CheckpointError: it is missing, truncated, refused or of another format.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).partition("\n")[0][:160]
        raise CheckpointError(
            f"{path} is truncated, or holds more than tensors and plain values, and is not loaded "
            f"({type(error).__name__}: {reason})"
        ) from None
    entries = {"progress", "plugins", "ranks", "config", "model", "frozen", "optimisers"}
    known = isinstance(content, dict) and entries <= set(content)
    if not known or content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no checkpoint of this version (format {FORMAT})")
    return dict(content)


def trainable_state(model: ReidModel) -> dict[str, Tensor]:
    """Return parameters and buffers by name, without those of frozen branches that stand still."""
    frozen = tuple(f"branches.{name}." for name, b in model.declarations.items() if _fixed(b))
    state = model.state_dict()
    return {name: value for name, value in state.items() if not name.startswith(frozen)}


def _fixed(branch: Branch) -> bool:
    return branch.frozen and not branch.moving


def copy_into(state: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copy values over those of the same names."""
    with torch.no_grad():
        for name, value in values.items():
            state[name].copy_(value)


def frozen_hashes(model: ReidModel) -> dict[str, str]:
    """Return a short hash of the weights of every frozen branch."""
    return {
        name: state_hash(model.branches[name])
        for name, declaration in model.declarations.items()
        if _fixed(declaration)
    }


def state_hash(module: nn.Module) -> str:
    """Return a short hash of a module's parameters and buffers, names included."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def changed_settings(stored: Mapping[str, Any], config: RunConfig) -> list[str]:
    """Return the settings that differ in a way that would change the training."""
    return differences(stored, config.model_dump(mode="json"), FREE)


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"

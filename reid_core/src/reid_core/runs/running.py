"""A whole run: resolve, assemble, train, evaluate, and leave a folder."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from reid_core.config import RunConfig, differences, located
from reid_core.contract.events import RunBegan, RunEnded
from reid_core.contract.plugin import Plugin
from reid_core.data.people import seen_before
from reid_core.errors import CheckpointError, ConfigError, PluginError, own_errors
from reid_core.evaluation import records
from reid_core.loop.assembly import Assembly
from reid_core.loop.measuring import all_metrics
from reid_core.loop.selection import Selection
from reid_core.loop.state import check_checkpoint
from reid_core.loop.trainer import Interrupted, Trainer
from reid_core.machine.devices import choose_device, device_errors
from reid_core.machine.randomness import deterministic
from reid_core.machine.ranks import broadcast, process_group, world
from reid_core.outputs import checked_folder, forget_after, remove_parts, write_json, write_text
from reid_core.plugins.discovery import versions_of
from reid_core.runs.assembly.assembling import assemble
from reid_core.runs.describing import closing_line, cost, describe, opening_line
from reid_core.runs.resolve import Resolved, resolve
from reid_core.runs.stages import Stages
from reid_retrieval.results import Evaluation, RetrievalResult

UNTRAINED = "untrained.json"
"""Holds the results before the first step, for the run that goes on after an interruption."""


class Progress(Protocol):
    """Shows how far something is; what the command line passes to `run`."""

    def __call__(self, label: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Open a bar of ``total`` images; the value advances it."""


@dataclass(frozen=True)
class RunSummary:
    """What a run found.

    Args:
        folder: everything that it left.
        results: one per protocol; empty where the data set has no queries.
        untrained: the same before the first step; empty where it was not asked for.
        metrics: numbers of plugins by name.
    """

    folder: Path
    results: tuple[RetrievalResult, ...]
    untrained: tuple[RetrievalResult, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)


@own_errors()
def run(
    flags: Mapping[str, Any] | None = None,
    *,
    recipe: str | None = None,
    out: Path | None = None,
    resume: bool = False,
    longer: bool = False,
    resolved: Resolved | None = None,
    cache: Path | None = None,
    say: Callable[[str], None] = print,
    progress: Progress | None = None,
) -> RunSummary:
    """Train and evaluate.

    Args:
        flags: nested configuration that rules over recipe and defaults, such as
            ``{"run": {"plugins": ["san"]}, "schedule": {"epochs": 2}}``.
        recipe: ``plugin/name``, a TOML file, or None for ``core/quick``.
        out: the run's folder; None makes one under ``runs/``.
        resume: continue from the checkpoint in ``out``, with the configuration stored there.
        longer: let a resumed run have more epochs than before; rates follow the new schedule.
        resolved: a resolved configuration in place of ``flags`` and ``recipe``.
        cache: the user's cache folder; None takes the platform's.
        say: prints one line for the user.
        progress: shows bars.

    Raises:
        ReidError: anything that cannot work, in one line.
    """
    if longer and not resume:
        raise ConfigError("--longer prolongs the run that --resume continues; add --resume")
    if resume:
        stored = _stored_config(out)
        recipe = recipe or stored
    resolved = resolved or resolve(flags, recipe=recipe)
    device = resolved.config.engine.device
    with process_group(device), deterministic(choose_device(device).type == "cpu"):
        made = run_folder(out, resolved.config, resume) if out or world()[0] == 0 else None
        folder = broadcast(made)
        try:
            with device_errors(_smaller(resolved.config)):
                return _run(resolved, folder, resume, longer, cache, say, progress or _silent)
        except Exception:
            if out is None:
                with suppress(OSError):
                    folder.rmdir()  # what was refused leaves no empty folder
            raise


def _run(
    resolved: Resolved,
    folder: Path,
    resume: bool,
    longer: bool,
    cache: Path | None,
    say: Callable[[str], None],
    bars: Progress,
) -> RunSummary:
    config, checkpoint = resolved.config, folder / "checkpoint.pt"
    resumes = resume and checkpoint.exists()
    if resumes:  # before data are made or read
        check_checkpoint(checkpoint, versions_of(resolved.plugins), config, longer)
    assembly = assemble(resolved, folder=folder, cache=cache, say=say, stages=Stages())
    leads = assembly.ctx.rank == 0
    say, bars = assembly.ctx.say, bars if leads else _silent
    trainer = Trainer(assembly, checkpoint)
    facts = describe(assembly)
    say(opening_line(facts, config, assembly.ctx.device))
    learnt = assembly.learnt_from
    for one in assembly.evaluators:
        warning = seen_before(one.dataset, learnt)
        if warning:
            say(warning)
    if resumes:
        trainer.resume(longer)
        say(f"resumed at epoch {assembly.ctx.progress.epoch} from {checkpoint}")
        if trainer.selection is not None and (changed := trainer.selection.changed):
            told = f"the best epoch so far was selected otherwise: {'; '.join(changed)}"
            if assembly.ctx.progress.epoch == config.schedule.epochs:
                raise CheckpointError(
                    f"{told}; no epoch is left to select from: resume with the same settings, or "
                    "take the last one with -s evaluation.select=last"
                )
            say(f"{told}; it does not count any more")
    elif resume:
        changed = differences(stored_settings(folder), config.model_dump(mode="json"))
        other = f", with other settings than before: {'; '.join(changed)}" if changed else ""
        say(f"{folder} holds no checkpoint yet: the run begins anew{other}")
    if leads:
        remove_parts(folder)
        if not resumes:
            Selection(folder, config.evaluation).forget()
        said, earlier = folder / "config.toml", folder / "results.json"
        if resume and earlier.is_file() and said.read_text("utf-8") != config.to_toml():
            # They are not of what the folder will say, and would tell that it has finished.
            earlier.replace(folder / "results_before.json")
        write_text(said, config.to_toml())
        progress = assembly.ctx.progress
        forget_after(folder, progress.epoch, progress.iteration)
        write_json(folder / "run.json", facts)
    trainer.emit(RunBegan(config, folder, facts))
    began, outcome = time.perf_counter(), "failed"
    tested = [one.dataset for one in assembly.evaluators]
    test_images = sum(len(one.query) + len(one.gallery) for one in tested)
    untrained: tuple[RetrievalResult, ...] = ()
    kept = folder / UNTRAINED
    try:
        if config.evaluation.untrained and assembly.ctx.progress.iteration == 0:
            with bars("untrained encoder", test_images) as advance:
                before = trainer.evaluate("untrained", advance)
            untrained = _all_results(before)
            if leads:
                write_json(kept, records.plain_results(untrained))
        elif config.evaluation.untrained and kept.is_file():
            untrained = records.read_results(json.loads(kept.read_text("utf-8")))
        epochs = config.schedule.epochs - assembly.ctx.progress.epoch
        images = epochs * (config.schedule.iterations_per_epoch or 0) * config.data.batch_size
        with bars("training", images) as trainer.advance, _stop_on_interrupt(trainer.interrupt):
            trainer.fit()
        trainer.select()
        with bars("evaluation", test_images) as advance:
            final = trainer.evaluate("final", advance, records.HEAD)
        results = _all_results(final)
        if untrained and [*map(_measured, untrained)] != [*map(_measured, results)]:
            untrained = ()
            say("the untrained encoder was evaluated otherwise, and is not shown beside this")
        metrics = all_metrics(assembly.evaluators, final.every if final else ())
        summary = RunSummary(folder, results, untrained, metrics)
        with trainer.weights():
            if leads:
                selected = trainer.selected.note() if trainer.selected else None
                write_json(folder / "run.json", {**facts, "selected": selected})
                _leave(assembly, summary, final, selected)
        outcome = "finished"
    except Interrupted as stop:
        outcome = "interrupted"
        raise Interrupted(f"{stop}; go on with: reid run --resume --out {folder}") from None
    finally:
        spent = cost(trainer, time.perf_counter() - began)
        if trainer.selected is not None:
            spent["selected_epoch"] = trainer.selected.epoch
            spent["selected_mean_ap"] = trainer.selected.mean_ap
            if trainer.selected.score is not None:
                spent[f"selected_{trainer.selected.by}"] = trainer.selected.score
        trainer.emit(RunEnded(folder, outcome, spent))
    say(closing_line(spent))
    return summary


def _measured(result: RetrievalResult) -> tuple[object, ...]:
    """Return how a result was measured; those that agree in it are compared."""
    return result.label, result.text, result.provenance


def _all_results(found: Evaluation | None) -> tuple[RetrievalResult, ...]:
    """Return the results of all test sets, one after the other."""
    return tuple(result for one in (found.every if found else ()) for result in one.results)


def _smaller(config: RunConfig) -> str:
    """Return what would need half of the memory."""
    train, test = config.data.batch_size, config.evaluation.batch_size
    return (
        f"halve data.batch_size with -s data.batch_size={train // 2} (training at {train} x "
        f"{config.data.height} x {config.data.width}), and evaluation.batch_size with "
        f"-s evaluation.batch_size={max(1, test // 2)}"
    )


def build_run(
    flags: Mapping[str, Any] | None = None,
    *,
    recipe: str | None = None,
    cache: Path | None = None,
    say: Callable[[str], None] = print,
) -> Assembly:
    """Return a run with all its training parts as it begins; nothing is trained but its stages.

    For commands that fill a model in another way, such as with published weights.

    Args:
        flags, recipe: as of `run`.
        cache: the user's cache folder; None takes the platform's.
        say: prints one line for the user.

    Raises:
        ReidError: the configuration cannot work, or its data set is not there.
    """
    return assemble(resolve(flags, recipe=recipe), cache=cache, say=say, stages=Stages())


def restore(
    folder: Path,
    *,
    needs: type[Plugin] | None = None,
    cache: Path | None = None,
    say: Callable[[str], None] = print,
) -> Assembly:
    """Return a run with all its training parts, as its last checkpoint holds them.

    For studies of a trained model that need more than its embedder: heads, classifiers, the
    training data with its fields.

    Args:
        folder: the run's folder; its data set must still be there.
        needs: a plugin without which the run is refused before its data is touched.
        cache: the user's cache folder; None takes the platform's.
        say: prints one line for the user.

    Raises:
        ReidError: there is no run, or it cannot be assembled here.
    """
    resolved = resolve(recipe=_stored_config(folder))
    if needs and not any(isinstance(plugin, needs) for plugin in resolved.plugins.values()):
        package = needs.__module__.partition(".")[0]
        others = ", ".join(resolved.config.run.plugins) or "none"
        raise PluginError(
            f"{folder}: this run was made without {package}'s {needs.__name__} (its plugins: "
            f"{others})"
        )
    assembly = assemble(resolved, cache=cache, say=say, stages=Stages())
    Trainer(assembly, folder / "checkpoint.pt").resume()
    assembly.model.eval()
    return assembly


def _leave(
    assembly: Assembly,
    summary: RunSummary,
    final: Evaluation | None,
    selected: Mapping[str, Any] | None,
) -> None:
    """Write the embedder, the results and the picture of ranked lists."""
    config, folder, embedder = assembly.config, summary.folder, assembly.embedder()
    embedder.learnt_from = assembly.learnt_from
    try:
        embedder.save(folder / "embedder.safetensors")
    except ConfigError as error:
        assembly.ctx.say(f"not stored: {error}")
    results: list[dict[str, Any]] = []
    for evaluator, found in zip(assembly.evaluators, final.every if final else (), strict=False):
        results += records.stored_results(found, evaluator.dataset)
        name = evaluator.label or config.data.name
        title = f"{name}, {' + '.join(config.run.plugins) or 'baseline'}"
        ending = re.sub(r"[^\w.=-]", "-", f"-{name}") if evaluator.label else ""
        evaluator.picture(found, folder / f"ranked_lists{ending}.png", title)
    content = {
        "data": config.data.name,
        "plugins": list(config.run.plugins),
        "epochs": config.schedule.epochs,
        "selected": selected,
        "weights": config.evaluation.weights,
        "results": results,
        "metrics": summary.metrics,
        "untrained": [result.to_json() for result in summary.untrained],
    }
    write_text(folder / "results.json", records.results_text(content))


def run_folder(out: Path | None, config: RunConfig, resume: bool) -> Path:
    """Return the run's folder; nothing is overwritten.

    Raises:
        ConfigError: it holds a run already, or cannot be written to.
    """
    if out is None:
        name = "-".join(config.run.plugins) or "baseline"
        data = config.data.name.replace("/", "-").replace(":", "-")
        stamp = time.strftime("%Y%m%d-%H%M%S")
        return _new_folder(checked_folder(Path("runs"), empty=False) / f"{name}-{data}-{stamp}")
    holds = (out / "config.toml").exists()
    if holds and not resume:
        raise ConfigError(f"{out} holds a run already; choose another --out, or add --resume")
    return checked_folder(out, empty=False)


def _new_folder(path: Path) -> Path:
    """Make a folder that is nobody else's: the later of two runs of one second gets a number."""
    for number in count(1):
        folder = path if number == 1 else path.with_name(f"{path.name}-{number}")
        with suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise AssertionError("numbers do not end")


def stored_settings(folder: Path) -> dict[str, Any]:
    """Return a run's settings as plain data; those of a version with other keys as they stand."""
    stored = tomllib.loads((folder / "config.toml").read_text("utf-8"))
    try:
        return located(RunConfig.model_validate(stored)).model_dump(mode="json")
    except ValidationError:
        return stored


def _stored_config(out: Path | None) -> str:
    if out is None:
        raise ConfigError("--resume needs the folder of the run: --out DIR")
    if not out.is_dir():
        raise ConfigError(f"there is no folder {out}")
    if not (out / "config.toml").is_file():
        raise ConfigError(
            f"{out} holds no run: config.toml is missing; one that was ended before its first "
            "step, in a stage, is begun again by the command that began it"
        )
    return str(out / "config.toml")


@contextmanager
def _stop_on_interrupt(stop: Callable[[], None]) -> Iterator[None]:
    """Turn the first Ctrl-C into a wish to stop after the step; the second one stops at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def wish(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, before)
        stop()

    signal.signal(signal.SIGINT, wish)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _silent(label: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
    return nullcontext(lambda images: None)

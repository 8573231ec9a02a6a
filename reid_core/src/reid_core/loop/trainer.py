"""The loop around the step: epochs, labels, logging, checkpoints, evaluation."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from reid_core.contract.batches import Batch
from reid_core.contract.events import EpochEnded, Evaluated, Event, StepEnded
from reid_core.contract.samples import relabelled
from reid_core.contract.step import MAIN
from reid_core.data.sampling import shard
from reid_core.errors import ReidError
from reid_core.evaluation.evaluating import Evaluator
from reid_core.evaluation.statistics import keeping, norms_of
from reid_core.loop.assembly import Assembly
from reid_core.loop.identities import make_identities
from reid_core.loop.measuring import all_metrics, measure
from reid_core.loop.metrics import StepMetrics, check_loss_weights
from reid_core.loop.rates import rate_factor
from reid_core.loop.recalibration import recalibrate
from reid_core.loop.selection import Selected, Selection, selected_by
from reid_core.loop.state import load_checkpoint, save_checkpoint
from reid_core.loop.step import train_step
from reid_core.loop.weights import chosen_weights
from reid_core.machine.ranks import any_rank, barrier
from reid_retrieval.results import Evaluation


class Interrupted(ReidError):
    """The user stopped the training; the checkpoint holds everything so far."""

    exit_code = 130


@dataclass(eq=False)
class Trainer:
    """Train an assembled run.

    Args:
        assembly: the run.
        checkpoint: where checkpoints are written; None writes none.
        advance: is told after every step how many images it took (a progress bar).
    """

    assembly: Assembly
    checkpoint: Path | None = None
    advance: Callable[[int], None] = lambda images: None

    def __post_init__(self) -> None:
        self.metrics = StepMetrics()
        config, path = self.assembly.config.evaluation, self.checkpoint
        selects = config.validates_on is not None
        self.selection = Selection(path.parent, config) if path and selects else None
        self.selected: Selected | None = None
        self.images = 0
        self.seconds = 0.0
        self.waited = 0.0
        self._interrupted = False
        self._checked_weights = False
        self._last_scalars: dict[str, float] = {}

    def resume(self, longer: bool = False) -> None:
        """Restore model, optimisers and progress from the checkpoint.

        Args:
            longer: whether the schedule may have more epochs than the checkpoint's had.

        Raises:
            CheckpointError: it cannot be used here.
        """
        assert self.checkpoint is not None
        load_checkpoint(self.checkpoint, self.assembly, longer)

    def fit(self) -> None:
        """Train from where the run stands to its last epoch.

        Raises:
            Interrupted: `interrupt` was called; the checkpoint holds the last step.
        """
        config, progress = self.assembly.config, self.assembly.ctx.progress
        self.assembly.model.train()
        while progress.epoch < config.schedule.epochs:
            epoch = progress.epoch
            self.train_epoch()
            if any_rank(self._interrupted):
                if self.checkpoint:
                    self.save()
                raise Interrupted(
                    f"stopped after step {progress.step} of epoch {epoch + 1} "
                    f"({progress.iteration} steps in all)"
                )
            progress.epoch, progress.step = epoch + 1, 0
            last = progress.epoch == config.schedule.epochs
            if last:
                self.calibrate()
            self._say_epoch(epoch)
            # Before the checkpoint: a run that is killed here does the epoch again and validates
            # it, and so selects what it would have selected.
            self._evaluate_epoch(epoch, last)
            if self.checkpoint and (last or progress.epoch % config.engine.checkpoint_every == 0):
                self.save()
            self.emit(EpochEnded(epoch, progress.iteration - 1))

    def _evaluate_epoch(self, epoch: int, last: bool) -> None:
        assembly = self.assembly
        every = assembly.config.evaluation.every
        if not every or ((epoch + 1) % every and not last):
            return
        if assembly.validator is not None:
            found = self.evaluate("validation")
            if found is not None and self.selection is not None and assembly.ctx.rank == 0:
                iteration = assembly.ctx.progress.iteration - 1
                by = assembly.config.evaluation.select_by
                less = by in assembly.smaller_is_better
                now = selected_by(by, found, epoch, iteration, smaller_is_better=less)
                with chosen_weights(assembly):
                    better = self.selection.consider(now, assembly.model)
                if better:
                    assembly.ctx.say(f"validation {now.said}: the best so far, kept")
            barrier()
        elif not last:
            self.evaluate("epoch")

    def select(self) -> None:
        """Go back to the epoch that validated best, where the run selects on validation."""
        if self.selection is not None:
            self.selected = self.selection.restore(self.assembly.model)
            self.assembly.ctx.say(
                f"selected epoch {self.selected.epoch + 1} on validation ({self.selected.said})"
            )

    def interrupt(self) -> None:
        """Ask `fit` to end after the current step."""
        self._interrupted = True

    def train_epoch(self) -> None:
        """Train one epoch, or what is left of it: labels, memories, then the steps."""
        assembly, progress = self.assembly, self.assembly.ctx.progress
        self.begin_epoch()
        steps, first = assembly.steps_per_epoch(progress.epoch), progress.step
        streams = self.streams(steps)
        began = time.perf_counter()
        waited = self._waited()
        try:
            for step in range(first, steps):
                batches = self.batches(streams)
                reports = train_step(assembly.parts, batches, step / steps)
                self.metrics.add(reports)
                count = sum(len(batch) for batch in batches.values())
                self.images += count
                self.advance(count)
                self._check_weights()
                logs = (step + 1) % assembly.config.engine.log_every == 0 or step + 1 == steps
                if logs:
                    elapsed = time.perf_counter() - began
                    waiting = (self._waited() - waited) / max(elapsed, 1e-9)
                    self._log(step + 1 - first, step / steps, elapsed, waiting)
                # Ranks end together, for each waits for all in a step. Asking all of them waits for
                # the device, as logging does; one process need not ask.
                if (logs or assembly.ctx.world_size == 1) and any_rank(self._interrupted):
                    break
        finally:
            for stream in streams.values():
                stream.close()
        self.seconds += time.perf_counter() - began
        self.waited += self._waited() - waited

    def begin_epoch(self) -> None:
        """Make the epoch's identities, where a labeler does, and prepare the criteria."""
        assembly, ctx = self.assembly, self.assembly.ctx
        features = assembly.features()
        if assembly.identities is not None:
            self.calibrate()
            owner, labeler = assembly.identities
            labels = make_identities(ctx, owner, labeler, assembly.truth, features.deployed)
            ctx.sources[MAIN] = relabelled(assembly.truth, labels)
            assembly.loaders[MAIN], assembly.samplers[MAIN] = assembly.redraw(ctx.main)
        pids = np.array([sample.pid for sample in ctx.main.samples], np.int64)
        for name, criterion in assembly.model.criteria.items():
            criterion.begin(pids, partial(features.of, name))  # type: ignore[operator]

    def calibrate(self) -> None:
        """Bring batch normalisation to real images, where ``evaluation.batch_norm`` says so."""
        if self.assembly.config.evaluation.batch_norm == "real":
            recalibrate(self.assembly)

    def streams(self, steps: int) -> dict[str, Generator[Batch]]:
        """Return what is left of the epoch's host batches of every source; close them when done."""
        assembly, ctx = self.assembly, self.assembly.ctx
        progress = ctx.progress
        before = range(progress.iteration - progress.step, progress.iteration)
        streams = {}
        for name, loader in assembly.loaders.items():
            rows = assembly.samplers[name].epoch(progress.epoch, steps)
            used = sum(name in self._wanted(iteration) for iteration in before)
            draws = islice(shard(rows, ctx.rank, ctx.world_size), used, None)
            streams[name] = loader.load(draws, progress.epoch)
        return streams

    def batches(self, streams: dict[str, Generator[Batch]]) -> dict[str, Batch]:
        """Return the batches that the updates of the coming step need, on the device."""
        assembly, ctx = self.assembly, self.assembly.ctx
        wanted = self._wanted(ctx.progress.iteration)
        return {name: assembly.prepare(next(streams[name]), ctx.device) for name in wanted}

    def _wanted(self, iteration: int) -> list[str]:
        """Return the sources whose batches a step needs."""
        plan, epoch = self.assembly.parts.plan, self.assembly.ctx.progress.epoch
        due = plan.due(iteration, epoch)
        return sorted({one.source for update in due for one in update.passes})

    def _check_weights(self) -> None:
        plan = self.assembly.parts.plan
        period = max(update.every[0] for update in plan.updates)
        progress, last = self.assembly.ctx.progress, max(update.begin for update in plan.updates)
        begun = progress.epoch > last or (progress.epoch == last and progress.step >= period)
        if not self._checked_weights and begun:
            check_loss_weights(self.assembly.config.loss_weights, self.metrics.seen)
            self._checked_weights = True

    def _log(self, done: int, share: float, elapsed: float, waiting: float) -> None:
        assembly, progress = self.assembly, self.assembly.ctx.progress
        parts = assembly.parts
        factor = rate_factor(assembly.config.schedule, progress.epoch, share)
        scalars = self.metrics.take()
        for update in parts.plan.updates:
            for group, _ in parts.optimisers.stepped(update, progress.epoch):
                rate = parts.optimisers.rate(group, update, factor)
                scalars[f"lr/{update.name}:{group.name}"] = rate
        batch = assembly.config.data.batch_size
        scalars["speed/images_per_second"] = done * batch / max(elapsed, 1e-9)
        scalars["speed/share_of_waiting_for_data"] = waiting
        self._last_scalars = scalars
        self.emit(StepEnded(progress.epoch, progress.iteration - 1, scalars))

    def _say_epoch(self, epoch: int) -> None:
        config, scalars = self.assembly.config, self._last_scalars
        if not scalars:  # resumed where the epoch had no step left
            return
        losses = [
            f"{name.removeprefix('total/')} loss {value:.3f}"
            for name, value in scalars.items()
            if name.startswith("total/")
        ]
        speed = scalars["speed/images_per_second"]
        self.assembly.ctx.say(
            f"epoch {epoch + 1}/{config.schedule.epochs}: {', '.join(losses)}, {speed:.0f} images/s"
        )

    def evaluate(
        self, when: str, advance: Callable[[int], None] | None = None, heads: int = 0
    ) -> Evaluation | None:
        """Evaluate the model as it stands; None where no test set has queries.

        Args:
            when: which evaluation of the run this is, for the observers.
            advance: is told how many more images are done.
            heads: how many images of every ranking's head to keep.

        Returns:
            That of the first test set, with those of the others as ``further``.
        """
        assembly, progress = self.assembly, self.assembly.ctx.progress
        evaluators: Sequence[Evaluator] = assembly.evaluators
        if when == "validation":
            evaluators = [assembly.validator] if assembly.validator is not None else []
        found: list[Evaluation] = []
        results: dict[str, Any] = {}
        with self.weights() if evaluators else nullcontext():
            for evaluator in evaluators:
                one = evaluator.evaluate(assembly.embedder(), advance, heads)
                named = {r.label: r.to_json() for r in one.results}
                one = replace(one, metrics=measure(assembly, evaluator, when, one, named))
                found.append(one)
                results |= named
        if not found:
            return None
        epoch, iteration = progress.epoch - 1, progress.iteration - 1
        if self.selected is not None:
            epoch, iteration = self.selected.epoch, self.selected.iteration
        self.emit(Evaluated(when, epoch, iteration, results, all_metrics(evaluators, found)))
        return replace(found[0], further=tuple(found[1:]))

    @contextmanager
    def weights(self) -> Iterator[None]:
        """Let the model have the weights and statistics that are evaluated and exported.

        Those of a selected epoch were kept as they were evaluated. Afterwards it has those that it
        trains with.
        """
        chosen = chosen_weights(self.assembly) if self.selected is None else nullcontext()
        with keeping(norms_of(self.assembly.model)), chosen:
            self.calibrate()
            yield

    def save(self) -> None:
        """Write the checkpoint."""
        assert self.checkpoint is not None
        if self.assembly.ctx.rank == 0:
            save_checkpoint(self.checkpoint, self.assembly)
        barrier()

    def emit(self, event: Event) -> None:
        """Tell the observers, on rank 0."""
        if self.assembly.ctx.rank == 0:
            self.assembly.calls.observe(event, self.assembly.ctx.say, self.assembly.ctx)

    def _waited(self) -> float:
        return sum(loader.seconds_waited for loader in self.assembly.loaders.values())

"""What plugins declare about a step: groups, updates, passes, loss terms, generated images.

Free of torch at import.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from reid_core.contract.words import check_names, check_not_bare, check_word, words_of
from reid_core.errors import DeclarationError

if TYPE_CHECKING:
    from torch import Tensor


MAIN = "main"
"""Name of the main source, of the main update and of its first pass."""


OPTIMISERS = ("sgd", "adam", "adamw", "amsgrad")
"""Optimisers by name."""

ImageChoice = Literal["auto", "clean", "erased"]
"""Which image a pass shows."""

Statistics = Literal["update", "batch", "running"]
"""What batch norms of a pass normalise by, and whether their buffers move."""

Route = Literal["join", "detached", "frozen_copy"]
"""How generated images pass through the model."""


@dataclass(frozen=True)
class LinearRamp:
    """A loss weight that moves linearly with the iteration: data, logged and checkpointed.

    The weight is ``start`` until iteration ``begin`` and ``stop`` from iteration ``end`` on
    (0-based iterations of the run).
    """

    start: float
    stop: float
    begin: int
    end: int

    def __post_init__(self) -> None:
        if self.end <= self.begin:
            raise DeclarationError(f"a ramp must end after it begins: {self}")

    def at(self, iteration: int) -> float:
        """Return the weight at an iteration."""
        share = (iteration - self.begin) / (self.end - self.begin)
        return self.start + (self.stop - self.start) * min(1.0, max(0.0, share))


WeightSchedule = LinearRamp
"""Schedules of a loss weight."""


def weight_at(weight: float | WeightSchedule, iteration: int) -> float:
    """Return the value of a fixed or scheduled weight at an iteration."""
    return weight.at(iteration) if isinstance(weight, LinearRamp) else float(weight)


@dataclass(frozen=True)
class LossTerm:
    """One summand of an update's loss.

    Args:
        name: ``owner/name``.
        value: scalar tensor with its graph.
        weight: factor; a term of weight 0 is reported but left out of the sum. The user's
            ``loss_weights`` replace it.
    """

    name: str
    value: Tensor
    weight: float | WeightSchedule = 1.0


@dataclass(frozen=True)
class Optimiser:
    """An optimiser of a group that does not take the run's.

    Args:
        name: ``sgd``, ``adam``, ``adamw``, ``amsgrad``, or any of torch.optim or timm by its name
            in lower case (``rmsprop``, ``lion``), which is looked up before the training.
        lr: learning rate, before the run's warm-up and decay.
        weight_decay, momentum, nesterov, betas: as torch.optim takes them; other optimisers than
            the first four have momentum and betas of their own where these are the defaults.
        follows_schedule: whether the run's warm-up and decay scale ``lr``.
        options: further settings of one of torch.optim or timm, by their names there.
    """

    name: str
    lr: float
    weight_decay: float = 0.0
    momentum: float = 0.9
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    follows_schedule: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch("[a-z][a-z0-9_]*", str(self.name)):
            check_word(self, "name", OPTIMISERS)


@dataclass(frozen=True)
class Group:
    """Parameters that are optimised together. Every trainable parameter is in exactly one group.

    Args:
        name: ``owner/name``.
        parameters: names of branches (all of their parameters) or of single parameters.
        optimiser: None takes the run's.
        lr_scale: factor on the learning rate (new layers at ten times the encoder's, say).
        frozen_until: epoch before which the group is not stepped. Batch norms whose parameters
            all wait use their running statistics until then, and leave them as they are.
    """

    name: str
    parameters: tuple[str, ...]
    optimiser: Optimiser | None = None
    lr_scale: float = 1.0
    frozen_until: int = 0

    def __post_init__(self) -> None:
        check_names(self, "parameters")


@dataclass(frozen=True)
class Pass:
    """One forward pass of an update.

    Args:
        name: ``owner/name``; the main update's first pass is ``main``.
        source: the source whose batch it runs on.
        image: ``clean``, ``erased``, or ``auto`` (erased where random erasing is on).
        bn: ``update`` (statistics of the batch, buffers move), ``batch`` (statistics of the
            batch, buffers untouched) or ``running``.
        update: the update that it belongs to, where a plugin adds it to another's.
        branches: patterns (fnmatch) of the branches that run on it; ``deployed`` stands for those
            that lead to what is deployed.
        shared: whether other plugins' losses should supervise it. A pass that shows rows of the
            batch a second time, for its owner's sake, is not shared.
        of: the pass of an earlier update of the same step whose outputs it shows again, so that
            nothing is computed twice; then the update runs only in steps in which that one is due,
            and everything else but ``name`` and ``update`` is that pass's.
        detached: says with ``of`` that the outputs have no graph.
        weights: other weights than the trained ones (``owner/name``), as the plugin offers them in
            `reid_weights`: a teacher's, say. The pass has no graph; it has logits, and its identity
            criteria no terms. What is not offered, or not yet, is as it is trained.
    """

    name: str
    source: str = MAIN
    image: ImageChoice = "auto"
    bn: Statistics = "batch"
    update: str = MAIN
    branches: tuple[str, ...] = ("*",)
    shared: bool = False
    of: str | None = None
    detached: bool = False
    weights: str | None = None

    def __post_init__(self) -> None:
        if self.weights is not None and (self.shared or self.of is not None):
            raise DeclarationError(
                f"Pass '{self.name}': with weights it has no graph to supervise and a forward of "
                "its own; leave shared and of out"
            )
        if (self.of is None) == self.detached:
            raise DeclarationError(
                f"Pass '{self.name}': of and detached belong together, of='main', detached=True: "
                "what another update computed has no graph any more"
            )
        check_word(self, "image", words_of(ImageChoice))
        check_word(self, "bn", words_of(Statistics))
        check_names(self, "branches")


MAIN_PASS = Pass(MAIN, bn="update", shared=True)
"""The first pass of the main update."""


def _check_every(every: tuple[int, int]) -> None:
    period, offset = every
    if period < 1 or not 0 <= offset < period:
        raise DeclarationError(
            f"every = {every}: the period must be 1 or more, the offset in 0 .. period - 1"
        )


@dataclass(frozen=True)
class Update:
    """One backward and one step within a training step.

    Args:
        name: ``owner/name``; the core's is ``main``.
        groups: groups that this update owns: no other update steps them without sharing.
        shares: patterns (fnmatch) of what this one steps too and another update owns: groups, or
            parts of the model, which mean the groups that hold their parameters.
        passes: its forward passes, in order; the first one's batch is the update's batch.
        terms: patterns (fnmatch) of the loss terms that it sums; None stands for its owner's.
        every: ``(period, offset)``: it runs in steps whose number is ``offset`` modulo ``period``.
        lr_scale: factor on the learning rates while it steps.
        after: updates that come before it in a step; ``before`` the other way round.
        optimiser: an optimiser of its own for all its groups, with moments of its own.
        at_start: take its gradient at the weights with which the step begins, before any update
            has stepped; otherwise an update sees what those before it left.
        begin: epoch (0-based) from which it runs.
    """

    name: str
    groups: tuple[str, ...] = ()
    shares: tuple[str, ...] = ()
    passes: tuple[Pass, ...] = ()
    terms: tuple[str, ...] | None = None
    every: tuple[int, int] = (1, 0)
    lr_scale: float = 1.0
    after: tuple[str, ...] = (MAIN,)
    before: tuple[str, ...] = ()
    optimiser: Optimiser | None = None
    at_start: bool = False
    begin: int = 0

    def __post_init__(self) -> None:
        _check_every(self.every)
        check_names(self, "groups", "shares", "terms", "after", "before")
        check_not_bare(self, "passes", Pass)

    def due(self, step: int) -> bool:
        """Return whether it runs in a step (0-based)."""
        period, offset = self.every
        return step % period == offset


@dataclass(frozen=True)
class Schedule:
    """A plugin's share of the schedule.

    Args:
        groups: optimiser groups; what nobody groups is grouped by the core.
        updates: updates beside ``main``.
        passes: passes that it adds to updates, its own or ``main``.
        main_without: patterns of terms that ``main`` leaves to another update.
        main_every: when ``main`` runs, where it alternates with another update.
    """

    groups: tuple[Group, ...] = ()
    updates: tuple[Update, ...] = ()
    passes: tuple[Pass, ...] = ()
    main_without: tuple[str, ...] = ()
    main_every: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.main_every is not None:
            _check_every(self.main_every)
        check_names(self, "main_without")
        for attribute, kind in (("groups", Group), ("updates", Update), ("passes", Pass)):
            check_not_bare(self, attribute, kind)


@dataclass(frozen=True)
class Weights:
    """Other weights of the model than those that are trained.

    Args:
        name: ``owner/name``.
        values: parameters and buffers by the names of ``ctx.model.state_dict()``, on any device;
            what is left out stays as it is trained.
    """

    name: str
    values: Mapping[str, Tensor]


@dataclass(frozen=True)
class Synthetic:
    """Generated images, with the real rows that lend them their labels.

    Args:
        name: ``owner/name``; the pass that the images get.
        images: ``N 3 H W``, normalised like the batch, with or without graph.
        spatial_from: int64 ``N``: rows of the batch that lend spatial fields (``parts``).
        identity_from: int64 ``N``: rows that lend pid, clothes and identity-bound fields.
        route: ``join`` (rows of the batch), ``detached`` (through the live model, no gradient to
            the images) or ``frozen_copy`` (the model's parameters detached: gradient to the images
            only).
        soft_targets: float ``N K`` over training identities, in place of the donors' labels.
        identity_weight: factor on the identity criteria's terms of a pass of its own; 0 leaves
            identity to the plugin's own losses.
        identity_of: patterns (fnmatch) of the embeddings whose terms those are. Where geometry and
            identity have different donors, an embedding of the geometry should not be among them.
    """

    name: str
    images: Tensor
    spatial_from: Tensor
    identity_from: Tensor
    route: Route = "join"
    soft_targets: Tensor | None = None
    identity_weight: float = 0.0
    identity_of: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        check_word(self, "route", words_of(Route))
        check_names(self, "identity_of")

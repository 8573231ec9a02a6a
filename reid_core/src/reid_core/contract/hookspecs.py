"""The hook specifications: everything that a plugin can say to the core.

A hook implementation may name any subset of its hook's arguments. It must not use ``tryfirst``,
``trylast``, ``wrapper`` or argument defaults: the order of plugins never shows, because the core
sorts what it gets by owner and name, and topologically where something is read and written.

Every name that a hook returns (branch, output, embedding, loss term, group, update, pass, source)
is written in full, ``owner/name``, and belongs to the plugin that returns it. Docstrings say when
a hook is called, what its return value does, and how the answers of several plugins combine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable

    from reid_core.contract.batches import Batch
    from reid_core.contract.context import RunContext
    from reid_core.contract.criterion import IdentityCriterion
    from reid_core.contract.encoder import Encoder
    from reid_core.contract.events import Event
    from reid_core.contract.labelers import Labeler
    from reid_core.contract.model import Branch, Embedding, Tap
    from reid_core.contract.plugin import EncoderProvider, PoolingProvider
    from reid_core.contract.samples import DataProvider
    from reid_core.contract.step import LossTerm, Schedule, Synthetic, Weights
    from reid_core.contract.views import EvaluationView, Metric, PassView, StepView, UpdateReport
    from reid_retrieval.protocols import Protocol

PROJECT = "reid"
"""Name of the pluggy project; the entry-point groups are ``reid.plugins`` and ``reid.commands``."""

_F = TypeVar("_F", bound="Callable[..., object]")

_marker = pluggy.HookspecMarker(PROJECT)
_hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True)
class Lifetime:
    """Since when there is a hook with its arguments, and what of it leaves.

    An argument may be added at any time. What leaves warns through two minor versions first.

    Args:
        since: the core's version that brought the hook.
        added: the version that brought an argument, where it is a later one.
        deprecated: what leaves: the hook (``""``) or an argument, with the version that removes it
            and what to use instead: ``"0.4; read ctx.progress"``.
    """

    since: str
    added: Mapping[str, str] = field(default_factory=dict)
    deprecated: Mapping[str, str] = field(default_factory=dict)


LIFETIMES: dict[str, Lifetime] = {}
"""Lifetime of every hook, by name."""


def _hookspec(since: str, **changes: Mapping[str, str]) -> Callable[[_F], _F]:
    """Mark a specification; see `Lifetime` for the arguments."""

    def mark(function: _F) -> _F:
        LIFETIMES[function.__name__] = Lifetime(since, **changes)
        return _marker(function)

    return mark


def hookimpl(function: _F) -> _F:
    """Mark a method of a plugin as the implementation of the hook with the same name."""
    return _hookimpl(function)


@_hookspec(since="0.1")
def reid_backbones() -> Sequence[EncoderProvider]:
    """Offer encoders under names, for ``--backbone NAME``.

    Called on demand, when a name is looked up or listed. Requested plugins are searched first,
    then the core, then all installed plugins; two providers of one name within a plugin group are
    an error. Any name that nobody offers is taken for a timm model.

    Returns:
        Providers; ``build`` is called only for the one that was chosen.
    """


@_hookspec(since="0.1")
def reid_poolings() -> Sequence[PoolingProvider]:
    """Offer poolings under names, for ``-s model.pooling=NAME`` or ``model.frame_pooling=NAME``.

    Called on demand, when a name is looked up that is none of the core's (``avg``, ``max``,
    ``gem``; of frames ``mean``, ``max``). Requested plugins are searched first, then all installed
    plugins.

    Returns:
        Providers; ``build`` is called only for the one that was chosen.
    """


@_hookspec(since="0.1")
def reid_backbone(ctx: RunContext) -> Encoder:
    """Build the encoder, for plugins that claim the slot ``backbone``.

    Called once per run when the model is built. Only the owner of the slot is asked: the plugin
    that claims it, otherwise the core, which builds what ``model.backbone`` names.

    Args:
        ctx: the run.

    Returns:
        An encoder with named taps whose channels and strides a dry forward pass verifies.
    """


@_hookspec(since="0.1")
def reid_auxiliary_branches(ctx: RunContext, taps: Mapping[str, Tap]) -> Sequence[Branch]:
    """Add branches: heads, poolings, second streams, decoders, frozen networks, embeddings.

    Called once per run, after the encoder is built. Branches of all plugins are gathered and
    ordered by what they read and write; a branch without ``reads`` is never called by the core and
    is at the disposal of its plugin's losses (a discriminator).

    Args:
        ctx: the run.
        taps: the encoder's taps by name. Outputs of other plugins' branches are known only after
            all have answered, so a branch that reads them gives a factory instead of a module.

    Returns:
        Branches, named ``owner/...``. An embedding that is declared ``at_test`` pulls the branch
        that writes its input, and all that this one reads, into the exported embedder. Who claims
        the slot ``embedding`` replaces the core's global embedding.
    """


@_hookspec(since="0.1")
def reid_embedding_branches(
    ctx: RunContext, embedding: Embedding, dims: Mapping[str, int]
) -> Sequence[Branch]:
    """Add branches for one embedding that describes a person at test.

    Called once per embedding that is declared ``at_test``, in name order, when all of
    `reid_auxiliary_branches` are built: for what every one of them gets one of, such as a
    classifier of something else than identity. What is read as a whole needs no such hook: a
    branch may read ``deployed`` (`Branch.reads`).

    Args:
        ctx: the run.
        embedding: its declaration.
        dims: lengths of its vectors (``raw``, ``neck``, ``unit``).

    Returns:
        Branches, named ``owner/...`` with the embedding in the name
        (``self.own(f"head/{embedding.name}")``); they may read its vectors
        (``f"{embedding.name}:raw"``) and declare embeddings with ``at_test=False``.
    """


@_hookspec(since="0.1")
def reid_identity(
    ctx: RunContext, embedding: Embedding, dims: Mapping[str, int]
) -> IdentityCriterion:
    """Build the identity criterion of one embedding, for plugins that claim the slot ``identity``.

    Called once per supervised embedding when the model is built; only the owner of the slot is
    asked. The core's own criterion is cross-entropy and batch-hard triplet.

    Args:
        ctx: the run; ``ctx.num_identities`` is the number of training identities.
        embedding: what is supervised, and what supervision it wants.
        dims: lengths of its vectors (``raw``, ``neck``, ``unit``).

    Returns:
        A criterion; its terms are named after the embedding (``core/global/ce``).
    """


@_hookspec(since="0.1")
def reid_losses(ctx: RunContext, step: StepView) -> Sequence[LossTerm]:
    """Compute loss terms of one update.

    Called once per update and step, on the device, within the forward of the update: modules that
    are registered as branches may be called here and get their gradients. Terms of all plugins
    are summed in name order after weighting. ``step.update`` says which update is computed; a
    plugin that has nothing to say for it returns an empty list.

    A term must not depend on how many other plugins there are, must not synchronise the device
    (no ``.item()`` or ``.cpu()``), and runs on every pass that carries what it needs
    (``step.passes_with("parts")``), so that generated images are supervised for free.

    Args:
        ctx: the run.
        step: the update, its passes with their batches and outputs.

    Returns:
        Terms named ``owner/name``, scalars with their graph.
    """


@_hookspec(since="0.1")
def reid_data_synthesis(
    ctx: RunContext, batch: Batch, feats: Mapping[str, PassView] | None, update: str
) -> Sequence[Synthetic]:
    """Generate images in the middle of a step.

    Called twice per update: before its passes with ``feats`` None, and after them with all of
    their outputs. Before the forward, ``join`` is the only route; after it, the other two. Labels
    follow the donors that a `Synthetic` names, so plugins need not know of each other.

    Args:
        ctx: the run.
        batch: rows of the update's first pass, on the device.
        feats: the update's passes by name, or None before them.
        update: name of the update.

    Returns:
        Images, each with the rows that lend it geometry and identity; an empty list for none.
    """


@_hookspec(since="0.1")
def reid_datasets() -> Sequence[DataProvider]:
    """Offer data sets (``--data NAME``) and further training sources, under unique names.

    Called on demand; ``load`` is called only for the chosen one. Requested plugins are searched
    first, then the core, then all installed plugins.

    Returns:
        Providers of data sets, and of sources (``kind="source"``).
    """


@_hookspec(since="0.1")
def reid_pseudo_labels(ctx: RunContext) -> Sequence[Labeler]:
    """Offer labelers: makers of a field, or of identities.

    Called once at resolve, before anything is built; a labeler's ``make`` runs later, once before
    training or at each epoch's start. A field has one maker: the one that ``--label`` names,
    otherwise the data set itself, otherwise the only labeler that offers it. A labeler of ``pid``
    needs the claim ``labels:pid``.

    Args:
        ctx: the run; the model is not built yet.

    Returns:
        Labelers; one that nobody needs is never called.
    """


@_hookspec(since="0.1")
def reid_schedule(ctx: RunContext, params: Mapping[str, Sequence[str]]) -> Schedule:
    """Add optimiser groups, updates and passes to the run's schedule.

    Called once per run, after the model is built. The answers of all plugins are merged. What
    nobody names stays with the core: every branch's parameters form a group with the branch's
    name, optimised in the update ``main`` with the run's optimiser.

    Args:
        ctx: the run.
        params: names of the trainable parameters by branch, ``encoder`` and identity criteria
            included; a `Group` refers to parameters by these names or by a branch's name.

    Returns:
        Groups, updates and passes of this plugin alone; empty parts change nothing.
    """


@_hookspec(since="0.1")
def reid_after_step(ctx: RunContext, reports: Mapping[str, UpdateReport]) -> None:
    """Act after the optimisers of a step: move averages, memories, a mean teacher.

    Called once per step and process, after all updates of the step, without gradients; the model
    (``ctx.model``) holds what the step left, ``ctx.progress`` still counts the step just done.
    Plugins are called in name order. What the hook does must be the same on every process, and
    must not synchronise the device. What it keeps between steps belongs into
    `Plugin.checkpoint_state`, or into a branch that is ``frozen`` and ``moving``, so that a run
    that resumes has it.

    Args:
        ctx: the run.
        reports: what each update did, by name; ``main`` is missing where it was not due.
    """


@_hookspec(since="0.1")
def reid_weights(ctx: RunContext) -> Sequence[Weights]:
    """Offer other weights of the model, for ``-s evaluation.weights=NAME``.

    Called when a model is evaluated or stored and the user asks for a name of this plugin: an
    average over steps, say. What is offered takes the place of the trained weights for as long as
    features are taken, and in the stored embedder; the training goes on with its own.

    Args:
        ctx: the run.

    Returns:
        Weights, named ``owner/name``; none before there are any.
    """


@_hookspec(since="0.1")
def reid_evaluation_protocols() -> Sequence[Protocol]:
    """Offer evaluation protocols under unique names, as data.

    Called on demand. Requested plugins are searched first, then the core, then all installed.

    Returns:
        Protocols; ``evaluation.protocols`` and data sets name those to report.
    """


@_hookspec(since="0.1")
def reid_metrics(ctx: RunContext, evaluation: EvaluationView) -> Sequence[Metric]:
    """Measure numbers of one's own whenever a model is evaluated.

    Called after the protocols, on every process, with the model (``ctx.model``) in evaluation mode
    and without gradients. The numbers stand in the table, in ``results.json``, in the event
    `Evaluated`, in TensorBoard; ``evaluation.select_by`` selects the epoch by one of them.

    Args:
        ctx: the run.
        evaluation: data set, features and results, and any output of the model on the images.

    Returns:
        Numbers named ``owner/name``; an empty list where there is nothing to measure.
    """


@_hookspec(since="0.1")
def reid_observe(event: Event, ctx: RunContext) -> None:
    """Observe the loop: a run, epoch, step or evaluation has begun or ended.

    Called on rank 0 only. The only hook whose errors are caught: an observer that raises is
    reported once and dropped, the training goes on.

    Args:
        event: `RunBegan`, `StepEnded`, `EpochEnded`, `Evaluated` or `RunEnded`.
        ctx: the run, with its data and its model; an observer changes neither.
    """


HOOKS = tuple(LIFETIMES)
"""All hooks, by kind: the encoder, the model, the step, data and labels, schedule, evaluation."""

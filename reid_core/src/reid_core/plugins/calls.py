"""Typed hook calls: one method per hook, plugins always in name order, the answers with owners.

pluggy validates the implementations; the core calls them itself, because a hook call of pluggy
returns a flat list in registration order, in which nobody can tell who said what.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

from reid_core.contract import hookspecs
from reid_core.contract.hookspecs import HOOKS, LIFETIMES, PROJECT
from reid_core.contract.step import LossTerm, Schedule
from reid_core.contract.views import Metric
from reid_core.errors import (
    DeclarationError,
    PluginError,
    ReidError,
    UnknownNameError,
    did_you_mean,
    typed_reason,
)
from reid_core.machine.randomness import StepScopes, scoped
from reid_core.moved import answer_former_names

if TYPE_CHECKING:
    from reid_core.contract.batches import Batch
    from reid_core.contract.context import RunContext
    from reid_core.contract.criterion import IdentityCriterion
    from reid_core.contract.encoder import Encoder
    from reid_core.contract.events import Event
    from reid_core.contract.labelers import Labeler
    from reid_core.contract.model import Branch, Embedding, Tap
    from reid_core.contract.plugin import Plugin
    from reid_core.contract.step import Synthetic, Weights
    from reid_core.contract.views import EvaluationView, PassView, StepView, UpdateReport

T = TypeVar("T")

OFFERS = {
    "datasets": "reid_datasets",
    "backbones": "reid_backbones",
    "poolings": "reid_poolings",
    "protocols": "reid_evaluation_protocols",
}
"""What is offered by name, as `Offers` calls it, and the hook that offers it."""


class HookCalls:
    """Call hooks on a fixed set of plugins.

    Args:
        plugins: instances by name; the core's own plugin is one of them.

    Raises:
        PluginError: a misspelt hook, an argument that its specification lacks, an option or an
            argument default that the contract forbids.
    """

    def __init__(self, plugins: Mapping[str, Plugin]) -> None:
        self.plugins = dict(sorted(plugins.items()))
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(hookspecs)
        for name, plugin in self.plugins.items():
            try:
                self._manager.register(plugin, name=name)
                self._manager.check_pending()
            except pluggy.PluginValidationError as error:
                raise PluginError(_explain(name, plugin, error)) from error
            _warn_of_leaving(name, plugin)
        self._implementations = {hook: self._implementations_of(hook) for hook in HOOKS}
        for name, plugin in self.plugins.items():
            for hook in HOOKS:
                if hasattr(plugin, hook) and name not in self._implementations[hook]:
                    raise PluginError(f"plugin '{name}': {hook} must be marked with @hookimpl")

    def _implementations_of(self, hook: str) -> dict[str, pluggy.HookImpl]:
        found = {}
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            name = implementation.plugin_name
            options = ("tryfirst", "trylast", "wrapper", "hookwrapper", "optionalhook")
            used = [option for option in options if getattr(implementation, option)]
            if used:
                raise PluginError(
                    f"plugin '{name}', hook {hook}: {', '.join(used)} is not allowed; the core "
                    "orders plugins by name and by what they read and write"
                )
            # Not pluggy's `kwargnames`: it overlooks what stands behind a `*`.
            taken = inspect.signature(implementation.function).parameters.values()
            defaults = [one.name for one in taken if one.default is not one.empty]
            if defaults:
                raise PluginError(
                    f"plugin '{name}', hook {hook}: argument '{defaults[0]}' has a default; a "
                    "default would hide what the core passes"
                )
            found[name] = implementation
        return found  # in the order in which they were registered

    def implementers(self, hook: str) -> tuple[str, ...]:
        """Return the names of the plugins that implement a hook, sorted."""
        return tuple(self._implementations[hook])

    def _each(
        self, hook: str, arguments: Mapping[str, Any], only: str | None = None
    ) -> Iterator[tuple[str, Any]]:
        found = self._implementations[hook]
        chosen = found if only is None else {only: found[only]} if only in found else {}
        for name, implementation in chosen.items():
            with _named(name, hook):
                answer = _called(implementation, arguments)
            yield name, answer

    def _lists(
        self, hook: str, arguments: Mapping[str, Any], only: str | None = None
    ) -> list[tuple[str, Any]]:
        pairs: list[tuple[str, Any]] = []
        for name, answer in self._each(hook, arguments, only):
            pairs += _owned(name, hook, answer)
        return pairs

    def _slot(self, hook: str, owner: str, kind: type[T], arguments: Mapping[str, Any]) -> T:
        for _, answer in _of_kind(hook, kind, self._each(hook, arguments, only=owner)):
            return answer
        raise PluginError(f"plugin '{owner}' claims a slot but does not implement {hook}")

    def _branches(
        self, hook: str, ctx: RunContext, arguments: Mapping[str, Any], behind: str = ""
    ) -> list[tuple[str, Branch]]:
        """Call a hook that builds, each plugin in a random scope of its name and what is behind."""
        found: list[tuple[str, Branch]] = []
        for name in self.implementers(hook):
            with scoped(ctx.config.run.seed, hook, f"{name}{behind}"):
                found += self._lists(hook, {"ctx": ctx, **arguments}, only=name)
        return found

    def offered(self, kind: str) -> list[tuple[str, Any]]:
        """Return what plugins offer by name, of one of the kinds of `OFFERS`."""
        return self._lists(OFFERS[kind], {})

    # Resolve and build -----------------------------------------------------------------------

    def pseudo_labels(self, ctx: RunContext) -> list[tuple[str, Labeler]]:
        """Call `reid_pseudo_labels`."""
        return self._lists("reid_pseudo_labels", {"ctx": ctx})

    def backbone(self, owner: str, ctx: RunContext) -> Encoder:
        """Call `reid_backbone` on the slot's owner."""
        from reid_core.contract.encoder import Encoder

        with scoped(ctx.config.run.seed, "reid_backbone", owner):
            return self._slot("reid_backbone", owner, Encoder, {"ctx": ctx})

    def auxiliary_branches(
        self, ctx: RunContext, taps: Mapping[str, Tap]
    ) -> list[tuple[str, Branch]]:
        """Call `reid_auxiliary_branches`, each plugin in its own random scope."""
        return self._branches("reid_auxiliary_branches", ctx, {"taps": taps})

    def embedding_branches(
        self, ctx: RunContext, embedding: Embedding, dims: Mapping[str, int]
    ) -> list[tuple[str, Branch]]:
        """Call `reid_embedding_branches`, each plugin in its own random scope."""
        arguments = {"embedding": embedding, "dims": dims}
        return self._branches("reid_embedding_branches", ctx, arguments, f"/{embedding.name}")

    def identity(
        self, owner: str, ctx: RunContext, embedding: Embedding, dims: Mapping[str, int]
    ) -> IdentityCriterion:
        """Call `reid_identity` on the slot's owner."""
        from reid_core.contract.criterion import IdentityCriterion

        arguments = {"ctx": ctx, "embedding": embedding, "dims": dims}
        with scoped(ctx.config.run.seed, "reid_identity", embedding.name):
            return self._slot("reid_identity", owner, IdentityCriterion, arguments)

    def schedules(
        self, ctx: RunContext, params: Mapping[str, Sequence[str]]
    ) -> list[tuple[str, Schedule]]:
        """Call `reid_schedule`."""
        answers = self._each("reid_schedule", {"ctx": ctx, "params": params})
        return list(_of_kind("reid_schedule", Schedule, answers))

    def weights(self, ctx: RunContext, owner: str) -> list[tuple[str, Weights]]:
        """Call `reid_weights` on one plugin."""
        return self._lists("reid_weights", {"ctx": ctx}, only=owner)

    # The step --------------------------------------------------------------------------------

    def losses(self, ctx: RunContext, step: StepView) -> list[tuple[str, LossTerm]]:
        """Call `reid_losses`, each plugin in its own random scope."""
        found = self._scoped("reid_losses", "losses", ctx, {"step": step})
        return list(_of_kind("reid_losses", LossTerm, found))

    def data_synthesis(
        self,
        ctx: RunContext,
        batch: Batch,
        feats: Mapping[str, PassView] | None,
        update: str,
    ) -> list[tuple[str, Synthetic]]:
        """Call `reid_data_synthesis`, each plugin in its own random scope."""
        arguments = {"batch": batch, "feats": feats, "update": update}
        return self._scoped("reid_data_synthesis", "synthesis", ctx, arguments)

    def after_step(self, ctx: RunContext, reports: Mapping[str, UpdateReport]) -> None:
        """Call `reid_after_step`, each plugin in its own random scope."""
        self._scoped("reid_after_step", "after", ctx, {"reports": reports}, answers=False)

    def _scoped(
        self,
        hook: str,
        purpose: str,
        ctx: RunContext,
        given: Mapping[str, Any],
        answers: bool = True,
    ) -> list[tuple[str, Any]]:
        # Several times in every step, so in one function what the other hooks do in three.
        found: list[tuple[str, Any]] = []
        if self._implementations[hook]:
            arguments = {"ctx": ctx, **given}
            with scopes_of(ctx).several() as begin:
                for name, implementation in self._implementations[hook].items():
                    begin(f"{name}/{purpose}")
                    with _named(name, hook):
                        answer = _called(implementation, arguments)
                    if answers:
                        found += _owned(name, hook, answer)
        return found

    def metrics(self, ctx: RunContext, evaluation: EvaluationView) -> list[tuple[str, Metric]]:
        """Call `reid_metrics`."""
        found = self._lists("reid_metrics", {"ctx": ctx, "evaluation": evaluation})
        return list(_of_kind("reid_metrics", Metric, found))

    def observe(self, event: Event, report: Any, ctx: RunContext | None = None) -> None:
        """Call `reid_observe`; an observer that raises is reported once and dropped."""
        arguments = {"event": event, "ctx": ctx}
        for name, implementation in list(self._implementations["reid_observe"].items()):
            try:
                _called(implementation, arguments)
            except (ReidError, Exception) as error:
                del self._implementations["reid_observe"][name]
                failed = f"observer '{name}' failed at {type(event).__name__} and is dropped"
                report(f"{failed}: {typed_reason(error)}")


def _called(implementation: pluggy.HookImpl, arguments: Mapping[str, Any]) -> Any:
    return implementation.function(*[arguments[key] for key in implementation.argnames])


def _owned(name: str, hook: str, answer: Any) -> list[tuple[str, Any]]:
    if not isinstance(answer, list) and (
        isinstance(answer, str | Mapping) or not isinstance(answer, Iterable)
    ):
        raise PluginError(
            f"plugin '{name}', hook {hook}: must return a list, got {type(answer).__name__}"
        )
    return [(name, item) for item in answer]


def _of_kind(
    hook: str, kind: type[T], answers: Iterable[tuple[str, Any]]
) -> Iterator[tuple[str, T]]:
    """Yield answers with their owners, and refuse those of another kind."""
    for name, answer in answers:
        if not isinstance(answer, kind):
            raise PluginError(
                f"plugin '{name}', hook {hook}: must return {kind.__name__}, got "
                f"{type(answer).__name__}"
            )
        yield name, answer


def scopes_of(ctx: RunContext) -> StepScopes:
    """Return the random scopes of the step that a run is about to do."""
    cuda = ctx.device.type == "cuda"
    return StepScopes(ctx.config.run.seed, ctx.progress.iteration, ctx.rank, cuda)


class _named:
    """Put plugin and hook in front of what a plugin declared or asked for wrongly.

    A class and no generator, for it is entered several times in every step.
    """

    __slots__ = ("hook", "name")

    def __init__(self, name: str, hook: str) -> None:
        self.name, self.hook = name, hook

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, DeclarationError | UnknownNameError):
            said = str(error)
            if not said.startswith(("plugin '", "stage '")):
                error.args = (f"plugin '{self.name}', hook {self.hook}: {said}",)
        elif isinstance(error, Exception) and not isinstance(error, ReidError):
            # A fault in its code: the traceback is its author's, and ends with whose it is.
            error.add_note(f"in plugin '{self.name}', hook {self.hook}")


def _warn_of_leaving(name: str, plugin: Plugin) -> None:
    """Warn of hooks and arguments that a plugin uses and a later version of the core lacks."""
    for hook, lifetime in LIFETIMES.items():
        method = getattr(plugin, hook, None)
        if method is None:
            continue
        for argument, until in lifetime.deprecated.items():
            if argument and argument not in inspect.signature(method).parameters:
                continue
            what = f"argument '{argument}' of the hook {hook}" if argument else f"hook {hook}"
            version, _, instead = until.partition("; ")
            warnings.warn(
                f"plugin '{name}': the {what} is deprecated and leaves reid-core in {version}: "
                f"{instead}",
                DeprecationWarning,
                stacklevel=3,
            )


def _explain(name: str, plugin: Plugin, error: pluggy.PluginValidationError) -> str:
    # A plugin for a newer core is likelier than a slip of the pen.
    core = metadata.version("reid-core")
    for attribute in dir(plugin):
        if attribute.startswith("reid_") and attribute not in HOOKS:
            known = did_you_mean(attribute, HOOKS)
            return f"plugin '{name}': reid-core {core} has no hook '{attribute}'{known}"
    for hook in HOOKS:
        takes = inspect.signature(getattr(hookspecs, hook)).parameters
        method = getattr(plugin, hook, None)
        for argument in inspect.signature(method).parameters if method else ():
            if argument not in takes:
                listed = ", ".join(takes) or "none"
                return (
                    f"plugin '{name}': reid-core {core} has no argument '{argument}' of the hook "
                    f"{hook}{did_you_mean(argument, takes)} (it has: {listed})"
                )
    text = str(error).replace("\n", " ")
    return f"plugin '{name}': {text}"


answer_former_names(__name__)

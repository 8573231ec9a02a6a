"""Other weights than the trained ones, put in for an evaluation or an export."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from reid_core.contract.names import check_known, check_owned
from reid_core.contract.step import Weights
from reid_core.errors import ConfigError, PluginError, with_choices
from reid_core.loop.assembly import Assembly
from reid_core.loop.state import copy_into


def check_weights(
    name: str | None, implementers: tuple[str, ...], asked: str = "evaluation.weights"
) -> None:
    """Refuse, before the training, weights that no plugin of the run can offer.

    Args:
        name: of the weights; None asks for none.
        implementers: plugins with the hook ``reid_weights``.
        asked: who asks for them, for the message.

    Raises:
        ConfigError: with the plugins that offer some.
    """
    if name is not None and name.partition("/")[0] not in implementers:
        listed = ", ".join(implementers) or "none"
        raise ConfigError(
            f"{asked} = '{name}': no plugin '{name.partition('/')[0]}' of this run "
            f"offers weights (plugins that do: {listed}); the names are owner/name"
        )


@contextmanager
def chosen_weights(assembly: Assembly) -> Iterator[None]:
    """Let the model have the weights that ``evaluation.weights`` names; the trained ones return.

    Before the first step there may be none, and the model stays as it is.

    Raises:
        ConfigError: the plugin offers none of the name.
        PluginError: they do not fit the model.
    """
    name, ctx = assembly.config.evaluation.weights, assembly.ctx
    offers: dict[str, Weights] = {}
    if name is not None:
        owner = name.partition("/")[0]
        for _, offer in assembly.calls.weights(ctx, owner):
            check_owned(owner, "weights", offer.name)
            offers[offer.name] = offer
    if name is None or (not offers and ctx.progress.iteration == 0):
        yield
        return
    if name not in offers:
        wrong = f"evaluation.weights = '{name}': there are none of this name"
        raise ConfigError(with_choices(wrong, name, sorted(offers)))
    offer, state = offers[name], assembly.model.state_dict()
    for entry, value in offer.values.items():
        check_known(entry, state, f"weights '{name}': the model has no")
        if value.shape != state[entry].shape:
            raise PluginError(
                f"weights '{name}': '{entry}' has shape {tuple(value.shape)}, the model's "
                f"{tuple(state[entry].shape)}"
            )
    # All of it: batch norms may be re-estimated while the other weights are in.
    trained = {entry: kept.clone() for entry, kept in state.items()}
    copy_into(state, offer.values)
    try:
        yield
    finally:
        copy_into(state, trained)

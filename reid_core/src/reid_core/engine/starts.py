"""Let parameters of a run start from a stage's, by name."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from reid_core.engine.context import RunContext
from reid_core.engine.declarations import Start
from reid_core.errors import ConflictError, PluginError
from reid_core.model.graph import ReidModel


def apply_starts(ctx: RunContext, owned: Sequence[tuple[str, Start]], model: ReidModel) -> None:
    """Copy entries of stages' state dicts into a model, by name.

    Args:
        ctx: the run.
        owned: pairs of plugin and start.
        model: the run's model.

    Raises:
        ConflictError: two plugins start the same entry; both are named.
        PluginError: a pattern matches nothing that both models have.
    """
    ours = model.state_dict()
    started: dict[str, str] = {}
    for owner, start in owned:
        theirs = ctx.stage(start.stage).model.state_dict()
        for pattern in start.entries:
            names = [name for name in fnmatch.filter(theirs, pattern) if _fits(name, ours, theirs)]
            if not names:
                raise PluginError(
                    f"plugin '{owner}': nothing in stage '{start.stage.name}' fits '{pattern}' of "
                    "the run's model by name and shape"
                )
            for name in names:
                if started.setdefault(name, owner) != owner:
                    raise ConflictError(
                        f"plugins '{started[name]}' and '{owner}' both start '{name}' from a stage"
                    )
                with torch.no_grad():
                    ours[name].copy_(theirs[name])


def _fits(name: str, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> bool:
    return name in ours and ours[name].shape == theirs[name].shape

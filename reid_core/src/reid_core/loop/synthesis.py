"""Generated images take their labels from the real rows that lent them geometry and identity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from reid_core.contract.batches import OF_ROWS, Batch
from reid_core.contract.fields import FieldKind
from reid_core.contract.step import Synthetic
from reid_core.errors import PluginError

_SPATIAL = (FieldKind.IMAGE, FieldKind.LABELS, FieldKind.POINTS, FieldKind.SCALAR)
"""Fields that follow the geometry's donor; a fixed array (a texture) follows the identity's."""


def check_synthetic(owner: str, synthetic: Synthetic, batch: Batch, before: bool) -> None:
    """Refuse generated images that do not fit their batch or their moment.

    Args:
        owner: the plugin.
        synthetic: what it returned.
        batch: the batch whose rows lend the labels.
        before: whether the forward is still to come.

    Raises:
        PluginError: naming the plugin and what is wrong.
    """
    where = f"plugin '{owner}', generated images '{synthetic.name}'"
    if synthetic.name.partition("/")[0] != owner:
        raise PluginError(f"{where}: the name must start with '{owner}/'")
    if (synthetic.route == "join") != before:
        moment = "before" if before else "after"
        raise PluginError(
            f"{where}: the route '{synthetic.route}' is not possible {moment} the forward"
        )
    shape, wanted = tuple(synthetic.images.shape), (3, *batch.image.shape[2:])
    if shape[1:] != wanted:
        raise PluginError(f"{where}: images have shape {shape}, the batch has N x {wanted}")
    for label, rows in (
        ("spatial_from", synthetic.spatial_from),
        ("identity_from", synthetic.identity_from),
    ):
        if tuple(rows.shape) != shape[:1]:
            raise PluginError(f"{where}: {label} has shape {tuple(rows.shape)}, not ({shape[0]},)")


def labelled(synthetic: Synthetic, batch: Batch) -> Batch:
    """Return the generated images as a batch whose labels come from their donors."""
    spatial, identity = synthetic.spatial_from, synthetic.identity_from
    fields = {
        name: value[spatial if batch.specs[name].kind in _SPATIAL else identity]
        for name, value in batch.fields.items()
    }
    return replace(
        batch,
        image=synthetic.images,
        pid=batch.pid[identity],
        camid=batch.camid[spatial],
        clothes=batch.clothes[identity],
        index=batch.index[identity],
        origin=identity,
        source=synthetic.name,
        fields=fields,
        draws={},
        erased=None,
    )


def joined(batch: Batch, synthetics: Sequence[Synthetic]) -> tuple[Batch, Tensor | None]:
    """Append generated images to a batch.

    Returns:
        The longer batch, and soft targets ``B K`` (rows of zeros where the label counts) or None.
    """
    if not synthetics:
        return batch, None
    parts = [batch, *(labelled(synthetic, batch) for synthetic in synthetics)]
    rows: dict[str, Any] = {
        name: torch.cat([getattr(part, name) for part in parts]) for name in OF_ROWS
    }
    erased = None
    if batch.erased is not None:
        erased = torch.cat([batch.erased, *(part.image for part in parts[1:])])
    longer = replace(
        batch,
        **rows,
        fields={n: torch.cat([part.fields[n] for part in parts]) for n in batch.fields},
        draws={},
        erased=erased,
    )
    return longer, _soft_rows(len(batch), synthetics)


def _soft_rows(real: int, synthetics: Sequence[Synthetic]) -> Tensor | None:
    given = [s.soft_targets for s in synthetics if s.soft_targets is not None]
    if not given:
        return None
    rows = [given[0].new_zeros(real, given[0].shape[1])]
    for one in synthetics:
        none = rows[0].new_zeros(len(one.images), rows[0].shape[1])
        rows.append(none if one.soft_targets is None else one.soft_targets)
    return torch.cat(rows)

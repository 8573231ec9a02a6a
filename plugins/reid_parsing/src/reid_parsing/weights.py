"""Files of weights: parsers saved here, and the released weights of SCHP."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from reid_core.data.encoding import write_whole
from reid_core.errors import CheckpointError
from reid_parsing.inference import BodyParser
from reid_parsing.lookup import label_set
from reid_parsing.networks.build import NETWORKS, build_parser
from reid_parsing.networks.schp import Schp
from reid_parsing.recipes import RECIPES

FORMAT = "reid-parsing parser 1"
"""Names the format in the metadata of a saved parser."""

IABN_EPS = 1e-5
"""What in-place activated batch norm adds to the magnitude of its scale."""

_SHOWN = 3
_PREFIX = "module."
_COUNTER = ".num_batches_tracked"


def save_parser(parser: BodyParser, path: Path) -> None:
    """Write a parser as safetensors; its metadata say which network, classes and input size.

    Args:
        parser: what to save.
        path: the file, ``.safetensors``.
    """
    state = {name: value.contiguous() for name, value in parser.network.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "network": parser.architecture,
        "labels": parser.labels.name,
        "size": json.dumps(list(parser.size)),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, save(state, metadata))


SETTINGS = ("parsing.network", "parsing.label_set")
"""Settings that choose the network and its classes, for messages."""


def saved_parser_facts(path: Path, keys: tuple[str, str] = SETTINGS) -> dict[str, str]:
    """Return the metadata of a saved parser without reading its weights.

    Args:
        path: the file.
        keys: settings by which the user chose it, for messages; see `SETTINGS`.

    Raises:
        CheckpointError: the file is missing, or no parser that `save_parser` wrote.
    """
    facts: Mapping[str, str] = {}
    if not path.is_file():
        raise CheckpointError(f"there are no parser weights at {path}")
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length < 2**24:
                facts = json.loads(file.read(length)).get("__metadata__") or {}
    except (OSError, ValueError, AttributeError):
        facts = {}
    if facts.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is no parser saved by `reid parsing train`; released SCHP weights need "
            f"-s {keys[0]}=schp and -s {keys[1]}=pascal, lip or atr"
        )
    return dict(facts)


def load_parser(
    path: Path, network: str | None = None, keys: tuple[str, str] = SETTINGS
) -> BodyParser:
    """Read a parser that `save_parser` wrote.

    Args:
        path: the file.
        network: the network that it must be; None takes any.
        keys: settings by which the user chose it, for messages; see `SETTINGS`.

    Raises:
        CheckpointError: the file is missing or damaged, of another network, or its weights do not
            fit; the message names keys.
    """
    facts = saved_parser_facts(path, keys)
    architecture, labels = facts.get("network", ""), label_set(facts.get("labels", ""))
    if architecture not in NETWORKS or (network is not None and architecture != network):
        raise CheckpointError(
            f"{path} holds the network '{architecture}', not '{network}'; set "
            f"-s {keys[0]}={architecture}"
        )
    module = build_parser(architecture, len(labels))
    try:
        state = load(path.read_bytes())
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read: {type(error).__name__}: {error}") from None
    _fill(module, state, path, f"'{architecture}' with {len(labels)} classes")
    height, width = json.loads(facts["size"])
    return BodyParser(architecture, module, labels, (height, width))


def load_schp(
    path: Path, labels: str = "pascal", size: tuple[int, int] | None = None
) -> BodyParser:
    """Read weights in the layout in which SCHP was released, norm layers folded.

    The released networks normalise with in-place activated batch norm, whose effective scale is
    ``abs(weight) + 1e-5``; plain batch normalisation without that computes something else.

    Args:
        path: what ``torch.save`` wrote: a state dict, alone or under ``state_dict``, its keys with
            or without the prefix ``module.``.
        labels: ``pascal`` (7 classes), ``lip`` (20) or ``atr`` (18).
        size: height and width of the input; None takes 512 x 256.

    Raises:
        CheckpointError: the file is missing or refused, or its weights are of another
            architecture or number of classes; the message names keys.
        ConfigError: there is no such label set.
    """
    known = label_set(labels)
    network = Schp(len(known))
    state = folded_norms(network, _read_schp(path))
    _fill(network, state, path, f"SCHP with the {len(known)} classes of '{labels}'")
    return BodyParser("schp", network, known, size or RECIPES["schp"].size)


def folded_norms(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict in which every norm layer's scale is ``abs(weight) + 1e-5``.

    Args:
        network: says which entries belong to norm layers.
        state: as released.
    """
    norms = {
        f"{name}.weight"
        for name, module in network.named_modules()
        if isinstance(module, nn.BatchNorm2d)
    }
    return {
        name: value.abs() + IABN_EPS if name in norms else value for name, value in state.items()
    }


def weights_key(path: Path) -> str:
    """Return what identifies the content of a file of weights.

    Raises:
        CheckpointError: there is no such file.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        raise CheckpointError(f"there are no parser weights at {path}") from None


def _read_schp(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"there are no parser weights at {path}")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(
            f"{path} cannot be read as SCHP weights: {type(error).__name__}: {reason}"
        ) from None
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    return {
        name.removeprefix(_PREFIX): value
        for name, value in state.items()
        if isinstance(value, Tensor)
    }


def _fill(module: nn.Module, state: Mapping[str, Tensor], path: Path, what: str) -> None:
    """Load a state dict whose counters of batches may be missing.

    Raises:
        CheckpointError: missing, foreign or misshapen entries; the first few and their number.
    """
    wanted = module.state_dict()
    counters = {name: value for name, value in wanted.items() if name.endswith(_COUNTER)}
    given = {**counters, **state}
    problems = []
    missing = [name for name in wanted if name not in given]
    foreign = [name for name in given if name not in wanted]
    for kind, names in (("missing", missing), ("foreign", foreign)):
        if names:
            problems.append(f"{len(names)} of its keys are {kind} ({_some(names)})")
    shapes = [
        f"{name} is {_shape(given[name])}, not {_shape(value)}"
        for name, value in wanted.items()
        if name in given and given[name].shape != value.shape
    ]
    if shapes:
        problems.append(f"{len(shapes)} have another shape ({_some(shapes)})")
    if problems:
        raise CheckpointError(f"the weights in {path} do not fit {what}: {'; '.join(problems)}")
    module.load_state_dict(given)


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:_SHOWN]) + (", ..." if len(listed) > _SHOWN else "")


def _shape(value: Tensor) -> str:
    return " x ".join(str(length) for length in value.shape) or "a number"

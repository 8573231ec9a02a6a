"""Read a stored embedder: what a description names is made, nothing else is called."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from reid_core.contract.encoder import Encoder
from reid_core.contract.model import Branch, Embedding
from reid_core.errors import CheckpointError, ReidError, reason_of, typed_reason
from reid_core.model.blocks import EmbeddingHead
from reid_core.model.embedder import DECLARED, FORMAT, Embedder
from reid_core.model.inputs import Input
from reid_core.weights import description_of, embedder_file

_PART = {"factory", "kwargs"}
"""Keys of what describes a part."""


def load_embedder(path: str | Path, device: str | torch.device = "cpu") -> Embedder:
    """Load a deployed model in evaluation mode; no plugin needs to be requested.

    Args:
        path: ``embedder.safetensors``, the run's folder, the name of shipped weights, or an address
            (``hf://owner/name@revision``).
        device: where to put it.

    Raises:
        CheckpointError: missing or truncated files, another format, a pickle, weights that do not
            fit, or a part of a distribution that is not installed.
    """
    weights = embedder_file(path)
    description = weights.with_suffix(".json")
    if not description.is_file():
        raise CheckpointError(f"there is no embedder: {description} is missing")
    spec = description_of(weights)
    try:
        state = load_file(weights)
    except OSError as error:  # of safetensors it is a text alone
        raise CheckpointError(f"{weights} cannot be read: {error.strerror or error}") from None
    except (ValueError, SafetensorError) as error:
        raise CheckpointError(f"the embedder {weights} is truncated or corrupt: {error}") from None
    found = spec.get("format")
    if found != FORMAT:
        raise CheckpointError(f"{description} has format {found!r}, this version reads {FORMAT}")
    try:
        embedder = _rebuilt(spec, description)
    except ReidError:
        raise
    except Exception as error:  # whatever a part says to arguments that are not its own
        reason = typed_reason(error, 200)
        raise CheckpointError(f"{description} does not describe an embedder: {reason}") from None
    try:
        embedder.load_state_dict(state)
    except RuntimeError as error:
        text = reason_of(error, 200)
        raise CheckpointError(f"the weights in {weights} do not fit: {text}") from None
    embedder.learnt_from = spec.get("learnt_from") or {}
    return embedder.to(device).eval()


def _rebuilt(spec: Mapping[str, Any], where: Path) -> Embedder:
    size = (spec["input"]["height"], spec["input"]["width"])
    encoder = cast(Encoder, _make(spec["encoder"], where))
    branches = [
        Branch(
            part["name"],
            _make(part, where),
            tuple(part["reads"]),
            tuple(part["writes"]),
            clips=part.get("clips", False),
        )
        for part in spec["branches"]
    ]
    heads = [_head(part, where) for part in spec["embeddings"]]
    inner = [_head(part, where) for part in spec.get("inner_embeddings", ())]
    inputs = {part["name"]: Input.of_json(part) for part in spec.get("inputs", ())}
    return Embedder(encoder, branches, heads, size, inner, inputs, spec.get("clip"))


def _head(part: Mapping[str, Any], where: Path) -> EmbeddingHead:
    neck = part["neck"] if isinstance(part["neck"], str) else _make(part["neck"], where)
    known = {name: part[name] for name in DECLARED if name in part}
    declaration = Embedding(**known, neck=neck, dim=part["dim"])
    pool = _make(part["pool"], where) if "pool" in part else None
    return EmbeddingHead(declaration, part["channels"], pool)


def _make(part: Mapping[str, Any], where: Path) -> nn.Module:
    module, _, name = part["factory"].partition(":")
    if part["kwargs"].get("pretrained"):
        raise CheckpointError(f"{where} asks for other weights than those beside it: refused")
    _check_origin(module, part["factory"], where)
    try:
        factory = getattr(import_module(module), name, None)
    except ImportError:
        package = module.partition(".")[0]
        hint = f"pip install {package.replace('_', '-')}"
        raise CheckpointError(f"{where} needs {package}, which is not installed: {hint}") from None
    if not (isinstance(factory, type) and issubclass(factory, nn.Module)):
        raise CheckpointError(
            f"{where} names {part['factory']}, which is no torch.nn.Module; nothing else is called"
        )
    # A class whose arguments have grown says what descriptions without them mean.
    complete = getattr(factory, "stored_kwargs", dict)
    # A module around another one is described with that one's description in its place.
    kwargs = {
        key: _make(value, where) if isinstance(value, dict) and value.keys() == _PART else value
        for key, value in part["kwargs"].items()
    }
    return factory(**complete(kwargs))


def _check_origin(module: str, factory: str, where: Path) -> None:
    """Refuse to import what no plugin brought: importing a module runs it.

    Raises:
        CheckpointError: the module is of no installed plugin, and not imported yet.
    """
    package = module.partition(".")[0]
    plugins = (entry.module for entry in metadata.entry_points(group="reid.plugins"))
    ours = {"reid_core", *(name.partition(".")[0] for name in plugins)}
    if module in sys.modules or package in ours:
        return
    if package and find_spec(package) is not None:
        raise CheckpointError(
            f"{where} names {factory}, which is of no installed plugin; nothing else is imported"
        )

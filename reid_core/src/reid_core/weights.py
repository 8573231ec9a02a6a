"""Weights by name: files that installed distributions ship, through the group ``reid.weights``.

Every entry point of the group names a mapping from names (``people/osnet_x0_25``) to files; a
distribution that ships weights imports nothing heavy to say so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib import metadata
from os import PathLike
from pathlib import Path
from typing import Any

from reid_core.errors import CheckpointError, ConfigError, ReidError, did_you_mean, typed_reason

WEIGHTS_GROUP = "reid.weights"
"""Group of the entry points of files."""

LAYOUTS_GROUP = "reid.layouts"
"""Group of the entry points of layouts; see `reid_core.model.layouts`."""

ADDRESS_GROUP = "reid.addresses"
"""Group of the entry points by scheme: ``hf`` names what turns ``hf://...`` into a file."""

EMBEDDER = "embedder.safetensors"
"""What a run leaves in its folder."""


def offered(group: str, what: str) -> dict[str, Any]:
    """Return what the mappings that a group's entry points name hold, by name.

    Raises:
        CheckpointError: a distribution announces something and cannot be imported.
    """
    found: dict[str, Any] = {}
    for entry in sorted(metadata.entry_points(group=group), key=lambda one: one.name):
        try:
            found |= entry.load()
        except Exception as error:
            raise CheckpointError(
                f"the {what} '{entry.name}' ({entry.value}) cannot be looked up: "
                f"{typed_reason(error)}"
            ) from error
    return found


def shipped_weights() -> dict[str, Path]:
    """Return the files of weights that installed distributions ship, as they list them."""
    return {name: Path(path) for name, path in offered(WEIGHTS_GROUP, "weights").items()}


def fetched(address: str) -> Path:
    """Return the ``.safetensors`` that an address means, by whoever knows addresses of its kind.

    Args:
        address: ``SCHEME://...``.

    Raises:
        ConfigError: nothing that is installed knows the scheme.
        ReidError: what it raises.
    """
    scheme = address.partition("://")[0]
    known = {entry.name: entry for entry in metadata.entry_points(group=ADDRESS_GROUP)}
    if scheme not in known:
        kinds = ", ".join(f"{name}://" for name in sorted(known)) or "none"
        raise ConfigError(
            f"{address}: no model can be had from such an address (known: {kinds})"
            + ("" if known else "; pip install reid-search brings hf://")
        )
    fetch: Callable[[str], Path] = known[scheme].load()
    return fetch(address)


def embedder_file(given: str | PathLike[str]) -> Path:
    """Return the ``.safetensors`` of the embedder that a text or path means.

    Args:
        given: the file; a folder with an ``embedder.safetensors``, as a run's; an address
            (``hf://owner/name@revision``); or the name of shipped weights.

    Raises:
        CheckpointError: there is no such file, folder or name.
        ConfigError: nothing that is installed knows addresses of that kind.
    """
    if "://" in str(given):
        return fetched(str(given))
    path = Path(given)
    if path.is_dir():
        file = path / EMBEDDER
        if file.is_file():
            return file
        remedy = "name the folder of a finished run"
        if (path / "checkpoint.pt").is_file():
            remedy = (
                "for the run has not finished; take its last checkpoint (reid eval --checkpoint, "
                "load_embedder(checkpoint=True))"
            )
        raise CheckpointError(f"there is no embedder: {file} is missing, {remedy}")
    if path.exists():
        if path.suffix != ".safetensors":
            raise CheckpointError(f"{path} is no .safetensors file; pickles are not loaded")
        return path
    return _shipped(path, CheckpointError, f"there is no embedder: {path} is missing")


def weights_file(given: Path) -> Path:
    """Return the file of weights that a path or the name of shipped weights means.

    Args:
        given: a file; a run's folder, which means its embedder or, without one, its checkpoint; or
            a name, as ``people/osnet_x0_25``.

    Raises:
        ConfigError: there is neither such a file nor such a name.
    """
    if given.is_dir():
        for name in (EMBEDDER, "checkpoint.pt"):
            if (given / name).is_file():
                return given / name
        raise ConfigError(
            f"{given} holds neither {EMBEDDER} nor checkpoint.pt: it is no run's folder"
        )
    if given.is_file():
        return given
    missing = f"there are no pretrained weights at {given}, nor shipped ones of that name"
    return _shipped(given, ConfigError, missing)


def _shipped(given: Path, kind: type[ReidError], missing: str) -> Path:
    """Return the file of the shipped weights of a name, or say what is missing."""
    shipped, name = shipped_weights(), given.as_posix()
    if name not in shipped:
        listed = ", ".join(shipped) or "none; pip install reid-weights brings some"
        raise kind(f"{missing}{did_you_mean(name, shipped)} (shipped: {listed})")
    if not shipped[name].is_file():
        raise kind(
            f"the weights '{name}' are announced but {shipped[name]} is missing: "
            "reinstall what ships them, pip install --force-reinstall reid-weights"
        )
    return shipped[name]


def description_of(weights: Path) -> dict[str, Any]:
    """Return the JSON beside a ``.safetensors`` file, or an empty one where there is none.

    Raises:
        CheckpointError: the JSON cannot be read or is damaged, or its ``sha256`` is not that of
            the weights.
    """
    path = weights.with_suffix(".json")
    if weights.suffix != ".safetensors" or not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is truncated or corrupt: {error}") from None
    content: dict[str, Any] = found if isinstance(found, dict) else {}
    wanted = content.get("sha256")
    if wanted is not None and sha256_of(weights) != wanted:
        raise CheckpointError(
            f"the weights in {weights} are not those that {path.name} describes (SHA-256 differs): "
            "copy or install both again"
        )
    return content


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

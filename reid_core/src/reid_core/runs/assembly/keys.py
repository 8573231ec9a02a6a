"""What decides the result of a stage, and labels: listed here and nowhere else.

A result is reused where everything that is listed is the same. Left out is what does not decide it
(`reid_core.config.IDLE`): the device and the number of threads, how often is logged, what is
evaluated afterwards.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from reid_core.config import IDLE
from reid_core.contract.context import RunContext
from reid_core.contract.labelers import Labeler
from reid_core.contract.plugin import Plugin
from reid_core.data.label_store import content_hash
from reid_core.errors import ConfigError
from reid_core.loop.assembly import Assembly
from reid_core.machine.devices import precision_of
from reid_core.plugins.discovery import installed, versions_of
from reid_core.plugins.manifests import package_folder
from reid_core.weights import weights_file


def stage_contents(assembly: Assembly, owner: str = "") -> dict[str, Any]:
    """Return everything that a stage's result depends on, as plain data.

    Args:
        assembly: the stage's.
        owner: the plugin that declares it, in whose package its networks are written.
    """
    ctx, config = assembly.ctx, assembly.config
    files = _named_files(config)
    for name, plugin in assembly.plugins.items():
        if isinstance(plugin.settings, BaseModel):
            files |= _named_files(plugin.settings, f"plugins.{name}.")
    # Where the data are does not count: what is in them is hashed. A checkpoint, which a stage is,
    # is refused to a run with another ``model.pretrained``, so where weights are counts, too.
    places = {"data.root", "data.also"}
    settings = {
        f"{section}.{key}": value
        for section, values in config.model_dump(mode="json").items()
        for key, value in values.items()
        if f"{section}.{key}" not in IDLE | places
    }
    return {
        "configuration": settings,
        "files": files,
        "precision": precision_of(config.engine, ctx.device),
        # Ranks divide a batch and compute what one process would, but for what they draw by rows.
        "ranks": ctx.world_size if _draws_by_rows(assembly.model) else 1,
        "plugins": assembly.versions() | (versions_of((owner,)) if owner else {}),
        "code": _code_of((*assembly.plugins.values(), *assembly.model.modules()), owner),
        # It decides which weights and which layers a name stands for.
        "timm": metadata.version("timm"),
        "data": assembly.fingerprints(),
    }


def label_contents(ctx: RunContext, owner: str, labeler: Labeler) -> dict[str, Any]:
    """Return everything that labels depend on beside the image and the fields that are read."""
    return {
        "labeler": labeler.key,
        "field": dataclasses.asdict(labeler.spec),
        "reads": list(labeler.reads),
        "precision": precision_of(ctx.config.engine, ctx.device),
        "plugins": versions_of((owner,)),
        "stage": None if labeler.stage is None else ctx.stage_key(labeler.stage),
    }


def text_of(contents: Mapping[str, Any]) -> str:
    """Return contents as one text that does not depend on any order."""
    return json.dumps(contents, sort_keys=True)


def key_of(contents: Mapping[str, Any]) -> str:
    """Return contents as a short hash."""
    return hashlib.sha256(text_of(contents).encode()).hexdigest()[:16]


def _code_of(parts: Iterable[Plugin | nn.Module], owner: str) -> dict[str, str]:
    """Return hashes of the packages in which plugins and networks are written.

    The core and timm have their versions.
    """
    modules = {cls.__module__ for part in parts for cls in type(part).__mro__}
    if (record := installed().get(owner)) is not None:
        modules.add(record.target.partition(":")[0])
    packages = {module.partition(".")[0] for module in modules}
    packages -= {"reid_core", "torch", "timm", "__main__", *sys.stdlib_module_names}
    return {package: package_hash(package) for package in packages}


def package_hash(package: str) -> str:
    """Return a short hash of a package's Python files; of one file where it is a single module.

    Args:
        package: its name at the top, as it is imported.

    Returns:
        Empty where it has no files.
    """
    folder = package_folder(package)
    if folder is not None:
        there = (Path(at, name) for at, _, names in os.walk(folder) for name in names)
        files = {f.relative_to(folder).as_posix(): f for f in there if f.suffix == ".py"}
    else:
        spec = find_spec(package)
        files = {package: Path(str(spec.origin))} if spec is not None and spec.has_location else {}
    stats = ((name, file, file.stat()) for name, file in sorted(files.items()))
    return _hash_of(tuple((name, file, at.st_mtime_ns, at.st_size) for name, file, at in stats))


@lru_cache(maxsize=64)
def _hash_of(files: tuple[tuple[str, Path, int, int], ...]) -> str:
    """Return a hash of files and their names; they are read again when one has changed."""
    digest = hashlib.sha256()
    for name, file, _, _ in files:
        content = file.read_bytes()
        digest.update(f"{name}|{len(content)}|".encode())
        digest.update(content)
    return digest.hexdigest()[:16] if files else ""


def _named_files(settings: BaseModel, prefix: str = "") -> dict[str, str]:
    """Return hashes of the files that settings name, runs and shipped weights included."""
    found: dict[str, str] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            found |= _named_files(value, f"{prefix}{name}.")
        elif isinstance(value, Path):
            # Shipped weights go by a name, a run's by its folder; other folders hold data.
            with suppress(ConfigError):
                found[f"{prefix}{name}"] = content_hash(weights_file(value))
    return found


def _draws_by_rows(model: nn.Module) -> bool:
    """Return whether modules draw at random in training: dropout, or timm's of whole paths."""
    return any(
        (isinstance(module, _DropoutNd) and module.p > 0)
        or (getattr(module, "drop_prob", None) or 0) > 0
        for module in model.modules()
    )

"""Which code a row depends on.

A version number or a commit would change every day for reasons that no score depends on, and rows
of weeks could never stand side by side. What identifies the code of a row is what it ran: every
module of this repository that its process had imported when it ended, by a hash of the module's
syntax tree without docstrings, and the versions of the libraries that compute. Comments,
documentation, layout, tests, and modules that the run never loaded are no part of it.
"""

from __future__ import annotations

import ast
import hashlib
import pkgutil
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata, util
from pathlib import Path

LIBRARIES = ("kornia", "numpy", "pillow", "scipy", "simplejpeg", "timm", "torch")
"""Whose versions belong to the code of a row; what an older row does not say is not known."""

_LETTERS = 8


def hash_of(file: Path) -> str:
    """Return the hash of a module's syntax tree; comments, layout and docstrings do not count."""
    stat = file.stat()
    return _hash(file, stat.st_mtime_ns, stat.st_size)


@cache
def _hash(file: Path, changed: int, size: int) -> str:
    tree = ast.parse(file.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            # Strings that stand alone are documentation, wherever they stand.
            kept = [
                one
                for one in node.body
                if not (
                    isinstance(one, ast.Expr)
                    and isinstance(one.value, ast.Constant)
                    and isinstance(one.value.value, str)
                )
            ]
            node.body = kept or [ast.Pass()]
    text = ast.dump(tree, annotate_fields=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_LETTERS]


def loaded_code() -> dict[str, str]:
    """Return the code that this process has loaded: hashes by module, versions by library."""
    found = {}
    for name, module in sorted(sys.modules.items()):
        top = name.partition(".")[0]
        file = getattr(module, "__file__", None)
        if file and file.endswith(".py") and (top.startswith("reid_") or name in OWN):
            found[name] = hash_of(Path(file))
    return found | {name: metadata.version(name) for name in LIBRARIES}


OWN = ("studies.plugins", "studies.changes")
"""The modules of the studies themselves on which scores depend."""


def whole_code() -> dict[str, str]:
    """Return the hashes of all modules of this repository's distributions, loaded or not."""
    here = Path(__file__).resolve().parents[1]
    found = {name: hash_of(here.joinpath(*name.split(".")).with_suffix(".py")) for name in OWN}
    for top in pkgutil.iter_modules():
        if not top.name.startswith("reid_"):
            continue
        spec = util.find_spec(top.name)
        if spec is None or spec.origin is None:
            continue
        package = Path(spec.origin).parent
        for file in package.rglob("*.py"):
            parts = file.relative_to(package).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            found[".".join((top.name, *parts))] = hash_of(file)
    return found


def code_now(names: Iterable[str]) -> dict[str, str]:
    """Return what the named modules and libraries are in this tree; what is gone is left out."""
    found = {}
    for name in names:
        if name in LIBRARIES:
            found[name] = metadata.version(name)
            continue
        file = _file_of(name)
        if file is not None:
            found[name] = hash_of(file)
    return found


def _file_of(name: str) -> Path | None:
    """Return the source of a module, importing nothing but what it lies in."""
    top, *rest = name.split(".")
    spec = util.find_spec(top)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent.joinpath(*rest)
    for file in (path.with_suffix(".py"), path / "__init__.py") if rest else (Path(spec.origin),):
        if file.is_file():
            return file
    return None


def digest(code: Mapping[str, str]) -> str:
    """Return a short name of a code."""
    text = "\n".join(f"{name} {value}" for name, value in sorted(code.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:_LETTERS]


def unlike(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Return the modules and libraries that two codes share and in which they differ."""
    return sorted(name for name in one.keys() & other.keys() if one[name] != other[name])

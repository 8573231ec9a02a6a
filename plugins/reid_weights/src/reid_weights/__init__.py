"""Weights learnt from procedural people alone, free for everyone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

__version__ = version("reid-weights")

OWNER = "people"
"""What all names begin with: ``people/osnet_x0_25``."""

START = "osnet_x0_25"
"""Listed first: the embedder that ``model.backbone = "shipped"`` takes."""

FILES = Path(__file__).with_name("files")
"""Where the weights lie, each with its card beside it."""

RECIPES = Path(__file__).with_name("recipes")
"""Where the recipes lie that make them."""


class _Shipped(Mapping[str, Path]):
    """The files by name, looked up when they are asked for."""

    def __getitem__(self, name: str) -> Path:
        owner, _, title = name.partition("/")
        path = FILES / f"{title}.safetensors"
        if owner != OWNER or not path.is_file():
            raise KeyError(name)
        return path

    def __iter__(self) -> Iterator[str]:
        titles = sorted(path.stem for path in FILES.glob("*.safetensors"))
        return iter(f"{OWNER}/{title}" for title in sorted(titles, key=lambda one: one != START))

    def __len__(self) -> int:
        return sum(1 for _ in self)


WEIGHTS: Mapping[str, Path] = _Shipped()
"""What the entry point of the group ``reid.weights`` names."""

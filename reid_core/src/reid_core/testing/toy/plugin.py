"""The plugin ``toy``: the drawn figures as a data set and a training source.

Nothing heavy is imported at the top: the class is loaded by every command that lists data sets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from reid_core import DataProvider, Plugin, hookimpl
from reid_core.testing.toy import TOY_FIELDS

if TYPE_CHECKING:
    from pathlib import Path

    from reid_core import DataRequest, DataSet, Source

_VARIANTS = ("figures", "tracklets")
_SIZES = ("quick", "tiny")
"""The first ones are the defaults."""


class Toy(Plugin):
    """Drawn figures with fields of every kind."""

    @hookimpl
    def reid_datasets(self) -> Sequence[DataProvider]:
        """Offer the data set and the pairs of image and texture."""
        return [
            DataProvider(
                "toy",
                _load,
                fields=TOY_FIELDS,
                summary="drawn figures with fields of every kind, made in seconds",
                variants=_VARIANTS,
                sizes=_SIZES,
                make=_make,
            ),
            DataProvider(
                "toy-pairs",
                _load_pairs,
                kind="source",
                fields=("texture",),
                summary="drawn figures with their textures, without identities",
                sizes=_SIZES,
                make=_make_pairs,
            ),
        ]


def _load(request: DataRequest) -> DataSet:
    from reid_core.testing.toy.making import load_toy, load_toy_tracklets

    return (load_toy_tracklets if request.variant == _VARIANTS[1] else load_toy)(request)


def _make(request: DataRequest, folder: Path, advance: Callable[[int, int], None]) -> None:
    from reid_core.testing.toy.making import make_toy

    made = make_toy(folder, request.size or _SIZES[0])
    images = len(made.train) + len(made.query) + len(made.gallery)
    advance(images, images)


def _load_pairs(request: DataRequest) -> Source:
    from reid_core.testing.toy.making import load_toy_pairs

    return load_toy_pairs(request)


def _make_pairs(request: DataRequest, folder: Path, advance: Callable[[int, int], None]) -> None:
    from reid_core.testing.toy.making import make_toy_pairs

    images = len(make_toy_pairs(folder, request.size or _SIZES[0]))
    advance(images, images)

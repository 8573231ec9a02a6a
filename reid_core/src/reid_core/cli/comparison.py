"""Options of commands that compare features: the settings of ``evaluation`` of the same names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])

_OPTIONS: tuple[Callable[[_F], _F], ...] = (
    click.option("--distance", type=click.Choice(["cosine", "euclidean"]), default="cosine"),
    click.option(
        "--vector",
        type=click.Choice(["declared", "raw", "neck", "unit"]),
        default="declared",
        help="Vector of every embedding: the one it deploys, or another.",
    ),
    click.option(
        "--flip",
        type=click.Choice(["off", "sum", "unit-sum"]),
        is_flag=False,
        flag_value="sum",
        default="off",
        help="Add the features of mirrored images: as they are, or with length one.",
    ),
)


def comparison_options(function: _F) -> _F:
    """Add ``--distance``, ``--vector`` and ``--flip``."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function

"""``reid data``: list data sets, and what else there is to do with them."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

import click

from reid_core.cli.commands import Commands
from reid_core.moved import answer_former_names
from reid_core.plugins.offers import InstalledOffers

_OWN = {
    "list": ("reid_core.cli.data:list_data", "List data sets with their fields and layouts."),
}

_LISTED = 8
"""Sizes or variants that are listed one by one."""


@click.command(cls=Commands, own=_OWN, within="data.")
def data() -> None:
    """List data sets, look at one, make one, or check a copy."""


@click.command("list")
def list_data() -> None:
    """List data sets and training sources with their fields, sizes and layouts."""
    known = InstalledOffers()
    offers = [(one, owner) for owner, offer in known.by_plugin().items() for one in offer.datasets]
    width = min(shutil.get_terminal_size().columns, 100)
    for provider, owner in sorted(offers, key=lambda pair: (pair[0].name, pair[1])):
        sizes = f":{{{_choices(provider.sizes)}}}" if provider.sizes else ""
        variants = f"/{{{_choices(provider.variants)}}}" if provider.variants else ""
        kind = "" if provider.kind == "dataset" else " (training source)"
        title = f"{provider.name}{variants}{sizes}{kind}: {provider.summary} [{owner}]"
        click.echo(_wrapped(title, width, indent=""))
        facts = [f"fields: {', '.join(provider.fields)}"] if provider.fields else []
        facts += f"layout: {provider.layout}".split("; ") if provider.layout else []
        for fact in facts:
            click.echo(_wrapped(fact, width, indent="    "))
        click.echo()
    for plugin, reason in known.broken.items():
        click.echo(f"not searched: {plugin}: {reason}", err=True)


def _choices(names: Sequence[str]) -> str:
    return ",".join(names if len(names) <= _LISTED else (names[0], names[1], "...", names[-1]))


def _wrapped(text: str, width: int, indent: str) -> str:
    """Break a line between words, never within a path."""
    return textwrap.fill(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=f"{indent}    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


answer_former_names(__name__)

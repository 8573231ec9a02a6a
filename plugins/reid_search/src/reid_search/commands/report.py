"""``reid report``."""

from __future__ import annotations

from pathlib import Path

import click

from reid_core import checked_output, write_text
from reid_core.cli.options import DEVICES
from reid_search.commands.numbers import Finite


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="The .html file.")
@click.option("--protocol", metavar="NAME", help="For lists and tables; the first without it.")
@click.option("--data", "-d", metavar="NAME", help="Data set of the images, where not the run's.")
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of the data set.")
@click.option("--without-images", is_flag=True, help="Numbers and tables alone; needs no data.")
@click.option(
    "--queries", type=click.IntRange(1), default=8, help="Lists of the worst, random, best each."
)
@click.option(
    "--images", type=click.IntRange(8), default=1500, help="Test images that are embedded."
)
@click.option("--attention", type=click.IntRange(0), default=6, help="Pairs with Grad-CAM.")
@click.option("--map", "maps", multiple=True, metavar="METHOD", help="pca, tsne or umap.")
@click.option("--megabytes", type=Finite(0.1), default=8.0, help="What all images may take.")
@click.option("--device", default="auto", help=DEVICES)
def report(
    runs: tuple[Path, ...],
    out: Path,
    protocol: str | None,
    data: str | None,
    data_root: Path | None,
    without_images: bool,
    queries: int,
    images: int,
    attention: int,
    maps: tuple[str, ...],
    megabytes: float,
    device: str,
) -> None:
    """Write one page about finished runs: numbers, mistakes, curves, maps, settings.

    The page needs no network and no server. With images of real people in it, it must not be passed
    on to anybody who may not hold them; --without-images leaves them out.
    """
    checked_output(out, (".html",))
    from reid_search.plots import require_matplotlib

    require_matplotlib("a report", "reid-search[report]")
    from reid_core import ConfigError, open_dataset
    from reid_core.cli.progress import Screen
    from reid_search.comparing.stored import images_of
    from reid_search.reporting.features import available_methods
    from reid_search.reporting.gathering import read_folder
    from reid_search.reporting.page import Options, render

    methods = available_methods(maps)
    folders = [read_folder(path) for path in runs]
    for folder in folders:
        if protocol is not None:
            folder.stored.result(protocol)
    datasets, opened = {}, {}
    for folder in () if without_images else folders:
        key = (data, data_root) if data else images_of(folder.stored, protocol)
        if key is None:
            raise ConfigError(
                f"{folder.stored.path} does not say what it was evaluated on: name it with --data, "
                "or leave images out with --without-images"
            )
        if key not in opened:
            name, root = key
            opened[key] = open_dataset(name, data_root or root)
        datasets[folder.stored.path] = opened[key]
    options = Options(
        queries=queries,
        images=images,
        attention=attention,
        methods=tuple(methods),
        limit=int(megabytes * 1e6),
        device=device,
    )
    page = render(folders, protocol, datasets, options, Screen().bar)
    write_text(out, page)
    click.echo(f"report: {out} ({len(page.encode()) / 1e6:.1f} MB)")

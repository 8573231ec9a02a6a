"""``reid data make``: write a data set that a plugin computes into a folder of the user's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reid_core import checked_folder

if TYPE_CHECKING:
    from reid_core import DataProvider


@click.command("make")
@click.argument("name")
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder to write to: empty, or left unfinished by the same command.",
)
@click.option(
    "--set",
    "-s",
    "settings",
    multiple=True,
    metavar="PLUGIN.KEY=VALUE",
    help="A setting of the plugin that makes it: synthpeople.seed=1.",
)
def make(name: str, out: Path, settings: tuple[str, ...]) -> None:
    """Write a data set that is computed into a folder.

    NAME is NAME[/VARIANT][:SIZE] of a data set or source that is computed; see `reid data list`.
    """
    from reid_core import DataError, DataRequest
    from reid_core.cli.progress import Screen
    from reid_core.config import cache_folder
    from reid_core.plugins.providers import check_request, parse_data_name

    checked_folder(out, empty=False)
    title, variant, size = parse_data_name(name)
    provider, write = _maker_of(title, settings)
    request = DataRequest(title, variant, size, None, cache_folder())
    check_request(provider, request)
    screen, written = Screen(), 0
    with ExitStack() as stack:
        add: Callable[[int], None] | None = None

        def advance(done: int, total: int) -> None:
            nonlocal add, written
            if add is None:
                add = stack.enter_context(screen.bar(request.text, total))
            add(done - written)
            written = done

        try:
            write(request, out, advance)
        except OSError as error:
            raise DataError(
                f"{out}: cannot be written ({error.strerror or error}); free some space, or name "
                "another folder with --out"
            ) from error
    click.echo(f"{request.text} is in {out}")


def _maker_of(title: str, settings: Sequence[str]) -> tuple[DataProvider, Callable[..., None]]:
    """Return the provider of a name, made with settings of its plugin, and what writes its files.

    Raises:
        ConfigError: a setting is wrong, or is not of the plugin that offers the name.
        DataError: nobody offers the name, or its files are not computed.
    """
    from reid_core import ConfigError, DataError, open_context
    from reid_core.cli.options import to_flags

    flags = to_flags({"settings": settings})
    named = flags.pop("plugins", {})
    run = {"plugins": sorted(named)}
    ctx, _ = open_context({"run": run, "plugins": named}, with_data=False)
    provider = ctx.providers.dataset(title)
    offers = ctx.providers.datasets()
    owners = {owner for owner, offer in offers if offer.name == title}
    idle = [*flags, *(plugin for plugin in named if plugin not in owners)]
    if idle:
        raise ConfigError(
            f"-s {idle[0]}.KEY=VALUE: making '{title}' depends on the settings of the plugin that "
            "offers it and on nothing else"
        )
    if provider.make is None:
        made = [offer.name for _, offer in offers if offer.make is not None]
        raise DataError(
            f"'{title}' is read from files that somebody has and cannot be made "
            f"(these can: {', '.join(made)})"
        )
    return provider, provider.make

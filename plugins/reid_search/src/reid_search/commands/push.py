"""``reid push``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("destination", metavar="hf://OWNER/NAME|DIR")
@click.option("--licence", required=True, help="Of the weights, as the hub names it: mit, ...")
@click.option("--data-licence", metavar="TEXT", help="Of the data set that the run learnt from.")
@click.option("--public", is_flag=True, help="Let everybody see a model that is made by this.")
def push(run: Path, destination: str, licence: str, data_licence: str | None, public: bool) -> None:
    """Upload the embedder of a finished run with configuration, results and a model card.

    The results go without names of single images, the configuration without paths of this machine.
    A folder in place of an address gets the same files, to be looked at first. Log in with
    `hf auth login`; the environment variable HF_ENDPOINT names another hub.
    """
    from reid_core import ConfigError
    from reid_search.hub import addresses, pushing

    if "://" not in destination:
        if public:
            raise ConfigError("--public is for an address; a folder is on this machine")
        files = pushing.prepare(
            run,
            Path(destination),
            name=f"OWNER/{Path(destination).absolute().name}",
            licence=licence,
            data_licence=data_licence,
        )
        click.echo(f"{destination}: {', '.join(files)}")
        return
    address = addresses.parse(destination)
    done = pushing.push(run, address, licence=licence, data_licence=data_licence, public=public)
    click.echo(f"pushed: {done.text}")

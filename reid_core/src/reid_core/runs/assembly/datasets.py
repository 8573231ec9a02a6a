"""Load data sets and training sources by name, as a run's configuration names them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from reid_core.config import RunConfig
from reid_core.contract.context import Lookup, RunContext
from reid_core.contract.samples import DataProvider, DataRequest, DataSet, Source
from reid_core.data.counts import load_counted
from reid_core.data.joining import set_names
from reid_core.errors import ConfigError, DataError
from reid_core.plugins.providers import check_request, parse_data_name


def load_dataset(
    name: str, root: Path | None, cache: Path, providers: Lookup, pattern: str | None = None
) -> DataSet:
    """Load a data set by ``NAME[/VARIANT][:SIZE]``.

    Raises:
        ConfigError: a pattern of names for another data set than ``folder``.
        DataError: nobody offers it, or it cannot be read.
    """
    found = load_counted(*requested(name, root, cache, providers, pattern))
    if not isinstance(found, DataSet):
        raise DataError(
            f"'{name}' is a training source and no data set; plugins ask for sources themselves"
        )
    return found


def load_main(ctx: RunContext) -> DataSet:
    """Load the data set that a run trains on; see `load_dataset`."""
    data = ctx.config.data
    return load_dataset(data.name, data.root, ctx.cache, ctx.providers, data.pattern)


def load_others(
    names: Iterable[str], cache: Path, providers: Lookup, option: str = "--also"
) -> list[DataSet]:
    """Load data sets beside the main one: ``NAME`` or ``NAME=FOLDER``.

    Args:
        names: their texts.
        cache, providers: see `load_dataset`.
        option: what the user named them by.

    Raises:
        DataError: one cannot be loaded.
    """
    found = []
    for text in names:
        name, equals, folder = text.partition("=")
        try:
            found.append(load_dataset(name, Path(folder) if equals else None, cache, providers))
        except DataError as error:
            raise DataError(
                f"{option} {text}: {error} (its folder: {option} {name}=DIR)"
            ) from error
    return found


def load_tested(
    config: RunConfig, trained: Sequence[DataSet], cache: Path, providers: Lookup
) -> list[DataSet]:
    """Return the data sets to evaluate on, called by names of their own.

    Args:
        config: the run's.
        trained: what it trains on, the main one first.
        cache, providers: see `load_dataset`.

    Raises:
        ConfigError: one is named twice.
        DataError: one cannot be loaded, or has no queries.
    """
    texts = config.evaluation.data
    if not texts:
        return [trained[0]]
    ours = (config.data.name, *config.data.also)
    known = dict(zip((*ours, *set_names(ours)), (*trained, *trained), strict=True))
    found = []
    for name, text in zip(set_names(texts), texts, strict=True):
        # A set that is named with its folder is that folder's, whatever is trained on.
        one = known.get(text) or (None if "=" in text else known.get(name))
        one = one or load_others([text], cache, providers, "--test")[0]
        if not one.query:
            raise DataError(f"--test {text}: it has no query images to evaluate on")
        found.append(replace(one, name=name))
    return found


def load_source(name: str, root: Path | None, cache: Path, providers: Lookup) -> Source:
    """Load a training source by name; of a data set its training split.

    Raises:
        DataError: nobody offers it, or it cannot be read.
    """
    found = load_counted(*requested(name, root, cache, providers))
    return found.train if isinstance(found, DataSet) else found


def requested(
    name: str, root: Path | None, cache: Path, providers: Lookup, pattern: str | None = None
) -> tuple[DataProvider, DataRequest]:
    """Return who offers a data set or source, and what is asked of it.

    Raises:
        ConfigError: a pattern of names for another data set than ``folder``.
        DataError: nobody offers it, or not in this variant or size.
    """
    title, variant, size = parse_data_name(name)
    if pattern is not None and title != "folder":
        raise ConfigError(f"data.pattern is of names in the data set 'folder', not in '{title}'")
    provider = providers.dataset(title)
    request = DataRequest(title, variant, size, root, cache, pattern)
    check_request(provider, request)
    return provider, request

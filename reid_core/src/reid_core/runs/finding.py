"""Find data sets and protocols by name, for commands and notebooks, outside any run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from reid_core.config import cache_folder
from reid_core.contract.context import RunContext
from reid_core.contract.plugin import Plugin
from reid_core.contract.samples import DataProvider, DataRequest, DataSet, Source
from reid_core.contract.step import MAIN
from reid_core.defaults.core import Core
from reid_core.machine.randomness import scoped
from reid_core.model.embedder import Embedder
from reid_core.model.encoder import verify_taps
from reid_core.plugins.providers import Providers
from reid_core.runs.assembly.assembling import context_of
from reid_core.runs.assembly.datasets import load_dataset, load_main, load_source, requested
from reid_core.runs.resolve import resolve
from reid_core.runs.stages import Stages
from reid_retrieval.protocols import Protocol


def open_dataset(name: str, root: Path | None = None, cache: Path | None = None) -> DataSet:
    """Load a data set by ``NAME[/VARIANT][:SIZE]``; one that is made is made on first use.

    Args:
        name: as after ``--data``.
        root: folder of a data set whose files are the user's.
        cache: the user's cache folder; None takes the platform's.

    Raises:
        DataError: nobody offers it, or it cannot be read.
    """
    return load_dataset(name, root, cache or cache_folder(), Providers(resolve().calls))


def open_source(name: str, root: Path | None = None, cache: Path | None = None) -> Source:
    """Load a training source by name, or the training split of a data set; see `open_dataset`."""
    return load_source(name, root, cache or cache_folder(), Providers(resolve().calls))


def find_provider(
    name: str, root: Path | None = None, cache: Path | None = None
) -> tuple[DataProvider, DataRequest]:
    """Return who offers a data set or source, and what to ask of it; see `open_dataset`."""
    return requested(name, root, cache or cache_folder(), Providers(resolve().calls))


def find_protocol(name: str) -> Protocol:
    """Return an evaluation protocol by name.

    Raises:
        DataError: nobody offers it.
    """
    return Providers(resolve().calls).protocol(name)


def make_embedder(
    backbone: str,
    size: tuple[int, int] = (256, 128),
    *,
    weights: str | Path = "published",
    pooling: Literal["avg", "max"] = "avg",
    last_stride: int | None = None,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> Embedder:
    """Make an embedder of an encoder alone, without any training; see `Embedder.from_encoder`.

    Args:
        backbone: as after ``--backbone``: a plugin's name for an encoder, or timm's.
        size: height and width of the input.
        weights: a file, as for ``model.pretrained``; ``published`` takes those that timm or the
            plugin knows for the name, ``random`` none.
        pooling: how the encoder's map becomes a vector.
        last_stride: as ``model.last_stride``; None takes its default.
        seed: of random weights.
        say: prints one line for the user.

    Raises:
        ConfigError: there is no such encoder, or no such weights, or they do not fit.
    """
    flags = {
        "run": {"seed": seed},
        "data": {"height": size[0], "width": size[1]},
        "model": {
            "backbone": backbone,
            "pretrained": {"published": True, "random": False}.get(str(weights), str(weights)),
            "last_stride": "auto" if last_stride is None else last_stride,
        },
        "engine": {"device": "cpu"},
    }
    ctx, _ = open_context(flags, with_data=False, say=say)
    with scoped(seed, "embedder", backbone):
        encoder = Core("core").reid_backbone(ctx)
    verify_taps(encoder, size, "core")
    embedder = Embedder.from_encoder(encoder, size, pooling=pooling)
    if encoder.filled is not None:
        embedder.learnt_from = encoder.filled.weights.learnt_from
    return embedder


def open_context(
    flags: Mapping[str, Any],
    *,
    with_data: bool = True,
    cache: Path | None = None,
    say: Callable[[str], None] = print,
) -> tuple[RunContext, Mapping[str, Plugin]]:
    """Return the surroundings of a run and its plugins, without building or training anything.

    For commands of plugins that label, generate or measure with what a run would use, its stages
    included.

    Args:
        flags: configuration, as `run` takes it; ``run.plugins`` names the plugins.
        with_data: whether the data set is loaded (and made, if it is one that is made).
        cache: the user's cache folder; None takes the platform's.
        say: prints one line for the user.

    Raises:
        ReidError: the configuration or the data set cannot be used.
    """
    resolved = resolve(flags)
    ctx = context_of(resolved, None, cache, say)
    ctx.stages = Stages()
    if with_data:
        ctx.dataset = load_main(ctx)
        ctx.sources[MAIN] = ctx.dataset.train
        if ctx.dataset.notice:
            ctx.say(ctx.dataset.notice)
    return ctx, resolved.plugins

"""The run's sources: those that plugins ask for, samplers and loaders of all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields as fields_of, replace

import numpy as np
import torch

from reid_core.config import AugmentSection, DataSection
from reid_core.contract.batches import Batch
from reid_core.contract.context import RunContext
from reid_core.contract.fields import FieldSpec
from reid_core.contract.names import check_owned
from reid_core.contract.plugin import Plugin
from reid_core.contract.samples import Source, SourceRequest
from reid_core.contract.step import MAIN
from reid_core.data.augmentation import DeviceAugmentation, ErasingPolicy, PhotometricPolicy
from reid_core.data.clips import clips_of
from reid_core.data.draws import Draw
from reid_core.data.geometry import GeometryPolicy
from reid_core.data.joining import set_names, sets_of
from reid_core.data.loading import BatchLoader
from reid_core.data.mixing import make_mixed_sampler
from reid_core.data.sampling import Sampler, check_shares, make_sampler
from reid_core.errors import ConfigError, DataError, did_you_mean
from reid_core.machine.ranks import rank_0_first
from reid_core.moved import answer_former_names
from reid_core.plugins.providers import parse_data_name
from reid_core.runs.assembly.datasets import load_source
from reid_core.runs.assembly.needs import choose_source_provider, fitting_sources


def add_sources(
    ctx: RunContext, plugins: Mapping[str, Plugin], fields: Mapping[str, FieldSpec]
) -> None:
    """Load the training sources that plugins ask for, into the run's sources.

    Args:
        ctx: the run.
        plugins: the run's.
        fields: what the main source carries, or will when its labels are made.

    Raises:
        ConfigError: the user provides one that nobody asks for.
        DataError: nobody provides one, or it lacks what was asked for.
    """
    asked = {request.name for plugin in plugins.values() for request in plugin.sources}
    asked |= ctx.requested
    for name, provider in ctx.config.sources.items():
        if name not in asked:
            listed = ", ".join(sorted(asked)) or "none"
            raise ConfigError(
                f"--source {name}={provider}: no plugin of this run asks for the source "
                f"'{name}'{did_you_mean(name, asked)} (asked for: {listed})"
            )
    for owner, plugin in plugins.items():
        for request in plugin.sources:
            check_owned(owner, "source", request.name)
            source = load_requested(ctx, owner, request)
            _check_layouts(fields, source)
            ctx.sources[request.name] = source


def load_requested(ctx: RunContext, owner: str, request: SourceRequest) -> Source:
    """Load a training source that a plugin asks for; what its provider says is checked first.

    Args:
        ctx: the run.
        owner: the plugin that asks.
        request: what it asks for.

    Raises:
        DataError: nobody provides it, or it lacks what was asked for.
    """
    name = source_name(ctx, owner, request)
    provider = ctx.providers.dataset(parse_data_name(name)[0])
    refused = f"--source {request.name}={name}"
    if provider.kind != "source":
        raise DataError(f"{refused}: '{name}' is no training source")
    # A provider may know what it carries only when it has loaded it: then it declares nothing.
    if provider.fields:
        _check_carried(ctx, refused, owner, request, provider.fields, request.identities)
    with rank_0_first():
        source = load_source(name, ctx.config.data.root, ctx.cache, ctx.providers)
    _check_carried(ctx, refused, owner, request, source.fields, source.identities)
    return replace(source, name=request.name)


def _check_carried(
    ctx: RunContext,
    refused: str,
    owner: str,
    request: SourceRequest,
    fields: Iterable[str],
    identities: bool,
) -> None:
    lacking = sorted(set(request.fields) - set(fields))
    if lacking or (request.identities and not identities):
        carried = f" ({', '.join(sorted(fields)) or 'it has no fields'})" if lacking else ""
        others = fitting_sources(request.fields, ctx.providers.datasets()) if lacking else []
        listed = f"; sources that do: {', '.join(others)}" if others else ""
        raise DataError(
            f"{refused}: plugin '{owner}' needs {', '.join(lacking) or 'identities'}, which it "
            f"does not carry{carried}{listed}"
        )


def source_name(ctx: RunContext, owner: str, request: SourceRequest) -> str:
    """Return what a requested source is, as after ``--data``, without loading it.

    Args:
        ctx: the run.
        owner: the plugin that asks.
        request: what it asks for.

    Raises:
        DataError: nobody provides it, or several do and nobody decided.
    """
    title, _, size = parse_data_name(ctx.config.data.name)
    chosen = ctx.config.sources.get(request.name, request.provider)
    offers = ctx.providers.datasets() if chosen is None else ()
    name = choose_source_provider(owner, request.name, request.fields, chosen, offers, title)
    # The sibling of the main data set comes in the main one's size, where it has sizes.
    sized = chosen is None and size in ctx.providers.dataset(name).sizes
    return f"{name}:{size}" if sized else name


def _check_layouts(fields: Mapping[str, FieldSpec], source: Source) -> None:
    for name in sorted(set(fields) & set(source.fields)):
        ours, theirs = fields[name].layout, source.fields[name].layout
        if ours != theirs:
            raise DataError(
                f"field '{name}' has the layout '{ours}' in source '{MAIN}' and '{theirs}' "
                f"in source '{source.name}'; layouts must not be mixed"
            )


def check_batches(
    ctx: RunContext, plugins: Mapping[str, Plugin], sources: Iterable[str], identities: bool
) -> None:
    """Refuse batches that cannot be divided over the ranks, of sources that are or will be there.

    Args:
        ctx: the run.
        plugins: whose requests may set a source's batch size.
        sources: names of the training sources.
        identities: whether the main source has identities, or gets some.

    Raises:
        ConfigError: see `check_shares`.
    """
    for name in sources:
        kind, size = _sampling(ctx, plugins, name, identities)
        if size < 2:
            raise ConfigError(
                f"batches of {size} row of source '{name}' have no statistics for batch "
                "normalisation and nothing to compare; set the batch size to 2 or more"
            )
        if name == MAIN:
            _check_several_people(ctx, kind, size)
        check_shares(name, kind, size, ctx.config.data.instances, ctx.world_size)


def _check_several_people(ctx: RunContext, kind: str, size: int) -> None:
    """Refuse batches of one person, from which no comparison of people learns.

    Raises:
        ConfigError: with the batch size that holds two.
    """
    data, together = ctx.config.data, {"pk": ctx.config.data.instances, "pairs": 2}
    instances = together.get(kind.removesuffix("_camera"))
    if instances is not None and size < 2 * instances:
        raise ConfigError(
            f"a batch of {size} rows with {instances} images per identity (data.sampler = "
            f"'{data.sampler}') shows one person, from which the triplet loss and whatever else "
            f"compares people learn nothing; -s data.batch_size={2 * instances} is the least that "
            "works"
        )


def _sampling(
    ctx: RunContext, plugins: Mapping[str, Plugin], source: str, identities: bool
) -> tuple[str, int]:
    """Return the sampler and the batch size of a source."""
    data = ctx.config.data
    requests = {r.name: r for plugin in plugins.values() for r in plugin.sources}
    if source in requests:
        return "random", requests[source].batch_size or data.batch_size
    blind = data.sampler in ("random", "twice")
    return data.sampler if identities or blind else "random", data.batch_size


def sampler_of(ctx: RunContext, plugins: Mapping[str, Plugin], source: Source) -> Sampler:
    """Return the sampler of a source; further sources are drawn at random.

    Args:
        ctx: the run.
        plugins: whose requests may set a source's batch size.
        source: what to sample.
    """
    data, pids = ctx.config.data, None
    kind, size = _sampling(ctx, plugins, source.name, source.identities)
    if source.identities:
        pids = np.array([sample.pid for sample in source.samples], np.int64)
    camids = np.array([sample.camid for sample in source.samples], np.int64)
    settings = (size, data.instances, ctx.config.run.seed, data.epoch_by)
    sets = sets_of(source)
    if data.mixture == "natural" or not sets.any():
        return make_sampler(kind, pids, camids, *settings)
    names = set_names((data.name, *data.also))
    weights = [1.0] * len(names) if data.mixture == "balanced" else data.mixture
    mixture = dict(zip(names, weights, strict=True))
    return make_mixed_sampler(kind, pids, camids, sets, mixture, *settings)


def check_mixture(data: DataSection, labeler: str | None) -> None:
    """Refuse shares of training sets that cannot be given.

    Args:
        data: the run's section.
        labeler: the plugin that makes identities at each epoch's start, or None.

    Raises:
        ConfigError: another number of weights than of training sets, or identities that may be of
            several sets at once.
    """
    if data.mixture == "natural":
        return
    names = set_names((data.name, *data.also))
    if len(names) < 2:
        raise ConfigError(
            f"data.mixture = {data.mixture!r} needs several training sets: name more with --also"
        )
    if data.mixture != "balanced" and len(data.mixture) != len(names):
        raise ConfigError(
            f"data.mixture has {len(data.mixture)} weights for {len(names)} training sets: "
            f"{', '.join(names)}"
        )
    if labeler is not None:
        raise ConfigError(
            f"data.mixture = {data.mixture!r}: '{labeler}' makes the identities at each epoch's "
            "start, which may show images of several training sets, or none of one, so that no "
            "set can be promised its share; leave data.mixture at natural"
        )


def loader_of(
    ctx: RunContext, source: Source, fields: Iterable[str], augmented: bool = True
) -> BatchLoader:
    """Return the training loader of a source.

    Args:
        ctx: the run.
        source: what to load.
        fields: which of its fields.
        augmented: whether with the run's augmentation; otherwise as at test.
    """
    data, augment = ctx.config.data, ctx.config.augment
    names = [field.name for field in fields_of(GeometryPolicy)]
    geometry = GeometryPolicy(**{name: getattr(augment, name) for name in names})
    return BatchLoader(
        source,
        data.size,
        tuple(fields),
        geometry if augmented else None,
        threads=data.threads,
        seed=ctx.config.run.seed,
        pin_memory=ctx.device.type == "cuda",
        erasing=erasing_of(augment) if augmented else None,
        photometric=photometric_of(augment) if augmented else None,
        clips=clips_of(ctx.config, source),
    )


def two_rows(ctx: RunContext, source: Source) -> Batch:
    """Return the first two rows of a source with all fields, as a prepared batch on the CPU.

    Raises:
        DataError: there are fewer than two.
    """
    if len(source) < 2:
        raise DataError(f"source '{source.name}' has {len(source)} images; two are the least")
    clips = clips_of(ctx.config, source)
    loader = BatchLoader(
        source, ctx.config.data.size, sorted(source.fields), threads=1, clips=clips
    )
    rows = np.arange(2)
    host = next(loader.load([Draw(rows, rows)], 0))
    return DeviceAugmentation().prepare(host, torch.device("cpu"))


def erasing_of(augment: AugmentSection) -> ErasingPolicy | None:
    """Return the run's random erasing, or None where it is off."""
    if not augment.erasing:
        return None
    return ErasingPolicy(
        augment.erasing,
        augment.erasing_area,
        augment.erasing_aspect,
        augment.erasing_log_aspect,
    )


def photometric_of(augment: AugmentSection) -> PhotometricPolicy | None:
    """Return the run's changes of colour and sharpness, or None where they are off."""
    strengths = (augment.brightness, augment.contrast, augment.saturation, augment.hue)
    if not any((*strengths, augment.grayscale, augment.blur)):
        return None
    return PhotometricPolicy(*strengths, grayscale_p=augment.grayscale, blur_p=augment.blur)


answer_former_names(__name__)

"""Assemble a run from its configuration: everything is checked before the first step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from reid_core.config import AugmentSection, RunConfig
from reid_core.data.augmentation import DeviceAugmentation, ErasingPolicy, PhotometricPolicy
from reid_core.data.batches import Batch
from reid_core.data.draws import Draw
from reid_core.data.geometry import GeometryPolicy
from reid_core.data.labelers import Labeler
from reid_core.data.labelling import cache_folder, make_field
from reid_core.data.loading import BatchLoader
from reid_core.data.samples import DataRequest, DataSet, Source
from reid_core.data.sampling import Sampler, make_sampler
from reid_core.data.validation import split_validation
from reid_core.engine.context import RunContext
from reid_core.engine.declarations import MAIN
from reid_core.engine.device import autocast_of, choose_device, memory_format_of
from reid_core.engine.distributed import (
    rank_0_first,
    synchronise_batch_norms,
    world,
    wrapped,
)
from reid_core.engine.evaluating import Evaluator, chosen_protocols
from reid_core.engine.forward import UpdateForward
from reid_core.engine.needs import (
    check_needs,
    choose_source_provider,
    field_makers,
    fields_to_load,
    with_field_folders,
)
from reid_core.engine.optimisers import Optimisers, global_norm_clipper
from reid_core.engine.plan import merge_schedules
from reid_core.engine.starts import apply_starts
from reid_core.engine.step import StepParts
from reid_core.errors import DataError, PluginError
from reid_core.evaluation.protocols import STANDARD, Protocol
from reid_core.model.build import build_model
from reid_core.model.embedder import Embedder, embedder_of
from reid_core.model.graph import ReidModel
from reid_core.plugins.calls import CORE, HookCalls
from reid_core.plugins.discovery import installed
from reid_core.plugins.names import check_owned
from reid_core.plugins.plugin import Plugin
from reid_core.plugins.providers import Providers, check_request, parse_data_name
from reid_core.plugins.slots import assign_slots
from reid_core.resolve import Resolved


@dataclass
class Assembly:
    """A run, ready to start.

    Args:
        ctx: the run.
        plugins: instances by name, the core's included.
        calls: their hooks.
        parts: what a step works with.
        loaders: one per source.
        samplers: one per source; a labeler of identities replaces the main one at each epoch.
        prepare: makes device batches of host batches.
        identities: plugin and labeler that make identities at each epoch's start, or None.
        truth: the main source with the data set's own identities, which such a labeler replaces.
        evaluator: None where the data set has no queries.
        validator: evaluates on held-out training identities, where ``data.validation`` asks.
    """

    ctx: RunContext
    plugins: Mapping[str, Plugin]
    calls: HookCalls
    parts: StepParts
    loaders: dict[str, BatchLoader]
    samplers: dict[str, Sampler]
    prepare: Callable[[Batch, torch.device], Batch]
    identities: tuple[str, Labeler] | None
    truth: Source
    evaluator: Evaluator | None
    validator: Evaluator | None = None

    @property
    def config(self) -> RunConfig:
        """The resolved configuration."""
        return self.ctx.config

    @property
    def model(self) -> ReidModel:
        """The training model."""
        return self.parts.model

    def embedder(self) -> Embedder:
        """Return the deployed part of the model as it stands; modules are shared."""
        return embedder_of(self.model, self.config.data.size, self.config.evaluation.embed)

    def versions(self) -> dict[str, str]:
        """Return the versions of the run's plugins; ``unpackaged`` where there is none."""
        known = installed()
        return {
            name: known[name].version if name in known else "unpackaged"
            for name in self.plugins
            if name != CORE
        } | {CORE: metadata.version("reid-core")}

    def steps_per_epoch(self, epoch: int) -> int:
        """Return how many steps an epoch has."""
        fixed = self.config.schedule.iterations_per_epoch
        return fixed or self.samplers[MAIN].count(epoch)


def assemble(
    resolved: Resolved,
    *,
    folder: Path | None = None,
    cache: Path | None = None,
    say: Callable[[str], None] = print,
    dataset: DataSet | None = None,
) -> Assembly:
    """Assemble a run.

    Args:
        resolved: configuration and plugins.
        folder: the run's folder, or None.
        cache: the user's cache folder; None takes the platform's.
        say: prints one line for the user.
        dataset: a data set that needs no provider (tests, notebooks).

    Raises:
        ReidError: anything that cannot work, in one line, before the first second of training.
    """
    config, plugins, calls = resolved.config, resolved.plugins, resolved.calls
    device = choose_device(config.engine.device)
    slots = assign_slots(plugins, config.own)
    providers = Providers(calls)
    cache = cache or cache_folder()
    if dataset is None:
        with rank_0_first():
            dataset = load_dataset(config.data.name, config.data.root, cache, providers)
    if world()[0] != 0:
        say = _silent
    if dataset.notice:
        say(dataset.notice)
    dataset = replace(dataset, train=with_field_folders(dataset.train, config.fields))
    held_out = None
    if config.data.validation:
        dataset, held_out = split_validation(dataset, config.data.validation, config.run.seed)
    main = dataset.train
    rank, ranks = world()
    ctx = RunContext(
        config,
        slots,
        dataset,
        {MAIN: main},
        device,
        folder if rank == 0 else None,
        cache,
        say,
        rank,
        ranks,
        providers=providers,
    )
    makers = field_makers(calls.pseudo_labels(ctx), slots, config.labels, main.fields)
    check_needs(plugins, slots, makers, main)
    named = chosen_protocols(config.evaluation.protocols, dataset, providers.protocol)
    evaluator = _evaluator(ctx, dataset, named)
    # The published protocols speak of the test split; held-out people are searched by the plain one.
    validator = None if held_out is None else _evaluator(ctx, held_out, (STANDARD,))
    needed = {need.what for plugin in plugins.values() for need in plugin.needs}
    for name, (owner, labeler) in makers.items():
        if labeler.when == "once" and (name in needed or name in config.labels):
            ctx.sources[MAIN] = make_field(ctx, owner, labeler, ctx.main)
    identities, truth = makers.get("pid"), ctx.main
    if identities is not None:
        # Nothing in the run but the labeler may see the truth that its labels stand in for.
        ctx.sources[MAIN] = relabelled(truth, np.full(len(truth), -1))
    _add_sources(ctx, plugins)
    everything = sorted({f for source in ctx.sources.values() for f in source.fields})
    probes = {name: _two_rows(ctx, source, everything) for name, source in ctx.sources.items()}
    model = build_model(ctx, calls, probes)
    starts = [(name, start) for name, plugin in plugins.items() for start in plugin.starts(config)]
    apply_starts(ctx, starts, model)
    model.to(device=device, memory_format=memory_format_of(config.engine))  # type: ignore[call-overload]
    parts = _step_parts(ctx, calls, model)
    augment = config.augment
    reads = [read for branch in model.declarations.values() for read in branch.reads]
    loaders = {
        name: loader_of(ctx, source, fields_to_load(plugins, reads, source))
        for name, source in ctx.sources.items()
    }
    prepare = DeviceAugmentation(
        _photometric(augment), _erasing(augment), memory_format_of(config.engine)
    ).prepare
    samplers = {
        name: sampler_of(ctx, plugins, source)
        for name, source in ctx.sources.items()
        if name != MAIN or identities is None
    }
    for sampler in samplers.values():
        for note in sampler.notes:
            say(note)
    return Assembly(
        ctx,
        plugins,
        calls,
        parts,
        loaders,
        samplers,
        prepare,
        identities,
        truth,
        evaluator,
        validator,
    )


def relabelled(source: Source, pids: NDArray[np.int64]) -> Source:
    """Return a source with other identities; ``-1`` marks images without one."""
    samples = zip(source.samples, pids.tolist(), strict=True)
    return replace(
        source, samples=tuple(replace(s, pid=pid) for s, pid in samples), identities=True
    )


def load_dataset(name: str, root: Path | None, cache: Path, providers: Providers) -> DataSet:
    """Load a data set by ``NAME[/VARIANT][:SIZE]``.

    Raises:
        DataError: nobody offers it, or it cannot be read.
    """
    found = _load(name, root, cache, providers)
    if not isinstance(found, DataSet):
        raise DataError(
            f"'{name}' is a training source and no data set; plugins ask for sources themselves"
        )
    return found


def load_source(name: str, root: Path | None, cache: Path, providers: Providers) -> Source:
    """Load a training source by name; of a data set its training split.

    Raises:
        DataError: nobody offers it, or it cannot be read.
    """
    found = _load(name, root, cache, providers)
    return found.train if isinstance(found, DataSet) else found


def _load(name: str, root: Path | None, cache: Path, providers: Providers) -> DataSet | Source:
    title, variant, size = parse_data_name(name)
    provider = providers.dataset(title)
    request = DataRequest(title, variant, size, root, cache)
    check_request(provider, request)
    return provider.load(request)


def _evaluator(
    ctx: RunContext, dataset: DataSet, protocols: tuple[Protocol, ...]
) -> Evaluator | None:
    if not dataset.query:
        return None
    settings, engine = ctx.config.evaluation, ctx.config.engine
    evaluator = Evaluator(
        dataset,
        protocols,
        settings,
        ctx.device,
        ctx.config.data.threads,
        memory_format_of(engine),
        autocast_of(engine, ctx.device),
    )
    evaluator.check()
    return evaluator


def _add_sources(ctx: RunContext, plugins: Mapping[str, Plugin]) -> None:
    config = ctx.config
    main = parse_data_name(config.data.name)
    for owner, plugin in plugins.items():
        for request in plugin.sources:
            check_owned(owner, "source", request.name)
            chosen = config.sources.get(request.name, request.provider)
            offers = ctx.providers.datasets() if chosen is None else ()
            name = choose_source_provider(
                owner, request.name, request.fields, chosen, offers, main[0]
            )
            if chosen is None and main[2]:
                # The sibling of the main data set comes in the main one's size.
                name = f"{name}:{main[2]}"
            with rank_0_first():
                source = _load(name, config.data.root, ctx.cache, ctx.providers)
            if not isinstance(source, Source):
                raise DataError(f"--source {request.name}={name}: '{name}' is no training source")
            lacking = sorted(set(request.fields) - set(source.fields))
            if lacking or (request.identities and not source.identities):
                raise DataError(
                    f"--source {request.name}={name}: plugin '{owner}' needs "
                    f"{', '.join(lacking) or 'identities'}, which it does not carry"
                )
            _same_layouts(ctx.main, source)
            ctx.sources[request.name] = replace(source, name=request.name)


def _same_layouts(main: Source, source: Source) -> None:
    for name in sorted(set(main.fields) & set(source.fields)):
        ours, theirs = main.fields[name].layout, source.fields[name].layout
        if ours != theirs:
            raise DataError(
                f"field '{name}' has the layout '{ours}' in source '{main.name}' and '{theirs}' "
                f"in source '{source.name}'; layouts must not be mixed"
            )


def sampler_of(ctx: RunContext, plugins: Mapping[str, Plugin], source: Source) -> Sampler:
    """Return the sampler of a source; further sources are drawn at random.

    Args:
        ctx: the run.
        plugins: whose requests may set a source's batch size.
        source: what to sample.
    """
    data = ctx.config.data
    requests = {r.name: r for plugin in plugins.values() for r in plugin.sources}
    size, pids = data.batch_size, None
    blind = data.sampler in ("random", "twice")
    kind = data.sampler if source.identities or blind else "random"
    if source.name in requests:
        size = requests[source.name].batch_size or size
        kind = "random"
    if source.identities:
        pids = np.array([sample.pid for sample in source.samples], np.int64)
    camids = np.array([sample.camid for sample in source.samples], np.int64)
    instances, by = data.instances, data.epoch_by
    return make_sampler(kind, pids, camids, size, instances, ctx.config.run.seed, by)


def loader_of(ctx: RunContext, source: Source, fields: Iterable[str]) -> BatchLoader:
    """Return the training loader of a source with the run's augmentation."""
    data, augment = ctx.config.data, ctx.config.augment
    geometry = GeometryPolicy(
        augment.flip, augment.pad, augment.pad_mode, augment.enlarge, augment.enlarge_p
    )
    return BatchLoader(
        source,
        data.size,
        tuple(fields),
        geometry,
        threads=data.threads,
        seed=ctx.config.run.seed,
        pin_memory=ctx.device.type == "cuda",
        erasing=_erasing(augment),
        photometric=_photometric(augment),
    )


def _two_rows(ctx: RunContext, source: Source, fields: Iterable[str]) -> Batch:
    wanted = [name for name in fields if name in source.fields]
    if len(source) < 2:
        raise DataError(f"source '{source.name}' has {len(source)} images; two are the least")
    loader = BatchLoader(source, ctx.config.data.size, wanted, threads=1)
    rows = np.arange(2)
    host = next(loader.load([Draw(rows, rows)], 0))
    return DeviceAugmentation().prepare(host, torch.device("cpu"))


def _silent(line: str) -> None:
    """Say nothing: only rank 0 speaks."""


def _erasing(augment: AugmentSection) -> ErasingPolicy | None:
    if not augment.erasing:
        return None
    return ErasingPolicy(
        augment.erasing,
        augment.erasing_area,
        augment.erasing_aspect,
        augment.erasing_log_aspect,
    )


def _photometric(augment: AugmentSection) -> PhotometricPolicy | None:
    strengths = (augment.brightness, augment.contrast, augment.saturation, augment.hue)
    if not any((*strengths, augment.grayscale, augment.blur)):
        return None
    return PhotometricPolicy(*strengths, grayscale_p=augment.grayscale, blur_p=augment.blur)


def _step_parts(ctx: RunContext, calls: HookCalls, model: ReidModel) -> StepParts:
    config = ctx.config
    params = model.parts()
    owned = calls.schedules(ctx, params)
    plan = merge_schedules(owned, params, ctx.sources, config.optim.new_layers_scale)
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    grouped = {name for group in plan.groups.values() for name in group.parameters}
    stray = sorted(set(parameters) - grouped)
    if stray:
        raise PluginError(f"parameter '{stray[0]}' is in no optimiser group")
    if config.engine.compile:
        model.encoder.compile()
    if ctx.world_size > 1:
        synchronise_batch_norms(model)
    return StepParts(
        ctx,
        model,
        wrapped(UpdateForward(model, ctx, calls, plan)),
        plan,
        Optimisers(plan, parameters, config.optim),
        config.schedule,
        autocast_of(config.engine, ctx.device),
        global_norm_clipper(config.optim.clip_norm),
    )

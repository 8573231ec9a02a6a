"""Assemble a run from its configuration: everything is checked before the first step."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from reid_core.config import cache_folder
from reid_core.contract.context import RunContext, StageMaker
from reid_core.contract.labelers import Labeler
from reid_core.contract.plugin import Plugin
from reid_core.contract.samples import DataSet, Source, SourceRequest, relabelled
from reid_core.contract.stages import Start
from reid_core.contract.step import MAIN
from reid_core.contract.words import several
from reid_core.data.augmentation import DeviceAugmentation
from reid_core.data.damage import without_damaged
from reid_core.data.joining import joined, set_names, set_number
from reid_core.data.loading import BatchLoader
from reid_core.data.sampling import Sampler
from reid_core.data.sidecars import with_field_folders
from reid_core.data.validation import split_validation
from reid_core.errors import DataError
from reid_core.loop.assembly import Assembly
from reid_core.loop.catalogue import check_decay
from reid_core.loop.forward import UpdateForward
from reid_core.loop.optimisers import Optimisers, global_norm_clipper
from reid_core.loop.rates import DECAYS
from reid_core.loop.selection import check_select_by
from reid_core.loop.step import StepParts
from reid_core.loop.weights import check_weights
from reid_core.machine import ranks
from reid_core.machine.devices import autocast_of, choose_device, memory_format_of, placed
from reid_core.model.embedder import embedder_of
from reid_core.model.graph import ReidModel
from reid_core.model.pretrained import check_importer
from reid_core.outputs import write_text
from reid_core.plugins.calls import HookCalls
from reid_core.plugins.providers import Providers
from reid_core.plugins.slots import assign_slots
from reid_core.runs.assembly import needs, sources
from reid_core.runs.assembly.building import build_model
from reid_core.runs.assembly.datasets import load_main, load_others, load_tested
from reid_core.runs.assembly.evaluators import labelled_at_test, make_evaluators, numbered_apart
from reid_core.runs.assembly.labelling import Untried, make_field
from reid_core.runs.assembly.schedules import merge_schedules
from reid_core.runs.assembly.starts import apply_starts, check_starts
from reid_core.runs.resolve import Resolved
from reid_retrieval.protocols import STANDARD


def assemble(
    resolved: Resolved,
    *,
    folder: Path | None = None,
    cache: Path | None = None,
    say: Callable[[str], None] = print,
    dataset: DataSet | None = None,
    rehearsal: bool = False,
    stages: StageMaker | None = None,
    trial: bool = False,
    try_out: Callable[[], None] | None = None,
) -> Assembly:
    """Assemble a run.

    Before it trains the first of its stages it assembles itself once with stages that are not
    trained, so that nothing is refused after a training that could have been refused before it.

    Args:
        resolved: configuration and plugins.
        folder: the run's folder, or None.
        cache: the user's cache folder; None takes the platform's.
        say: prints one line for the user.
        dataset: a data set that needs no provider (tests, notebooks).
        rehearsal: train every stage for a single step, to see what a run would do.
        stages: makes the stages that plugins ask for; None refuses them.
        trial: train no stage and make no labels, to see whether everything can be built.
        try_out: the trial of the run that this one is a stage of, which tries this one, too.

    Raises:
        ReidError: anything that cannot work, in one line, before the first second of training.
    """
    plugins, calls, config = resolved.plugins, resolved.calls, resolved.config
    if dataset is None:  # a stage inherits the importer, and may leave the file out
        check_importer(config.model.importer, config.model.pretrained)
    ctx = context_of(resolved, folder, cache, say)
    ctx.rehearsal, ctx.trial, ctx.stages = rehearsal, trial, stages
    if not trial and not rehearsal:
        ctx.try_out = try_out or _trial_of(resolved, ctx.cache, dataset, stages)
    held_out, tested = _load_data(ctx, dataset)
    makers = _makers(ctx, plugins, calls)
    if dataset is None:
        sources.check_mixture(config.data, makers["pid"][0] if "pid" in makers else None)
    starts = _checked_starts(ctx, plugins, calls, makers)
    evaluators = make_evaluators(ctx, tested)
    # The published protocols speak of the test split; held-out people take the plain one.
    try:
        validators = make_evaluators(ctx, [held_out] if held_out else [], (STANDARD,))
    except DataError as error:
        raise DataError(f"data.validation: of the people held out, {error}") from None
    needed = {need.what for plugin in plugins.values() for need in plugin.needs}
    made = {name: makers[name] for name in needs.labels_in_order(makers, {*needed, *config.labels})}
    coming = {name: labeler.spec for name, (_, labeler) in made.items()}
    sources.add_sources(ctx, plugins, {**ctx.main.fields, **coming})
    samplers = {
        name: sources.sampler_of(ctx, plugins, source)
        for name, source in ctx.sources.items()
        if name != MAIN or "pid" not in makers
    }
    if trial:
        # Those that the run starts from may need the labels, and are tried with the model.
        for _, labeler in made.values():
            if labeler.stage is not None:
                ctx.stage(labeler.stage)
    truth = _make_labels(ctx, made, "pid" in makers)
    model = _model(ctx, calls, starts)
    needs.check_fields_of_frames(plugins, model, ctx.main, config.data.frames)
    deployed = embedder_of(model, config.data.size, config.evaluation.embed)
    if not deployed.fields:
        deployed.describe()  # refuses, before the training, what could not be exported after it
    evaluators = [labelled_at_test(ctx, makers, one, deployed.fields) for one in evaluators]
    evaluators = [numbered_apart(ctx, one, deployed) for one in evaluators]
    validators = [labelled_at_test(ctx, makers, one, deployed.fields) for one in validators]
    for one in (*evaluators, *validators):
        one.check_embedder(deployed)
    parts = _step_parts(ctx, calls, model)
    loaders = _loaders(ctx, plugins, model)
    _say_notes(ctx, samplers.values())
    prepare = DeviceAugmentation(
        sources.photometric_of(config.augment),
        sources.erasing_of(config.augment),
        memory_format_of(config.engine),
    ).prepare
    return Assembly(
        ctx,
        plugins,
        calls,
        parts,
        loaders,
        samplers,
        prepare,
        makers.get("pid"),
        truth,
        lambda source: (
            sources.loader_of(ctx, source, tuple(loaders[MAIN].specs)),
            sources.sampler_of(ctx, plugins, source),
        ),
        evaluators,
        next(iter(validators), None),
    )


def _checked_starts(
    ctx: RunContext,
    plugins: Mapping[str, Plugin],
    calls: HookCalls,
    makers: Mapping[str, tuple[str, Labeler]],
) -> list[tuple[str, Start]]:
    """Return what the run starts from, with owners.

    Before that, refuse what configuration, data and declarations rule out by themselves.
    """
    config = ctx.config
    needs.check_frames(plugins, calls, makers, ctx.main)
    needs.check_needs(plugins, ctx.slots, makers, ctx.main)
    for plugin in plugins.values():
        plugin.check_data(ctx)
    asked = [
        request.name
        for name, plugin in plugins.items()
        for request in several(name, "sources", plugin.sources, SourceRequest)
    ]
    sources.check_batches(ctx, plugins, [MAIN, *asked], ctx.main.identities or "pid" in makers)
    starts = [(name, start) for name, plugin in plugins.items() for start in plugin.starts(config)]
    check_starts(ctx, starts, plugins)
    check_decay(config.schedule, DECAYS)
    check_select_by(config.evaluation.select_by, calls.implementers("reid_metrics"))
    check_weights(config.evaluation.weights, calls.implementers("reid_weights"))
    return starts


def context_of(
    resolved: Resolved, folder: Path | None, cache: Path | None, say: Callable[[str], None]
) -> RunContext:
    """Return the surroundings of a run, without any data yet; see `assemble`."""
    config = resolved.config
    rank, world_size = ranks.world()
    if rank != 0:
        folder, say = None, _silent
    nothing = DataSet("no data", Source(MAIN, ()))
    return RunContext(
        config,
        assign_slots(resolved.plugins, config.own),
        nothing,
        {MAIN: nothing.train},
        choose_device(config.engine.device),
        folder,
        cache or cache_folder(),
        say,
        rank,
        world_size,
        providers=Providers(resolved.calls),
        gather_rows=ranks.gather,
    )


def _load_data(ctx: RunContext, dataset: DataSet | None) -> tuple[DataSet | None, list[DataSet]]:
    """Give a run its data set; return what is held out of it, where something is, and the tests.

    Args:
        ctx: the run.
        dataset: see `assemble`.
    """
    config, say, threads = ctx.config, ctx.say, ctx.config.data.threads
    tested = []
    if dataset is None:
        with ranks.rank_0_first():
            dataset = load_main(ctx)
            others = load_others(config.data.also, ctx.cache, ctx.providers)
            tested = load_tested(config, [dataset, *others], ctx.cache, ctx.providers)
            dataset, notes = joined(dataset, others)
        for note in notes:
            say(note)
        for one in tested:
            if one.notice and one.notice not in (dataset.notice, *notes):
                say(one.notice)
    if not len(dataset.train):
        raise DataError(
            f"the data set '{dataset.name}' has no training images; train on another one, and "
            f"evaluate that run on it with `reid eval RUN --data {dataset.name}`"
        )
    if dataset.notice:
        say(dataset.notice)
    tested = tested or [dataset]
    ours = (dataset.query, dataset.gallery)
    dataset, notes = with_field_folders(dataset, config.fields)
    for note in notes:
        say(note)
    damaged: list[str] = []
    skips = config.data.damaged == "skip"
    if skips:
        dataset, damaged = without_damaged(dataset, threads)
    for place, one in enumerate(tested):
        if (one.query, one.gallery) == ours:
            # The test of the main set has the side-car files, too.
            tested[place] = replace(dataset, name=one.name)
            continue
        tested[place] = replace(one, train=replace(one.train, samples=()))
        if skips:
            tested[place], more = without_damaged(tested[place], threads)
            damaged += more
    if damaged:
        _tell_damaged(ctx, damaged)
    held_out = None
    if config.data.validation:
        chosen, only = config.evaluation.validates_on, None
        if chosen:
            names = set_names((config.data.name, *config.data.also))
            only = set_number(chosen, names, f"evaluation.select = '{config.evaluation.select}'")
        dataset, held_out = split_validation(dataset, config.data.validation, config.run.seed, only)
        people = len({sample.pid for sample in held_out.query})
        say(f"held out for validation: {people} people, {len(held_out.query)} queries")
    ctx.dataset, ctx.sources[MAIN] = dataset, dataset.train
    return held_out, tested


def _tell_damaged(ctx: RunContext, lines: Sequence[str]) -> None:
    where = ""
    if ctx.folder is not None:
        path = ctx.folder / "damaged.txt"
        write_text(path, "\n".join(lines) + "\n")
        where = f" (listed in {path})"
    ctx.say(f"{len(lines)} damaged files are left out{where}, first {lines[0]}")


def _makers(
    ctx: RunContext, plugins: Mapping[str, Plugin], calls: HookCalls
) -> dict[str, tuple[str, Labeler]]:
    """Return who makes which field."""
    owned = [
        (owner, labeler)
        for owner, labeler in calls.pseudo_labels(ctx)
        # Who claimed identities and lost them to the user's choice stays silent.
        if labeler.spec.name != "pid"
        or "labels:pid" not in plugins[owner].claims
        or ctx.owns(owner, "labels:pid")
    ]
    # Files that the user names rule over a labeler that a plugin prefers.
    config = ctx.config
    chosen = {name: by for name, by in config.labels.items() if name not in config.fields}
    return needs.field_makers(owned, ctx.slots, chosen, ctx.main.fields)


def _make_labels(
    ctx: RunContext, made: Mapping[str, tuple[str, Labeler]], identities: bool
) -> Source:
    """Make the fields that are made once; return the main source with its true identities.

    Args:
        ctx: the run; in a trial it gets examples.
        made: who makes which field.
        identities: whether a labeler makes them.

    Raises:
        Untried: this is a trial, and a labeler has no example.
    """
    for owner, labeler in made.values():
        ctx.sources[MAIN] = make_field(ctx, owner, labeler, ctx.main)
    truth = ctx.main
    if identities:
        # Nothing in the run but the labeler may see the truth that its labels stand in for.
        ctx.sources[MAIN] = relabelled(truth, np.full(len(truth), -1))
    ctx.dataset = replace(ctx.dataset, train=ctx.main)
    return truth


def _model(ctx: RunContext, calls: HookCalls, starts: Sequence[tuple[str, Start]]) -> ReidModel:
    probes = {name: sources.two_rows(ctx, source) for name, source in ctx.sources.items()}
    model = build_model(ctx, calls, probes)
    if model.criteria and ctx.num_identities == 1:
        raise DataError(
            f"all training images of '{ctx.dataset.name}' show one person: there is nobody to tell "
            "apart; add other people"
        )
    apply_starts(ctx, starts, model)
    return placed(model, ctx.config.engine, ctx.device)


def _loaders(
    ctx: RunContext, plugins: Mapping[str, Plugin], model: ReidModel
) -> dict[str, BatchLoader]:
    """Return the loader of every source, with the fields of it that somebody reads."""
    reads = [*model.encoder.reads]
    reads += [read for branch in model.declarations.values() for read in branch.reads]
    plain = {r.name for plugin in plugins.values() for r in plugin.sources if not r.augment}
    return {
        name: sources.loader_of(
            ctx, source, needs.fields_to_load(plugins, reads, source), augmented=name not in plain
        )
        for name, source in ctx.sources.items()
    }


def _say_notes(ctx: RunContext, samplers: Iterable[Sampler]) -> None:
    """Say what the user should know of how batches are drawn."""
    for sampler in samplers:
        for note in sampler.notes:
            ctx.say(note)
    frames, longest = ctx.config.data.frames, max(len(one.frames) for one in ctx.main.samples)
    if ctx.main.tracklets and frames > longest:
        ctx.say(
            f"data.frames = {frames}, and no tracklet of '{ctx.dataset.name}' has more than "
            f"{longest}: every clip shows frames again, at the cost of others; -s "
            f"data.frames={longest} shows each once"
        )


def _trial_of(
    resolved: Resolved, cache: Path, dataset: DataSet | None, stages: StageMaker | None
) -> Callable[[], None]:
    """Return what assembles a run once as it would be, with stages that are not trained.

    It raises what assembling would raise after the training of its stages.

    Args:
        resolved: configuration and plugins, of which the trial makes new instances.
        cache: the user's cache folder.
        dataset, stages: see `assemble`.
    """

    @functools.cache
    def try_out() -> None:
        fresh = resolved.renewed()
        with suppress(Untried):
            assemble(fresh, cache=cache, say=_silent, dataset=dataset, stages=stages, trial=True)

    return try_out


def _silent(line: str) -> None:
    """Say nothing: only rank 0 speaks."""


def _step_parts(ctx: RunContext, calls: HookCalls, model: ReidModel) -> StepParts:
    config = ctx.config
    params = model.parts()
    owned = calls.schedules(ctx, params)
    plan = merge_schedules(owned, params, ctx.sources, config.optim.new_layers_scale)
    for one in (one for update in plan.updates for one in update.passes):
        check_weights(
            one.weights, calls.implementers("reid_weights"), f"pass '{one.name}': weights"
        )
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if config.engine.compile:
        model.encoder.compile()
    if ctx.world_size > 1:
        ranks.synchronise_batch_norms(model)
    return StepParts(
        ctx,
        model,
        ranks.wrapped(UpdateForward(model, ctx, calls, plan)),
        plan,
        Optimisers(plan, parameters, config.optim),
        autocast_of(config.engine, ctx.device),
        global_norm_clipper(config.optim.clip_norm),
        calls.after_step,
    )

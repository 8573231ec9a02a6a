"""Make the evaluators of a run, and the fields that its embeddings read at test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from reid_core.contract.context import RunContext
from reid_core.contract.labelers import Labeler
from reid_core.contract.model import SAMPLE_LABELS
from reid_core.contract.samples import DataSet, Source
from reid_core.evaluation.evaluating import Evaluator, chosen_protocols
from reid_core.model.embedder import Embedder
from reid_core.runs.assembly.labelling import make_field
from reid_core.runs.assembly.needs import labels_in_order
from reid_retrieval.protocols import Protocol


def make_evaluators(
    ctx: RunContext, datasets: Sequence[DataSet], protocols: tuple[Protocol, ...] = ()
) -> list[Evaluator]:
    """Return what evaluates on the test splits of data sets; those without queries are left out.

    Args:
        ctx: the run.
        datasets: each goes by its name where there are several.
        protocols: without any, those that the run or the data set names.
    """
    settings, engine, threads = ctx.config.evaluation, ctx.config.engine, ctx.config.data.threads
    found = []
    for dataset in datasets:
        chosen = protocols or chosen_protocols(settings.protocols, dataset, ctx.providers.protocol)
        label = dataset.name if len(datasets) > 1 else ""
        if dataset.query:
            evaluator = Evaluator(
                dataset, chosen, settings, ctx.device, threads, engine, ctx.image_size, label=label
            )
            evaluator.check()
            found.append(evaluator)
    return found


def labelled_at_test(
    ctx: RunContext,
    makers: Mapping[str, tuple[str, Labeler]],
    evaluator: Evaluator,
    fields: Sequence[str],
) -> Evaluator:
    """Return the evaluator with the fields that its embeddings read, by whoever made them before.

    A field that a labeler made for training is made for the test images too, even where they carry
    one of the name: what the model learnt to read are the labeler's values.
    """
    for name in labels_in_order(makers, fields):
        owner, labeler = makers[name]
        dataset = evaluator.dataset
        known = dict(dataset.query_fields)
        query, gallery = (
            make_field(ctx, owner, labeler, Source(split, samples, known)).samples
            for split, samples in (("query", dataset.query), ("gallery", dataset.gallery))
        )
        known[name] = labeler.spec
        dataset = replace(dataset, query=query, gallery=gallery, query_fields=known)
        evaluator = replace(evaluator, dataset=dataset)
    return evaluator


def numbered_apart(ctx: RunContext, evaluator: Evaluator, embedder: Embedder) -> Evaluator:
    """Return a run's evaluator, with what its data set counts otherwise than the training unknown.

    Cameras and outfits of the main data set have the numbers of the training; those of any other
    are others of the same numbers. What has no default is read all the same.
    """
    if evaluator.dataset.train.samples:  # of the main data set alone
        return evaluator
    read = {name: embedder.inputs[name] for name in SAMPLE_LABELS if name in embedder.inputs}
    unknown = tuple(name for name, one in read.items() if one.default is not None)
    for name in unknown:
        ctx.say(f"'{evaluator.dataset.name}': {name} is not the training's, and taken for unknown")
    return replace(evaluator, unknown=unknown)

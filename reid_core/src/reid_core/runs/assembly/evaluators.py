"""Make the evaluators of a run, and the fields that its embeddings read at test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from reid_core.contract.context import RunContext
from reid_core.contract.labelers import Labeler
from reid_core.contract.samples import DataSet, Source
from reid_core.evaluation.evaluating import Evaluator, chosen_protocols
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
    config, found = ctx.config, []
    for dataset in datasets:
        named = config.evaluation.protocols
        chosen = protocols or chosen_protocols(named, dataset, ctx.providers.protocol)
        if dataset.query:
            evaluator = Evaluator(
                dataset,
                chosen,
                config.evaluation,
                ctx.device,
                config.data.threads,
                config.engine,
                ctx.image_size,
                label=dataset.name if len(datasets) > 1 else "",
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

"""``reid eval``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from reid_core.cli.commands import option_of
from reid_core.cli.options import DEVICES, comparison_options, json_option
from reid_core.errors import ConfigError
from reid_core.outputs import PICTURE_SUFFIXES, checked_output, write_text


@click.command("eval")
@click.argument("model")
@click.option("--checkpoint", is_flag=True, help="Take the last checkpoint of the run MODEL.")
@click.option(
    "--weights",
    metavar="FILE|published|random",
    help="MODEL is an encoder's name, timm's or a plugin's, with these weights.",
)
@click.option("--height", type=click.IntRange(1), help="Of the input, with --weights; 256.")
@click.option("--width", type=click.IntRange(1), help="Of the input, with --weights; 128.")
@click.option(
    "--data",
    "-d",
    "names",
    multiple=True,
    metavar="NAME[=DIR]",
    help="NAME[/VARIANT][:SIZE]; as often as there are data sets.",
)
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of the data set.")
@click.option("--protocol", "protocols", multiple=True, metavar="NAME", help="Protocols to report.")
@comparison_options
@click.option(
    "--batch-norm",
    type=click.Choice(["running", "camera"]),
    default="running",
    help="Statistics of batch normalisation: the model's, or those of each camera's test images.",
)
@click.option("--embed", metavar="A,B", help="Embeddings to evaluate; all without it.")
@click.option(
    "--unknown",
    multiple=True,
    metavar="NAME",
    help="Take for unknown what the model reads beside the image (camid, on other cameras).",
)
@click.option("--rerank", is_flag=True, help="Report k-reciprocal re-ranking, too.")
@click.option("--device", default="auto", help=DEVICES)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    help="As engine.precision of a run; give the same to get the same figures.",
)
@click.option(
    "--cost",
    is_flag=True,
    help="Measure the embedder: parameters, multiply-adds, images per second, memory.",
)
@json_option
@click.option("--picture", type=click.Path(path_type=Path), help="Draw ranked lists.")
def evaluate(
    model: str,
    checkpoint: bool,
    weights: str | None,
    height: int | None,
    width: int | None,
    names: tuple[str, ...],
    data_root: Path | None,
    protocols: tuple[str, ...],
    embed: str | None,
    unknown: tuple[str, ...],
    rerank: bool,
    device: str,
    precision: str,
    cost: bool,
    json_path: Path | None,
    picture: Path | None,
    **compared: str,
) -> None:
    """Evaluate a trained embedder on data sets, the one it was trained on or others.

    MODEL is a run's folder, an embedder.safetensors, the name of shipped weights
    (people/osnet_x0_25) or an address (hf://owner/name@revision); with --weights it is an encoder's
    name, whose map is averaged. No plugin needs to be requested. A run that has not finished is
    evaluated with --checkpoint. With --cost, of a run kept in its folder as efficiency.json, no
    data set is needed.
    """
    if picture is not None:
        checked_output(picture, PICTURE_SUFFIXES, option="--picture")
    if not names:
        if not cost:
            raise ConfigError("name a data set with --data, or ask for --cost")
        given = {"protocol": protocols, "unknown": unknown, "rerank": rerank}
        given |= {"picture": picture, "batch-norm": compared["batch_norm"] != "running"}
        for name, value in given.items():
            if value:
                raise ConfigError(f"--{name} is about a data set: name one with --data")
    if checkpoint and weights is not None:
        raise ConfigError("--checkpoint is a run's, and --weights an encoder's: give one of them")
    if weights is None and (height or width):
        raise ConfigError("--height and --width are an encoder's, given with --weights")
    if picture is not None and len(names) > 1:
        raise ConfigError("--picture shows the lists of one data set: give a single --data with it")

    from rich.console import Console

    from reid_core.cli.progress import Screen
    from reid_core.config import EngineSection, EvaluationSection
    from reid_core.data.joining import set_names
    from reid_core.data.people import seen_before
    from reid_core.evaluation.records import HEAD, results_text, stored_results
    from reid_core.evaluation.tables import results_table
    from reid_core.machine.devices import choose_device
    from reid_core.runs.evaluating import open_evaluator
    from reid_core.runs.finding import make_embedder
    from reid_core.runs.loading import load_embedder

    place = choose_device(device)
    measure = option_of("eval.cost") if cost else None
    if weights is None:
        embedder = load_embedder(model, place, checkpoint=checkpoint, say=click.echo)
    else:
        made = make_embedder(model, (height or 256, width or 128), weights=weights, say=click.echo)
        embedder = made.to(place)
    if embed:
        embedder = embedder.only([name.strip() for name in embed.split(",")])
    cost_of = None if measure is None else measure(embedder, model)
    if not names:
        if json_path:
            write_text(json_path, results_text({"efficiency": cost_of, "results": []}))
        return
    reranking = "k_reciprocal" if rerank else "none"
    settings = EvaluationSection.model_validate({**compared, "reranking": reranking})
    evaluators = []
    for label, text in zip(set_names(names), names, strict=True):
        data, equals, folder = text.partition("=")
        evaluator = open_evaluator(
            data,
            Path(folder) if equals else data_root,
            protocols,
            settings=settings,
            engine=EngineSection.model_validate({"device": device, "precision": precision}),
            unknown=unknown,
            say=click.echo,
        )
        evaluators.append(replace(evaluator, label=label if len(names) > 1 else ""))
        met = seen_before(evaluator.dataset, embedder.learnt_from)
        if met:
            click.echo(met)
    total = sum(len(one.dataset.query) + len(one.dataset.gallery) for one in evaluators)
    with Screen().bar("evaluation", total) as advance:
        heads = HEAD if json_path else 0
        found = [evaluator.evaluate(embedder, advance, heads) for evaluator in evaluators]
    title = f"{model} on {', '.join(names)}"
    Console().print(results_table([result for one in found for result in one.results], title))
    if json_path:
        stored = [
            result
            for evaluator, one in zip(evaluators, found, strict=True)
            for result in stored_results(one, evaluator.dataset)
        ]
        content = {"efficiency": cost_of, "results": stored} if cost else stored
        write_text(json_path, results_text(content))
    if picture:
        evaluators[0].picture(found[0], picture, title)
        click.echo(f"ranked lists: {picture}")

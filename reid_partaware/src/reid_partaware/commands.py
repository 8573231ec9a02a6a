"""``reid partaware``: the paper's analyses of a trained model, with pictures."""

from __future__ import annotations

from pathlib import Path

import click

from reid_core import FIGURE_SUFFIXES, PICTURE_SUFFIXES, checked_output, write_json
from reid_core.cli.options import DEVICES, comparison_options, json_option


@click.group()
def partaware() -> None:
    """Look into a trained model part by part."""


_DATA = click.option("--data", "-d", required=True, metavar="NAME", help="NAME[/VARIANT][:SIZE].")
_DATA_ROOT = click.option("--data-root", type=click.Path(path_type=Path), help="Its folder.")
_OUT = click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="Picture.")
_DEVICE = click.option("--device", default="auto", help=DEVICES)


@partaware.command()
@click.argument("model", type=click.Path(path_type=Path))
@_DATA
@_DATA_ROOT
@click.option("--embed", metavar="A,B", help="Embeddings to compare; all without it.")
@_OUT
@_DEVICE
def similarity(
    model: Path, data: str, data_root: Path | None, embed: str | None, out: Path, device: str
) -> None:
    """Draw how alike the parts of the feature are (figure 9).

    MODEL is the folder of a run with several embeddings, such as one of `--plugins pcb`. The mean
    over all query and gallery images is drawn, and written beside the picture as JSON.
    """
    from reid_core import DataError, load_embedder, open_dataset
    from reid_core.machine.devices import choose_device
    from reid_partaware.pictures import draw_matrix
    from reid_partaware.similarity import compared_parts, mean_part_similarity, summary

    checked_output(out, FIGURE_SUFFIXES)
    figures_path = checked_output(out.with_suffix(".json"))
    place = choose_device(device)
    embedder = load_embedder(model, place)
    chosen = compared_parts(embedder, embed.split(",") if embed else ())
    dataset = open_dataset(data, data_root)
    if not dataset.query:
        raise DataError(f"data set '{data}' has no query images")
    if dataset.notice:
        click.echo(dataset.notice, err=True)
    images = [*dataset.query, *dataset.gallery]
    matrix = mean_part_similarity(embedder, images, place, chosen)
    content = {"data": data, "parts": chosen, "matrix": matrix.round(6).tolist()} | summary(matrix)
    write_json(figures_path, content)
    figures = ", ".join(f"{name} {value:.3f}" for name, value in summary(matrix).items())
    click.echo(f"{figures}; {draw_matrix(chosen, matrix, out)}")


@partaware.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--embedding", metavar="NAME", help="Whose classifier; the first one without it.")
@click.option("--map", "feature", metavar="NAME", help="Map; the embedding's own without it.")
@click.option("--images", type=click.IntRange(1), default=12, help="How many query images.")
@_OUT
def gradcam(run: Path, embedding: str | None, feature: str | None, images: int, out: Path) -> None:
    """Draw where a classifier looks (figure 10, Grad-CAM).

    RUN is a run's folder with its checkpoint. The identity explained is the one that the classifier
    takes the person for.
    """
    from reid_core import restore
    from reid_partaware.gradcam import explain

    checked_output(out, FIGURE_SUFFIXES)
    assembly = restore(run, say=lambda line: None)
    embedding, feature = explain(assembly, images, out, embedding, feature)
    click.echo(f"{embedding} on {feature}: {out}")


@partaware.command("parts")
@click.argument("model", type=click.Path(path_type=Path))
@_DATA
@_DATA_ROOT
@click.option("--protocol", metavar="NAME", help="The data set's first one without it.")
@comparison_options
@json_option
@_DEVICE
def evaluate_parts(
    model: Path,
    data: str,
    data_root: Path | None,
    protocol: str | None,
    distance: str,
    vector: str,
    flip: str,
    json_path: Path | None,
    device: str,
) -> None:
    """Evaluate every embedding of a model alone (figure 13).

    MODEL is a run's folder or an embedder.safetensors.
    """
    from rich.console import Console
    from rich.table import Table

    from reid_core import load_embedder
    from reid_core.cli.progress import Screen
    from reid_core.config import EngineSection, EvaluationSection
    from reid_core.machine.devices import choose_device
    from reid_core.runs.evaluating import open_evaluator
    from reid_partaware.single_part import parts_of

    parts = parts_of(load_embedder(model, choose_device(device)))
    evaluator = open_evaluator(
        data,
        data_root,
        [protocol] if protocol else (),
        settings=EvaluationSection.model_validate(
            {"distance": distance, "vector": vector, "flip": flip}
        ),
        engine=EngineSection.model_validate({"device": device}),
        say=click.echo,
    )
    images = len(evaluator.dataset.query) + len(evaluator.dataset.gallery)
    with Screen().bar("parts", images * len(parts)) as advance:
        found = {name: evaluator.evaluate(part, advance).results[0] for name, part in parts.items()}
    protocol, precision = found["all"].protocol, found["all"].ap_name
    table = Table("part", "dim", "rank-1", precision, title=f"{data}, {protocol}")
    for name, one in found.items():
        scores = (f"{100 * score:.1f}" for score in (one.cmc[0], one.mean_ap))
        table.add_row(name, str(parts[name].dim), *scores)
    Console().print(table)
    if json_path:
        rows = [{"part": n, "dim": parts[n].dim, **one.to_json()} for n, one in found.items()]
        write_json(json_path, rows)


@partaware.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--images", type=click.IntRange(1), default=12, help="How many are drawn.")
@_OUT
def segment(run: Path, images: int, out: Path) -> None:
    """Draw what the head of a run makes of people it has not seen, and measure it.

    RUN is the folder of a run with `--plugins partaware`. Where the data set's test images carry
    `parts`, pixel accuracy and mean IoU are printed, beside those of a constant prediction.
    """
    from reid_core import restore
    from reid_parsing import overlay_sheet
    from reid_partaware.plugin import Partaware
    from reid_partaware.segmenting import classes_of, measure, predict, some_images

    checked_output(out, PICTURE_SUFFIXES)
    assembly = restore(run, needs=Partaware, say=lambda line: None)
    dataset = assembly.ctx.dataset
    shown, maps = zip(*predict(assembly, some_images(assembly, images)), strict=True)
    click.echo(f"part maps: {overlay_sheet(shown, maps, classes_of(assembly), out)}")
    if "parts" not in dataset.query_fields:
        click.echo(
            f"not measured: the test images of '{dataset.name}' carry no parts (--field parts=DIR "
            "gives a run some)"
        )
        return
    for name, found in measure(assembly).items():
        accuracy, iou = 100 * found.pixel_accuracy, 100 * found.mean_iou
        click.echo(f"{name}: pixel accuracy {accuracy:.1f} %, mean IoU {iou:.1f} %")

"""``reid export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from reid_core.outputs import checked_output

if TYPE_CHECKING:
    from reid_core.model.deployed import Values

SUFFIXES = (".onnx", ".pt2", ".xml")


@click.command()
@click.argument("model")
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path),
    help="The file to write: .onnx, .pt2 (torch.export) or .xml (OpenVINO).",
)
@click.option(
    "--input",
    "values",
    type=click.Choice(["unit", "normalised"]),
    default="unit",
    help="Whether the normalisation is inside (RGB in [0, 1] is given) or the host's (BoxMOT).",
)
@click.option("--resize", is_flag=True, help="Take images of any size and resize them inside.")
def export(model: str, out: Path | None, values: Values, resize: bool) -> None:
    """Export a trained embedder for other runtimes and check that both compute the same.

    MODEL is a run's folder, an embedder.safetensors, the name of shipped weights or an address;
    without --out, embedder.onnx is written beside its file, or of the latter two into the working
    directory. The file's metadata state what it takes.
    """
    if out is not None:
        checked_output(out, SUFFIXES)

    from reid_core.model.deployed import InputContract, clip_axis
    from reid_core.model.exporting import check_format, export_file
    from reid_core.model.stored import load_embedder
    from reid_core.weights import embedder_file

    weights = embedder_file(model)
    path = out or (weights.parent if Path(model).exists() else Path()) / "embedder.onnx"
    contract = InputContract(values, resize)
    check_format(path, contract)
    embedder = load_embedder(weights)
    found = export_file(embedder, checked_output(path, SUFFIXES), contract)
    height, width = embedder.size
    taken = "height x width" if resize else f"{height} x {width}"
    scale = "in [0, 1]" if values == "unit" else "normalised by the host"
    beside = "".join(
        f", {name} (unknown: {embedder.inputs[name].default:g})" for name in embedder.fields
    )
    clip = "" if embedder.clip is None else f"{clip_axis(embedder)} x "
    click.echo(
        f"{path}: images B x {clip}3 x {taken}, RGB {scale}{beside} -> "
        f"features B x {embedder.dim}; largest relative difference to torch {found.difference:.1e}"
    )
    if found.resizing is not None:
        click.echo(
            "resized inside: largest relative difference to the embedder's own resizing "
            f"{found.resizing:.1e}, on noise"
        )

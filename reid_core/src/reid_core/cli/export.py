"""``reid export``."""

from __future__ import annotations

from pathlib import Path

import click

from reid_core.outputs import checked_output


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--out", "-o", type=click.Path(path_type=Path), help="The .onnx file to write.")
def export(model: Path, out: Path | None) -> None:
    """Export a trained embedder to ONNX and check that both compute the same.

    MODEL is a run's folder or an embedder.safetensors. The input is float32 RGB in [0, 1], the
    normalisation is inside.
    """
    from reid_core.model.onnx import export_onnx
    from reid_core.model.stored import load_embedder

    if out is not None:
        checked_output(out, (".onnx",))
    embedder = load_embedder(model)
    folder = model if model.is_dir() else model.parent
    path = out or checked_output(folder / "embedder.onnx")
    worst = export_onnx(embedder, path)
    height, width = embedder.size
    beside = "".join(
        f", {name} (unknown: {embedder.inputs[name].default:g})" for name in embedder.fields
    )
    click.echo(
        f"{path}: images B x 3 x {height} x {width} in [0, 1]{beside} -> features B x "
        f"{embedder.dim}; "
        f"largest relative difference to torch {worst:.1e}"
    )

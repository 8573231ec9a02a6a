"""Export a deployed model to ONNX, and prove that it computes the same."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reid_core.errors import ReidError
from reid_core.model.embedder import Embedder
from reid_core.outputs import whole_file

TOLERANCE = 1e-4
"""Largest difference allowed between features of torch and of ONNX Runtime, relative to the
largest value."""


def export_onnx(embedder: Embedder, path: Path, batch_sizes: tuple[int, ...] = (1, 3)) -> float:
    """Write an ONNX model with a dynamic batch axis and check it against torch.

    Input ``images``: float32 ``B 3 H W``, RGB in ``[0, 1]``. Output ``features``: float32 ``B D``.
    What the embedder reads beside the image is a further input of its name; shape, type and the
    value that stands for unknown are in the model's metadata, under ``reid.inputs``, as JSON.

    Args:
        embedder: on the CPU, in evaluation mode.
        path: the file to write.
        batch_sizes: batches on which the two are compared.

    Returns:
        The largest difference, relative to the largest value.

    Raises:
        ReidError: the exporter is not installed, the embedder reads what has no default, or the two
            differ by more than `TOLERANCE`.
    """
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ReidError(
            f"export to ONNX needs {error.name}: pip install 'reid-core[onnx]'"
        ) from None
    embedder.check_exportable()
    example = torch.rand(2, 3, *embedder.size)
    beside = [embedder.inputs[name] for name in embedder.fields]
    values = [one.unknown(2, example.device) for one in beside]
    batch = torch.export.Dim("batch", min=1, max=65535)
    shapes: dict[str, Any] = {"images": {0: batch}}
    if beside:
        shapes["read"] = tuple({0: batch} for _ in beside)
    with warnings.catch_warnings(), _quiet("torch.onnx", "onnxscript"):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Named(embedder) if beside else embedder,
            (example, *values),
            input_names=["images", *(one.name for one in beside)],
            output_names=["features"],
            dynamic_shapes=shapes,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    if beside:
        described = json.dumps([one.to_json() for one in beside])
        program.model.metadata_props["reid.inputs"] = described
    with whole_file(path) as part:
        program.save(str(part))
        worst = _largest_difference(embedder, part, batch_sizes)
        if worst > TOLERANCE:
            raise ReidError(
                f"the exported model differs from the original by {worst:.1e} (allowed: "
                f"{TOLERANCE:.0e}); nothing was written"
            )
    return worst


def _largest_difference(embedder: Embedder, path: Path, batch_sizes: Iterable[int]) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    generator = torch.Generator().manual_seed(0)
    for size in batch_sizes:
        images = torch.rand(size, 3, *embedder.size, generator=generator)
        with torch.inference_mode():
            ours = embedder(images)
        given = {"images": images.numpy()}
        for name in embedder.fields:
            given[name] = embedder.inputs[name].unknown(size, images.device).numpy()
        theirs = torch.from_numpy(session.run(None, given)[0])
        worst = max(worst, float((ours - theirs).abs().max() / ours.abs().max()))
    return worst


class _Named(nn.Module):
    """An embedder whose fields are arguments of their own."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.embedder = embedder

    def forward(self, images: Tensor, *read: Tensor) -> Tensor:
        """Return the features ``B D`` of images and of what is read beside them."""
        features: Tensor = self.embedder(images, dict(zip(self.embedder.fields, read, strict=True)))
        return features


class _quiet:
    """Silence loggers of the exporter, which narrate every pass."""

    def __init__(self, *names: str) -> None:
        self._loggers = [logging.getLogger(name) for name in names]

    def __enter__(self) -> None:
        self._levels = [logger.level for logger in self._loggers]
        for logger in self._loggers:
            logger.setLevel(logging.ERROR)

    def __exit__(self, *error: object) -> None:
        for logger, level in zip(self._loggers, self._levels, strict=True):
            logger.setLevel(level)

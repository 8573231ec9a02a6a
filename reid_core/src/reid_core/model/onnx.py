"""Write a deployed model as ONNX."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor

from reid_core.model.deployed import INPUTS_KEY, KEY, Deployed
from reid_core.moved import answer_former_names


def write_onnx(model: Deployed, path: Path, stated: str) -> Callable[..., Tensor]:
    """Write an ONNX file with a free batch axis, and return what it computes in ONNX Runtime.

    What the embedder reads beside the image is a further input of its name; shape, type and the
    value that stands for unknown are in the metadata, too, under ``reid.inputs``, as JSON.

    Args:
        model: on the CPU, in evaluation mode.
        path: the file to write.
        stated: the contract, which goes into its metadata.
    """
    import onnxruntime

    with ExitStack() as after:
        for name in ("torch.onnx", "onnxscript"):  # which narrate every pass
            logger = logging.getLogger(name)
            after.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        program = torch.onnx.export(
            model,
            model.arguments(2),
            input_names=model.names(),
            output_names=["features"],
            dynamic_shapes=model.dynamic_shapes(),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props[KEY] = stated
    if model.beside:
        described = json.dumps([one.to_json() for one in model.beside])
        program.model.metadata_props[INPUTS_KEY] = described
    program.save(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def compute(*values: Tensor) -> Tensor:
        given = {name: one.numpy() for name, one in zip(model.names(), values, strict=True)}
        return torch.from_numpy(session.run(None, given)[0])

    return compute


answer_former_names(__name__)

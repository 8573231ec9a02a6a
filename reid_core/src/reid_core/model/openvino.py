"""Write a deployed model for OpenVINO."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from reid_core.model.deployed import KEY, Deployed


def write_openvino(model: Deployed, path: Path, stated: str) -> Callable[..., Tensor]:
    """Write ``.xml`` and the weights beside it (``.bin``, float32); return what they compute.

    Args:
        model: on the CPU, in evaluation mode.
        path: the ``.xml`` to write.
        stated: the contract, which goes into the file's runtime information.
    """
    import openvino

    converted = openvino.convert_model(model.program())
    for given, name in zip(converted.inputs, model.names(), strict=True):
        given.get_tensor().set_names({name})
    converted.outputs[0].get_tensor().set_names({"features"})
    converted.set_rt_info(stated, [KEY])
    openvino.save_model(converted, str(path), compress_to_fp16=False)
    core = openvino.Core()
    # Processors that multiply bfloat16 would otherwise do so.
    precise = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(str(path)), "CPU", precise)
    return lambda *values: torch.from_numpy(compiled([one.numpy() for one in values])[0].copy())

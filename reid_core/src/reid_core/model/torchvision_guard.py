"""Import torchvision where its binary does not load beside the installed torch.

A CPU build of torch beside torchvision's CUDA wheel raises ``operator torchvision::nms does not
exist`` at ``import torchvision``, and so at ``import timm``. Only detection operators are missing;
declaring their schemas lets everything else work. Call `guard_torchvision` before the first import
of either.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[Any] = []
"""Keeps the declarations alive: they vanish with their library object."""


def guard_torchvision() -> None:
    """Import torchvision, declaring missing operator schemas when its binary does not load."""
    if "torchvision" in sys.modules:
        return
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        _declare_and_retry()


def _declare_and_retry() -> None:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    _libraries.append(library)
    for schema in _SCHEMAS:
        for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library.define(schema)
        try:
            import torchvision  # noqa: F401
        except RuntimeError as error:
            if "operator torchvision::" not in str(error):
                raise
            continue
        break
    else:
        raise ImportError(
            "torchvision does not load beside this torch; install the pair that constraints.txt "
            "names"
        )
    warnings.warn(
        "torchvision's binary does not load beside this build of torch; its detection operators "
        "(nms) are unavailable, everything else works",
        stacklevel=3,
    )

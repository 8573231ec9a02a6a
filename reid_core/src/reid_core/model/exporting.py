"""Export a deployed model to the files of other runtimes, and prove that they compute the same."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from reid_core.errors import ReidError
from reid_core.model.deployed import KEY, Deployed, InputContract
from reid_core.model.embedder import Embedder
from reid_core.model.onnx import write_onnx
from reid_core.model.openvino import write_openvino
from reid_core.model.pictures import in_rows

TOLERANCE = 1e-4
"""Largest difference allowed between features of torch and of the file, relative to the largest
value."""

_BATCHES = (1, 3)
"""Sizes of the batches on which torch and the file are compared."""

NEEDS = {
    ".onnx": ("ONNX", "onnx", ("onnxruntime", "onnxscript")),
    ".pt2": ("a program of torch", "", ()),
    ".xml": ("OpenVINO", "openvino", ("openvino",)),
}
"""By suffix: the format, the extra that installs what it needs, the packages."""


@dataclass(frozen=True)
class Exported:
    """How close a file comes.

    Args:
        difference: to torch, of the same computation; relative to the largest value.
        resizing: to the embedder given images that were resized as it does it itself, on noise,
            where rounding shows most; None where nothing is resized inside.
    """

    difference: float
    resizing: float | None = None


def check_format(path: Path, contract: InputContract) -> None:
    """Check that a file of this name can be written here, before the work.

    Raises:
        ReidError: a package is missing, or the format cannot hold what the contract promises.
    """
    name, extra, packages = NEEDS[path.suffix.lower()]
    for package in packages:
        if find_spec(package) is None:
            raise ReidError(f"export to {name} needs {package}: pip install 'reid-core[{extra}]'")
    if contract.resize and path.suffix.lower() == ".xml":
        raise ReidError(
            "OpenVINO's converter does not know the antialiased resize; leave --resize out and "
            "resize before, or export .onnx"
        )


def export_file(embedder: Embedder, path: Path, contract: InputContract | None = None) -> Exported:
    """Write a model with a free batch axis and check it against torch; nothing else is left.

    Args:
        embedder: on the CPU, in evaluation mode.
        path: the file to write; its suffix, one of `NEEDS`, says the format.
        contract: what it is given; None takes images of its size with values in ``[0, 1]``.

    Raises:
        ReidError: a package is not installed, the embedder reads what has no default, or the two
            differ by more than `TOLERANCE`.
    """
    contract = contract or InputContract()
    check_format(path, contract)
    embedder.check_exportable()
    stated = contract.describe(embedder)
    model = Deployed(embedder, contract).eval()
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        with warnings.catch_warnings():  # of tracing and converting, about the network's own code
            warnings.simplefilter("ignore")
            compute = _WRITERS[path.suffix.lower()](model, Path(folder) / path.name, stated)
        differences, resizings = [], []
        for size in _BATCHES:
            images = (model.example(size, seed=1) * 255).round() / 255
            given, unknown = model.given(images), model.unknown(size)
            theirs = compute(given, *unknown)
            with torch.inference_mode():
                differences.append(_relative(theirs, model(given, *unknown)))
                if contract.resize:
                    frames = images.shape[1:-3]
                    own = _resized(images.flatten(0, -4), embedder.size)
                    own = embedder(own.unflatten(0, (-1, *frames)) if frames else own)
                    resizings.append(_relative(theirs, own))
        # NaN is passed on by torch's maximum, and is no agreement.
        difference = float(torch.tensor(differences).max())
        if not difference <= TOLERANCE:
            raise ReidError(
                f"the exported model differs from the original by {difference:.1e} (allowed: "
                f"{TOLERANCE:.0e}); nothing was written"
            )
        for file in sorted(Path(folder).iterdir()):
            file.replace(path.parent / file.name)
    return Exported(difference, max(resizings) if resizings else None)


def export_onnx(embedder: Embedder, path: Path) -> float:
    """Write an ONNX file of the usual contract; `export_file` has the others.

    Returns:
        The largest difference to torch, relative to the largest value.
    """
    return export_file(embedder, path).difference


def write_program(model: Deployed, path: Path, stated: str) -> Callable[..., Tensor]:
    """Write a program of ``torch.export``, and return what it computes once it is read back.

    Args:
        model: on the CPU, in evaluation mode.
        path: the ``.pt2`` to write.
        stated: the contract, which becomes the extra file ``reid.json``.
    """
    torch.export.save(model.program(), path, extra_files={f"{KEY}.json": stated})
    compute: Callable[..., Tensor] = torch.export.load(path).module()
    return compute


_WRITERS = {".onnx": write_onnx, ".pt2": write_program, ".xml": write_openvino}


def _relative(theirs: Tensor, ours: Tensor) -> float:
    return float((theirs - ours).abs().max() / ours.abs().max())


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return images as training, evaluation and `Embedder.embed` resize them."""
    pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return torch.stack(list(in_rows(pixels.numpy(), size)))

"""What an exported file takes: the contract with the program that will run it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from reid_core.model.embedder import Embedder
from reid_core.model.inputs import Input

Values = Literal["unit", "normalised"]

KEY = "reid"
"""Under which files of every format state the contract, as JSON."""

INPUTS_KEY = "reid.inputs"
"""Under which ONNX files state what is read beside the image, as JSON."""


@dataclass(frozen=True)
class InputContract:
    """What is given to an exported model.

    Args:
        values: ``unit``: RGB in ``[0, 1]``, the normalisation is inside; ``normalised``: with
            ImageNet's mean taken off and divided by its deviation, as some hosts do it themselves.
        resize: whether images of any size are taken and resized inside.
    """

    values: Values = "unit"
    resize: bool = False

    def describe(self, embedder: Embedder) -> str:
        """Return the contract as JSON, for the file's metadata."""
        given = embedder.describe()["input"]
        height, width = embedder.size
        frames = [] if embedder.clip is None else [clip_axis(embedder)]
        sides = ("height", "width") if self.resize else (height, width)
        shape = ["batch", *frames, 3, *sides]
        unit = self.values == "unit"
        stated: dict[str, Any] = {
            "reid_core": metadata.version("reid-core"),
            "input": {
                "name": "images",
                "shape": shape,
                "type": "float32",
                "channels": given["channels"],
                "values": self.values,
                "range": given["range"] if unit else None,
                "mean": given["mean"],
                "std": given["std"],
                "normalisation": "inside" if unit else "before",
                "resize": f"{'inside' if self.resize else 'before'}: {given['resize']}, to "
                f"{height} x {width}",
            },
            "output": {"name": "features", "shape": ["batch", embedder.dim], "type": "float32"},
        }
        if embedder.fields:
            stated["beside"] = [embedder.inputs[name].to_json() for name in embedder.fields]
        return json.dumps(stated)


def clip_axis(embedder: Embedder) -> int | str:
    """Return how many frames the clips of an embedder's file have: ``frames`` for any number.

    What only pools what it knows of every frame takes any; what looks at several at once takes as
    many as it has learnt from.
    """
    assert embedder.clip is not None
    return embedder.clip if embedder.whole_clips else "frames"


class Deployed(nn.Module):
    """An embedder behind a contract.

    One that has learnt from tracklets takes clips ``B T 3 H W``, `clip_axis` says of which length.

    Args:
        embedder: in evaluation mode.
        contract: what it is given.
    """

    def __init__(self, embedder: Embedder, contract: InputContract) -> None:
        super().__init__()
        self.embedder = embedder
        self.contract = contract

    @property
    def beside(self) -> list[Input]:
        """What is read beside the image, in the order of the arguments."""
        return [self.embedder.inputs[name] for name in self.embedder.fields]

    def names(self) -> list[str]:
        """Return the names of the arguments."""
        return ["images", *self.embedder.fields]

    def forward(self, images: Tensor, *read: Tensor) -> Tensor:
        """Return features ``B D``.

        Args:
            images: ``B 3 H W`` or clips ``B T 3 H W``, which keep the contract.
            read: what is read beside them, ``B ...`` each.
        """
        embedder, contract = self.embedder, self.contract
        fields = dict(zip(embedder.fields, read, strict=True))
        frames = 1
        if embedder.clip is not None:
            frames, images = images.shape[1], images.flatten(0, 1)
        if contract.values == "normalised" and not contract.resize:
            return embedder.embed_normalised(images, fields, frames=frames)
        if contract.values == "normalised":
            images = images * embedder.std + embedder.mean
        if contract.resize:
            # As bytes are resized in training and evaluation: along rows, then along columns, and
            # rounded after each, halves up. They are common, and no runtime's last digit may
            # decide them.
            height, width = embedder.size
            for size in ((images.shape[2], width), (height, width)):
                images = functional.interpolate(images, size, mode="bilinear", antialias=True)
                images = (images * 255 + 0.501).floor() / 255
        normalised = (images - embedder.mean) / embedder.std
        return embedder.embed_normalised(normalised, fields, frames=frames)

    def given(self, images: Tensor) -> Tensor:
        """Return RGB images in ``[0, 1]`` as the contract wants them."""
        if self.contract.values == "unit":
            return images
        return (images - self.embedder.mean) / self.embedder.std

    def dynamic_shapes(self) -> dict[str, Any]:
        """Return which axes of the input are free, for ``torch.export``."""
        free = {0: torch.export.Dim("batch", min=1, max=65535)}
        embedder = self.embedder
        clips = embedder.clip is not None
        if clips and clip_axis(embedder) == "frames":
            free[1] = torch.export.Dim("frames", min=1, max=65535)
        if self.contract.resize:
            free |= {
                2 + clips: torch.export.Dim("height", min=2, max=65535),
                3 + clips: torch.export.Dim("width", min=2, max=65535),
            }
        shapes: dict[str, Any] = {"images": free}
        if self.beside:
            shapes["read"] = tuple({0: free[0]} for _ in self.beside)
        return shapes

    def program(self) -> torch.export.ExportedProgram:
        """Return it as a program of ``torch.export`` with its free axes."""
        return torch.export.export(self, self.arguments(2), dynamic_shapes=self.dynamic_shapes())

    def arguments(self, rows: int) -> tuple[Tensor, ...]:
        """Return arguments for some images: noise, and of the rest what stands for unknown."""
        return (self.example(rows), *self.unknown(rows))

    def unknown(self, rows: int) -> list[Tensor]:
        """Return of what is read beside images what stands for unknown."""
        frames = self._frames or 1
        return [
            one.unknown(rows * frames if one.of_frames else rows, torch.device("cpu"))
            for one in self.beside
        ]

    def example(self, rows: int, seed: int = 0) -> Tensor:
        """Return noise in ``[0, 1]``, ``rows 3 H W``: of another shape where it is resized.

        For an embedder of clips it is ``rows T 3 H W``.
        """
        height, width = self.embedder.size
        if self.contract.resize:
            height, width = height + 30, width + 9
        generator = torch.Generator().manual_seed(seed)
        frames = () if self._frames is None else (self._frames,)
        return torch.rand(rows, *frames, 3, height, width, generator=generator)

    @property
    def _frames(self) -> int | None:
        """Frames of an example: an axis that is free must not have one."""
        clip = self.embedder.clip
        return clip if clip is None or self.embedder.whole_clips else max(2, clip)

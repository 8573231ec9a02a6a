"""What a model reads beside the image: shape, type, and the value that stands for unknown."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from reid_core.contract.encoder import Encoder
from reid_core.contract.model import CLEAN_IMAGE, Branch
from reid_core.contract.vectors import vector_of
from reid_core.errors import DataError, PluginError
from reid_core.model.frames import fitted


@dataclass(frozen=True)
class Input:
    """A value beside the image.

    Args:
        name: ``camid``, ``clothes``, or a field.
        shape: of one image's value.
        dtype: of torch (``int64``).
        default: what stands for unknown, everywhere; None where nothing does.
        of_frames: whether a tracklet has one value for every frame.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    default: float | None = None
    of_frames: bool = False

    def unknown(self, rows: int, device: torch.device) -> Tensor:
        """Return the default for some images, ``B ...``.

        Raises:
            DataError: there is none.
        """
        if self.default is None:
            raise DataError(
                f"the model reads '{self.name}' beside the image, and no default is declared for "
                "an unknown one; give its values"
            )
        kind = getattr(torch, self.dtype)
        return torch.full((rows, *self.shape), self.default, dtype=kind, device=device)

    def to_json(self) -> dict[str, Any]:
        """Return plain data, from which `of_json` makes it again."""
        content = {**asdict(self), "shape": list(self.shape)}
        return content if self.of_frames else {n: v for n, v in content.items() if n != "of_frames"}

    @classmethod
    def of_json(cls, content: Mapping[str, Any]) -> Input:
        """Return what `to_json` was made of."""
        return cls(**{**content, "shape": tuple(content["shape"])})


def fields_read(encoder: Encoder, branches: Iterable[Branch]) -> tuple[str, ...]:
    """Return what encoder and branches read of the data beside the image, by name."""
    parts = list(branches)
    written = {tap.name for tap in encoder.taps} | {name for b in parts for name in b.writes}
    read = {*encoder.reads, *(name for b in parts for name in b.reads)}
    rest = read - written - {"image", CLEAN_IMAGE}
    return tuple(sorted(name for name in rest if vector_of(name) is None))


def inputs_of(
    encoder: Encoder,
    branches: Sequence[Branch],
    values: Mapping[str, Tensor],
    of_frames: Collection[str] = (),
) -> dict[str, Input]:
    """Return what a model reads beside the image, with the defaults that its parts declare.

    Args:
        encoder, branches: of the model.
        values: of some images, by name.
        of_frames: names of those that have a row per frame.

    Raises:
        PluginError: two parts declare different defaults of one name, or one of none that they
            read.
    """
    defaults: dict[str, tuple[str, float]] = {}
    declared = [("encoder", encoder.reads, encoder.defaults)]
    declared += [(f"branch '{b.name}'", b.reads, b.defaults) for b in branches]
    for part, reads, given in declared:
        for name, value in given.items():
            if name not in reads:
                raise PluginError(f"{part} declares a default of '{name}', which it does not read")
            known = defaults.setdefault(name, (part, value))
            if known[1] != value:
                raise PluginError(
                    f"{known[0]} declares that {known[1]} stands for an unknown '{name}', and "
                    f"{part} declares {value}"
                )
    return {
        name: Input(
            name,
            tuple(values[name].shape[1:]),
            str(values[name].dtype).removeprefix("torch."),
            defaults[name][1] if name in defaults else None,
            name in of_frames,
        )
        for name in fields_read(encoder, branches)
        if name in values
    }


def encoded(
    encoder: Encoder,
    image: Tensor,
    fields: Mapping[str, Tensor],
    inputs: Mapping[str, Input],
    frames: int = 1,
    of_frames: Collection[str] = ("image",),
) -> dict[str, Tensor]:
    """Return what the encoder makes of images and of what it reads beside them.

    Args:
        encoder: the encoder.
        image: ``B 3 H W``, normalised; of tracklets ``B*frames 3 H W``.
        fields: by name; what is missing is unknown.
        inputs: what stands for unknown.
        frames: of every sample.
        of_frames: names of what has a row per frame, ``image`` among them.

    Raises:
        DataError: something that it reads is missing, and nothing stands for it.
    """
    read = []
    for name in encoder.reads:
        value = fields.get(name)
        if value is None:
            rows = len(image) if name in of_frames else len(image) // frames
            value = inputs[name].unknown(rows, image.device)
        read.append(value)
    names = ("image", *encoder.reads)
    maps: dict[str, Tensor] = encoder(
        *fitted([image, *read], names, frames, encoder.clips, of_frames)
    )
    return maps

"""What an encoder is. Needs torch at import, for authors subclass it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from reid_core.contract.model import Embedding, Tap


class Encoder(nn.Module):
    """Base of all encoders: an image in, named feature maps out.

    Attributes:
        taps: what ``forward`` returns, from shallow to deep; the last one is ``encoder/map``.
        filled: what became of the file of weights that it started from, or None.
        reads: what it reads beside the image: ``camid``, ``clothes``, or fields of the data.
        defaults: by name of ``reads``, the number that stands for an unknown value.
        clips: whether it sees the frames of a tracklet together, ``B T 3 H W`` (a single image is a
            clip of one), and returns maps ``B C H W`` of whole clips. Otherwise frames are images
            like any other, ``B*T 3 H W``.
    """

    taps: tuple[Tap, ...]
    reads: tuple[str, ...] = ()
    defaults: Mapping[str, float] = {}
    clips: bool = False
    filled: Any = None

    def forward(self, image: Tensor, *read: Any) -> dict[str, Tensor]:
        """Return the maps by tap name.

        Args:
            image: ``B 3 H W``, ImageNet-normalised; ``B T 3 H W`` with ``clips``.
            read: values of ``reads``, ``B ...`` each, in their order. Whoever calls an encoder by
                hand may know none, so they better have Python defaults, which mean unknown.
        """
        raise TypeError(f"{type(self).__name__} must define forward")

    def deploy_spec(self) -> dict[str, Any]:
        """Return ``{"factory": "module:Class", "kwargs": {...}}``, which rebuilds the encoder.

        The exported embedder stores it; loading makes the class and loads the weights. Where an
        argument is a module, its own description stands in its place.
        """
        raise TypeError(f"{type(self).__name__} must define deploy_spec to be exported")

    @property
    def conventions(self) -> dict[str, Any]:
        """What goes with the weights and is none of them: plain values, stored in checkpoints."""
        return {}

    def follow(self, conventions: Mapping[str, Any]) -> None:
        """Take over the conventions of the weights that are loaded into it."""


class TrainedModel(Protocol):
    """What a run's model shows to plugins; it is a ``torch.nn.Module``."""

    @property
    def encoder(self) -> Encoder:
        """The encoder."""

    @property
    def branches(self) -> nn.ModuleDict:
        """The modules of all branches by name."""

    @property
    def criteria(self) -> nn.ModuleDict:
        """The identity criteria by embedding."""

    @property
    def embeddings(self) -> Mapping[str, Embedding]:
        """Declarations of the embeddings by name."""

    def state_dict(self) -> Mapping[str, Any]:
        """Return all entries by name."""

"""The parsing network of the shape stream: live, so that identities refine it, or frozen."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from reid_fsam.masks import body_masks, resized_images
from reid_fsam.settings import MaskKind
from reid_parsing import BodyParser, build_parser


class MaskingParser(nn.Module):
    """Turn images into masks that gradients pass through.

    Dropout is off, so that the live parser and its frozen copy begin as the same function.

    Args:
        architecture: the parsing network's name.
        classes: its number of classes.
        kind: representation of the masks.
        size: height and width of the masks.
        input_size: height and width of the network's input; None takes the images' own.
        fixed_norms: normalise by running statistics in training, too.
    """

    def __init__(
        self,
        architecture: str,
        classes: int,
        kind: MaskKind,
        size: tuple[int, int],
        input_size: tuple[int, int] | None = None,
        fixed_norms: bool = False,
    ) -> None:
        super().__init__()
        self._spec = {
            "architecture": architecture,
            "classes": classes,
            "kind": kind,
            "size": list(size),
            "input_size": None if input_size is None else list(input_size),
            "fixed_norms": fixed_norms,
        }
        self.network = build_parser(architecture, classes)
        self.kind: MaskKind = kind
        self.size = (size[0], size[1])
        self.input_size = None if input_size is None else (input_size[0], input_size[1])
        self.fixed_norms = fixed_norms
        for module in self.network.modules():
            if isinstance(module, _DropoutNd):
                module.p = 0.0

    @classmethod
    def of(
        cls,
        parser: BodyParser,
        kind: MaskKind,
        size: tuple[int, int],
        input_size: tuple[int, int] | None = None,
        fixed_norms: bool = False,
    ) -> MaskingParser:
        """Return one with a copy of a trained parser's weights, on the CPU; see the class."""
        classes = len(parser.labels)
        made = cls(parser.architecture, classes, kind, size, input_size, fixed_norms)
        state = {name: value.cpu() for name, value in parser.network.state_dict().items()}
        made.network.load_state_dict(state)
        return made

    @property
    def idle(self) -> tuple[str, ...]:
        """Prefixes of parameters that masks do not depend on."""
        return tuple(f"network.{prefix}" for prefix in self.network.idle)

    def train(self, mode: bool = True) -> MaskingParser:
        """Set training mode, everywhere but in the norms where those are fixed."""
        super().train(mode)
        if self.fixed_norms:
            for module in self.network.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Return masks ``B C H W``, float32.

        Args:
            image: ``B 3 H W``, ImageNet-normalised.
        """
        return body_masks(self.logits(image), self.kind, self.size)

    def logits(self, image: Tensor) -> Tensor:
        """Return class logits ``B K h w`` at the network's stride; see `forward`."""
        found: Tensor = self.network(resized_images(image, self.input_size))
        return found

    def deploy_spec(self) -> dict[str, Any]:
        """See `Encoder.deploy_spec`."""
        return {"factory": "reid_fsam.parsing:MaskingParser", "kwargs": self._spec}

"""MGN's encoder: one stem, and three copies of a ResNet's last stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from reid_core import ConfigError, Encoder, Renormalise, Tap, TimmEncoder

BRANCHES = 3

_RESNET = ("conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3", "layer4")


class MgnEncoder(Encoder):
    """A ResNet that is shared up to conv4_1 and has conv4_2 to conv5 three times.

    The copies start from the same weights. Taps are ``encoder/stem``, ``encoder/stage1``,
    ``encoder/stage2``, ``encoder/shared`` (conv4_1), and the three last maps ``encoder/map_1`` to
    ``encoder/map_3``; ``encoder/map`` is the first of them.

    Args:
        name: a ResNet of timm (``resnet50``, ``resnet50.tv_in1k``).
        size: height and width of the input.
        last_stride: 1 removes the stride of conv5 in all three branches.
        pretrained, mean, std, importer: as in `TimmEncoder`.

    Attributes:
        filled: see `TimmEncoder`.

    Raises:
        ConfigError: the encoder is no ResNet, or `TimmEncoder` refuses it.
    """

    def __init__(
        self,
        name: str,
        size: Sequence[int],
        last_stride: int | str = "auto",
        pretrained: bool | Path = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        importer: str = "auto",
    ) -> None:
        super().__init__()
        whole = TimmEncoder(
            name,
            (size[0], size[1]),
            last_stride,
            pretrained,
            mean=mean,
            std=std,
            importer=importer,
        )
        self.spec, self.filled = whole.spec, whole.filled
        self.renormalise = whole.renormalise
        if not all(hasattr(whole.trunk, part) for part in _RESNET):
            raise ConfigError(
                f"plugin 'mgn' splits a ResNet into branches, and '{name}' is none; choose one, "
                "say --backbone resnet50"
            )
        conv, norm, act, pool, first, second, third, fourth = (
            getattr(whole.trunk, part) for part in _RESNET
        )
        self.stem = nn.Sequential(conv, norm, act)
        self.pool = pool
        self.stage1, self.stage2 = first, second
        self.shared = third[0]  # conv4_1
        last = nn.Sequential(*third[1:], *fourth)  # conv4_2 to conv5
        self.branches = nn.ModuleList([last, *(deepcopy(last) for _ in range(BRANCHES - 1))])
        self.taps = _taps({tap.name: tap for tap in whole.taps})

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return the maps by tap name; see `Encoder.forward`."""
        stem = self.stem(self.renormalise(image))
        stage1 = self.stage1(self.pool(stem))
        stage2 = self.stage2(stage1)
        shared = self.shared(stage2)
        values = [stem, stage1, stage2, shared, *(branch(shared) for branch in self.branches)]
        values.append(values[-BRANCHES])
        return dict(zip((tap.name for tap in self.taps), values, strict=True))

    def deploy_spec(self) -> dict[str, Any]:
        """See `Encoder.deploy_spec`."""
        kwargs = {**self.spec, **self.conventions}
        return {"factory": "reid_baselines.mgn_encoder:MgnEncoder", "kwargs": kwargs}

    @property
    def conventions(self) -> dict[str, Any]:
        """See `Encoder.conventions`."""
        return {"mean": list(self.renormalise.mean), "std": list(self.renormalise.std)}

    def follow(self, conventions: Mapping[str, Any]) -> None:
        """See `Encoder.follow`."""
        ours = Renormalise()
        self.renormalise.set(conventions.get("mean", ours.mean), conventions.get("std", ours.std))


def _taps(whole: dict[str, Tap]) -> tuple[Tap, ...]:
    third, last = whole["encoder/stage3"], whole["encoder/map"]
    return (
        *(whole[f"encoder/{name}"] for name in ("stem", "stage1", "stage2")),
        Tap("encoder/shared", third.channels, third.stride),
        *(Tap(f"{last.name}_{n}", last.channels, last.stride) for n in range(1, BRANCHES + 1)),
        last,
    )


class Reduction(nn.Linear):
    """MGN's FC256: a linear layer with bias, neither normalised nor rectified.

    Args:
        channels: length of the pooled vector.
        dim: length of the embedding.
    """

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__(channels, dim)

    def deploy_spec(self) -> dict[str, Any]:
        """Return how the exported embedder rebuilds it."""
        kwargs = {"channels": self.in_features, "dim": self.out_features}
        return {"factory": "reid_baselines.mgn_encoder:Reduction", "kwargs": kwargs}

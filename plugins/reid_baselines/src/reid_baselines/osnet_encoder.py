"""OSNet's layers: omni-scale blocks whose streams see 3, 5, 7 and 9 pixels, joined by one gate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from reid_core import Encoder, Tap

STREAMS = 4
"""Streams of a block (T of the paper's equation 3); stream t has t light convolutions."""

BLOCKS = 2
"""Blocks of a stage."""

AIN = ((True, True), (False, True), (True, False))
"""Which blocks of each stage of OSNet-AIN normalise every image by itself: what the search of Zhou
et al. (TPAMI 2021) has found."""


class ConvNorm(nn.Module):
    """Convolution without bias and batch norm, rectified or not.

    Args:
        channels, out: numbers of channels.
        size, stride: of the kernel, padded to keep the map's size at stride 1.
        rectified: whether a ReLU follows.
        instance: normalise every image by itself in place of the batch.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        size: int = 1,
        stride: int = 1,
        rectified: bool = True,
        instance: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, size, stride, size // 2, bias=False)
        self.norm = nn.InstanceNorm2d(out, affine=True) if instance else nn.BatchNorm2d(out)
        self.act = nn.ReLU(inplace=True) if rectified else nn.Identity()

    def forward(self, feature: Tensor) -> Tensor:
        """Return ``B out H W``."""
        return self.act(self.norm(self.conv(feature)))  # type: ignore[no-any-return]


class LightConv(nn.Module):
    """The paper's Lite 3x3: a pointwise, then a depthwise convolution, batch norm and ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.depthwise = nn.Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, feature: Tensor) -> Tensor:
        """Return a map of the same shape."""
        return self.act(self.norm(self.depthwise(self.pointwise(feature))))  # type: ignore[no-any-return]


class AggregationGate(nn.Module):
    """Weigh a stream's channels by what they hold: one gate, shared by a block's streams (eq. 4).

    Args:
        channels: of the stream; the hidden layer has a sixteenth of them.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // 16, 1)
        self.excite = nn.Conv2d(channels // 16, channels, 1)

    def forward(self, stream: Tensor) -> Tensor:
        """Return the weighted stream."""
        hidden = torch.relu(self.squeeze(stream.mean((2, 3), keepdim=True)))
        return stream * torch.sigmoid(self.excite(hidden))


class OmniScaleBlock(nn.Module):
    """A residual block with streams of several receptive fields (figure 4 of the paper).

    Args:
        channels, out: numbers of channels; the streams have a quarter of ``out``.
        instance: whether the residual is normalised image by image.
    """

    def __init__(self, channels: int, out: int, instance: bool = False) -> None:
        super().__init__()
        middle = out // 4
        self.reduce = ConvNorm(channels, middle)
        self.streams = nn.ModuleList(
            nn.Sequential(*(LightConv(middle) for _ in range(depth)))
            for depth in range(1, STREAMS + 1)
        )
        self.gate = AggregationGate(middle)
        self.expand = ConvNorm(middle, out, rectified=False, instance=instance)
        same = channels == out
        self.shortcut = nn.Identity() if same else ConvNorm(channels, out, rectified=False)

    def forward(self, feature: Tensor) -> Tensor:
        """Return ``B out H W``."""
        reduced = self.reduce(feature)
        streams = torch.stack([self.gate(stream(reduced)) for stream in self.streams])
        return torch.relu(self.expand(streams.sum(0)) + self.shortcut(feature))


class OsnetEncoder(Encoder):
    """OSNet up to its last map.

    Taps are ``encoder/stem`` (stride 2), ``encoder/stage1`` to ``encoder/stage3`` (strides 4, 8
    and 16: the paper's conv2 to conv4 before their transitions) and ``encoder/map``, conv5.

    Args:
        channels: of the stem and of the three stages.
        ain: whether it is OSNet-AIN, whose stem and some of whose blocks (`AIN`) normalise every
            image by itself.
    """

    def __init__(self, channels: Sequence[int], ain: bool = False) -> None:
        super().__init__()
        stem, *stages = channels
        self.channels, self.ain = tuple(channels), ain
        self.stem = ConvNorm(3, stem, 7, 2, instance=ain)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.stages = nn.ModuleList(
            nn.Sequential(
                *(
                    OmniScaleBlock(before if n == 0 else out, out, ain and normed[n])
                    for n in range(BLOCKS)
                )
            )
            for before, out, normed in zip(channels, stages, AIN, strict=False)
        )
        self.transitions = nn.ModuleList(
            nn.Sequential(ConvNorm(out, out), nn.AvgPool2d(2)) for out in stages[:-1]
        )
        self.last = ConvNorm(stages[-1], stages[-1])
        self.taps = (
            Tap("encoder/stem", stem, 2),
            *(Tap(f"encoder/stage{n + 1}", out, 4 * 2**n) for n, out in enumerate(stages)),
            Tap("encoder/map", stages[-1], 16),
        )
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return the maps by tap name; see `Encoder.forward`."""
        maps = {"encoder/stem": self.stem(image)}
        feature = self.pool(maps["encoder/stem"])
        for number, stage in enumerate(self.stages):
            if number:
                feature = self.transitions[number - 1](feature)
            feature = maps[f"encoder/stage{number + 1}"] = stage(feature)
        maps["encoder/map"] = self.last(feature)
        return maps

    def deploy_spec(self) -> dict[str, Any]:
        """See `Encoder.deploy_spec`."""
        kwargs: dict[str, Any] = {"channels": list(self.channels)}
        if self.ain:
            kwargs["ain"] = True
        return {"factory": "reid_baselines.osnet_encoder:OsnetEncoder", "kwargs": kwargs}


class OsnetFc(nn.Sequential):
    """The embedding that the network brings: FC, batch norm and ReLU behind the average pooling.

    Args:
        channels: of the last map.
        dim: length of the embedding.
    """

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__(nn.Linear(channels, dim), nn.BatchNorm1d(dim), nn.ReLU())
        self._kwargs = {"channels": channels, "dim": dim}

    def deploy_spec(self) -> dict[str, Any]:
        """Return how the exported embedder rebuilds it."""
        return {"factory": "reid_baselines.osnet_encoder:OsnetFc", "kwargs": self._kwargs}

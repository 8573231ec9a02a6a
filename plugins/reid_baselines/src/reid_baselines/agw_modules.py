"""AGW's non-local blocks, the ResNet that has them, and the weighted regularised triplet loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from reid_core import ConfigError, TimmEncoder, inner_products


class NonLocal(nn.Module):
    """A non-local block (Wang et al., CVPR 2018, eq. 1, 4 and 6) that begins as the identity.

    Every place takes from all others what they hold, by the products of their embeddings, which
    are divided by the number of places.

    Args:
        channels: of the map.
        inner: of the embeddings.
    """

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.theta = nn.Conv2d(channels, inner, 1)
        self.phi = nn.Conv2d(channels, inner, 1)
        self.g = nn.Conv2d(channels, inner, 1)
        self.out = nn.Conv2d(inner, channels, 1)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, feature: Tensor) -> Tensor:
        """Return a map of the same shape."""
        asked, known, held = (
            part(feature).flatten(2) for part in (self.theta, self.phi, self.g)
        )  # B inner places
        # Products are associative: (theta^T phi) g^T is never as large as places x places.
        mixed = known @ held.transpose(1, 2) / known.shape[2]  # B inner inner
        found = (mixed.transpose(1, 2) @ asked).unflatten(2, feature.shape[2:])
        return feature + self.norm(self.out(found))  # type: ignore[no-any-return]


class NonLocalEncoder(TimmEncoder):
    """A ResNet of timm with non-local blocks.

    Args:
        name: a ResNet of timm.
        size, last_stride, pretrained: as in `TimmEncoder`; weights are those of the plain network.
        blocks: behind how many of the last blocks of each stage there is one.
        channels: within a non-local block; None takes half of the map's.
        options: further ones of `TimmEncoder`.

    Raises:
        ConfigError: the encoder is no ResNet, or `TimmEncoder` refuses it.
    """

    def __init__(
        self,
        name: str,
        size: tuple[int, int],
        last_stride: int | str = "auto",
        pretrained: Any = False,
        *,
        blocks: Sequence[int] = (0, 2, 3, 0),
        channels: int | None = 1,
        **options: Any,
    ) -> None:
        super().__init__(name, size, last_stride, pretrained, **options)
        own: dict[str, Any] = {"blocks": list(blocks), "channels": channels}
        self.spec.update(own)
        widths = {tap.name: tap.channels for tap in self.taps}
        for number, count in enumerate(blocks, start=1):
            stage = getattr(self.trunk, f"layer{number}", None)
            width = widths.get(f"encoder/stage{number}")
            if not isinstance(stage, nn.Sequential) or width is None:
                raise ConfigError(
                    f"plugin 'agw' puts non-local blocks into a ResNet, and '{name}' is none; "
                    "choose one, say --backbone resnet50, or do without with "
                    "-s agw.blocks=[0,0,0,0]"
                )
            for place in range(max(0, len(stage) - count), len(stage)):
                stage[place] = nn.Sequential(stage[place], NonLocal(width, channels or width // 2))

    def deploy_spec(self) -> dict[str, Any]:
        """See `Encoder.deploy_spec`."""
        return {**super().deploy_spec(), "factory": "reid_baselines.agw_modules:NonLocalEncoder"}


def weighted_triplet(vectors: Tensor, labels: Tensor) -> Tensor:
    """Return the weighted regularised triplet loss (Ye et al., TPAMI 2022).

    ``log(1 + exp(sum_p w_p d_p - sum_n w_n d_n))`` for every anchor, with Euclidean distances; the
    weights of its positives are the softmax of their distances, those of its negatives the softmax
    of the negated distances. Anchors without a positive or a negative, and rows with label -1, do
    not count.

    Args:
        vectors: ``B D``; computed in float32.
        labels: int64 ``B``.

    Returns:
        Scalar, the mean over the anchors that count; 0 (with a graph) when none does.
    """
    vectors = vectors.float()
    known = labels >= 0
    both = known[:, None] & known[None, :]
    same = (labels[:, None] == labels[None, :]) & both
    same.fill_diagonal_(False)
    other = (labels[:, None] != labels[None, :]) & both
    squares = vectors.square().sum(1)
    apart = squares[:, None] + squares[None, :] - 2 * inner_products(vectors)
    distances = apart.clamp(min=1e-12).sqrt()

    def weighed(pairs: Tensor, sign: int) -> Tensor:
        # A number in place of minus infinity: an anchor without pairs has no NaN.
        weights = (sign * distances).masked_fill(~pairs, -1e30).softmax(1)
        return (weights * pairs * distances).sum(1)

    counts = (same.any(1) & other.any(1)).float()
    values = F.softplus(weighed(same, 1) - weighed(other, -1))
    return (values * counts).sum() / counts.sum().clamp(min=1)

"""TransReID's encoder: overlapping patches, side information, the jigsaw patch module."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from reid_core import CLASS_TOKEN, ENCODER_MAP, ConfigError, Encoder, Tap, TimmEncoder

_PARTS = ("patch_embed", "cls_token", "pos_embed", "blocks", "norm", "norm_pre")


def grid_of(
    encoder: Encoder, name: str, size: Sequence[int], stride: int | None
) -> tuple[tuple[int, int], int]:
    """Return rows and columns of patches, and the side of a patch ('overlapping patches').

    Args:
        encoder: as the run would have it.
        name: its name, for messages.
        size: height and width of the images.
        stride: pixels from patch to patch; None is a patch.

    Raises:
        ConfigError: the encoder is no vision transformer of timm, the stride is larger than a
            patch, or a patch than the image.
    """
    trunk: Any = encoder.trunk if isinstance(encoder, TimmEncoder) else None
    if trunk is None or any(getattr(trunk, part, None) is None for part in _PARTS):
        raise ConfigError(
            f"plugin 'transreid' works with vision transformers of timm that have a class token, "
            f"and '{name}' is none; choose one, say --backbone vit_small_patch16_224"
        )
    patch = int(trunk.patch_embed.patch_size[0])
    step = patch if stride is None else stride
    if step > patch:
        raise ConfigError(
            f"transreid.stride = {step} leaves gaps between the patches of {patch} pixels of "
            f"'{name}'; set -s transreid.stride={patch} or less"
        )
    if min(size) < patch:
        raise ConfigError(
            f"images of {size[0]} x {size[1]} pixels have no patch of {patch} x {patch} for "
            f"'{name}'; raise data.height and data.width"
        )
    return ((size[0] - patch) // step + 1, (size[1] - patch) // step + 1), patch


def local_names(groups: int) -> tuple[str, ...]:
    """Return the names of the vectors of the groups of patches."""
    digits = len(str(groups))
    return tuple(f"encoder/local{number:0{digits}d}" for number in range(1, groups + 1))


class TransreidEncoder(Encoder):
    """A vision transformer of timm with TransReID's three changes.

    Taps are ``encoder/stage1`` and so on, the blocks' maps, ``encoder/map``, their class tokens
    (``encoder/stage1_class``, ``encoder/class``), and ``encoder/local1`` and so on: the class
    tokens of the groups of the jigsaw patch module, in which a copy of the last block sees the
    class token and one group of patches.

    Args:
        encoder: the transformer, built for as many patches side by side as there are.
        size: height and width of the images.
        stride: pixels from patch to patch.
        reads: what is read beside the image: ``camid`` and the name of the viewpoint, or less.
        counts: how many values each has.
        side_scale: factor on the side information's embedding (lambda).
        groups: of patches; 0 leaves the module out.
        shift, shuffle: see `jigsaw_groups`.
        drop_path: rate of stochastic depth at the last block.
    """

    def __init__(
        self,
        encoder: TimmEncoder,
        size: Sequence[int],
        stride: int,
        reads: Sequence[str] = (),
        counts: Sequence[int] = (),
        side_scale: float = 3.0,
        groups: int = 4,
        shift: int = 4,
        shuffle: int = 2,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.kwargs = {
            "size": list(size),
            "stride": stride,
            "reads": list(reads),
            "counts": list(counts),
            "side_scale": side_scale,
            "groups": groups,
            "shift": shift,
            "shuffle": shuffle,
            "drop_path": drop_path,
        }
        self.reads, self.counts = tuple(reads), tuple(counts)
        self.defaults = dict.fromkeys(reads, -1)
        self.side_scale, self.shift, self.shuffle = side_scale, shift, shuffle
        self.filled = encoder.filled
        self.inner = encoder
        trunk: Any = encoder.trunk
        self.grid = trunk.patch_embed.grid_size
        trunk.patch_embed.proj.stride = (stride, stride)
        trunk.patch_embed.img_size = tuple(size)
        _drop_paths(trunk.blocks, drop_path)
        width = trunk.embed_dim
        self.side: nn.Parameter | None = None
        if self.reads:
            rows = 1
            for count in counts:
                rows *= count
            self.side = nn.Parameter(torch.empty(rows, width))
            nn.init.trunc_normal_(self.side, std=0.02)
        self.local = local_names(groups) if groups else ()
        if groups:
            patches = self.grid[0] * self.grid[1]
            # As many patches as there are come back to their places, shifted or dealt out.
            least = {"groups": groups, "shift": shift + 1, "shuffle": shuffle + (shuffle > 1)}
            for name, wanted in least.items():
                if patches < wanted:
                    raise ConfigError(
                        f"{self.grid[0]} x {self.grid[1]} patches are too few for transreid.{name} "
                        f"= {self.kwargs[name]}; take larger images, or set -s transreid.{name} "
                        "lower"
                    )
            self.local_block = deepcopy(trunk.blocks[-1])
            self.local_norm = deepcopy(trunk.norm)
        stages = [f"encoder/stage{number}" for number in range(1, len(trunk.blocks) + 1)]
        self._stages = stages
        self.taps = (
            *(Tap(f"{name}_class", width, 0) for name in stages),
            *(Tap(name, width, stride) for name in stages),
            *(Tap(name, width, 0) for name in (*self.local, CLASS_TOKEN)),
            Tap(ENCODER_MAP, width, stride),
        )

    def side_information(self, rows: int, *read: Tensor | None) -> Tensor:
        """Return the embedding of camera and viewpoint ``B D``, without lambda.

        A value that is unknown (negative, or beyond the training's) stands for all: the mean over
        the table. Numbers of another data set are not told from the training's; whoever gives
        images of one gives -1, as a run does for its further test sets.

        Args:
            rows: B.
            read: int64 ``B`` for each of ``reads``, or None.
        """
        assert self.side is not None
        table = self.side
        place = torch.zeros(rows, dtype=torch.int64, device=table.device)
        known = torch.ones(rows, dtype=torch.bool, device=table.device)
        for value, count in zip(read, self.counts, strict=True):
            if value is None:
                value = torch.full_like(place, -1)
            known = known & (value >= 0) & (value < count)
            place = place * count + value.long()
        longer = torch.cat([table, table.mean(0, keepdim=True)])
        return longer[torch.where(known, place, len(table))]

    def forward(self, image: Tensor, *read: Any) -> dict[str, Tensor]:
        """Return maps, class tokens and the groups' vectors; see `Encoder.forward`."""
        trunk: Any = self.inner.trunk
        tokens = trunk._pos_embed(trunk.patch_embed(self.inner.renormalise(image)))
        if self.side is not None:
            given = read if read else (None,) * len(self.reads)
            side = self.side_information(image.shape[0], *given)
            tokens = tokens + self.side_scale * side[:, None]
        tokens = trunk.norm_pre(trunk.patch_drop(tokens))
        found: dict[str, Tensor] = {}
        before = tokens
        for name, block in zip(self._stages, trunk.blocks, strict=True):
            before = tokens
            tokens = block(tokens)
            found[f"{name}_class"], found[name] = tokens[:, 0], self._map(tokens)
        last = trunk.norm(tokens)
        found |= {CLASS_TOKEN: last[:, 0], ENCODER_MAP: self._map(last)}
        if self.local:
            prefix = before.shape[1] - self.grid[0] * self.grid[1]
            patches = before[:, prefix:]
            for name, group in zip(
                self.local,
                jigsaw_groups(patches, len(self.local), self.shift, self.shuffle),
                strict=True,
            ):
                seen = self.local_block(torch.cat([before[:, :1], group], 1))
                found[name] = self.local_norm(seen)[:, 0]
        return found

    def _map(self, tokens: Tensor) -> Tensor:
        rows, columns = self.grid
        patches = tokens[:, -rows * columns :].transpose(1, 2)
        return patches.reshape(*patches.shape[:2], rows, columns)

    def deploy_spec(self) -> dict[str, Any]:
        """See `Encoder.deploy_spec`."""
        return {
            "factory": "reid_baselines.transreid_encoder:TransreidEncoder",
            "kwargs": {"encoder": self.inner.deploy_spec(), **self.kwargs},
        }

    @property
    def conventions(self) -> dict[str, Any]:
        """See `Encoder.conventions`: those of the transformer; its final norm is always there."""
        return self.inner.conventions

    def follow(self, conventions: dict[str, Any]) -> None:  # type: ignore[override]
        """See `Encoder.follow`."""
        self.inner.follow(conventions)


def jigsaw_groups(patches: Tensor, groups: int, shift: int, shuffle: int) -> list[Tensor]:
    """Shift and shuffle a sequence of patches, and cut it into groups ('Jigsaw Patch Module').

    The first ``shift`` patches move to the end. Then the sequence is cut into ``shuffle`` parts,
    of which one patch each is dealt out in turn, so that every group has patches of everywhere; a
    sequence that cannot be cut so has its last patch repeated. What the groups leave over at the
    end is in none of them.

    Args:
        patches: ``B N D``.
        groups: k.
        shift: m.
        shuffle: number of parts.

    Returns:
        k times ``B N//k D``.
    """
    moved = torch.cat([patches[:, shift:], patches[:, :shift]], 1)
    count, width = patches.shape[1:]
    missing = -count % shuffle
    if missing:
        moved = torch.cat([moved, moved[:, -1:].expand(-1, missing, -1)], 1)
    dealt = moved.reshape(moved.shape[0], shuffle, -1, width).transpose(1, 2).reshape(moved.shape)
    length = count // groups
    return [dealt[:, length * one : length * (one + 1)] for one in range(groups)]


def _drop_paths(blocks: nn.Sequential, rate: float) -> None:
    from timm.layers.drop import DropPath

    for number, block in enumerate(blocks):
        share = rate * number / max(1, len(blocks) - 1)
        for part in ("drop_path1", "drop_path2"):
            if share and hasattr(block, part):
                setattr(block, part, DropPath(share))

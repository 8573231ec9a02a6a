"""The deployed model: encoder, the branches of the test embeddings, their necks, preprocessing.

Nothing of a paper's training remains here: no auxiliary branch, no classifier, no loss.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from reid_core.contract.batches import IMAGENET_MEAN, IMAGENET_STD
from reid_core.contract.encoder import Encoder
from reid_core.contract.model import CLEAN_IMAGE, Branch, Embedding, Vector
from reid_core.contract.views import Embedded
from reid_core.errors import ConfigError, PluginError, did_you_mean
from reid_core.model.blocks import EmbeddingHead
from reid_core.model.graph import ReidModel, written_by
from reid_core.moved import former_names

FORMAT = 1
"""Version of the stored description."""


class Embedder(nn.Module):
    """Turn images of people into vectors.

    Args:
        encoder: the encoder.
        branches: the branches that lead to the embeddings, in order, with built modules.
        heads: the embeddings whose test vectors are concatenated, in order.
        size: height and width of the input.

    Attributes:
        dim: length of the feature.
        fields: fields that it reads beside the image; an exported one has none.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        encoder: Encoder,
        branches: Sequence[Branch],
        heads: Sequence[EmbeddingHead],
        size: tuple[int, int],
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self._branches = tuple(branches)
        self.branches = nn.ModuleDict({b.name: cast(nn.Module, b.module) for b in branches})
        self.heads = nn.ModuleDict({head.declaration.name: head for head in heads})
        self.size = size
        self.dim = sum(head.length(head.declaration.test_vector) for head in heads)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), False)

    @property
    def embeddings(self) -> dict[str, Embedding]:
        """Declarations of the embeddings by name, in the order of the feature."""
        heads = cast(Mapping[str, EmbeddingHead], self.heads)
        return {name: head.declaration for name, head in heads.items()}

    def width(self, vector: Vector) -> int:
        """Return the length of the feature that ``vector`` of every embedding makes."""
        heads = cast(Iterable[EmbeddingHead], self.heads.values())
        return sum(head.length(vector) for head in heads)

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields of the data that it reads."""
        reads = {read for branch in self._branches for read in branch.reads}
        return tuple(sorted(r for r in reads if "/" not in r and r not in ("image", CLEAN_IMAGE)))

    def forward(self, images: Tensor, fields: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return features ``B D``, float32.

        Args:
            images: RGB, ``B 3 H W`` of the embedder's size; floats in ``[0, 1]`` or uint8.
            fields: values of ``self.fields``, where there are any.
        """
        if not images.is_floating_point():
            images = images.float() / 255
        return self.embed_normalised((images - self.mean) / self.std, fields)

    def embed_normalised(
        self,
        image: Tensor,
        fields: Mapping[str, Tensor] | None = None,
        vector: Vector | None = None,
    ) -> Tensor:
        """Return features of images that are ImageNet-normalised already.

        Args:
            image: ``B 3 H W``.
            fields: values of ``self.fields``, where there are any.
            vector: which one of every embedding; None takes the deployed ones.
        """
        return self.joined(self.vectors(image, fields), vector)

    def joined(self, vectors: Mapping[str, Embedded], vector: Vector | None = None) -> Tensor:
        """Return the feature ``B D`` that vectors of the embeddings make.

        Args:
            vectors: by embedding; others than this embedder's are left out.
            vector: which one of every embedding; None takes the deployed ones.
        """
        return torch.cat(
            [
                getattr(vectors[name], vector or e.test_vector).float() * e.test_weight
                for name, e in self.embeddings.items()
            ],
            1,
        )

    def vectors(
        self, image: Tensor, fields: Mapping[str, Tensor] | None = None
    ) -> dict[str, Embedded]:
        """Return the vectors of every embedding, of images that are normalised already."""
        known: dict[str, Tensor] = {"image": image, CLEAN_IMAGE: image, **(fields or {})}
        known |= self.encoder(image)
        for branch in self._branches:
            values = (known[read] for read in branch.reads)
            known.update(written_by(branch, self.branches[branch.name](*values)))
        heads = cast(Mapping[str, EmbeddingHead], self.heads)
        return {name: head(known[head.declaration.reads]) for name, head in heads.items()}

    @torch.inference_mode()
    def embed(self, paths: Iterable[str | Path], batch_size: int = 64) -> Tensor:
        """Return features ``N D`` of image files, on the CPU.

        Images are resized as in training and evaluation (antialiased bilinear).

        Raises:
            DataError: a file that is missing or no image; it is named.
        """
        from reid_core.images import read_image, resize_image

        device = self.mean.device
        files = [Path(path) for path in paths]
        rows = []
        for start in range(0, len(files), batch_size):
            chunk = [
                torch.tensor(resize_image(read_image(path), self.size))
                for path in files[start : start + batch_size]
            ]
            rows.append(self(torch.stack(chunk).permute(0, 3, 1, 2).to(device)).cpu())
        return torch.cat(rows) if rows else torch.empty(0, self.dim)

    def describe(self) -> dict[str, Any]:
        """Return the description that is stored beside the weights.

        Raises:
            PluginError: a part cannot say how it is rebuilt.
            ConfigError: an embedding needs data beside the image.
        """
        if self.fields:
            raise ConfigError(
                f"this embedder reads {', '.join(self.fields)} beside the image and cannot be "
                "exported; choose embeddings of the image alone with --embed"
            )
        return {
            "format": FORMAT,
            "reid_core": metadata.version("reid-core"),
            "input": {
                "height": self.size[0],
                "width": self.size[1],
                "channels": "RGB",
                "range": [0.0, 1.0],
                "mean": list(IMAGENET_MEAN),
                "std": list(IMAGENET_STD),
                "resize": "bilinear, antialiased",
            },
            "dim": self.dim,
            "encoder": _spec("encoder", self.encoder),
            "branches": [
                {
                    "name": branch.name,
                    "reads": list(branch.reads),
                    "writes": list(branch.writes),
                    **_spec(f"branch '{branch.name}'", cast(nn.Module, branch.module)),
                }
                for branch in self._branches
            ],
            "embeddings": [_describe_head(head) for head in self.heads.values()],  # type: ignore[arg-type]
        }

    def save(self, path: Path) -> None:
        """Write ``path`` (safetensors) and the description beside it (JSON)."""
        description = json.dumps(self.describe(), indent=2)
        weights = {name: value.contiguous().cpu() for name, value in self.state_dict().items()}
        part = path.with_suffix(".part")
        save_file(weights, part, metadata={"format": "pt"})
        path.with_suffix(".json").write_text(description + "\n", encoding="utf-8")
        part.replace(path)


def embedder_of(model: ReidModel, size: tuple[int, int], embed: Sequence[str] = ()) -> Embedder:
    """Return the deployed part of a training model; modules are shared, not copied.

    Args:
        model: the training model.
        size: height and width of the input.
        embed: names of embeddings; empty takes those that are declared ``at_test``.

    Raises:
        ConfigError: an unknown embedding, or none at test.
    """
    known = model.embeddings
    for name in embed:
        if name not in known:
            raise ConfigError(
                f"there is no embedding '{name}'{did_you_mean(name, known)} "
                f"(there are: {', '.join(known)})"
            )
    names = list(embed) or [name for name, e in known.items() if e.at_test]
    if not names:
        raise ConfigError("no embedding is declared at_test; name one with --embed")
    wanted = {known[name].reads for name in names}
    chosen: list[Branch] = []
    for branch in reversed(model.declarations.values()):
        if wanted & set(branch.writes):
            chosen.insert(0, branch)
            wanted |= set(branch.reads)
    heads = [cast(EmbeddingHead, model.heads[name]) for name in names]
    return Embedder(model.encoder, chosen, heads, size)


def _describe_head(head: EmbeddingHead) -> dict[str, Any]:
    declaration = head.declaration
    neck: Any = declaration.neck
    return {
        "name": declaration.name,
        "reads": declaration.reads,
        "neck": neck if isinstance(neck, str) else _spec(f"neck of '{declaration.name}'", neck),
        "channels": head.channels,
        "dim": head.dim,
        "test_vector": declaration.test_vector,
        "test_weight": declaration.test_weight,
    }


def _spec(what: str, module: nn.Module) -> dict[str, Any]:
    describe = getattr(module, "deploy_spec", None)
    if describe is None:
        raise PluginError(
            f"{what} ({type(module).__module__}.{type(module).__name__}) is deployed but has no "
            'deploy_spec(); it must return {"factory": "module:Class", "kwargs": {...}}'
        )
    return cast(dict[str, Any], describe())


if not TYPE_CHECKING:
    __getattr__ = former_names(__name__)

"""The deployed model: encoder, the branches of the test embeddings, their necks, preprocessing.

Nothing of a paper's training remains here: no auxiliary branch, no classifier, no loss.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any, Literal, cast

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from reid_core.contract.batches import IMAGENET_MEAN, IMAGENET_STD
from reid_core.contract.encoder import Encoder
from reid_core.contract.model import CLEAN_IMAGE, ENCODER_MAP, Branch, Embedding, Vector
from reid_core.contract.names import check_choice
from reid_core.contract.vectors import Embedded, embeddings_of, joined
from reid_core.contract.words import unknown_name
from reid_core.errors import ConfigError, DataError, PluginError
from reid_core.model.blocks import EmbeddingHead, GlobalPool
from reid_core.model.frames import fitted, names_of_frames, reads_clips
from reid_core.model.graph import ReidModel, leading_to, written_by
from reid_core.model.inputs import Input, encoded, fields_read
from reid_core.model.pictures import Picture, check_range, check_size, in_rows
from reid_core.model.tensors import write_tensors
from reid_core.model.values import Values
from reid_core.moved import answer_former_names
from reid_core.outputs import write_json

FORMAT = 1
"""Version of the stored description."""

DECLARED = ("name", "reads", "at_test", "test_vector", "test_weight")
"""What of an embedding's declaration is described as it is."""


class Embedder(nn.Module):
    """Turn images of people into vectors.

    Args:
        encoder: the encoder.
        branches: the branches that lead to the embeddings, in order, with built modules.
        heads: the embeddings whose test vectors are concatenated, in order.
        size: height and width of the input.
        inputs: what may be read beside the image, by name.
        inner: further embeddings, whose vectors branches or other embeddings read.
        clip: frames of the clips that it has learnt from; None where it has seen single images.

    Attributes:
        dim: length of the feature.
        learnt_from: names of data sets (``data``) and people (``people``, in ranges) that its
            weights have learnt from, where that is known.
        inputs: of what it reads beside the image, shapes, types and what stands for unknown.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        encoder: Encoder,
        branches: Sequence[Branch],
        heads: Sequence[EmbeddingHead],
        size: tuple[int, int],
        inner: Sequence[EmbeddingHead] = (),
        inputs: Mapping[str, Input] | None = None,
        clip: int | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self._branches = tuple(branches)
        self.branches = nn.ModuleDict({b.name: cast(nn.Module, b.module) for b in branches})
        self.heads = nn.ModuleDict({head.declaration.name: head for head in heads})
        self.inner = nn.ModuleDict({head.declaration.name: head for head in inner})
        self.inputs = {n: one for n, one in (inputs or {}).items() if n in self.fields}
        self.size, self.clip = size, clip
        of_frames = [name for name, one in self.inputs.items() if one.of_frames]
        self.of_frames = names_of_frames(encoder, self._branches, of_frames)
        self.learnt_from: Mapping[str, Any] = {}
        self.dim = sum(head.length(head.declaration.test_vector) for head in heads)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), False)

    @classmethod
    def from_encoder(
        cls,
        encoder: Encoder,
        size: tuple[int, int],
        *,
        pooling: Literal["avg", "max"] = "avg",
    ) -> Embedder:
        """Return an embedder without any training: the encoder's map, pooled, with length one.

        Args:
            encoder: with the weights that it shall have.
            size: height and width of the input.
            pooling: how the map becomes a vector.
        """
        pool = Branch("core/pool", GlobalPool(pooling), (ENCODER_MAP,), ("core/pooled",))
        embedding = Embedding("core/global", reads="core/pooled", neck="none", test_vector="unit")
        head = EmbeddingHead(embedding, encoder.taps[-1].channels)
        return cls(encoder, (pool,), (head,), size).eval()

    @property
    def embeddings(self) -> dict[str, Embedding]:
        """Declarations of the embeddings by name, in the order of the feature."""
        return {name: self._every[name].declaration for name in self.heads}

    @property
    def _every(self) -> dict[str, EmbeddingHead]:
        """All embeddings by name, inner ones included; sorted, as in the training model."""
        known = {**dict(self.heads.items()), **dict(self.inner.items())}
        return {name: cast(EmbeddingHead, known[name]) for name in sorted(known)}

    def only(self, names: Sequence[str]) -> Embedder:
        """Return an embedder of some of the embeddings, with the same modules.

        Args:
            names: of its embeddings; their features are concatenated in this order.

        Raises:
            ConfigError: there is no such embedding, none is named, or one twice.
        """
        for name in names:
            check_choice(name, self.embeddings, "there is no embedding", ConfigError)
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"name embeddings, each once: {', '.join(self.embeddings)}")
        found = _part_of(self, self._every, self._branches, self.size, names)
        found.learnt_from = self.learnt_from
        return found.to(self.mean.device).train(self.training)

    def width(self, vector: Vector) -> int:
        """Return the length of the feature that ``vector`` of every embedding makes."""
        heads = cast(Iterable[EmbeddingHead], self.heads.values())
        return sum(head.length(vector) for head in heads)

    @property
    def whole_clips(self) -> bool:
        """Whether a part of it needs several frames of a tracklet at once, beside the pooling."""
        reads = [head.declaration.reads for head in self._every.values()]
        return reads_clips(self.encoder, self._branches, reads)

    @property
    def fields(self) -> tuple[str, ...]:
        """What it reads beside the image: ``camid``, ``clothes``, fields of the data."""
        return fields_read(self.encoder, self._branches)

    def forward(self, images: Tensor, fields: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return features ``B D``, float32.

        Args:
            images: RGB, ``B 3 H W`` of the embedder's size; floats in ``[0, 1]`` or uint8. Clips
                of tracklets are ``B T 3 H W``, and become one feature each.
            fields: values of ``self.fields``, ``B ...`` each; what is left out is unknown.

        Raises:
            DataError: images of another size, values of another range, or a field that is left
                out though nothing stands for an unknown one.
        """
        frames = 1
        if images.dim() == 5:
            frames, images = images.shape[1], images.flatten(0, 1)
        check_size(images.shape, self.size)
        # What depends on values cannot be traced; an exported graph takes what it is given.
        if not torch.compiler.is_compiling():
            check_range(images)
        return self._features(images, fields, frames)

    def _features(
        self, images: Tensor, fields: Mapping[str, Tensor] | None = None, frames: int = 1
    ) -> Tensor:
        if not images.is_floating_point():
            images = images.float() / 255
        return self.embed_normalised((images - self.mean) / self.std, fields, frames=frames)

    def embed_normalised(
        self,
        image: Tensor,
        fields: Mapping[str, Tensor] | None = None,
        vector: Vector | None = None,
        frames: int = 1,
    ) -> Tensor:
        """Return features of images that are ImageNet-normalised already.

        Args:
            image: ``B 3 H W``; of clips ``B*frames 3 H W``.
            fields: values of ``self.fields``, where there are any.
            vector: which one of every embedding; None takes the deployed ones.
            frames: of every clip.
        """
        return self.joined(self.vectors(image, fields, frames), vector)

    def joined(self, vectors: Mapping[str, Embedded], vector: Vector | None = None) -> Tensor:
        """Return the feature ``B D`` that vectors of the embeddings make.

        Args:
            vectors: by embedding; others than this embedder's are left out.
            vector: which one of every embedding; None takes the deployed ones.
        """
        return joined(vectors, self.embeddings, vector, deployed=True)

    def vectors(
        self, image: Tensor, fields: Mapping[str, Tensor] | None = None, frames: int = 1
    ) -> dict[str, Embedded]:
        """Return the vectors of every embedding; see `embed_normalised` for the arguments."""
        found = self.values(image, fields, frames).vectors()
        return {name: found[name] for name in self.heads if name in found}

    def values(
        self, image: Tensor, fields: Mapping[str, Tensor] | None = None, frames: int = 1
    ) -> Values:
        """Return all that encoder and branches make; see `embed_normalised` for the arguments."""
        named = self.of_frames
        given = {**(fields or {})}
        for name in self.fields:
            if name not in given:
                rows = len(image) if name in named else len(image) // frames
                given[name] = self._input(name).unknown(rows, image.device)
        known: dict[str, Tensor] = {"image": image, CLEAN_IMAGE: image, **given}
        known |= encoded(self.encoder, image, given, self.inputs, frames, named)
        heads = self._every  # by name, for `deployed` is a matter of order
        declared = {name: head.declaration for name, head in heads.items()}
        values = Values(known, declared, heads, frames=frames, of_frames=named)
        for branch in self._branches:
            found = [values[name] for name in branch.reads]
            read = fitted(found, branch.reads, frames, branch.clips, named)
            values.known |= written_by(branch, self.branches[branch.name](*read))
        return values

    @torch.inference_mode()
    def embed(
        self,
        images: Picture | Iterable[Picture],
        boxes: ArrayLike | None = None,
        *,
        bgr: bool = False,
        batch_size: int = 64,
    ) -> Tensor:
        """Return features ``N D`` of pictures or of boxes in a frame, on the CPU.

        Files, Pillow images and arrays are resized as in training and evaluation (antialiased
        bilinear); tensors must have the embedder's size already.

        Args:
            images: one picture or many: file names, Pillow images, arrays ``H W 3`` (or
                ``N H W 3``) of uint8 in RGB, tensors ``3 H W`` (or ``N 3 H W``) of uint8 or of
                floats in ``[0, 1]``.
            boxes: ``K 4``, left, top, right and bottom in pixels: what is embedded are these crops
                of the one frame that ``images`` is. What of a box lies outside is left out.
            bgr: arrays are BGR, as OpenCV reads them.
            batch_size: pictures per forward.

        Raises:
            DataError: a picture that is missing, no image, or of another shape, type or range, or
                a box without a pixel of the frame.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size must be 1 or more, not {batch_size}")
        rows = in_rows(images, self.size, boxes, bgr=bgr)
        parts = []
        while chunk := list(islice(rows, batch_size)):
            if len({row.dtype for row in chunk}) > 1:
                chunk = [row if row.is_floating_point() else row.float() / 255 for row in chunk]
            place = self.mean.device
            parts.append(self._features(torch.stack([row.to(place) for row in chunk])).cpu())
        return torch.cat(parts) if parts else torch.empty(0, self.dim)

    def describe(self) -> dict[str, Any]:
        """Return the description that is stored beside the weights.

        Raises:
            PluginError: a part cannot say how it is rebuilt.
            ConfigError: the same of an embedder that reads data beside the image, which a run can
                do without.
        """
        try:
            return self._description()
        except PluginError as error:
            if not self.fields:
                raise
            raise ConfigError(
                f"this embedder reads {', '.join(self.fields)} beside the image and cannot be "
                f"stored: {error}; or choose embeddings of the image alone with --embed"
            ) from error

    def _description(self) -> dict[str, Any]:
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
                    **({"clips": True} if branch.clips else {}),
                    **_spec(f"branch '{branch.name}'", cast(nn.Module, branch.module)),
                }
                for branch in self._branches
            ],
            **self._describe_heads(),
            **({"clip": self.clip} if self.clip else {}),
            **({"learnt_from": dict(self.learnt_from)} if self.learnt_from else {}),
            **({"inputs": [self._input(f).to_json() for f in self.fields]} if self.fields else {}),
        }

    def check_exportable(self) -> None:
        """Refuse what another program cannot call, for it reads what it may not know.

        Raises:
            ConfigError: naming what has no declared default.
        """
        lacking = [name for name in self.fields if self._input(name).default is None]
        if lacking:
            raise ConfigError(
                f"this embedder reads {', '.join(lacking)} beside the image and cannot be "
                "exported, for no default is declared; choose embeddings of the image alone with "
                "--embed"
            )

    def _input(self, name: str) -> Input:
        if name not in self.inputs:
            raise DataError(f"the model reads '{name}' beside the image; give its values")
        return self.inputs[name]

    def _describe_heads(self) -> dict[str, Any]:
        heads, inner = (
            [_describe_head(head) for head in cast(Iterable[EmbeddingHead], some.values())]
            for some in (self.heads, self.inner)
        )
        if not inner:
            return {"embeddings": [{k: v for k, v in h.items() if k != "at_test"} for h in heads]}
        return {"embeddings": heads, "inner_embeddings": inner}

    def fingerprint(self) -> str:
        """Return a hash of everything that decides about features: parts, preprocessing, weights.

        Two embedders of one fingerprint compute the same; it stays where files are copied, are
        renamed, or learn something that changes no feature, such as a threshold.

        Raises:
            PluginError, ConfigError: see `describe`.
        """
        known = self.describe()
        beside = ("reid_core", "learnt_from")
        decisive = {name: value for name, value in known.items() if name not in beside}
        found = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode())
        for name, value in sorted(self.state_dict().items()):
            values = value.detach().cpu().contiguous()
            found.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
            found.update(values.reshape(-1).view(torch.uint8).numpy())
        return found.hexdigest()

    def save(self, path: Path) -> None:
        """Write ``path`` (safetensors) and the description beside it (JSON)."""
        description = self.describe()
        write_tensors(path, self.state_dict(), {"format": "pt"})
        write_json(path.with_suffix(".json"), description)


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
        check_choice(name, known, "there is no embedding", ConfigError)
    names = list(embed) or [name for name, e in known.items() if e.at_test]
    if not names:
        raise ConfigError("no embedding is declared at_test; name one with --embed")
    return _part_of(model, _heads(model), model.declarations.values(), size, names)


def reader_of(model: ReidModel, size: tuple[int, int], name: str) -> Embedder:
    """Return what computes one output of a training model, by `Embedder.values`.

    Args:
        model: the training model; modules are shared.
        size: height and width of the input.
        name: of an output of the encoder or of a branch, or of a vector.

    Raises:
        PluginError: there is no such output.
    """
    written = {tap.name for tap in model.encoder.taps}
    written |= {output for branch in model.declarations.values() for output in branch.writes}
    vectors = embeddings_of(name, model.embeddings)
    if name not in written and not (vectors and set(vectors) <= set(model.embeddings)):
        raise unknown_name(name, written, "output")
    return _part_of(model, _heads(model), model.declarations.values(), size, (), (name,))


def _heads(model: ReidModel) -> dict[str, EmbeddingHead]:
    return {name: cast(EmbeddingHead, head) for name, head in model.heads.items()}


def _part_of(
    whole: ReidModel | Embedder,
    heads: Mapping[str, EmbeddingHead],
    branches: Iterable[Branch],
    size: tuple[int, int],
    names: Sequence[str],
    outputs: Sequence[str] = (),
) -> Embedder:
    """Return an embedder of some embeddings, with what leads to them and to outputs."""
    declared = {name: head.declaration for name, head in heads.items()}
    needed, seen = leading_to(declared, branches, names, outputs)
    inner = [head for name, head in heads.items() if name in seen and name not in names]
    chosen = [heads[name] for name in names]
    return Embedder(whole.encoder, needed, chosen, size, inner, whole.inputs, whole.clip)


def _describe_head(head: EmbeddingHead) -> dict[str, Any]:
    declaration = head.declaration
    neck: Any = declaration.neck
    pooling = f"pooling of '{declaration.name}'"
    return {
        **{name: getattr(declaration, name) for name in DECLARED},
        "neck": neck if isinstance(neck, str) else _spec(f"neck of '{declaration.name}'", neck),
        "channels": head.channels,
        "dim": head.dim,
        **({} if head.pool is None else {"pool": _spec(pooling, head.pool)}),
    }


def _spec(what: str, module: nn.Module) -> dict[str, Any]:
    describe = getattr(module, "deploy_spec", None)
    if describe is None:
        raise PluginError(
            f"{what} ({type(module).__module__}.{type(module).__name__}) is deployed but has no "
            'deploy_spec(); it must return {"factory": "module:Class", "kwargs": {...}}'
        )
    return cast(dict[str, Any], describe())


answer_former_names(__name__)

"""CLIP-ReID's modules: text encoders, learnt words, the texts of all people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_core import ConfigError, Encoder

if TYPE_CHECKING:
    from reid_core import StageResult

RANDOM = "random"
"""The text encoder that needs no open_clip: a small transformer with random weights."""

BEFORE, AFTER = "A photo of a", "person."
"""What stands around the learnt words."""


class TextTower(nn.Module):
    """A frozen text encoder, asked for one sentence with learnt words in it.

    Args:
        before, after: embedded tokens of the sentence around the words, ``P W`` and ``S W``; the
            last one is what the text is read off at.
        positions: embeddings of the positions, ``L W`` with L at least all tokens.
        transformer: called with ``B L W`` and a causal mask ``L L``.
        norm: behind the transformer.
        projection: ``W D``.
    """

    def __init__(
        self,
        before: Tensor,
        after: Tensor,
        positions: Tensor,
        transformer: nn.Module,
        norm: nn.Module,
        projection: Tensor,
    ) -> None:
        super().__init__()
        for name, value in (
            ("before", before),
            ("after", after),
            ("positions", positions),
            ("projection", projection),
        ):
            self.register_buffer(name, value.detach().clone())
        self.transformer, self.norm = transformer, norm
        self.width, self.dim = projection.shape

    def forward(self, words: Tensor) -> Tensor:
        """Return texts ``B D``.

        Args:
            words: ``B M W``.
        """
        around = [part.expand(len(words), -1, -1) for part in (self.before, self.after)]  # type: ignore[operator]
        tokens = torch.cat([around[0], words, around[1]], 1)
        length = tokens.shape[1]
        mask = torch.full((length, length), -torch.inf, device=tokens.device).triu(1)
        seen = self.transformer(tokens + self.positions[:length], attn_mask=mask)  # type: ignore[index]
        return self.norm(seen)[:, -1] @ self.projection  # type: ignore[no-any-return]


class RandomTransformer(nn.Module):
    """A block of attention with random weights.

    Args:
        width: of the tokens.
        heads: of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.behind = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.think = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, tokens: Tensor, attn_mask: Tensor) -> Tensor:
        """Return ``B L W``."""
        split = self.attend(self.before(tokens)).unflatten(2, (3, self.heads, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask)
        tokens = tokens + self.project(seen.transpose(1, 2).flatten(2))
        return tokens + self.think(self.behind(tokens))  # type: ignore[no-any-return]


class Words(nn.Module):
    """Learnt words for every person: ``K M W``.

    Args:
        people: K.
        words: M.
        width: W of the text encoder's tokens.
    """

    def __init__(self, people: int, words: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(0.02 * torch.randn(people, words, width))

    def forward(self, labels: Tensor) -> Tensor:
        """Return the words of some people, ``B M W``; whoever is nobody (-1) gets the first's."""
        return self.table[labels.clamp(min=0)]


class ImageProjection(nn.Linear):
    """The linear map from the image encoder's vector into the space of texts.

    Args:
        channels: of the vector.
        dim: of the texts.
    """

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__(channels, dim, bias=False)
        nn.init.normal_(self.weight, std=channels**-0.5)

    def deploy_spec(self) -> dict[str, Any]:
        """Return how the exported embedder rebuilds it."""
        kwargs = {"channels": self.in_features, "dim": self.out_features}
        return {"factory": "reid_baselines.clipreid_text:ImageProjection", "kwargs": kwargs}


class Texts(nn.Module):
    """The texts of all people, once their words are learnt.

    Args:
        vectors: ``K D``.
    """

    vectors: Tensor

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors)


class FrozenEncoder(Encoder):
    """An encoder as it is: without gradient, always in evaluation mode.

    Args:
        encoder: any.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.inner = encoder.requires_grad_(False).eval()
        self.taps, self.filled = encoder.taps, encoder.filled
        self.reads, self.defaults = encoder.reads, encoder.defaults

    def train(self, mode: bool = True) -> FrozenEncoder:
        """Leave the encoder in evaluation mode."""
        super().train(mode)
        self.inner.eval()
        return self

    @torch.no_grad()
    def forward(self, image: Tensor, *read: Any) -> dict[str, Tensor]:
        """See `Encoder.forward`."""
        found: dict[str, Tensor] = self.inner(image, *read)
        return found

    def deploy_spec(self) -> dict[str, Any]:
        """See `Encoder.deploy_spec`."""
        return {
            "factory": "reid_baselines.clipreid_text:FrozenEncoder",
            "kwargs": {"encoder": self.inner.deploy_spec()},
        }


@torch.no_grad()
def all_texts(stage: StageResult, rows: int = 64) -> Tensor:
    """Return the texts of all people, ``K D``, of a finished stage of words.

    Args:
        stage: the result.
        rows: texts at a time.
    """
    words: Any = stage.module("prompts/words")
    tower = stage.module("prompts/text")
    return torch.cat([tower(part) for part in words.table.detach().split(rows)])


def projection_like(stage: StageResult) -> ImageProjection:
    """Return a projection to learn on from that of the stage."""
    found: Any = stage.module("prompts/projection")
    made = ImageProjection(found.in_features, found.out_features)
    made.load_state_dict(found.state_dict())
    return made


def build_text(name: str, pretrained: str | Path | None) -> tuple[TextTower, Tensor | None]:
    """Return a text encoder, and the image projection that belongs to it.

    Args:
        name: ``random``, or a model of open_clip.
        pretrained: open_clip's name of weights, or a file; None is random weights.

    Returns:
        The encoder, and the projection ``C D``, or None where there is none.

    Raises:
        ConfigError: open_clip is not installed, does not know the name, or cannot have the weights.
    """
    if name == RANDOM:
        if pretrained is not None:
            raise ConfigError(
                "clipreid.text_pretrained is for a model of open_clip: name one, such as "
                "-s clipreid.text=ViT-B-16-quickgelu"
            )
        return _random_text(), None
    try:
        import open_clip
    except ImportError:
        raise ConfigError(
            f"the text encoder '{name}' needs open_clip: pip install 'reid-baselines[clip]', or "
            "-s clipreid.text=random to try out without"
        ) from None
    if name not in open_clip.list_models():
        raise ConfigError(
            f"open_clip has no model '{name}' (there are, for example, ViT-B-16-quickgelu, "
            "ViT-L-14-quickgelu and RN50-quickgelu)"
        )
    try:
        model = open_clip.create_model(
            name, pretrained=None if pretrained is None else str(pretrained)
        )
    except Exception as error:  # whatever its hub, its files and its tags may say
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ConfigError(
            f"the weights '{pretrained}' of open_clip's '{name}' cannot be had: {reason}"
        ) from error
    return _of_open_clip(model, open_clip.get_tokenizer(name))


def _random_text(width: int = 64, dim: int = 64) -> TextTower:
    words, rest = len(BEFORE.split()), len(AFTER.split())

    def drawn(rows: int) -> Tensor:
        return 0.02 * torch.randn(rows, width)

    # Texts of length 4 or so, half of what unit entries had: products of longer ones begin so far
    # apart that a few steps on the words overshoot.
    projection = 4 * torch.randn(width, dim) / (width * dim) ** 0.5
    # A token for the beginning of the sentence and one for its end; room for long prompts.
    return TextTower(
        drawn(1 + words),
        drawn(rest + 1),
        0.01 * torch.randn(77, width),
        RandomTransformer(width, 2),
        nn.LayerNorm(width),
        projection,
    )


@torch.no_grad()
def _of_open_clip(model: Any, tokenizer: Any) -> tuple[TextTower, Tensor | None]:
    tower = getattr(model, "text", model)
    needed = ("token_embedding", "positional_embedding", "transformer", "ln_final")
    if any(not hasattr(tower, part) for part in needed):
        raise ConfigError(
            "this model of open_clip has a text encoder of another library, whose words cannot be "
            "replaced; take one of CLIP's, such as ViT-B-16-quickgelu"
        )
    sentence = tokenizer([f"{BEFORE} {AFTER}"])[0]
    before = int(tokenizer([BEFORE])[0].argmax())  # the largest token is the end of a text
    end = int(sentence.argmax())
    embedded = tower.token_embedding(sentence[: end + 1])
    projection = tower.text_projection
    if isinstance(projection, nn.Linear):
        projection = projection.weight.T
    made = TextTower(
        embedded[:before],
        embedded[before:],
        tower.positional_embedding,
        tower.transformer,
        tower.ln_final,
        projection,
    )
    visual = getattr(model.visual, "proj", None)
    return made, visual.detach().clone() if isinstance(visual, Tensor) else None

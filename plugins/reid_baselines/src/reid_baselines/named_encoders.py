"""Encoders that a plugin offers by name and whose weights the user brings as a file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from reid_core import ConfigError, EncoderProvider

if TYPE_CHECKING:
    from reid_core import Encoder, RunContext

Make = Callable[[str, "RunContext"], "Encoder"]
"""Builds the encoder of a name, filled from the file that ``model.pretrained`` names."""


def offered(name: str, make: Make, summary: str, published: str) -> EncoderProvider:
    """Return the offer of an encoder whose weights nobody fetches.

    Args:
        name: of the encoder.
        make: see `Make`; what it sets as ``filled`` is said.
        summary: for lists.
        published: words for the file that the user may bring.
    """
    return EncoderProvider(name, partial(_build, name, make, published), summary=summary)


def _build(name: str, make: Make, published: str, ctx: RunContext) -> Encoder:
    if ctx.config.model.pretrained is True:
        raise ConfigError(
            f"pretrained weights of '{name}' are not fetched: get {published} and give it with "
            "-s model.pretrained=FILE, or train from random weights with -s model.pretrained=false"
        )
    encoder = make(name, ctx)
    if encoder.filled is not None:
        ctx.say(str(encoder.filled))
    return encoder

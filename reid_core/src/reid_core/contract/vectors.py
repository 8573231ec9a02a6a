"""Names of vectors: ``core/global:neck``, and ``deployed`` for whatever describes a person at test.

A branch reads them, a loss asks a pass for them. Who names ``deployed`` needs not know who fills
the slot ``embedding``, nor how many embeddings that is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reid_core.contract.model import Embedding, Vector
from reid_core.contract.words import words_of
from reid_core.errors import PluginError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Embedded:
    """The three vectors of an embedding, ``B D`` each.

    Args:
        raw: before the neck.
        neck: after the neck.
        unit: after the neck, with length one (float32).
    """

    raw: Tensor
    neck: Tensor
    unit: Tensor


DEPLOYED = "deployed"
"""All embeddings that are declared ``at_test``, together: alone it names the vector that is
compared at test, ``deployed:raw`` and the like their vectors one behind the other. As a pattern of
a pass's branches: those that lead to them."""


def vector_of(name: str) -> tuple[str, Vector | None] | None:
    """Return embedding and vector that a name means; None for a name of something else.

    Raises:
        PluginError: a vector that embeddings do not have.
    """
    if name == DEPLOYED:
        return DEPLOYED, None
    embedding, colon, vector = name.partition(":")
    if not colon:
        return None
    known = words_of(Vector)
    if vector not in known:
        raise PluginError(
            f"'{name}': an embedding has no vector '{vector}'{did_you_mean(vector, known)} "
            f"(it has: {', '.join(known)})"
        )
    return embedding, vector  # type: ignore[return-value]


def embeddings_of(name: str, embeddings: Mapping[str, Embedding]) -> tuple[str, ...]:
    """Return the embeddings that the name of a vector is made of; none for other names."""
    found = vector_of(name)
    if found is None:
        return ()
    if found[0] == DEPLOYED:
        return tuple(one for one, declared in embeddings.items() if declared.at_test)
    return (found[0],)


def vector_from(
    name: str, find: Callable[[str], Embedded | None], embeddings: Mapping[str, Embedding]
) -> Tensor | None:
    """Return a vector ``B D`` by name; None for other names, and where an embedding is missing.

    Args:
        name: of a vector.
        find: returns an embedding's vectors by name.
        embeddings: declarations by name.
    """
    parsed = vector_of(name)
    if parsed is None:
        return None
    found = {one: find(one) for one in embeddings_of(name, embeddings)}
    known = {one: vectors for one, vectors in found.items() if vectors is not None}
    if not known or len(known) < len(found):
        return None
    return joined(known, {one: embeddings[one] for one in known}, parsed[1])


def joined(
    vectors: Mapping[str, Embedded],
    embeddings: Mapping[str, Embedding],
    vector: Vector | None = None,
    *,
    deployed: bool = False,
) -> Tensor:
    """Return the vectors of several embeddings one behind the other, ``B D``.

    Args:
        vectors: by embedding; others than ``embeddings`` are left out.
        embeddings: in the order of the result.
        vector: which one of each; None takes the one that each deploys.
        deployed: whether they are float32, each times its ``test_weight``, as they are compared at
            test; always so where ``vector`` is None.
    """
    import torch

    parts = []
    for name, declared in embeddings.items():
        part: Tensor = getattr(vectors[name], vector or declared.test_vector)
        scaled = deployed or vector is None
        parts.append(part.float() * declared.test_weight if scaled else part)
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

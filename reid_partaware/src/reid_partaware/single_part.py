"""Retrieval by one part of the feature at a time (paper, figure 13)."""

from __future__ import annotations

from reid_core import ConfigError, Embedder


def parts_of(embedder: Embedder) -> dict[str, Embedder]:
    """Return every deployed embedding alone, and ``all`` together as they are deployed.

    Every part is a model of its own, whose features are computed, mirrored and compared as those of
    any model are.

    Raises:
        ConfigError: there is a single embedding.
    """
    names = list(embedder.embeddings)
    if len(names) < 2:
        raise ConfigError(
            f"this model describes people by '{names[0]}' alone: there are no parts to evaluate "
            "one by one; train with several embeddings, such as those of --plugins pcb"
        )
    return {**{name: embedder.only([name]) for name in names}, "all": embedder}

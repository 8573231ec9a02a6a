"""Which queries a page shows: the worst, the best, and some at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

GROUPS = ("worst", "random", "best")


def chosen_queries(
    queries: Sequence[Mapping[str, Any]], count: int, seed: int = 0
) -> list[tuple[int, str]]:
    """Return places of queries with the group that each was chosen for; none is shown twice.

    Args:
        queries: records of a stored result.
        count: of each group; fewer where there are not as many queries.
        seed: of the random ones.

    Returns:
        The worst first, then those at random in their order, then the best.
    """
    scores = np.array([one["AP"] for one in queries])
    order = np.argsort(scores, kind="stable").tolist()
    count = min(count, -(-len(order) // len(GROUPS)))
    worst, rest = order[:count], order[count:]
    best = rest[-count:] if rest else []
    others = rest[: len(rest) - len(best)]
    random = np.random.default_rng(seed).permutation(len(others))[:count]
    picked = sorted(others[place] for place in random)
    groups = zip(GROUPS, (worst, picked, best[::-1]), strict=True)
    return [(place, group) for group, places in groups for place in places]

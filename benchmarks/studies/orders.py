"""Do synthetic people order models as photographs do: Kendall's tau over the models of all rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from studies.table import Row, Table

REAL = "ward:standard"
SYNTHETIC = "standard"
WANTED = 20
RESAMPLES = 999
SHOWN = 8


@dataclass(frozen=True)
class Model:
    """A configuration whose rows were tested on both sets.

    Args:
        name: study and arm.
        seeds: how many rows.
        synthetic, real: average precision of every query, means over the seeds.
        elsewhere: whether it learnt before other cameras than the synthetic test's.
    """

    name: str
    seeds: int
    synthetic: NDArray[np.float64]
    real: NDArray[np.float64]
    elsewhere: bool = False


@dataclass(frozen=True)
class Tau:
    """How far two orders agree: Kendall's tau of mAP, and 95 % of resamples of both sets' people.

    Args:
        models: how many are ordered.
        value, low, high: 1 is the same order, 0 none in common.
    """

    models: int
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Orders:
    """Models, and how far the two orders agree.

    Args:
        models: the best on photographs first.
        tau: over all models.
        at_home: over those that learnt before the cameras of the synthetic test.
        apart: pairs of places in ``models`` that the two sets order differently in 95 % of
            resamples each: the first is better on photographs, the second on synthetic people.
        people: of the two sets.
    """

    models: Sequence[Model]
    tau: Tau
    at_home: Tau
    apart: Sequence[tuple[int, int]]
    people: tuple[int, int]


def models_of(table: Table) -> tuple[list[Model], list[NDArray[np.int64]]]:
    """Return the models that were asked the same questions of both sets, and whose they are."""
    found: dict[tuple[str, str], list[tuple[Row, str]]] = {}
    asked: Counter[tuple[str, str]] = Counter()
    for row in table.rows:
        scores = row.content["scores"]
        for protocol in (SYNTHETIC, f"quick:{SYNTHETIC}"):
            if REAL in scores and protocol in scores:
                pair = (scores[protocol]["questions"], scores[REAL]["questions"])
                asked[pair] += 1
                found.setdefault(pair, []).append((row, protocol))
    if not asked:
        return [], []
    chosen = found[asked.most_common(1)[0][0]]
    groups: dict[tuple[str, str], dict[str, list[tuple[Row, str]]]] = {}
    for row, protocol in chosen:
        content = row.content
        key = content["configuration"], str(content["start"].get("sha256"))
        groups.setdefault(key, {}).setdefault(content["code"], []).append((row, protocol))
    models = []
    for codes in groups.values():
        # Rows of two codes are not mixed, and one model is not counted twice: the newest of those
        # with most seeds.
        rows = max(reversed(codes.values()), key=len)
        content = rows[0][0].content
        sides = [
            np.mean([row.of_queries(name, "mAP") for row, name in side], axis=0)
            for side in (rows, [(row, REAL) for row, _ in rows])
        ]
        name = f"{content['study']} / {content['arm']}"
        models.append(Model(name, len(rows), *sides, elsewhere=rows[0][1] != SYNTHETIC))
    row, protocol = chosen[0]
    return models, [table.people(row, protocol), table.people(row, REAL)]


def orders(table: Table) -> Orders | None:
    """Compare the orders; None where there are fewer than three models."""
    from scipy.stats import kendalltau

    models, people = models_of(table)
    if len(models) < 3:
        return None
    models.sort(key=lambda model: -model.real.mean())
    sides = [np.stack([getattr(m, side) for m in models]) for side in ("synthetic", "real")]
    rng = np.random.default_rng(0)
    drawn: list[list[NDArray[np.float64]]] = [[], []]
    for kept, scores, whose in zip(drawn, sides, people, strict=True):
        _, person, counts = np.unique(whose, return_inverse=True, return_counts=True)
        sums = np.stack([np.bincount(person, row, len(counts)) for row in scores])
        for _ in range(RESAMPLES):
            chosen = rng.integers(len(counts), size=len(counts))
            kept.append(sums[:, chosen].sum(1) / counts[chosen].sum())

    def tau(some: NDArray[np.bool_]) -> Tau:
        taus = [kendalltau(a[some], b[some]).statistic for a, b in zip(*drawn, strict=True)]
        low, high = np.nanquantile(taus, [0.025, 0.975])
        value = kendalltau(*(side[some].mean(1) for side in sides)).statistic
        return Tau(int(some.sum()), float(value), float(low), float(high))

    # How often one model is above another, in resamples of each set.
    above = [np.mean([means[:, None] > means[None] for means in kept], axis=0) for kept in drawn]
    apart = [
        (one, other)
        for one in range(len(models))
        for other in range(len(models))
        if above[1][one, other] > 0.95 and above[0][other, one] > 0.95
    ]
    whole = tau(np.ones(len(models), np.bool_))
    home = np.array([not model.elsewhere for model in models])
    return Orders(
        models,
        whole,
        tau(home) if home.sum() > 1 else whole,
        apart,
        (len(np.unique(people[0])), len(np.unique(people[1]))),
    )


def section(table: Table) -> Iterator[str]:
    """Yield the page's lines on it."""
    yield "## Do synthetic people order models as photographs do?\n"
    found = orders(table)
    if found is None:
        yield "Fewer than three models were tested on both; no order was compared.\n"
        return
    few = f", fewer than the {WANTED} that were wanted" if len(found.models) < WANTED else ""
    yield (
        f"{len(found.models)} models{few}, tested on {found.people[0]} people of "
        f"`synthpeople:quick` (`{SYNTHETIC}`) and {found.people[1]} of WARD: Kendall's tau of mAP "
        f"is {found.tau} (95 % of {RESAMPLES} resamples of the people of both sets; 1 is the same "
        "order, 0 none in common).\n"
    )
    if found.at_home.models < found.tau.models:
        yield (
            f"{found.tau.models - found.at_home.models} of them have learnt before other cameras "
            "than those of the synthetic test, which are strange to them alone; among the other "
            f"{found.at_home.models} it is {found.at_home}.\n"
        )
    yield "| model | seeds | mAP, WARD | mAP, synthetic | place, WARD | place, synthetic |"
    yield "|---|---|---|---|---|---|"
    places = np.argsort(np.argsort([-model.synthetic.mean() for model in found.models]))
    for place, model in enumerate(found.models):
        cells = (model.name, str(model.seeds), f"{100 * model.real.mean():.1f}")
        more = (f"{100 * model.synthetic.mean():.1f}", str(place + 1), str(places[place] + 1))
        yield f"| {' | '.join((*cells, *more))} |"
    yield ""
    if not found.apart:
        yield "No two models are ordered differently with 95 % of resamples on each side.\n"
        return
    yield "Ordered differently with 95 % of resamples on each side, better on WARD first:\n"
    for one, other in found.apart[:SHOWN]:
        yield f"- {found.models[one].name}; {found.models[other].name}"
    if len(found.apart) > SHOWN:
        yield f"- and {len(found.apart) - SHOWN} more pairs"
    yield ""

"""What costs no training on photographs: rows of `ward.py` and `street.py` on the page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent.parent / "results"
WANTED = {"rank1": 60.0, "mAP": 50.0}
"""What was wanted of weights that have seen rendered people alone."""

PLAIN = "as it is"
"""The way of a row that compares features and does nothing else."""


def section(results: Path = RESULTS) -> Iterator[str]:
    """Yield the page's lines on them.

    Args:
        results: folder of ``ward.json`` and ``street.json``.
    """
    yield from _metrics(json.loads((results / "street.json").read_text("utf-8")))
    yield from _ways(json.loads((results / "ward.json").read_text("utf-8")))


def _metrics(found: Mapping[str, Any]) -> Iterator[str]:
    yield "## Factors of streets, by a linear metric\n"
    yield f"""\
No network is trained: `{found["start"]}` stays as it is, and from each arm's training people a
linear discriminant analysis learns which directions of its features tell people apart. WARD,
`standard`; values of all training people, intervals of 95 % over WARD's people and 20 bootstrap
draws of the training people. The groups are those of the study [street](#street), which trains the
network and has luck of its own; the other arms leave out one of the thirteen factors. Of so many
intervals one may lie beside 0 by chance. `python benchmarks/street.py --each` measures them again.
"""
    yield "| learnt from | images, people | rank-1 | mAP |"
    yield "|---|---|---|---|"
    for row in found["arms"]:
        size = f"{row['images']:,}, {row['people']}"
        yield f"| {row['arm']} | {size} | {_cell(row, 'rank1')} | {_cell(row, 'mAP')} |"
    yield ""
    yield "| comparison | rank-1 | mAP | verdict |"
    yield "|---|---|---|---|"
    for one in found["comparisons"]:
        _, low, high = one["mAP"]
        verdict = "shown" if low > 0 else "refuted" if high < 0 else "not shown"
        cells = (_cell(one, measure, "+") for measure in ("rank1", "mAP"))
        yield f"| {one['of']} against {one['against']} | {' | '.join(cells)} | **{verdict}** |"
    yield ""


def _ways(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    people, queries = (rows[0][name] for name in ("people", "queries"))
    yield "## WARD: what costs no training\n"
    yield f"""\
{people} people, {queries} queries, `standard`; one file of weights each, intervals of 95 % over
people. Every row looks at the same few people, so that the best of so many is better by chance,
too. None but ImageNet's network has learnt from a photograph. *Statistics per camera* are those of
batch normalisation, taken from all test images of a camera (Zhuang et al. 2020), without anybody's
name; *re-ranked* (Zhong et al. 2017) looks at the whole gallery. `python benchmarks/ward.py`
measures them again.
"""
    yield "| model | way | rank-1 | mAP |"
    yield "|---|---|---|---|"
    before = ""
    for row in rows:
        name = "" if row["model"] == before else row["model"]
        before = row["model"]
        yield f"| {name} | {row['way']} | {_cell(row, 'rank1')} | {_cell(row, 'mAP')} |"
    yield ""
    yield _reached([row for row in rows if "ImageNet" not in row["model"]])


def _reached(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say which rows of rendered people are as good as was wanted."""
    there = [row for row in rows if all(row[one][0] >= WANTED[one] for one in WANTED)]
    wanted = " / ".join(f"{one:.0f}" for one in WANTED.values())
    plain = [row for row in rows if row["way"] == PLAIN]
    best = " and ".join(f"{max(row[one][0] for row in plain):.1f}" for one in WANTED)
    sides = ([row for row in there if row in plain], [row for row in there if row not in plain])
    names = ["; ".join(f"{row['model']}, {row['way']}" for row in side) for side in sides]
    by = [f"**reached** by {named}" if named else "**not reached**" for named in names]
    return (
        f"From rendered people alone {wanted} was wanted. By features *{PLAIN}* it is {by[0]}: "
        f"their best rank-1 and mAP are {best}. With more at the test it is {by[1]}.\n"
    )


def _cell(row: Mapping[str, Any], measure: str, sign: str = "") -> str:
    value, low, high = (format(one, f"{sign}.1f") for one in row[measure])
    return f"{value} [{low}, {high}]"

"""Whom weights have learnt from, and whether a data set's test shows them again.

Data sets that know who somebody is, the same in all of them, name them in ``extra["who"]``:
``synthpeople/0/17``. Many names with numbers in a row are kept as ``synthpeople/0/17-812``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from reid_core.contract.samples import DataSet, Sample, Source


def people_in(samples: Iterable[Sample]) -> tuple[str, ...]:
    """Return the names of the people whom images show, in ranges; nameless ones are left out."""
    return _in_ranges({str(s.extra["who"]) for s in samples if "who" in s.extra})


def learnt_from(
    sources: Mapping[str, Source], data: Sequence[str], before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return whom a run's weights have learnt from, as plain data.

    Args:
        sources: what is trained on.
        data: names of the data sets.
        before: the same of the weights that the run starts from.
    """
    earlier = before or {}
    here = people_in(sample for source in sources.values() for sample in source.samples)
    names = {name for one in (*earlier.get("people", ()), *here) for name in _all(one)}
    return {
        "data": list(dict.fromkeys([*earlier.get("data", ()), *data])),
        "people": list(_in_ranges(names)),
    }


def seen_before(dataset: DataSet, learnt: Mapping[str, Any]) -> str:
    """Return in a line that test people of a data set were learnt from, or nothing.

    Args:
        dataset: with its test images.
        learnt: what `learnt_from` returned.
    """
    known = {name for one in learnt.get("people", ()) for name in _all(one)}
    queries = {str(sample.extra["who"]) for sample in dataset.query if "who" in sample.extra}
    both = queries & known
    if not both:
        return ""
    return (
        f"these weights have learnt from {len(both)} of the {len(queries)} people whom the test of "
        f"{dataset.name} asks for: its figures say nothing about people whom they have not seen"
    )


def _in_ranges(names: Iterable[str]) -> tuple[str, ...]:
    numbered: dict[str, list[int]] = defaultdict(list)
    found = []
    for name in names:
        group, _, number = name.rpartition("/")
        if group and number.isdecimal():
            numbered[group].append(int(number))
        else:
            found.append(name)
    for group, numbers in numbered.items():
        # Numbers in a row are as far from their places in the list.
        for _, pairs in groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0]):
            row = [number for _, number in pairs]
            found.append(f"{group}/{row[0]}" if len(row) == 1 else f"{group}/{row[0]}-{row[-1]}")
    return tuple(sorted(found))


def _all(name: str) -> list[str]:
    group, _, numbers = name.rpartition("/")
    first, dash, last = numbers.partition("-")
    if not (group and dash and first.isdecimal() and last.isdecimal()):
        return [name]
    return [f"{group}/{number}" for number in range(int(first), int(last) + 1)]

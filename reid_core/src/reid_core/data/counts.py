"""How many images, people and cameras a data set has, beside what its owners say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from reid_core.contract.samples import Counts, DataProvider, DataRequest, DataSet, Sample, Source
from reid_core.errors import DataError


def load_counted(provider: DataProvider, request: DataRequest) -> DataSet | Source:
    """Load what is asked for; where a copy has other numbers than the official, it is noticed.

    Parts of a set stay usable so, and nobody takes their results for the whole one's.
    """
    found = provider.load(request)
    check_labels(found)
    if provider.expected is None or not isinstance(found, DataSet):
        return found
    wrong = differences(provider.expected(request), counts_of(found))
    if not wrong:
        return found
    begun = f"{found.notice};" if found.notice else f"{found.name}:"
    return replace(found, notice=f"{begun} not the official copy: {'; '.join(wrong)}")


def check_labels(found: DataSet | Source) -> None:
    """Refuse labels that no array holds or that contradict each other, before anything is trained.

    Raises:
        DataError: a label that is no whole number from -2^63 to 2^63 - 1; below 0 lie junk,
            distractors (whose numbers are their loader's) and what is unknown. Or an outfit that
            two training identities wear.
    """
    dataset = found if isinstance(found, DataSet) else DataSet(found.name, found)
    for sample in (*dataset.train.samples, *dataset.query, *dataset.gallery):
        for name in ("pid", "camid", "clothes"):
            value = getattr(sample, name)
            if not isinstance(value, int | np.integer) or not -(2**63) <= value < 2**63:
                raise DataError(
                    f"{sample.path}: {name} {value!r} is no whole number from -2^63 to 2^63 - 1; "
                    "number people, cameras and outfits anew"
                )
    wearers: dict[int, Sample] = {}
    for sample in dataset.train.samples if dataset.train.identities else ():
        first = wearers.setdefault(sample.clothes, sample)
        if sample.pid != first.pid and sample.clothes >= 0:
            who = [f"person {s.extra.get('person', s.pid)} ({s.path})" for s in (first, sample)]
            text = f"'{found.name}': outfit {sample.clothes} is worn by {' and '.join(who)}"
            raise DataError(f"{text}; number outfits over all people")


def splits_of(dataset: DataSet) -> dict[str, Sequence[Sample]]:
    """Return the samples of every split; query images of another split stand for themselves."""
    found: dict[str, list[Sample]] = {"train": list(dataset.train.samples), "query": []}
    named = any(sample.split == "query" for sample in dataset.query)
    for sample in dataset.query:
        found.setdefault(sample.split if named else "query", []).append(sample)
    return {**found, "gallery": dataset.gallery}


def people_of(samples: Iterable[Sample]) -> set[int]:
    """Return the identities of samples, without junk and distractors."""
    return {sample.pid for sample in samples if sample.pid >= 0}


def counts_of(dataset: DataSet) -> dict[str, Counts]:
    """Return the number of images, people and cameras of every split."""
    return {
        split: Counts(len(own), len(people_of(own)), len({sample.camid for sample in own}))
        for split, own in splits_of(dataset).items()
    }


def compared(found: Counts, official: Counts) -> list[tuple[str, int, int | None]]:
    """Return what is counted, how many there are, and how many there officially are."""
    names = ("images", "people", "cameras")
    return [(name, getattr(found, name), getattr(official, name)) for name in names]


def differences(official: Mapping[str, Counts], found: Mapping[str, Counts]) -> list[str]:
    """Return where a copy differs from the official counts, a phrase for each split."""
    phrases = []
    for split, counts in official.items():
        parts = [
            f"{have:,} {what} (official {want:,})"
            for what, have, want in compared(found.get(split, Counts(0, 0, 0)), counts)
            if want is not None and have != want
        ]
        if parts:
            phrases.append(f"{split} {', '.join(parts)}")
    return phrases

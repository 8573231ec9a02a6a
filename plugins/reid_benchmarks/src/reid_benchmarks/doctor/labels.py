"""What the labels of a data set tell, whoever loaded it.

Counts against those that the owners publish, cameras of people, people in training and in test,
what every protocol can ask.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from reid_core.contract.samples import Counts, DataSet, Sample
from reid_core.data.counts import compared, counts_of, people_of
from reid_core.evaluation.frames import Side, pools_frames
from reid_retrieval.errors import DataError
from reid_retrieval.labels import IntArray
from reid_retrieval.protocols import Protocol
from reid_retrieval.searching import Search

PERSON = "person"
"""Key of ``Sample.extra``: the data set's own number of a training identity, where training and
test number their people together."""

_SHOWN = 3
"""How many names a finding lists."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        topic: what it is about, a word.
        text: what was found, and what to do about it.
        level: ``ok``, ``note`` (worth knowing) or ``problem`` (results would be wrong or missing).
    """

    topic: str
    text: str
    level: Literal["ok", "note", "problem"] = "ok"


def check_labels(
    dataset: DataSet, expected: Mapping[str, Counts], protocols: Iterable[Protocol]
) -> Iterator[Finding]:
    """Yield what the labels of a data set tell.

    Args:
        dataset: what a provider loaded.
        expected: official counts by split; those that are None are not compared.
        protocols: what is asked of it.
    """
    yield from check_counts(dataset, expected)
    yield from check_cameras(dataset)
    yield from check_people(dataset)
    for protocol in protocols if dataset.query else ():
        yield check_queries(dataset, protocol)


def check_counts(dataset: DataSet, expected: Mapping[str, Counts]) -> Iterator[Finding]:
    """Compare images, people and cameras of every split with the official numbers."""
    for split, found in counts_of(dataset).items():
        parts, differs, known = [], False, False
        for what, have, want in compared(found, expected.get(split, Counts())):
            differs |= want is not None and have != want
            known |= want is not None
            note = f" (official: {want:,})" if want is not None and have != want else ""
            parts.append(f"{have:,} {what}{note}")
        if differs:
            remedy = "; get the whole copy again, or compare results with nobody's"
            yield Finding("counts", f"{split}: {', '.join(parts)}{remedy}", "problem")
        elif found.images or known:
            as_official = ", as officially" if known else ""
            yield Finding("counts", f"{split}: {', '.join(parts)}{as_official}")


def check_cameras(dataset: DataSet) -> Iterator[Finding]:
    """Say how many cameras see a person, and how many people are seen by one alone."""
    for split, samples in (
        ("train", dataset.train.samples),
        ("test", (*dataset.query, *dataset.gallery)),
    ):
        seen: dict[int, set[int]] = defaultdict(set)
        for sample in samples:
            if sample.pid >= 0:
                seen[sample.pid].add(sample.camid)
        if not seen:
            continue
        if len({sample.camid for sample in samples}) == 1:
            text = "all images are of one camera, so that no protocol can tell its images apart; "
            text += "evaluate by 'no-camera'" if split == "test" else "that is enough to train"
            yield Finding("cameras", f"{split}: {text}", "note")
            continue
        numbers = sorted(len(cameras) for cameras in seen.values())
        single = numbers.count(1)
        text = (
            f"{split}: a person is seen by {span(numbers)} cameras, by "
            f"{sum(numbers) / len(numbers):.2f} on average"
        )
        text += f"; {single:,} of {len(seen):,} people by one alone" if single else ""
        yield Finding("cameras", text, "note" if single else "ok")


def check_people(dataset: DataSet) -> Iterator[Finding]:
    """Say which people are in training and in test, where their numbers can tell."""
    train, tested = dataset.train, (*dataset.query, *dataset.gallery)
    if not train.identities or not train.samples or not tested:
        return
    if not all(PERSON in sample.extra for sample in train.samples):
        text = "training and test number their people apart, so that numbers tell nothing"
        yield Finding("people", text, "note")
        return
    trained = {sample.extra[PERSON] for sample in train.samples}
    shared = sorted(people_of(tested) & trained)
    if shared:
        who = "person is" if len(shared) == 1 else "people are"
        text = f"{len(shared):,} {who} in training and in test: {some(shared)}"
        yield Finding("people", f"{text}; results would be too good", "problem")
    else:
        yield Finding("people", "nobody is in training and in test")


def search_of(dataset: DataSet, protocol: Protocol) -> tuple[Search, IntArray, IntArray]:
    """Apply a protocol as an evaluation does: what pools by tracklet sees frames.

    Returns:
        The search, and int64 ``Q`` and ``G``, which samples its queries and gallery images are.

    Raises:
        DataError: of reid-retrieval; the protocol does not fit the data.
    """
    asked, offered = pools_frames(protocol, dataset.query, dataset.gallery)
    query = Side.of(dataset.query, dataset.query_fields, asked)
    gallery = Side.of(dataset.gallery, dataset.query_fields, offered)
    search = Search(protocol, query.labels, gallery.labels)
    rows, others = (
        found if side.rows is None else side.rows[found]
        for side, found in ((query, search.query_rows), (gallery, search.gallery_rows))
    )
    return search, rows, others


def check_queries(dataset: DataSet, protocol: Protocol) -> Finding:
    """Say how many queries of a protocol can be answered, and why others cannot."""
    try:
        search, rows, _ = search_of(dataset, protocol)
    except DataError as error:
        return Finding("queries", str(error), "problem")
    unknown, only_junk, matches, dropped = [], [], 0, 0
    for query, row in enumerate(rows.tolist()):
        own, junk = search.own(query)
        name = short_name(dataset.query[row])
        if not own.size:
            unknown.append(name)
        elif junk.all():
            only_junk.append(name)
        else:
            matches += int((~junk).sum())
            dropped += int(junk.sum())
    total = len(search.query_rows)
    valid = total - len(unknown) - len(only_junk)
    if not valid:
        reason = search.no_valid_query(len(unknown), len(only_junk))
        return Finding("queries", str(reason), "problem")
    text = (
        f"{protocol.name}: {valid:,} of {total:,} queries valid, in {len(search.gallery_rows):,} "
        f"images; of a valid one {matches / valid:.2f} matches and {dropped / valid:.2f} junk"
    )
    if unknown:
        text += f"; {len(unknown):,} have no gallery image of their person: {some(unknown)}"
    if only_junk:
        rule = protocol.junk.text
        text += f"; {len(only_junk):,} have only junk ({rule}): {some(only_junk)}"
    return Finding("queries", text, "note" if unknown or only_junk else "ok")


def verdict(name: str, findings: Sequence[Finding]) -> str:
    """Return one line that sums up: ``toy:tiny: fine, 1 note``."""
    levels = [finding.level for finding in findings]
    problems, notes = levels.count("problem"), levels.count("note")
    topics = dict.fromkeys(f.topic for f in findings if f.level == "problem")
    told = [f"{problems} problem{'s' if problems > 1 else ''} ({', '.join(topics)})"]
    told = told if problems else ["fine"]
    told += [f"{notes} note{'s' if notes > 1 else ''}"] if notes else []
    return f"{name}: {', '.join(told)}"


def short_name(sample: Sample) -> str:
    """Return the folder and the name of an image: names alone repeat in some data sets."""
    return "/".join(sample.path.parts[-2:])


def some(values: Sequence[object]) -> str:
    """Return the first few values, in words."""
    more = ", ..." if len(values) > _SHOWN else ""
    return ", ".join(str(value) for value in values[:_SHOWN]) + more


def span(values: Sequence[int]) -> str:
    """Return the least and the greatest value: ``2 to 6``."""
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"

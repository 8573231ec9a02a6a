"""Results as they are stored: the scores of every query, with names of files in place of rows."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from reid_core.contract.samples import DataSet, Sample
from reid_retrieval.results import Evaluation, Provenance, RankedHead, RetrievalResult, Spread

VERSION = 2
"""Of a stored result; those of version 1 have no key ``version``, and no queries."""

HEAD = 10
"""How many images of a ranking's head are stored."""

_LINE = 400
"""Longest value that is written on one line: a query's record, as a rule."""


def stored_results(evaluation: Evaluation, dataset: DataSet) -> list[dict[str, Any]]:
    """Return results as plain data for `results_text`, one object per protocol.

    Args:
        evaluation: with the heads of the rankings (`Evaluator.evaluate` with ``heads``).
        dataset: what was evaluated on; files are named relative to `image_folder`.
    """
    return [
        {"version": VERSION, **result.to_json(), "queries": _queries(result, dataset)}
        for result in evaluation.results
    ]


def plain_results(results: Sequence[RetrievalResult]) -> list[dict[str, Any]]:
    """Return all of some results but the scores of single queries, for `read_results`."""
    return [asdict(replace(result, per_query=None)) for result in results]


def read_results(content: Sequence[Mapping[str, Any]]) -> tuple[RetrievalResult, ...]:
    """Return what `plain_results` made plain data of, as JSON gives it back."""
    return tuple(
        RetrievalResult(
            **{
                **one,
                "ranks": tuple(one["ranks"]),
                "cmc": tuple(one["cmc"]),
                "provenance": Provenance(**one["provenance"]),
                "spread": one["spread"]
                and Spread(tuple(one["spread"]["cmc"]), one["spread"]["mean_ap"]),
            }
        )
        for one in content
    )


def image_folder(dataset: DataSet) -> Path:
    """Return the folder that all query and gallery images are in, at whatever depth."""
    folders = {sample.path.parent for sample in (*dataset.query, *dataset.gallery)}
    return Path(os.path.commonpath([folder.absolute() for folder in folders]))


def image_names(dataset: DataSet, samples: Sequence[Sample]) -> list[str]:
    """Return how stored results name the images of some samples."""
    folder = image_folder(dataset)
    return [sample.path.absolute().relative_to(folder).as_posix() for sample in samples]


def results_text(content: Any) -> str:
    """Return plain data as JSON that people can read: short values on a line of their own.

    Bytes of file names that are no text are escaped as ``json`` does, and read as they were.
    """
    return f"{_text(content, '')}\n".encode("utf-8", "backslashreplace").decode("utf-8")


def _queries(result: RetrievalResult, dataset: DataSet) -> list[dict[str, Any]]:
    scores = result.per_query
    if scores is None or not scores.heads:
        return []
    asked, offered = (image_names(dataset, samples) for samples in (dataset.query, dataset.gallery))
    records = []
    for place, (row, head) in enumerate(zip(scores.rows.tolist(), scores.heads, strict=True)):
        sample, rank = dataset.query[row], float(scores.first_hit[place])
        records.append(
            {
                "file": asked[row],
                "pid": sample.pid,
                "camid": sample.camid,
                "clothes": sample.clothes,
                "rank": int(rank) if rank.is_integer() else rank,
                "AP": round(float(scores.average_precision[place]), 6),
                "first": [offered[found] for found in head.gallery.tolist()],
                "matches": [rank for rank, match in enumerate(head.matches, 1) if match],
                "cameras": _first_by_camera(head, dataset.gallery),
            }
        )
    return records


def _first_by_camera(head: RankedHead, gallery: Sequence[Sample]) -> dict[str, int]:
    """Return the rank of the first match of every camera that has one."""
    found: dict[int, int] = {}
    for rank, row in zip(head.ranks.tolist(), head.matched.tolist(), strict=True):
        found.setdefault(gallery[row].camid, rank)
    return {str(camera): found[camera] for camera in sorted(found)}


def _text(value: Any, indent: str) -> str:
    short = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or not value or (indent and len(short) <= _LINE):
        return short
    deeper = indent + "  "
    if isinstance(value, dict):
        parts = [
            f"{json.dumps(key, ensure_ascii=False)}: {_text(one, deeper)}"
            for key, one in value.items()
        ]
    else:
        parts = [_text(one, deeper) for one in value]
    begin, end = "{}" if isinstance(value, dict) else "[]"
    return f"{begin}\n{deeper}" + f",\n{deeper}".join(parts) + f"\n{indent}{end}"

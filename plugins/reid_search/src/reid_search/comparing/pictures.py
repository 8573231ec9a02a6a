"""The queries that two models answer most differently, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from reid_core import DataError, DataSet
from reid_core.evaluation.pictures import ranked_list_picture
from reid_core.evaluation.records import image_names
from reid_retrieval.retrieval import RankedQuery
from reid_search.comparing.models import Model
from reid_search.comparing.tables import Change


def rows_of_names(dataset: DataSet) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Return the rows of query and gallery images by the names that stored results have."""
    query, gallery = (image_names(dataset, s) for s in (dataset.query, dataset.gallery))
    return tuple({name: row for row, name in enumerate(names)} for names in (query, gallery))  # type: ignore[return-value]


def check_same_data(dataset: DataSet, fingerprint: str) -> None:
    """Refuse a data set that is not the one that stored results are of.

    Raises:
        DataError: its fingerprint is another.
    """
    found = dataset.fingerprint()
    if ":" not in fingerprint:  # of earlier results: the training images came first
        whole = replace(dataset, query=(*dataset.train.samples, *dataset.query))
        found = whole.fingerprint().partition(":")[2]
    if found != fingerprint:
        raise DataError(
            f"data set '{dataset.name}' is not the one that the results are of (fingerprint "
            f"{found}, theirs {fingerprint}): name it with --data and --data-root"
        )


def picture_of_changes(
    dataset: DataSet,
    models: Sequence[Model],
    label: str,
    changes: Sequence[Change],
    path: Path,
) -> Path:
    """Draw, for every query, its list by the first model and below it that by the second.

    Of a model with several seeds it is the list of the first one.

    Args:
        dataset: that the results are of.
        models: two.
        label: of the protocol.
        changes: of `most_changed`; at least one.
        path: where to write; the suffix gives the format.
    """
    queries, gallery = rows_of_names(dataset)
    lines = []
    for change in changes:
        for model in models:
            record = model.result(label).queries[change.query]
            found = np.array([gallery[name] for name in record["first"]], np.int64)
            matches = np.zeros(len(found), np.bool_)
            matches[np.array(record["matches"], np.int64) - 1] = True
            lines.append(RankedQuery(queries[change.file], found, matches, np.zeros(len(found))))
    title = f"{label}: most changed queries, each by {models[0].name}, then by {models[1].name}"
    return ranked_list_picture(dataset.query, dataset.gallery, lines, path, title=title)

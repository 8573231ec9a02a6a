"""Hold out identities of the training split, to choose a checkpoint without looking at the test."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from reid_core.contract.samples import DataSet, Sample, renumbered
from reid_core.errors import DataError


def split_validation(
    dataset: DataSet, share: float, seed: int, only: int | None = None
) -> tuple[DataSet, DataSet]:
    """Divide the training identities into a smaller training split and a validation set.

    Args:
        dataset: with identities; its test images are not touched.
        share: of the training identities to hold out, in ``(0, 1)``.
        seed: decides which ones, and which image of each camera becomes the query.
        only: the number of the training set whose identities are held out; None takes all.

    Returns:
        The data set with the rest as training split, pids ``0 .. N-1`` again, images without an
        identity among them; and a data set whose query has one image of every held-out person and
        camera with several, and one of every person whose cameras all have a single image, and
        whose gallery has the others.

    Raises:
        DataError: there are no identities, too few of them, or none has two images.
    """
    source = dataset.train
    people = np.arange(source.num_identities)
    if only is not None:
        people = np.unique([s.pid for s in source.samples if s.extra.get("set", 0) == only])
        people = people[people >= 0]
    count = len(people)
    held = round(count * share)
    if held < 2 or count - held < 2:
        raise DataError(
            f"data.validation = {share} holds out {held} of {count} training identities; at least "
            "two must be on either side"
        )
    rng = np.random.default_rng([seed, count])
    chosen = {int(people[place]) for place in rng.permutation(count)[:held]}
    rest = renumbered([sample for sample in source.samples if sample.pid not in chosen])
    groups: dict[tuple[int, int], list[Sample]] = {}
    for sample in source.samples:
        if sample.pid in chosen:
            groups.setdefault((sample.pid, sample.camid), []).append(sample)
    repeated = {pid for (pid, _), group in groups.items() if len(group) > 1}
    seen = Counter(pid for pid, _ in groups)
    tested: dict[str, list[Sample]] = {"query": [], "gallery": []}
    for (pid, _), group in groups.items():
        place = int(rng.integers(len(group)))
        # A person with one image per camera is looked for once, among the images of the others.
        asks = len(group) > 1 or (pid not in repeated and seen.pop(pid, 1) > 1)
        asked = [group.pop(place)] if asks else []
        tested["query"] += [replace(sample, split="query") for sample in asked]
        tested["gallery"] += [replace(sample, split="gallery") for sample in group]
    if not tested["query"]:
        raise DataError(
            "data.validation: no held-out person has two images, so nobody can be searched for"
        )
    smaller = replace(dataset, train=replace(source, samples=rest))
    validation = replace(
        dataset,
        name=f"{dataset.name} (validation)",
        train=replace(source, samples=()),
        query=tuple(tested["query"]),
        gallery=tuple(tested["gallery"]),
        query_fields=source.fields,
        notice=None,
    )
    return smaller, validation

"""Hold out identities of the training split, to choose a checkpoint without looking at the test."""

from __future__ import annotations

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
    of_person: dict[int, list[tuple[int, int]]] = {}
    for key in groups:
        of_person.setdefault(key[0], []).append(key)
    # A person with one image per camera is looked for once, among the images of the others.
    once = {
        keys[0]
        for keys in of_person.values()
        if len(keys) > 1 and all(len(groups[key]) == 1 for key in keys)
    }
    tested: dict[str, list[Sample]] = {"query": [], "gallery": []}
    for key, group in groups.items():
        place = int(rng.integers(len(group)))
        asked = [group.pop(place)] if len(group) > 1 or key in once else []
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

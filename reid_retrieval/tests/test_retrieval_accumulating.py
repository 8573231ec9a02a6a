"""The object for training loops: batches in, exact scores out."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch

from reid_retrieval import ConfigError, DataError, Labels, RetrievalMetric, evaluate

RNG = np.random.default_rng(3)
PEOPLE = RNG.standard_normal((5, 12))
LABELS = [{"pid": RNG.integers(0, 5, rows), "camid": RNG.integers(0, 3, rows)} for rows in (13, 57)]
FEATURES = [
    (PEOPLE[one["pid"]] + RNG.standard_normal((len(one["pid"]), 12))).astype(np.float32)
    for one in LABELS
]


def expected(protocol: Any = "standard", **options: Any) -> Any:
    return evaluate(FEATURES[0], FEATURES[1], LABELS[0], LABELS[1], protocol, **options)


def fill(metric: RetrievalMetric, rows: slice = slice(None), size: int = 6) -> RetrievalMetric:
    """Give a metric some rows in batches, both sides mixed."""
    for number, side in enumerate(("query", "gallery")):
        features, labels = FEATURES[number][rows], LABELS[number]
        for start in range(0, len(features), size):
            some = slice(start, start + size)
            batch = {key: values[rows][some] for key, values in labels.items()}
            metric.update(side, features[some], **batch)  # type: ignore[arg-type]
    return metric


@pytest.mark.parametrize("size", [1, 6, 100])
def test_batches_score_as_the_whole(size: int) -> None:
    found = fill(RetrievalMetric(), size=size).compute()
    assert found.to_json() == expected().to_json()  # type: ignore[union-attr]


def test_settings_reach_the_evaluation() -> None:
    options: dict[str, Any] = {"distance": "euclidean", "rerank": {"k1": 4, "k2": 2}}
    metric = fill(RetrievalMetric(["standard", "no-camera"], precision="fp32", **options))
    found = metric.compute()
    assert isinstance(found, tuple)
    assert found[1].to_json() == expected(["standard", "no-camera"], **options)[1].to_json()
    with pytest.raises(ConfigError, match="unknown precision"):
        fill(RetrievalMetric(precision="fp8")).compute()  # type: ignore[arg-type]


def test_what_was_collected_is_a_copy_and_can_be_forgotten() -> None:
    metric = fill(RetrievalMetric())
    batch = FEATURES[0][:2].copy()
    pids = LABELS[0]["pid"][:2].copy()
    metric.reset()
    metric.update("query", batch, pid=pids, camid=[0, 0])
    batch[:], pids[:] = 0, 9
    assert np.array_equal(metric._sides["query"].features, FEATURES[0][:2])
    metric.reset()
    assert fill(metric).compute().to_json() == expected().to_json()  # type: ignore[union-attr]
    with pytest.raises(DataError, match=r"no query features were collected: call update\('query'"):
        RetrievalMetric().compute()
    metric.reset()
    metric.update("query", FEATURES[0], **LABELS[0])
    with pytest.raises(DataError, match="no gallery features"):
        metric.compute()


def test_tensors_of_any_precision_are_collected() -> None:
    metric = RetrievalMetric("no-camera")
    for side, features, labels in zip(("query", "gallery"), FEATURES, LABELS, strict=True):
        rows = torch.from_numpy(features).double().requires_grad_()
        metric.update(side, rows, pid=torch.from_numpy(labels["pid"]))  # type: ignore[arg-type]
    assert metric.compute().mean_ap == expected("no-camera").mean_ap  # type: ignore[union-attr]


def test_parts_of_several_processes_are_merged() -> None:
    parts = [fill(RetrievalMetric(), slice(None, 30)), fill(RetrievalMetric(), slice(30, None))]
    sent = [pickle.loads(pickle.dumps(part)) for part in parts]
    whole = RetrievalMetric()
    whole.merge(sent)
    assert whole.compute().to_json() == expected().to_json()  # type: ignore[union-attr]
    assert len(parts[1]._sides["query"]) == 0
    assert len(sent[0]._sides["query"]) == 13


def test_growing_memory_is_twice_what_is_needed_at_most() -> None:
    metric = RetrievalMetric()
    for row in range(57):
        metric.update("gallery", FEATURES[1][row : row + 1], pid=LABELS[1]["pid"][row : row + 1])
    rows = metric._sides["gallery"]._rows
    assert 57 <= len(rows) <= 2 * 57


def test_batches_that_do_not_fit() -> None:
    metric = RetrievalMetric()
    with pytest.raises(ConfigError, match="sides query and gallery, not 'probe'"):
        metric.update("probe", FEATURES[0], **LABELS[0])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="a batch of the query side has no label 'pid'"):
        metric.update("query", FEATURES[0], camid=LABELS[0]["camid"])
    with pytest.raises(DataError, match=r"13 rows of features, but label 'pid' of shape \(57,\)"):
        metric.update("query", FEATURES[0], pid=LABELS[1]["pid"])
    metric.update("query", FEATURES[0], **LABELS[0])
    with pytest.raises(DataError, match="carried camid, pid, this one carries pid"):
        metric.update("query", FEATURES[0], pid=LABELS[0]["pid"])
    with pytest.raises(DataError, match="had 12 dimensions, these have 3"):
        metric.update("query", FEATURES[0][:, :3], **LABELS[0])
    assert len(metric._sides["query"]) == 13


class Away:
    """Stands for labels on a device: only what brings them to the host reads them."""

    def detach(self) -> Away:
        return self

    def cpu(self) -> Any:
        return torch.tensor([1, 2])

    def __array__(self) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


def test_labels_on_a_device_are_brought_to_the_host() -> None:
    assert Labels.of({"pid": Away(), "camid": Away()}).column("camid").tolist() == [1, 2]
    assert Labels.of(Away()).pids.tolist() == [1, 2]  # type: ignore[arg-type]
    metric = RetrievalMetric("no-camera")
    metric.update("query", np.eye(2), pid=Away())  # type: ignore[arg-type]
    metric.update("gallery", np.eye(2), pid=[1, 2])
    assert metric.compute().mean_ap == 1  # type: ignore[union-attr]

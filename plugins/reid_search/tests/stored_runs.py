"""Runs as they are stored, without a model: for tests of what is made of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reid_core import RunConfig

QUERIES = (
    # file, pid, camid, clothes
    ("query/a.png", 1, 0, 10),
    ("query/b.png", 1, 1, 11),
    ("query/c.png", 2, 0, 20),
    ("query/d.png", 3, 1, 30),
)


def result(ranks: Sequence[int], **changes: Any) -> dict[str, Any]:
    """Return a result whose queries have one match each, at these ranks."""
    queries = [
        {
            "file": file, "pid": pid, "camid": camid, "clothes": clothes,
            "rank": rank, "AP": 1 / rank,
            "first": [f"gallery/{n}.png" for n in range(3)],
            "matches": [rank] if rank <= 3 else [],
            "cameras": {str(1 - camid): rank},
        }
        for (file, pid, camid, clothes), rank in zip(QUERIES, ranks, strict=True)
    ]  # fmt: skip
    average, first = sum(1 / r for r in ranks) / 4, sum(r == 1 for r in ranks) / 4
    return {
        "version": 2, "protocol": "standard", "text": "standard v1: everything",
        "rules": "standard v1", "metrics": {"mAP": average, "rank1": first}, "cmc": [first],
        "denominator": "valid", "valid_queries": 4, "total_queries": 4, "gallery_images": 12,
        "tied_queries": 0, "distance": "cosine", "reranking": "none", "flip": "off",
        "features": "unit core/global", "fingerprint": "abc", "trials": 0, "drawn": None,
        "queries": queries, **changes,
    }  # fmt: skip


def stored_run(
    folder: Path,
    ranks: Sequence[int],
    config: Mapping[str, Mapping[str, Any]] | None = None,
    **changes: Any,
) -> Path:
    """Write a run's folder and return it."""
    folder.mkdir(parents=True)
    made = RunConfig.model_validate({"data": {"name": "toy:tiny"}} | dict(config or {}))
    (folder / "config.toml").write_text(made.to_toml(), "utf-8")
    (folder / "run.json").write_text(json.dumps({"plugins": {"core": "0.1.0"}}), "utf-8")
    content = {"data": "toy:tiny", "plugins": [], "epochs": 2, "selected": None}
    content |= {"results": [result(ranks, **changes)], "untrained": []}
    (folder / "results.json").write_text(json.dumps(content), "utf-8")
    return folder

"""``metrics.jsonl``: one JSON object per line, each step and evaluation once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reid_core.outputs import write_text

METRICS = "metrics.jsonl"
"""Its name in a run's folder."""


def forget_after(path: Path, iteration: int) -> None:
    """Forget what a run did behind the place where it is resumed, which it does again.

    Args:
        path: the file; there may be none.
        iteration: the first step that is still to be done.
    """
    if not path.is_file():
        return
    lines = path.read_text("utf-8").splitlines()
    kept = [line for line in lines if _stands(line, iteration)]
    if kept != lines:
        write_text(path, "".join(f"{line}\n" for line in kept))


def _stands(line: str, iteration: int) -> bool:
    try:
        entry: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError:
        return False  # cut short
    if entry.get("kind") not in ("step", "evaluation"):
        return True
    return entry.get("iteration", -1) < iteration and entry.get("when") not in ("final",)

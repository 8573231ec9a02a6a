"""The committed table of rows, and what its rows refer to.

Five files of one JSON object per line, to which lines are only ever added:

- ``rows.jsonl``: a run each: configuration, seed, code, start, the rows that it begins with, scores
  by protocol, of every query the rank of its first match and its average precision, the stages that
  it trained or found made, and CPU and wall seconds of all its attempts (older rows have
  ``seconds`` instead, of the last attempt alone, which nothing reads);
- ``configurations.jsonl``: a run's whole configuration without its seed, by hash;
- ``arms.jsonl``: which configuration and start a study's arm had, and the study's common ground
  (``frame``) when it had them: arms of two frames are never compared;
- ``code.jsonl``: what was run, see `studies.code`;
- ``questions.jsonl``: whose query each one is, by data and protocol.

A line is written at once and under a lock, so that a table is whole whenever it is read. No line
names an image.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid_core import DataError

FILES = {
    "rows": "id",
    "arms": "key",
    "configurations": "configuration",
    "code": "code",
    "questions": "questions",
}
"""The key of each file's lines."""

AP_UNIT = 1 / 65535
"""Of a stored average precision."""


@dataclass(frozen=True)
class Row:
    """One run that was measured.

    Args:
        content: the line.
    """

    content: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Its name: of configuration, seed and start, and behind the hyphen of its code."""
        return str(self.content["id"])

    @property
    def key(self) -> str:
        """Its name without that of its code."""
        return self.id.partition("-")[0]

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(self.content["seed"])

    def score(self, protocol: str, measure: str) -> float:
        """Return a score as a share; ``measure`` is ``rank1`` or ``mAP``."""
        return float(self.content["scores"][protocol][measure])

    def of_queries(self, protocol: str, measure: str) -> NDArray[np.float64]:
        """Return the score of every query, ``Q``, whose mean is the row's."""
        found = self.content["scores"][protocol]
        if measure == "rank1":
            return (unpacked(found["ranks"]) == 1).astype(np.float64)
        return unpacked(found["AP"]) * AP_UNIT


def packed(values: Any) -> str:
    """Return whole numbers of 0 .. 65535 as text, two bytes each; larger ones are 65535."""
    numbers = np.minimum(np.asarray(values), 65535).astype("<u2")
    return base64.b64encode(numbers.tobytes()).decode("ascii")


def unpacked(text: str) -> NDArray[np.float64]:
    """Return the numbers of `packed`."""
    return np.frombuffer(base64.b64decode(text), "<u2").astype(np.float64)


@dataclass
class Table:
    """The files of a folder.

    Args:
        folder: where they lie; it need not be there.
    """

    folder: Path
    lines: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.read()

    def read(self) -> None:
        """Read all files anew.

        Raises:
            DataError: a line is damaged: an interrupted copy, or an edit by hand.
        """
        for name, key in FILES.items():
            found: dict[str, dict[str, Any]] = {}
            path = self.folder / f"{name}.jsonl"
            text = path.read_text("utf-8") if path.is_file() else ""
            for number, line in enumerate(text.splitlines(), 1):
                try:
                    content = json.loads(line)
                    found[content[key]] = content
                except (json.JSONDecodeError, KeyError, TypeError):
                    raise DataError(
                        f"{path}, line {number} is no line of the table: remove it; its row is "
                        "then missing and is run again"
                    ) from None
            self.lines[name] = found
        for row in self.rows:
            named = {
                "configurations": [row.content["configuration"]],
                "code": [row.content["code"]],
            }
            named["questions"] = [one["questions"] for one in row.content["scores"].values()]
            for name, wanted in named.items():
                missing = [one for one in wanted if one not in self.lines[name]]
                if missing:
                    raise DataError(
                        f"row {row.id} of {self.folder} refers to {missing[0]}, which "
                        f"{name}.jsonl lacks: the files are not of one state"
                    )

    @property
    def rows(self) -> list[Row]:
        """All rows, in the order in which they were measured."""
        return [Row(content) for content in self.lines["rows"].values()]

    def add(self, name: str, content: Mapping[str, Any]) -> None:
        """Append a line to a file, unless it has one of that key."""
        key = content[FILES[name]]
        if key in self.lines[name]:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        line = f"{json.dumps(content, sort_keys=True, separators=(',', ':'))}\n".encode()
        file = os.open(self.folder / f"{name}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            os.write(file, line)
            os.fsync(file)
        finally:
            os.close(file)
        self.lines[name][key] = dict(content)

    def framed(self, study: str) -> list[dict[str, dict[str, Any]]]:
        """Return a study's arms by name, a mapping for each of its frames, the newest first."""
        frames: dict[str, dict[str, dict[str, Any]]] = {}
        for line in self.lines["arms"].values():
            if line["study"] == study:
                arms = frames.pop(line["frame"], {})  # the one that was written last comes last
                frames[line["frame"]] = {**arms, line["arm"]: line}
        return list(reversed(frames.values()))

    def code(self, row: Row) -> dict[str, str]:
        """Return what a row ran."""
        return dict(self.lines["code"][row.content["code"]]["modules"])

    def people(self, row: Row, protocol: str) -> NDArray[np.int64]:
        """Return whose query each one is, ``Q``."""
        found = self.lines["questions"][row.content["scores"][protocol]["questions"]]
        return np.asarray(found["people"], np.int64)

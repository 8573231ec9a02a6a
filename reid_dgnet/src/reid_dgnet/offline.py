"""A generated set on disk as a training source: features learnt offline (section 4.3)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from reid_core import ConfigError, DataError, Sample, Source

PROVIDER = "dgnet-generated"
"""Name of the training source."""

CARD = "generated.json"
"""File that says what a set was generated of."""

_NAME = re.compile(r"(?P<pid>\d+)_c(?P<camera>\d+)_generated\d+-\d+\.png")


def load_generated(folder: Path) -> Source:
    """Return the images that `reid dgnet generate set` wrote, labelled by the structure's person.

    Labels are numbers of the identities that the set was generated of, however many of them appear.

    Raises:
        DataError: there is no such set.
        ConfigError: its images are named after the appearance's person.
    """
    card = _card(folder)
    if card["named_after"] != "structure":
        raise ConfigError(
            f"dgnet.offline = '{folder}': its images are named after their appearance's person; "
            "fine-grained features learn the structure's: generate it without --named-after"
        )
    samples = []
    for path in sorted((folder / "train").iterdir()):
        found = _NAME.fullmatch(path.name)
        if found:
            samples.append(Sample(path, int(found["pid"]), int(found["camera"])))
    if not samples:
        raise DataError(f"dgnet.offline = '{folder}': there is no generated image in its 'train'")
    # Drawn at random, like the partners that they were composed with.
    return Source("main", tuple(samples), {}, identities=False)


def check_generated(folder: Path, samples: Sequence[Sample]) -> None:
    """Refuse a set that was generated of other people than a run's.

    Raises:
        DataError: there is no such set.
        ConfigError: its labels would mean other people.
    """
    if _card(folder)["labels"] != label_order(samples):
        raise ConfigError(
            f"dgnet.offline = '{folder}': it was generated of other images or identities than this "
            "run's; its labels would mean other people"
        )


def label_order(samples: Sequence[Sample]) -> str:
    """Return what says which image has which label, as a short hash; folders do not matter."""
    pairs = sorted((sample.path.name, sample.pid) for sample in samples)
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:16]


def _card(folder: Path) -> dict[str, str]:
    try:
        content: dict[str, str] = json.loads((folder / CARD).read_text("utf-8"))
    except OSError:
        raise DataError(
            f"dgnet.offline = '{folder}': there is no {CARD}; make the set with "
            "reid dgnet generate set RUN --out DIR"
        ) from None
    return content

"""All probe plugins by name."""

from __future__ import annotations

from reid_core.contract.plugin import Plugin
from reid_core.testing.probes import Adversarial, Head, Rival, Stream
from reid_core.testing.probes_of_data import Clustering, Pairs, Staged

PROBES: dict[str, type[Plugin]] = {
    "head": Head,
    "stream": Stream,
    "adversarial": Adversarial,
    "clustering": Clustering,
    "pairs": Pairs,
    "staged": Staged,
}
"""The probe plugins by name."""

RIVAL: dict[str, type[Plugin]] = {"rival": Rival}
"""Who takes the slot ``embedding`` from a plugin that claims it."""

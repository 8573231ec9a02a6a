"""Every probe plugin conforms, and every check fails on a probe broken on purpose."""

from __future__ import annotations

from pathlib import Path

import pytest

from reid_core.errors import ReidError
from reid_core.testing.conformance import CHECKS, Subject, conformance_suite
from reid_core.testing.probes import PROBES

test_head_conforms = conformance_suite("head", classes=PROBES)
test_stream_conforms = conformance_suite("stream", classes=PROBES)
test_adversarial_conforms = conformance_suite("adversarial", classes=PROBES)
test_clustering_conforms = conformance_suite("clustering", classes=PROBES)
test_pairs_conforms = conformance_suite("pairs", classes=PROBES)

"""Every probe plugin conforms, and every check fails on a probe broken on purpose."""

from __future__ import annotations

from pathlib import Path

import pytest

from reid_core.errors import ReidError
from reid_core.testing.conformance import CHECKS, Subject, conformance_suite
from reid_core.testing.probe_plugins import PROBES

test_head_conforms = conformance_suite("head", classes=PROBES)
test_stream_conforms = conformance_suite("stream", classes=PROBES)
test_adversarial_conforms = conformance_suite("adversarial", classes=PROBES)
test_clustering_conforms = conformance_suite("clustering", classes=PROBES)
test_pairs_conforms = conformance_suite("pairs", classes=PROBES)
test_staged_conforms = conformance_suite("staged", classes=PROBES)


@pytest.mark.parametrize(
    ("broken", "check", "message"),
    [
        ("foreign_name", "names", "outside its own names"),
        ("idle", "gradients", "no update gives a gradient to"),
        ("extra_forward", "inert", "although all weights are 0"),
        ("patched_encoder", "export", "the stored embedder computes otherwise"),
        ("unsaved", "resume", "resumed"),
        ("module_state", "order", "differ"),
    ],
)
def test_a_check_fails_on_a_broken_probe(
    broken: str, check: str, message: str, reid_cache: Path, tmp_path: Path
) -> None:
    settings = {"plugins": {"head": {"broken": broken}}}
    subject = Subject("head", reid_cache, tmp_path, settings, PROBES)
    with pytest.raises((AssertionError, ReidError), match=message):
        CHECKS[check](subject)

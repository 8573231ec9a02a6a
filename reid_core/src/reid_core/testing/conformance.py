"""The conformance suite: what must be true of every plugin, as tests for its own suite.

One line in a plugin's tests, ``test_conforms = conformance_suite("san")``, runs all of it on the
toy data set. Every check is a function of a `Subject` and raises an `AssertionError` that says
what was seen; it is shown to fail on a probe plugin broken on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from reid_core.contract.plugin import Plugin
from reid_core.testing.checks_of_declarations import (
    check_claims,
    check_declared,
    check_export,
    check_gradients,
    check_light_import,
    check_manifest,
    check_names,
    check_pickling,
)
from reid_core.testing.checks_of_runs import (
    check_bf16,
    check_compile,
    check_composition,
    check_device,
    check_inert,
    check_order,
    check_resume,
)
from reid_core.testing.choices import check_choices
from reid_core.testing.ranks import check_ranks
from reid_core.testing.subject import Subject

__all__ = ["CHECKS", "CUDA_CHECKS", "Subject", "conformance_suite"]

CHECKS: dict[str, Callable[[Subject], None]] = {
    "light_import": check_light_import,
    "manifest": check_manifest,
    "claims": check_claims,
    "names": check_names,
    "declared": check_declared,
    "gradients": check_gradients,
    "inert": check_inert,
    "order": check_order,
    "composition": check_composition,
    "device": check_device,
    "resume": check_resume,
    "export": check_export,
    "pickling": check_pickling,
    "choices": check_choices,
    "ranks": check_ranks,
}
"""All checks by name."""

CUDA_CHECKS: dict[str, Callable[[Subject], None]] = {
    "bf16": check_bf16,
    "compile": check_compile,
}
"""Checks that are made where there is CUDA."""


def conformance_suite(
    name: str,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    classes: Mapping[str, type[Plugin]] | None = None,
    waits: int = 0,
    per_rank: Sequence[str] = (),
) -> Callable[..., None]:
    """Return a test function that runs every check on a plugin.

    Assign it to a name that starts with ``test_``; it takes the fixtures ``reid_cache`` and
    ``tmp_path`` and is parametrised by check.

    Args:
        name: the plugin, installed or in ``classes``.
        settings: configuration that the plugin needs on tiny data, by section; its own settings
            under ``plugins``: ``{"plugins": {"san": {"weight": 0.5}}}``.
        classes: plugin classes by name that need no entry point.
        waits: how often a step may wait for the device; the reason belongs beside the number.
        per_rank: patterns (fnmatch) of loss terms that are another sample of the same on several
            ranks, because the rows of a rank are put together; the reason belongs beside them. All
            others must be what one process computes.
    """
    import pytest

    checks = CHECKS | (CUDA_CHECKS if torch.cuda.is_available() else {})

    @pytest.mark.parametrize("check", list(checks))
    def test_conforms(check: str, reid_cache: Path, tmp_path: Path) -> None:
        given = (settings or {}, classes or {}, waits, per_rank)
        checks[check](Subject(name, reid_cache, tmp_path, *given))

    return test_conforms

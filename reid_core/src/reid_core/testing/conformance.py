"""The conformance suite: what must be true of every plugin, as tests for its own suite.

One line in a plugin's tests, ``test_conforms = conformance_suite("san")``, runs all of it on the
toy data set. Every check is a function of a `Subject` and raises an `AssertionError` that says
what was seen; it is shown to fail on a probe plugin broken on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from reid_core.contract.plugin import Plugin
from reid_core.errors import ReidError
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
from reid_core.testing.fixtures import SKIPPED
from reid_core.testing.ranks import check_ranks
from reid_core.testing.subject import Shared, Skipped, Subject

__all__ = [
    "CHECKS",
    "CUDA_CHECKS",
    "Report",
    "Subject",
    "conformance_report",
    "conformance_suite",
]

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
    ``tmp_path`` and is parametrised by check. What all of a check does not apply to is skipped with
    its reason; what parts of one do not, is listed behind the tests.

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
    shared = Shared()

    @pytest.mark.parametrize("check", list(checks))
    def test_conforms(
        check: str, reid_cache: Path, tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        subject = Subject(
            name, reid_cache, tmp_path, settings or {}, classes or {}, waits, per_rank,
            shared=_the_one(shared),
        )  # fmt: skip
        checks[check](subject)
        for skipped in subject.skipped:
            if not skipped.part:
                pytest.skip(f"{name}: {skipped}")
            request.node.user_properties.append((SKIPPED, f"{name}, {check}: {skipped}"))

    return test_conforms


_latest = Shared()


def _the_one(shared: Shared) -> Shared:
    """Return it, and let go of what the suite of another plugin has kept."""
    global _latest
    if shared is not _latest:
        _latest.forget()
        _latest = shared
    return shared


@dataclass(frozen=True)
class Report:
    """What became of the checks.

    Args:
        name: the plugin.
        passed: the checks in which nothing was found.
        failed: what was seen, by check.
        skipped: what was not looked at, and why, by check. A check of which parts were left out
            is among those that passed or failed, too.
    """

    name: str
    passed: tuple[str, ...]
    failed: Mapping[str, str]
    skipped: Mapping[str, tuple[Skipped, ...]]

    def __str__(self) -> str:
        lines = [f"{self.name}: {len(self.passed)} checks passed, {len(self.failed)} failed"]
        lines += [f"  failed {check}: {seen}" for check, seen in self.failed.items()]
        lines += [f"  skipped {check}: {s}" for check, found in self.skipped.items() for s in found]
        return "\n".join(lines)


def conformance_report(
    name: str,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    classes: Mapping[str, type[Plugin]] | None = None,
    waits: int = 0,
    per_rank: Sequence[str] = (),
    folder: Path,
) -> Report:
    """Run every check on a plugin, and report; nothing is raised for what a check finds.

    Args:
        name, settings, classes, waits, per_rank: as in `conformance_suite`.
        folder: an empty folder for files and the cache.
    """
    shared, passed = Shared(), []
    failed: dict[str, str] = {}
    skipped: dict[str, tuple[Skipped, ...]] = {}
    for check, run in (CHECKS | CUDA_CHECKS).items():
        place = folder / check
        place.mkdir(parents=True)
        given = (settings or {}, classes or {}, waits, per_rank)
        subject = Subject(name, folder / "cache", place, *given, shared=shared)
        if check in CUDA_CHECKS and not torch.cuda.is_available():
            subject.skip("there is no CUDA device")
        else:
            try:
                run(subject)
            except (AssertionError, ReidError) as error:
                failed[check] = str(error)
        if subject.skipped:
            skipped[check] = tuple(subject.skipped)
        if check not in failed and all(one.part for one in subject.skipped):
            passed.append(check)
    return Report(name, tuple(passed), failed, skipped)

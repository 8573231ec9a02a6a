"""Every probe plugin conforms, and every check fails on a probe broken on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import broken_probes
import pytest
import torch

from reid_core.defaults.contrastive import Contrastive
from reid_core.errors import ReidError
from reid_core.testing import checks_of_runs, conformance
from reid_core.testing.conformance import (
    CHECKS,
    CUDA_CHECKS,
    Subject,
    conformance_report,
    conformance_suite,
)
from reid_core.testing.fixtures import SKIPPED, pytest_terminal_summary
from reid_core.testing.probe_plugins import PROBES

test_toy_conforms = conformance_suite("toy")
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


DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def interpreted() -> Iterator[None]:
    """Run what is to be compiled as it is: names do not depend on machine code."""
    torch.compiler.set_stance("force_eager")
    try:
        yield
    finally:
        torch.compiler.set_stance("default")


BROKEN = [
    ("Heavy", "light_import", r"imports torch, in .*probe_modules\.py line \d+; `reid"),
    ("Deployed", "claims", "'deployed/global' describes people at test.*is 'core's; claim it"),
    ("Greedy", "claims", "gave the slot 'embedding' to 'rival', and deployed are"),
    ("Growing", "declared", "'head/logits' is 8 channels at stride .* in training, and 8 channels"),
    ("Wasteful", "declared", "no pass runs on the source 'head/textures'"),
    (
        "Nameless",
        "composition",
        r"the conflict names \[\], not both plugins: the head trains alone",
    ),
    ("Waiting", "device", "a step waits for the device: .* at broken_probes.py:"),
    ("Attached", "pickling", "'attached/pairs' cannot be pickled"),
    ("Lonely", "ranks", "after training 'branches.head/head.* differs between ranks"),
    ("Centred", "ranks", "vectors of 'stream/shape' differ from those of one process"),
    ("Comparing", "ranks", "the loss term 'stream/similar' of update 'main' is .* in one process"),
    ("Scaled", "ranks", "the gradient of group '.*' in update 'main' differs from that of one"),
    (
        "Rounded",
        "choices",
        r"update 'main' chooses \(argmax\) by numbers that bfloat16 has rounded",
    ),
    ("Halved", "bf16", "'head/parts' is torch.bfloat16; compute it in float32"),
    ("Wrapping", "compile", "entries are called"),
]


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("broken", "check", "message"),
    BROKEN,
)
def test_a_check_fails_on_a_plugin_that_breaks_its_rule(
    broken: str, check: str, message: str, reid_cache: Path, tmp_path: Path
) -> None:
    cls = getattr(broken_probes, broken)
    name = next((n for n, probe in PROBES.items() if issubclass(cls, probe)), broken.lower())
    subject = Subject(name, reid_cache, tmp_path, {}, {**PROBES, name: cls})
    run = CHECKS.get(check) or partial(CUDA_CHECKS[check], device=DEVICE)
    with pytest.raises(AssertionError, match=message), interpreted():
        run(subject)


@pytest.mark.parametrize("check", ["declared", "gradients", "device"])
def test_a_transformer_passes_what_fused_attention_and_idle_norms_made_fail(
    check: str, reid_cache: Path, tmp_path: Path
) -> None:
    settings = {"model": {"backbone": "test_vit2"}, "plugins": {"head": {}}}
    CHECKS[check](Subject("head", reid_cache, tmp_path, settings, PROBES))


def test_two_ranks_see_the_negatives_of_one_process_in_the_contrastive_start(
    reid_cache: Path, tmp_path: Path
) -> None:
    settings = {"data": {"sampler": "twice"}}
    subject = Subject("contrastive", reid_cache, tmp_path, settings, {"contrastive": Contrastive})
    CHECKS["ranks"](subject)


@pytest.mark.parametrize("check", list(CUDA_CHECKS))
def test_what_is_checked_on_cuda_holds_on_the_cpu(
    check: str, reid_cache: Path, tmp_path: Path
) -> None:
    with interpreted():
        CUDA_CHECKS[check](Subject("head", reid_cache, tmp_path, {}, PROBES), device="cpu")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a report be made of some checks alone."""
    names = ("light_import", "manifest", "claims", "inert", "order")
    monkeypatch.setattr(conformance, "CHECKS", {name: CHECKS[name] for name in names})
    monkeypatch.setattr(checks_of_runs, "PROBES", {n: PROBES[n] for n in ("clustering", "staged")})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("few")
def test_a_report_says_what_was_skipped_and_why(reid_cache: Path, tmp_path: Path) -> None:
    report = conformance_report("clustering", classes=PROBES, folder=tmp_path)
    assert report.passed == ("light_import", "claims", "order")
    assert not report.failed
    cuda = ("there is no CUDA device",)
    assert {check: tuple(map(str, found)) for check, found in report.skipped.items()} == {
        "manifest": ("it is a class of no distribution",),
        "inert": ("it claims 'labels:pid', 'identity', so the run without it is another one",),
        "order": ("beside 'staged': the two do not go together",),
        "bf16": cuda,
        "compile": cuda,
    }
    assert str(report).splitlines()[:3] == [
        "clustering: 3 checks passed, 0 failed",
        "  skipped manifest: it is a class of no distribution",
        "  skipped inert: it claims 'labels:pid', 'identity', so the run without it is another one",
    ]


@pytest.mark.usefixtures("few")
def test_a_report_says_what_failed(tmp_path: Path) -> None:
    classes = {"deployed": broken_probes.Deployed}
    report = conformance_report("deployed", classes=classes, folder=tmp_path)
    assert "claims" not in report.passed
    assert report.failed["claims"].startswith("'deployed/global' describes people at test")
    assert "  failed claims: 'deployed/global' describes" in str(report)


def test_pytest_shows_what_was_skipped_and_why(
    reid_cache: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    test = conformance_suite("clustering", classes=PROBES)
    with pytest.raises(pytest.skip.Exception, match="clustering: it claims 'labels:pid', 'ident"):
        test("inert", reid_cache, tmp_path, request)
    assert request.node.user_properties == []
    test("order", reid_cache, tmp_path, request)
    told = "clustering, order: beside 'staged': the two do not go together"
    assert request.node.user_properties == [(SKIPPED, told)]

    lines: list[str] = []
    ended = [
        SimpleNamespace(when=when, user_properties=request.node.user_properties)
        for when in ("setup", "call", "teardown")
    ]
    reporter: Any = SimpleNamespace(
        config=request.config, stats={"passed": ended}, section=lines.append, line=lines.append
    )
    for shown, chars in (([], "fE"), ([SKIPPED, told], "fs"), ([SKIPPED, told], "a")):
        lines.clear()
        reporter.config = SimpleNamespace(getoption={"reportchars": chars}.__getitem__)
        pytest_terminal_summary(reporter)
        assert lines == shown
    request.node.user_properties.clear()


def test_every_check_is_shown_to_fail() -> None:
    mark = next(m for m in test_a_check_fails_on_a_broken_probe.pytestmark)
    shown = {check for _, check, _ in (*mark.args[1], *BROKEN)}
    # Manifests belong to distributions, and are shown with those (test_core_manifests).
    assert shown == {*CHECKS, *CUDA_CHECKS} - {"manifest"}

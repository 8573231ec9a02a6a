"""Every probe plugin conforms, and every check fails on a probe broken on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import broken_probes
import pytest
import torch

from reid_core.defaults.contrastive import Contrastive
from reid_core.errors import ReidError
from reid_core.testing.conformance import CHECKS, CUDA_CHECKS, Subject, conformance_suite
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
    ("Heavy", "light_import", "imports torch"),
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


def test_every_check_is_shown_to_fail() -> None:
    mark = next(m for m in test_a_check_fails_on_a_broken_probe.pytestmark)
    shown = {check for _, check, _ in (*mark.args[1], *BROKEN)}
    assert shown == {*CHECKS, *CUDA_CHECKS}

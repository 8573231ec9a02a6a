"""Methods of somebody else, of public names alone: each conforms, all compose with partaware."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from house import ROOT

from reid_core import load_embedder
from reid_core.cli.main import cli
from reid_core.runs.resolve import resolve
from reid_core.runs.running import run
from reid_core.testing.conformance import CHECKS, Subject
from reid_core.testing.subject import Shared
from reid_core.testing.tiny import Recorder, tiny_assembly, tiny_flags

SOURCE = ROOT / "tests" / "thirdparty"
METHODS = ("brightness", "camera_vit", "channel_gem", "cheap_adversary", "steady_walk")
TOGETHER = (*METHODS, "partaware")
TRACKLETS = {"data": {"name": "toy/tracklets:tiny", "frames": 2}}
SETTINGS = {"steady_walk": TRACKLETS}
CONFORMS = ("claims", "declared", "gradients", "device", "export")
IN_FULL = ("brightness", "camera_vit")
SHARED = {name: Shared() for name in METHODS}
SKIPPED = {
    ("brightness", "inert"): "it makes labels, so the run without it is another one",
    ("camera_vit", "inert"): "it claims 'backbone', so the run without it is another one",
    **{(name, "manifest"): "its package has none" for name in METHODS},
}
"""What the conformance suite cannot ask of them, by check."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the distribution from its wheel, beside the environment; return the folder."""
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-P", "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    how = ["--disable-pip-version-check", "--no-build-isolation", "--target", str(target)]
    subprocess.run([*pip, *how, str(SOURCE)], check=True)
    return target


@pytest.fixture
def installed(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let this process see the distribution."""
    monkeypatch.syspath_prepend(str(wheel))
    monkeypatch.setenv("PYTHONPATH", str(wheel))
    return wheel


def test_they_use_public_names_alone() -> None:
    texts = [path.read_text("utf-8") for path in (SOURCE / "src").rglob("*.py")]
    assert len(texts) == 9
    for text in texts:
        assert not re.search(r"reid_(core\.|retrieval)", text), text


@pytest.mark.parametrize(
    ("name", "check"),
    [(name, check) for name in METHODS for check in (CHECKS if name in IN_FULL else CONFORMS)],
)
def test_each_conforms(
    name: str, check: str, installed: Path, reid_cache: Path, tmp_path: Path
) -> None:
    subject = Subject(name, reid_cache, tmp_path, SETTINGS.get(name, {}), shared=SHARED[name])
    CHECKS[check](subject)
    reasons = [skipped.reason for skipped in subject.skipped if not skipped.part]
    expected = SKIPPED.get((name, check))
    assert reasons == ([] if expected is None else [expected])


def test_tracklets_compose_with_every_probe(
    installed: Path, reid_cache: Path, tmp_path: Path
) -> None:
    CHECKS["composition"](Subject("steady_walk", reid_cache, tmp_path, TRACKLETS))


def test_all_resume_together_with_partaware(
    installed: Path, reid_cache: Path, tmp_path: Path
) -> None:
    def made(path: Path, names: tuple[str, ...] = TOGETHER) -> Recorder:
        return Recorder(tiny_assembly(names, TRACKLETS, cache=reid_cache), path)

    whole = made(tmp_path / "whole.pt")
    whole.fit()
    expected = {"main:brightness/gap", "main:partaware/parts", "main:core/global/ce"}
    expected |= {"cheap_adversary/learn:cheap_adversary/learn", "main:steady_walk/agree"}
    expected |= {"main:steady_walk/motion/triplet"}
    assert expected <= set(whole.trace[0])
    assert "main:cheap_adversary/hide" in whole.trace[2], "it begins at the second epoch"
    half = made(tmp_path / "half.pt")
    half.train_epoch()
    half.assembly.ctx.progress.epoch, half.assembly.ctx.progress.step = 1, 0
    half.save()
    rest = made(tmp_path / "half.pt", TOGETHER[::-1])
    rest.resume()
    rest.fit()
    assert rest.trace == whole.trace[2:]


def test_all_evaluate_and_export_together_with_partaware(
    installed: Path, reid_cache: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    resolved = resolve(tiny_flags(TOGETHER, TRACKLETS))
    summary = run(resolved=resolved, out=folder, cache=reid_cache, say=lambda line: None)
    assert 0 < summary.metrics["brightness/error"] < 1
    embedder = load_embedder(folder)
    assert embedder.fields == ("camid",)
    assert [type(m).__name__ for m in embedder.branches.values()] == ["ChannelPool"]
    assert type(embedder.heads["core/global"].pool).__name__ == "FrameAttention"
    images, cameras = torch.rand(2, 2, 3, *embedder.size), torch.tensor([1, -1])
    with torch.inference_mode():
        features = embedder(images, {"camid": cameras})
        assert torch.equal(features[1:], embedder(images)[1:])
    done = CliRunner().invoke(cli, ["export", str(folder)])
    assert done.exit_code == 0, done.output
    session = onnxruntime.InferenceSession(str(folder / "embedder.onnx"))
    asked = {"images": images.numpy(), "camid": cameras.numpy()}
    found = torch.from_numpy(session.run(None, asked)[0])
    torch.testing.assert_close(found, features, atol=1e-5, rtol=1e-4)
    out = tmp_path / "found.json"
    done = CliRunner().invoke(
        cli,
        [
            "eval",
            str(folder),
            "-d",
            "toy/tracklets:tiny",
            "--precision",
            "fp32",
            "--json",
            str(out),
        ],
    )
    assert done.exit_code == 0, done.output
    (found_here,) = json.loads(out.read_text())
    expected = pytest.approx(summary.results[0].mean_ap, abs=1e-6)
    assert found_here["metrics"]["mAP"] == expected

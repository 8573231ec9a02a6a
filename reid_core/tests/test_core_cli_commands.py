"""The commands that look: help, plugins, data, evaluation and export, and what they import."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w
import torch
from fake_distributions import FakeSite, fake_site

from reid_core import make_embedder
from reid_core.cli import main
from reid_core.model.exporting import Exported
from reid_core.testing.fixtures import RunReid
from reid_core.testing.tiny import TINY

HEAD = """
from reid_core.testing.probes import Head

class Made(Head):
    pass
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FakeSite]:
    with fake_site(tmp_path / "site") as made:
        yield made


@pytest.fixture
def reid(run_reid: RunReid, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RunReid:
    """Return `run_reid` in an empty folder, with warnings shown as before when it is done."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    return run_reid


@pytest.fixture(scope="module")
def run_folder(reid_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny run that the command line made."""
    folder = tmp_path_factory.mktemp("cli")
    recipe = folder / "tiny.toml"
    content = {**TINY, "evaluation": {"ranked_list": 2, "untrained": True}}
    recipe.write_text(tomli_w.dumps(content), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["reid", "run", "-r", str(recipe), "-o", str(folder / "run")])
        main()
    return folder / "run"


def test_help_lists_the_commands(reid: RunReid) -> None:
    code, out, _ = reid("--help")
    assert code == 0
    for name in ("run", "eval", "export", "plugins", "data"):
        assert f"\n  {name} " in out
    assert reid("--version")[1].startswith("reid, version ")


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (
            ("run",),
            "--plugins --recipe --data --data-root --also --test --backbone --epochs --seed "
            "--device --embed --label --field --source --own --set --out --resume --longer --help",
        ),
        (
            ("eval",),
            "--weights --checkpoint --height --width --data --data-root --protocol --distance "
            "--vector --flip --batch-norm --embed --unknown --rerank --device --precision --cost "
            "--json --picture --help",
        ),
        (("export",), "--out --input --resize --help"),
        (("plugins", "list"), "--json --help"),
        (("plugins", "new"), "--into --author --summary --bare --help"),
        (("data", "show"), "--data-root --out --identities --images --help"),
        (("data", "check"), "--data-root --protocol --no-files --threads --help"),
    ],
)
def test_options_are_these(arguments: tuple[str, ...], options: str, reid: RunReid) -> None:
    if arguments in {("data", "show"), ("data", "check")}:
        pytest.importorskip("reid_benchmarks")
    code, out, _ = reid(*arguments, "--help")
    assert code == 0
    shown = {word.rstrip(",.:;") for word in out.split() if word.startswith("--")}
    assert shown == set(options.split())


def test_an_unknown_command_is_answered_with_the_nearest(reid: RunReid) -> None:
    code, _, err = reid("rnu")
    assert code == 2
    assert "no command 'rnu'; did you mean 'run'?" in err


def test_a_command_of_a_distribution_that_is_not_installed_is_answered_with_it(
    reid: RunReid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["reid_core.cli.commands"], "installed", lambda group: {})
    code, _, err = reid("sweep", "--seeds", "0")
    assert code == 2
    assert "'sweep' is a command of reid-search: pip install reid-search" in err


def test_an_option_of_a_distribution_that_is_not_installed_is_answered_before_the_work(
    reid: RunReid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["reid_core.cli.commands"], "installed", lambda group: {})
    code, _, err = reid("eval", "no-such-run", "--cost")
    assert code == 2
    assert "--cost comes with reid-search: pip install reid-search" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "name a data set with --data, or ask for --cost"),
        (["--cost", "--rerank"], "--rerank is about a data set: name one with --data"),
        (["--cost", "--protocol", "standard"], "--protocol is about a data set"),
    ],
)
def test_options_about_data_need_a_data_set(reid: RunReid, options: list[str], said: str) -> None:
    code, _, err = reid("eval", "people/osnet_x0_25", *options)
    assert code == 2
    assert said in err


def test_plugins_are_listed_although_one_is_broken(reid: RunReid, site: FakeSite) -> None:
    site.add(
        "reid-broken",
        {"zz_broken": "broken_module:X"},
        modules={"broken_module": "1 / 0"},
        version="9.8",
        summary="Cannot be imported",
    )
    site.add("reid-gone", {"zz_gone": "gone_module:X"})
    code, out, err = reid("plugins", "list")
    assert (code, err) == (0, "")
    (line,) = (line for line in out.splitlines() if "zz_gone" in line)
    assert line.startswith("! ")
    assert "its package gone_module is not there: install reid-gone anew]" in line
    assert out.endswith("* installed, ! cannot be used\n")
    (line,) = (line for line in out.splitlines() if "zz_broken" in line)
    assert line.startswith("* ")
    assert line.endswith("Cannot be imported  [reid-broken 9.8; no manifest: imported on use]")
    assert all("no manifest" not in line for line in out.splitlines() if "[reid-core" in line)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit('two\\nlines')", "SystemExit: two lines"),
        ("from typing import nothing", "ImportError: cannot import name 'nothing' from 'typing'"),
    ],
)
def test_a_plugin_that_fails_at_import_is_named_where_it_is_imported(
    module: str, reason: str, reid: RunReid, site: FakeSite
) -> None:
    site.add("reid-broken", {"zz_broken": "broken_module:X"}, modules={"broken_module": module})
    code, out, err = reid("plugins", "list", "--json")
    assert (code, err) == (0, "")
    (row,) = (row for row in json.loads(out) if row["name"] == "zz_broken")
    assert row["broken"].startswith(f"fails at import: {reason}")
    assert not row["manifest"]
    code, _, err = reid("plugins", "check", "zz_broken")
    assert code == 2
    (line,) = err.splitlines()
    assert (
        f"plugin 'zz_broken' (reid-broken 1.2, broken_module:X) cannot be imported: {reason}"
        in line
    )


def test_plugins_are_listed_as_json(reid: RunReid, site: FakeSite) -> None:
    from reid_core.plugins.discovery import catalogue

    site.add("reid-zebra", {"zz_zebra": "zebra_module:Zebra"}, version="0.3", summary="Stripes")
    code, out, _ = reid("plugins", "list", "--json")
    assert code == 0
    rows = {row["name"]: row for row in json.loads(out)}
    broken = rows["zz_zebra"].pop("broken")
    assert broken == "fails at import: ModuleNotFoundError: No module named 'zebra_module'"
    assert rows["zz_zebra"] == {
        "name": "zz_zebra",
        "installed": True,
        "distribution": "reid-zebra",
        "version": "0.3",
        "summary": "Stripes",
        "unmet": "its package zebra_module is not there: install reid-zebra anew",
        "manifest": False,
    }
    assert rows["toy"]["manifest"]
    assert rows["toy"]["hooks"] == ["reid_datasets"]
    assert [one["name"] for one in rows["toy"]["datasets"]] == ["toy", "toy-pairs"]
    assert rows["toy"]["claims"] == rows["toy"]["recipes"] == []
    for name, known in catalogue().items():
        assert rows[name]["summary"] == known.summary


def test_known_plugins_that_are_not_installed_have_the_line_that_installs_them(
    reid: RunReid, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reid_core.cli import plugins
    from reid_core.plugins.discovery import KnownPlugin

    known = KnownPlugin("zebra", "reid-zebra", "Stripes")
    monkeypatch.setattr(plugins, "catalogue", lambda: {"zebra": known})
    rows = {row["name"]: row for row in json.loads(reid("plugins", "list", "--json")[1])}
    assert rows["zebra"] == {
        "name": "zebra",
        "installed": False,
        "distribution": "reid-zebra",
        "install": "pip install reid-zebra",
        "summary": "Stripes",
    }
    assert re.search(
        r"^  zebra +Stripes  \[pip install reid-zebra\]$", reid("plugins", "list")[1], re.M
    )


def test_a_plugin_is_checked(reid: RunReid, site: FakeSite) -> None:
    site.add("reid-zebra", {"zebra": "zebra_module:Made"}, modules={"zebra_module": HEAD})
    code, out, err = reid("plugins", "check", "zebra")
    assert code == 0, err
    for line in (
        "  identity: core",
        "  zebra/head: encoder/map -> zebra/logits",
        "  core/global: deployed",
        "  main: passes main on main",
        "    core/global/triplet x 1 on main, trains encoder",
        "    zebra/parts x 1 on main, trains encoder, zebra/head",
        "  zebra/head: 776",  # 96 channels, 8 classes, a bias each
    ):
        assert line in out.splitlines(), out
    assert "in training" in out.splitlines()[-1]


def test_a_check_follows_updates_that_are_not_due_at_once_and_generated_images(
    reid: RunReid, site: FakeSite
) -> None:
    late = """
    from reid_core import LossTerm, Plugin, Schedule, Update, Pass, hookimpl
    from reid_core.testing.probes import Adversarial, Head

    class Late(Plugin):
        @hookimpl
        def reid_schedule(self, ctx, params):
            again = Pass("late/again", branches=("core/*",))
            third = Update("late/third", shares=("encoder",), passes=(again,), every=(3, 2))
            return Schedule(updates=(third,))

        @hookimpl
        def reid_losses(self, ctx, step):
            if step.update != "late/third":
                return []
            return [LossTerm("late/size", step.passes["late/again"].output("core/pooled").mean())]
    """
    classes = {"late": "Late", "rival": "Adversarial", "top": "Head"}
    entries = {name: f"late_module:{cls}" for name, cls in classes.items()}
    site.add("reid-late", entries, modules={"late_module": late})
    code, out, err = reid("plugins", "check", "top,rival,late")
    assert code == 0, err
    lines = out.splitlines()
    at = lines.index("  late/third, in steps 2 modulo 3: passes late/again on main")
    assert lines[at + 1] == "    late/size x 1 on late/again, trains encoder"
    assert "  main: passes main on main, rival/recoloured on generated images" in lines
    terms = [line.split()[0] for line in lines if " on main" in line and " x " in line]
    assert len(terms) == len(set(terms)), "a term that is due in several steps is shown once"
    assert "    top/parts x 1 on main, rival/recoloured, trains encoder, top/head" in lines
    assert "    rival/keep x 1 on main, trains rival/generator" in lines


def test_a_check_of_two_that_want_one_slot_names_both(reid: RunReid, site: FakeSite) -> None:
    both = """
    from reid_core import Plugin
    from reid_core.testing.probe_plugins import PROBES

    class Zebra(PROBES["clustering"]):
        pass
    """
    names = {"zebra": "zebra_module:Zebra", "zorse": "zebra_module:Zebra"}
    site.add("reid-zebra", names, modules={"zebra_module": both})
    code, out, err = reid("plugins", "check", "zebra,zorse")
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    for words in ("plugins 'zebra' and 'zorse' both claim the slot", "--own "):
        assert words in line


def test_a_check_that_fails_names_the_plugins(reid: RunReid, site: FakeSite) -> None:
    site.add("reid-zebra", {"zebra": "zebra_module:Made"}, modules={"zebra_module": HEAD})
    code, _, err = reid("plugins", "check", "zebra", "-s", "zebra.stream=gnu/map")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "zebra: " in err
    assert "'gnu/map', which nobody provides" in err


def test_a_plugins_command_is_offered_and_imported_only_when_called(
    reid: RunReid, site: FakeSite
) -> None:
    source = """
    import click

    @click.command()
    def gallop():
        click.echo("galloping")
    """
    site.add(
        "reid-zebra",
        commands={
            "gallop": "gallop_module:gallop",
            "limp": "limp_module:limp",
            "data.graze": "gallop_module:gallop",
            "some.gallop": "gallop_module:gallop",
        },
        modules={"gallop_module": source, "limp_module": "import no_such_library"},
        summary="Stripes",
    )
    code, out, _ = reid("--help")
    assert code == 0
    assert "gallop" in out
    assert "gallop_module" not in sys.modules
    assert "graze" not in out
    assert "graze  Stripes (reid-zebra)" in reid("data", "--help")[1]
    for words in (("gallop",), ("data", "graze"), ("some.gallop",)):
        assert reid(*words)[:2] == (0, "galloping\n")
    code, _, err = reid("limp")
    assert code == 2
    assert "command 'limp' (reid-zebra 1.2, limp_module:limp) cannot be imported: Module" in err


def test_data_sets_are_listed(reid: RunReid) -> None:
    code, out, _ = reid("data", "list")
    assert code == 0
    lines = out.splitlines()
    assert any(line.startswith("folder") for line in lines)
    assert any(line.startswith("toy/{figures,tracklets}:{") and "tiny" in line for line in lines)
    assert any(line.startswith("toy-pairs:{") and "(training source)" in line for line in lines)
    assert "[core]" in out


def test_a_data_set_is_shown(reid: RunReid, tmp_path: Path) -> None:
    pytest.importorskip("reid_benchmarks")
    sheet = tmp_path / "sheet.png"
    code, out, _ = reid("data", "show", "toy:tiny", "--out", sheet, "--identities", 2)
    assert code == 0
    for line in (
        "train: 48 images, 8 people, 3 cameras, 16 outfits",
        "query: 16 images, 8 people, 3 cameras, 16 outfits",
        "gallery: 32 images, 8 people, 3 cameras, 16 outfits",
        "fields: garments, keypoints, parts, pose, texture",
        "protocols: standard",
    ):
        assert line in out.splitlines()
    assert sheet.read_bytes().startswith(b"\x89PNG")


def test_a_run_prints_its_results_and_leaves_its_files(run_folder: Path) -> None:
    left = {path.name for path in run_folder.iterdir()}
    assert {
        "config.toml", "run.json", "metrics.jsonl", "results.json", "checkpoint.pt",
        "embedder.safetensors", "embedder.json", "ranked_lists.png",
    } <= left  # fmt: skip


def test_evaluation_reproduces_the_results_of_the_run(
    reid: RunReid, run_folder: Path, tmp_path: Path
) -> None:
    written, picture = tmp_path / "eval.json", tmp_path / "ranked.png"
    code, out, err = reid(
        "eval", run_folder, "--data", "toy:tiny", "--json", written, "--picture", picture,
        "--precision", "fp32",
    )  # fmt: skip
    assert code == 0, err
    stored = json.loads((run_folder / "results.json").read_text())["results"]
    assert json.loads(written.read_text()) == stored
    assert {"standard", "mAP", "mINP", "R1"} <= set(out.split())
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_run_that_has_not_finished_is_evaluated_by_its_checkpoint(
    reid: RunReid, run_folder: Path, tmp_path: Path
) -> None:
    unfinished, written = tmp_path / "run", tmp_path / "eval.json"
    unfinished.mkdir()
    for name in ("config.toml", "checkpoint.pt"):
        shutil.copy(run_folder / name, unfinished)
    code, _, err = reid("eval", unfinished, "--data", "toy:tiny")
    assert code == 2
    assert "the run has not finished; take its last checkpoint (reid eval --checkpoint" in err
    code, _, err = reid(
        "eval", unfinished, "--checkpoint", "--data", "toy:tiny", "--json", written,
        "--precision", "fp32",
    )  # fmt: skip
    assert code == 0, err
    stored = json.loads((run_folder / "results.json").read_text())["results"]
    assert json.loads(written.read_text()) == stored
    code, _, err = reid("eval", "resnet18", "--checkpoint", "--weights", "random", "-d", "toy:tiny")
    assert code == 2
    assert "give one of them" in err
    code, _, err = reid("eval", tmp_path, "--checkpoint", "-d", "toy:tiny")
    assert code == 2
    assert "holds no run" in err


def test_evaluation_by_another_protocol(reid: RunReid, run_folder: Path, tmp_path: Path) -> None:
    written = tmp_path / "eval.json"
    arguments = ("eval", run_folder / "embedder.safetensors", "-d", "toy:tiny", "--json", written)
    code, _, err = reid(
        *arguments, "--protocol", "no-camera", "--protocol", "standard", "--flip",
        "--distance", "euclidean",
    )  # fmt: skip
    assert code == 0, err
    found = json.loads(written.read_text())
    assert [result["protocol"] for result in found] == ["no-camera", "standard"]
    code, _, err = reid(*arguments, "--height", 64)
    assert code == 2
    assert err == "reid: --height and --width are an encoder's, given with --weights\n"
    code, _, err = reid(*arguments, "--embed", "core/globe")
    assert code == 2
    assert "there is no embedding 'core/globe'; did you mean 'core/global'?" in err
    code, _, err = reid(*arguments, "--protocol", "standart")
    assert code == 2
    assert "did you mean 'standard'" in err


def test_an_encoder_with_weights_is_evaluated(reid: RunReid, tmp_path: Path) -> None:
    file, size = tmp_path / "weights.pth", (64, 32)
    random = make_embedder("test_resnet", size, weights="random", seed=5, say=lambda _: None)
    torch.save(random.encoder.trunk.state_dict(), file)
    make_embedder("test_resnet", size, weights=file).save(tmp_path / "embedder.safetensors")
    common = ("--data", "toy:tiny", "--precision", "fp32", "--json")
    code, _, err = reid("eval", tmp_path, *common, tmp_path / "a.json")
    assert code == 0, err
    code, _, err = reid(
        "eval", "test_resnet", "--weights", file, "--height", "64", "--width",
        "32", *common, tmp_path / "b.json",
    )  # fmt: skip
    assert code == 0, err
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()
    code, _, err = reid("eval", "test_resnet", "--weights", "gone.pth", "-d", "toy:tiny")
    assert code == 2
    assert "gone.pth" in err


def test_export_writes_onnx_and_says_how_close_it_is(
    reid: RunReid, run_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    code, out, err = reid("export", run_folder, "--out", path)
    assert code == 0, err
    assert path.stat().st_size > 1000
    for word in ("B x 3 x 64 x 32", "B x 96", "largest relative difference"):
        assert word in out


def test_export_of_shipped_weights_writes_into_the_working_directory(
    reid: RunReid, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = {"people/tiny": run_folder / "embedder.safetensors"}
    monkeypatch.setattr("reid_core.weights.shipped_weights", lambda: shipped)
    written = []
    monkeypatch.setattr(
        "reid_core.model.exporting.export_file",
        lambda embedder, path, contract: written.append(path) or Exported(0.0),
    )
    monkeypatch.chdir(tmp_path)
    for model in ("people/tiny", run_folder, run_folder / "embedder.safetensors"):
        code, _, err = reid("export", model)
        assert code == 0, err
    assert written == [Path("embedder.onnx"), *2 * [run_folder / "embedder.onnx"]]


def test_export_says_what_the_file_takes(reid: RunReid, run_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    code, out, err = reid("export", run_folder, "-o", path, "--input", "normalised", "--resize")
    assert code == 0, err
    assert path.is_file()
    for words in ("B x 3 x height x width", "normalised by the host", "own resizing"):
        assert words in out
    code, _, err = reid("export", run_folder, "-o", tmp_path / "model.xml", "--resize")
    assert code == 2
    assert "model.xml" not in {file.name for file in tmp_path.iterdir()}
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "code",
    [
        "import reid_core",
        "import reid_core.cli",
        "import reid_core.testing.probes",
        "from reid_core import Plugin, Need, Settings, hookimpl, DataProvider, Branch, LossTerm",
        "import sys, reid_core.cli; sys.argv = ['reid', '--help']; reid_core.cli.main()",
        "import sys, reid_core.cli; sys.argv = ['reid', 'plugins', 'list']; reid_core.cli.main()",
        "import sys, reid_core.cli; sys.argv = ['reid', 'run', '--help']\n"
        "try:\n    reid_core.cli.main()\nexcept SystemExit:\n    pass",
    ],
)
def test_nothing_heavy_is_imported_to_list(code: str) -> None:
    heavy = ("torch", "torchvision", "timm", "kornia", "sklearn", "scipy", "tensorboardX", "numpy")
    check = f"\nimport sys\nprint(*(m for m in {heavy} if m in sys.modules), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code + check],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr.split() == []

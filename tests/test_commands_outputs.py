"""Every command of every distribution looks at where it writes before it works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from reid_core.cli.main import cli
from reid_core.testing.fixtures import RunReid

READ = {"--data-root", "--generator", "--identity", "--images", "--inception"}
"""Options that name what is read; every other option that takes a path names what is written."""

WITHOUT_SUFFIX = {"--json"}
SUFFIXES = {
    "export": ".onnx",
    "imagenet": ".safetensors",
    "train": ".safetensors",
    "poses": ".json",
    "report": ".html",
}
FOLDERS = {
    ("run", "--out"),
    ("calibrate", "--out"),
    ("sweep", "--out"),
    ("plugins", "new", "--into"),
    ("data", "make", "--out"),
    ("embed", "--out"),
    ("embedder", "make", "--out"),
    ("dgnet", "generate", "set", "--out"),
    ("dgnet", "import", "--out"),
    ("parsing", "label", "--out"),
    ("parsing", "pictures", "--out"),
    ("weights", "make", "--out"),
    ("san", "dataset", "--out"),
}
"""Everything else is a file."""


def commands(group: click.Group, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name)


def command_of(words: tuple[str, ...]) -> click.Command:
    found: click.Command = cli
    for word in words:
        assert isinstance(found, click.Group)
        command = found.get_command(click.Context(found), word)
        assert command is not None
        found = command
    return found


def outputs() -> Iterator[tuple[str, ...]]:
    """Yield the words of a command and its option that names what is written."""
    for words in commands(cli, ()):
        for option in command_of(words).params:
            if isinstance(option, click.Option) and isinstance(option.type, click.Path):
                name = option.opts[0]
                if name not in READ:
                    yield (*words, name)


OUTPUTS = sorted(outputs())


def needed(words: tuple[str, ...], option: str) -> list[str]:
    """Return what a command must be given beside an option: names of what does not exist."""
    given: list[str] = []
    for parameter in command_of(words).params:
        if isinstance(parameter, click.Argument):
            given.append("nowhere")
        elif parameter.required and option not in parameter.opts:
            taken = "new.png" if isinstance(parameter.type, click.Path) else "nothing"
            given += [parameter.opts[0], taken]
    return given


def call(words: tuple[str, ...], option: str, value: Path, reid: RunReid) -> tuple[int, str, str]:
    """Call a command on what does not exist, so that any work would end in another error."""
    return reid(*words, *needed(words, option), option, value)


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_there_are_outputs_to_check() -> None:
    assert len(OUTPUTS) >= 18
    assert set(OUTPUTS) >= FOLDERS


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="has no streams as files")
@pytest.mark.parametrize("file", ["-", "/dev/stdout"])
@pytest.mark.parametrize("words", [one[:-1] for one in OUTPUTS if one[-1] == "--json"])
def test_json_on_standard_output_has_it_alone(
    words: tuple[str, ...], file: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """So that ``| jq`` reads it; tables and other lines go to standard error."""
    given = [*needed(words, "--json"), "--json", file]
    with command_of(words).make_context(words[-1], given) as context:
        click.echo("a table")
        print("another")
    print("after")
    assert capfd.readouterr() == ("after\n", "a table\nanother\n")
    assert context.params["json_path"] == Path("/dev/stdout")


@pytest.mark.parametrize("found", OUTPUTS, ids=" ".join)
def test_a_place_that_cannot_be_written_to_is_refused_before_the_work(
    found: tuple[str, ...], run_reid: RunReid, tmp_path: Path
) -> None:
    *words, option = found
    file = tmp_path / "file"
    file.touch()
    suffix = "" if found in FOLDERS else ".png"
    suffix = SUFFIXES.get(words[-1], suffix)
    code, _, err = call(tuple(words), option, file / f"x{suffix}", run_reid)
    assert code == 2
    assert err.startswith(f"reid: {option} ")
    assert "cannot be written (Not a directory" in err


@pytest.mark.parametrize(
    "found", [o for o in OUTPUTS if o not in FOLDERS and o[-1] not in WITHOUT_SUFFIX], ids=" ".join
)
def test_another_suffix_is_refused_before_the_work(
    found: tuple[str, ...], run_reid: RunReid, tmp_path: Path
) -> None:
    *words, option = found
    code, _, err = call(tuple(words), option, tmp_path / "x.xyz", run_reid)
    assert code == 2
    assert err.startswith(f"reid: {option} ")
    assert "x.xyz: the file's name must end in ." in err


@pytest.mark.parametrize(
    "found",
    [
        ("dgnet", "generate", "set", "--out"),
        ("embed", "--out"),
        ("embedder", "make", "--out"),
        ("parsing", "label", "--out"),
    ],
    ids=" ".join,
)
def test_a_folder_that_holds_something_is_refused_before_the_work(
    found: tuple[str, ...], run_reid: RunReid, tmp_path: Path
) -> None:
    *words, option = found
    (tmp_path / "x").touch()
    code, _, err = call(tuple(words), option, tmp_path, run_reid)
    assert code == 2
    assert "holds something already; name another folder" in err

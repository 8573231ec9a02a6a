"""What the hand-written pages promise: commands, messages, the order of hooks."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from house import ROOT

from reid_core import Plugin, Weights, hookimpl
from reid_core.cli.main import cli
from reid_core.cli.options import to_flags
from reid_core.config import RunConfig, known_keys
from reid_core.contract.hookspecs import HOOKS
from reid_core.defaults import Core
from reid_core.runs.resolve import resolve
from reid_core.runs.running import run
from reid_core.testing.tiny import tiny_flags
from reid_retrieval.protocols import GENERIC_PROTOCOLS

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
READMES = sorted([*ROOT.glob("reid_*/README.md"), *ROOT.glob("plugins/*/README.md")])


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


# Commands -----------------------------------------------------------------------------------------


def _commands() -> Iterator[tuple[str, list[str]]]:
    """Yield every ``reid`` command of a shell block, and of inline code, with its page."""
    for path in (*PAGES, *READMES):
        # What distributions say of themselves is theirs.
        text = re.sub(r"<!-- generated.*?end of generated -->", "", _text(path), flags=re.DOTALL)
        blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        lines += re.findall(r"`(reid [a-z][^`]*)`", prose)
        for line in lines:
            if line.startswith("reid ") and "..." not in line:
                page = str(path.relative_to(ROOT))
                yield page, shlex.split(line, comments=True)[1:]


COMMANDS = list(_commands())


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda value: str(value)[:60])
def test_a_command_of_the_pages_is_understood(page: str, words: list[str]):
    command: click.Command = cli
    groups: list[str] = []  # a plugin's own commands take its settings
    context = click.Context(cli)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, f"{page}: there is no command '{words[0]}'"
        groups.append(words[0])
        command, words = found, words[1:]
    if not words or isinstance(command, click.Group) or "--help" in words:
        return
    parsed = command.make_context(command.name, list(words)).params
    # A plugin's own command may take the name of a field alone.
    given = {key: value for key, value in parsed.items() if key != "fields" or len(groups) == 1}
    flags = to_flags(given) if "settings" in parsed else {}
    requested = [*(flags.get("run", {}).get("plugins") or [])]
    # A plugin's recipe names it, and so does a data set that it makes.
    named = (parsed.get("recipe") or parsed.get("name") or "").partition("/")[0]
    requested.append(named.partition(":")[0])
    for section, keys in flags.items():
        assert section in RunConfig.model_fields
        for key in keys:
            if section == "plugins":
                assert key in (*requested, *groups), f"{page}: -s {key}.… without the plugin"
            elif isinstance(RunConfig.model_fields[section].annotation, type):
                known = known_keys(RunConfig.model_fields[section].annotation)
                assert key in known, f"{page}: there is no key {section}.{key}"


def test_the_pages_show_commands():
    assert len(COMMANDS) > 15


# Messages -----------------------------------------------------------------------------------------


def _messages() -> list[str]:
    """Return all texts of the core's and retrieval's source; what is filled in is ``…``."""
    found = []
    sources = (ROOT / name / "src" for name in ("reid_core", "reid_retrieval"))
    for path in sorted(path for source in sources for path in source.rglob("*.py")):
        for node in ast.walk(ast.parse(_text(path))):
            if isinstance(node, ast.JoinedStr):
                parts = (str(p.value) if isinstance(p, ast.Constant) else "…" for p in node.values)
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_the_messages_of_the_page_exist():
    quoted = re.findall(r"^\| `(.+?)` \|", _text(DOCS / "troubleshooting.md"), re.MULTILINE)
    assert len(quoted) > 30
    texts = _messages()
    for message in quoted:
        parts = ".*?".join(re.escape(part.strip()) for part in message.split("…"))
        pattern = re.compile(parts, re.DOTALL)
        assert any(pattern.search(text) for text in texts), f"no message like: {message}"


# The lifecycle ------------------------------------------------------------------------------------


class Witness(Plugin):
    """Implements every hook and notes when it is called."""

    claims = ("backbone", "identity")
    calls: tuple[str, ...] = ()

    def note(self, hook: str) -> list[Any]:
        self.calls += (hook,)
        return []

    @hookimpl
    def reid_backbones(self):
        return self.note("reid_backbones")

    @hookimpl
    def reid_poolings(self):
        return self.note("reid_poolings")

    @hookimpl
    def reid_backbone(self, ctx):
        self.note("reid_backbone")
        return Core("core").reid_backbone(ctx)

    @hookimpl
    def reid_auxiliary_branches(self, ctx, taps):
        return self.note("reid_auxiliary_branches")

    @hookimpl
    def reid_embedding_branches(self, ctx, embedding, dims):
        return self.note("reid_embedding_branches")

    @hookimpl
    def reid_identity(self, ctx, embedding, dims):
        self.note("reid_identity")
        return Core("core").reid_identity(ctx, embedding, dims)

    @hookimpl
    def reid_losses(self, ctx, step):
        return self.note("reid_losses")

    @hookimpl
    def reid_data_synthesis(self, ctx, batch, feats, update):
        return self.note("reid_data_synthesis")

    @hookimpl
    def reid_datasets(self):
        return self.note("reid_datasets")

    @hookimpl
    def reid_pseudo_labels(self, ctx):
        return self.note("reid_pseudo_labels")

    @hookimpl
    def reid_schedule(self, ctx, params):
        from reid_core import Schedule

        self.note("reid_schedule")
        return Schedule()

    @hookimpl
    def reid_after_step(self, ctx, reports):
        self.note("reid_after_step")

    @hookimpl
    def reid_weights(self, ctx):
        self.note("reid_weights")
        return [Weights("witness/weights", {})]

    @hookimpl
    def reid_evaluation_protocols(self):
        return self.note("reid_evaluation_protocols")

    @hookimpl
    def reid_metrics(self, ctx, evaluation):
        return self.note("reid_metrics")

    @hookimpl
    def reid_observe(self, event):
        self.note("reid_observe")


def test_hooks_are_called_in_the_order_that_the_page_says(reid_cache: Path, tmp_path: Path):
    chosen = {"evaluation": {"weights": "witness/weights"}}
    resolved = resolve(tiny_flags(["witness"], chosen), classes={"witness": Witness})
    run(resolved=resolved, out=tmp_path / "run", cache=reid_cache, say=lambda line: None)
    witness = resolved.plugins["witness"]
    assert isinstance(witness, Witness)
    assert set(witness.calls) | {"reid_poolings"} == set(HOOKS)
    # Looked up whenever a name is asked for, by whatever asks.
    on_demand = ("reid_backbones", "reid_poolings")
    called = [hook for hook in dict.fromkeys(witness.calls) if hook not in on_demand]
    rows = re.findall(r"^\| [^|]+ \|([^|]*)\|", _text(DOCS / "lifecycle.md"), re.MULTILINE)
    listed = dict.fromkeys(hook for row in rows for hook in re.findall(r"`(reid_\w+)`", row))
    assert list(listed) == called
    drawn = dict.fromkeys(re.findall(r"reid_\w+", _text(DOCS / "lifecycle.md").split("```")[3]))
    assert [hook for hook in drawn if hook not in on_demand] == called


# Names --------------------------------------------------------------------------------------------


def test_the_page_on_evaluation_names_the_generic_protocols():
    rows = re.findall(r"^\| `([a-z/-]+)` \|", _text(DOCS / "evaluation.md"), re.MULTILINE)
    assert rows[: len(GENERIC_PROTOCOLS)] == [protocol.name for protocol in GENERIC_PROTOCOLS]


def test_the_page_on_data_names_the_samplers():
    from reid_core.data.sampling import SAMPLERS

    part = _text(DOCS / "data.md").partition("## Samplers")[2]
    assert re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE) == list(SAMPLERS)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_anchors_lead_to_headings(path: Path):
    text = re.sub(r"```.*?```", "", _text(path), flags=re.DOTALL)
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", text):
        page = (path.parent / target) if target else path
        headings = re.findall(r"^#+ (.+)$", _text(page), re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
        assert anchor in anchors, f"{path.name}: {target}#{anchor}"


@pytest.mark.parametrize(
    "path", sorted((DOCS / "decisions").glob("0*.md")), ids=lambda path: path.stem
)
def test_a_decision_is_short_and_complete(path: Path):
    text = _text(path)
    assert len(text.splitlines()) <= 60
    titles = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert titles == ["Context", "Decision", "Cost", "What would change our mind"]
    assert f"({path.name})" in _text(DOCS / "decisions" / "README.md")

"""Write what is made from the source: ``python docs/generate.py``.

Whole pages of this folder are made of docstrings and signatures (`PAGES`); tables stand in pages
that are otherwise written by hand, between a pair of ``generated`` comments (`TABLES`);
``plugins/reid_example`` is what ``reid plugins new example`` writes; the manifests of all packages,
and the core's catalogue of them, are what their plugins say. A test compares what is
committed with what this script makes. ``composition.md`` takes minutes, for it trains every pair of
plugins, and has a script of its own.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path[:0] = [str(DOCS), str(ROOT / "benchmarks")]  # python -P leaves them out

from baselines import read_rows  # noqa: E402
from docstrings import docstring, table  # noqa: E402
from interface import CHANGELOG, INTERFACE, interface_lines, unannounced  # noqa: E402
from mutations import LISTS, key_of, read_list, read_results  # noqa: E402
from public import public_page  # noqa: E402
from reference import configuration_page, hooks_page, types_page  # noqa: E402

from reid_core.cli.scaffold import Scaffold, files_of  # noqa: E402
from reid_core.contract.fields import SHARED_FIELDS  # noqa: E402
from reid_core.contract.plugin import CORE  # noqa: E402
from reid_core.plugins.manifests import KINDS  # noqa: E402
from reid_core.runs.manifests import manifests_of  # noqa: E402
from reid_core.testing.conformance import CHECKS  # noqa: E402

CATALOGUE = ROOT / "reid_core/src/reid_core/plugins/catalogue.json"
"""What the core knows of plugins that are not installed."""

EXAMPLE = Scaffold(
    "example",
    author="the reid-core authors",
    summary="The template of a plugin, as `reid plugins new` writes it",
    year=2026,
)
"""``plugins/reid_example``; the year is that of the repository's licence."""


def fields_table() -> str:
    """Return the vocabulary of shared fields."""

    def rows() -> Iterator[tuple[str, ...]]:
        for name, spec in SHARED_FIELDS.items():
            content = ", ".join(f"{i} {c}" for i, c in enumerate(spec.classes))
            pairs = len(spec.flip_pairs)
            content = content or (f"{pairs} pairs trade places when mirrored" if pairs else "")
            yield f"`{name}`", f"`{spec.kind.value}`", content

    return table(("field", "kind", "content"), rows())


def distributions_table() -> str:
    """Return the distributions of this repository and what they offer today."""
    without_plugins = {
        "reid-core": "the core, the toy data, the probe plugins",
        "reid-retrieval": "none: a library that the core stands on",
        "reid-weights": "none: `people/osnet_x0_25`, `people/body`",
    }

    def rows() -> Iterator[tuple[str, ...]]:
        for pattern in ("reid_core", "reid_*", "plugins/*"):
            for file in sorted(ROOT.glob(f"{pattern}/pyproject.toml")):
                project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
                if (project["name"] == "reid-core") != (pattern == "reid_core"):
                    continue
                names = project.get("entry-points", {}).get("reid.plugins", {})
                today = ", ".join(f"`{name}`" for name in names) or "metadata only"
                today = without_plugins.get(project["name"], today)
                folder = file.parent.relative_to(ROOT).as_posix()
                yield f"[{project['name']}]({folder}/README.md)", project["description"], today

    return table(("distribution", "what it is", "plugins today"), rows())


def checks_table() -> str:
    """Return the checks of the conformance suite."""
    rows = ((f"`{name}`", docstring(check).first) for name, check in CHECKS.items())
    return table(("check", "what must be true"), rows)


def mutations_table() -> str:
    """Return how many of the changes that break the code the tests notice."""

    def rows() -> Iterator[tuple[str, ...]]:
        for name, path in LISTS.items():
            _, mutations = read_list(path)
            results = read_results().get(name, {})
            known = [m for m in mutations if key_of(m) in results]
            found = [results[key_of(m)] for m in known]
            survive = [m for m, row in zip(known, found, strict=True) if not row["by"]]
            yield (
                f"[{name.replace('_', '-')}]({path.relative_to(ROOT).as_posix()})",
                f"{len(mutations)}",
                f"{len(known)}",
                f"{sum(row['first'] == 'caught' for row in found)}",
                f"{len(known) - len(survive)}",
                "; ".join(f"{Path(m['file']).name}: {m.get('reason')}" for m in survive),
            )

    head = ("distribution", "mutations", "tried", "caught at first", "now", "survive, and why")
    return table(head, rows())


def baselines_table() -> str:
    """Return what the quick recipes of the baselines learn, and what is particular of a row."""
    read = read_rows()

    def shown(scores: Sequence[Mapping[str, Mapping[str, float]]], protocol: str) -> str:
        found = [one[protocol] for one in scores if protocol in one]
        means = [100 * fmean(one[name] for one in found) for name in ("rank1", "mAP") if found]
        return " / ".join(f"{value:.1f}" for value in means)

    def rows() -> Iterator[tuple[str, ...]]:
        for recipe, found in groupby(read, key=lambda row: row["recipe"]):
            seeds = list(found)
            first, scores = seeds[0], [row["scores"] for row in seeds]
            start = "" if first["start"] == "random" else f", {first['start']}"
            commits = dict.fromkeys(
                f"`{row['commit'][:7]}`" + (r" \*" if "note" in row else "") for row in seeds
            )
            yield (
                f"`{recipe}`",
                f"`{first['data']}`",
                f"{first['backbone']}{start}, {' x '.join(map(str, first['size']))}",
                f"{first['steps']}",
                shown([row["untrained"] for row in seeds], "standard"),
                "; ".join(f"{row['seed']}: {shown([row['scores']], 'standard')}" for row in seeds),
                *(shown(scores, each) for each in ("standard", "same-clothes", "cross-clothes")),
                f"{fmean(row['cpu_seconds'] for row in seeds):.0f}",
                ", ".join(commits),
            )

    head = ("recipe", "data", "encoder, start, size", "steps", "untrained")
    head = (*head, "`standard` by seed: rank-1 / mAP", "mean", "`same-clothes`", "`cross-clothes`")
    notes = [f"\\* `{r['recipe']}`, seed {r['seed']}: {r['note']}." for r in read if "note" in r]
    return "\n\n".join([table((*head, "CPU s", "commit"), rows()), *notes])


PAGES: dict[Path, Callable[[], str]] = {
    DOCS / "hooks.md": hooks_page,
    DOCS / "types.md": types_page,
    DOCS / "public.md": public_page,
    DOCS / "configuration.md": configuration_page,
    INTERFACE: interface_lines,
}
"""Pages that are made as a whole."""

TABLES: dict[Path, tuple[str, Callable[[], str]]] = {
    DOCS / "data.md": ("fields", fields_table),
    DOCS / "writing_a_plugin.md": ("checks", checks_table),
    ROOT / "README.md": ("distributions", distributions_table),
    ROOT / "CONTRIBUTING.md": ("mutations", mutations_table),
    ROOT / "plugins/reid_baselines/README.md": ("baselines", baselines_table),
}
"""Tables within other pages: the page, the table's name, and what makes it."""


def manifests() -> dict[Path, str]:
    """Return the manifests of all distributions, and the core's extract of them."""
    texts: dict[Path, str] = {}
    known: dict[str, dict[str, Any]] = {}
    for file in sorted(
        [*ROOT.glob("reid_*/pyproject.toml"), *ROOT.glob("plugins/*/pyproject.toml")]
    ):
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        if not {"reid.plugins", "reid.commands"} & {*project.get("entry-points", {})}:
            continue
        known[project["name"]] = {"plugins": {}, "commands": []}
        for path, manifest in manifests_of(project["name"]).items():
            texts[path] = manifest.text()
            known[project["name"]]["commands"] += manifest.commands
            for name, contents in manifest.plugins.items():
                if name != CORE:
                    offers = {k: contents.offers.names(k) for k in KINDS}
                    known[project["name"]]["plugins"][name] = {
                        "summary": contents.summary,
                        "offers": {kind: names for kind, names in offers.items() if names},
                    }
    texts[CATALOGUE] = json.dumps(known, indent=2) + "\n"
    return texts


def made() -> dict[Path, str]:
    """Return what every file should hold."""
    texts = {path: make() for path, make in PAGES.items()}
    for path, (name, make) in TABLES.items():
        begin, end = f"<!-- generated: {name} -->", "<!-- end of generated -->"
        before, _, rest = path.read_text(encoding="utf-8").partition(begin)
        texts[path] = f"{before}{begin}\n{make()}\n{end}{rest.partition(end)[2]}"
    folder = ROOT / "plugins" / EXAMPLE.package
    example = {folder / path: text for path, text in files_of(EXAMPLE).items()}
    return texts | manifests() | example


if __name__ == "__main__":
    before = INTERFACE.read_text("utf-8") if INTERFACE.exists() else interface_lines()
    missing = unannounced(before, interface_lines(), CHANGELOG.read_text("utf-8"))
    if missing:
        sys.exit(
            f"the public interface changes in {', '.join(missing)}: name them in the newest "
            f"section of {CHANGELOG.relative_to(ROOT)}, between backticks"
        )
    for path, text in made().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))

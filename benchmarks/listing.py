"""Listing with thirty strangers installed whose modules import torch: manifests against importing.

The alternative is the same command in the same environment when the strangers have no manifest, so
that whoever lists what they offer has to import them. CPU seconds, the least of several runs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from reid_core.plugins.manifests import MANIFEST, Contents, Manifest, OfferedData, Offers

COMMANDS = ("--help", "plugins list", "plugins list --json", "data list")
CODE = """
import torch
from reid_core import DataProvider, Plugin, hookimpl

class Made(Plugin):
    @hookimpl
    def reid_datasets(self):
        return [DataProvider("NAME", lambda request: None, summary="a stranger's")]
"""


def write_strangers(folder: Path, number: int, manifests: bool) -> None:
    """Write so many distributions with a data set each, as pip installs them."""
    for name in (f"stranger{i}" for i in range(number)):
        package, target = folder / f"reid_{name}", f"reid_{name}:Made"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(CODE.replace("NAME", name), "utf-8")
        if manifests:
            offers = Offers((OfferedData(name, summary="a stranger's"),))
            contents = Contents(target, "A stranger", hooks=("reid_datasets",), offers=offers)
            (package / MANIFEST).write_text(Manifest("1.0", {name: contents}).text(), "utf-8")
        info = folder / f"reid_{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: reid-{name}\nVersion: 1.0\nSummary: A stranger\n"
            "Requires-Dist: reid-core>=0.1\n",
            "utf-8",
        )
        (info / "entry_points.txt").write_text(f"[reid.plugins]\n{name} = {target}\n", "utf-8")


def measured(folder: Path, command: str, repetitions: int) -> float:
    """Return the least CPU seconds of a command."""
    # Compiled once, as where pip installs.
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONPYCACHEPREFIX": f"{folder}.pyc"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    line = [sys.executable, "-m", "reid_core", *command.split()]
    spent = []
    for _ in range(repetitions):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(line, env=environment, stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(spent)


def main() -> None:
    """Measure, print a table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strangers", type=int, default=30)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory() as place:
        folders = {kind: Path(place) / kind for kind in ("manifests", "imports")}
        for kind, folder in folders.items():
            write_strangers(folder, arguments.strangers, manifests=kind == "manifests")
        for command in COMMANDS:
            found = {k: measured(f, command, arguments.repetitions) for k, f in folders.items()}
            figures[command] = {**found, "ratio": found["imports"] / found["manifests"]}
            print(
                f"reid {command:<20} {found['manifests']:6.2f} s with manifests, "
                f"{found['imports']:6.2f} s by importing: {figures[command]['ratio']:.1f} x"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()

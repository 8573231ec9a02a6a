"""Clean environments: an interpreter that sees what distributions declare, and nothing else.

Nothing is downloaded or copied. What other people publish is linked from the environment of the
tests; what this repository publishes is installed by pip from wheels, with all its dependencies.
"""

import os
import subprocess
import sysconfig
import venv
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from house import DISTRIBUTIONS
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OURS = {distribution.project["name"]: distribution for distribution in DISTRIBUTIONS}

SCRIPT = """#!{python}
import sys
from {module} import {attribute}
if __name__ == "__main__":
    sys.exit({attribute}())
"""


class Environment:
    """A virtual environment that has none of this repository's distributions yet.

    Args:
        folder: where it is made.
        wheels: a folder with wheels of this repository's distributions.
        requirements: what it is for, as after ``pip install``. Other people's distributions among
            them, and all that those and ours ask for, are there.
    """

    def __init__(self, folder: Path, wheels: Path, *requirements: str) -> None:
        self.folder, self.wheels = folder, wheels
        venv.create(folder, symlinks=True)
        self.bin = folder / "bin"
        site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
        for distribution in declared([*requirements, "pip"]):
            self._link(distribution, site)

    def _link(self, distribution: metadata.Distribution, site: Path) -> None:
        tops = {path.parts[0] for path in distribution.files or ()} - {"..", "__pycache__"}
        for top in tops:
            link, target = site / top, Path(str(distribution.locate_file(top))).resolve()
            # Distributions may share a namespace, as those of CUDA's libraries do.
            if not (link.is_symlink() and link.resolve() == target):
                link.symlink_to(target)
        for entry in distribution.entry_points.select(group="console_scripts"):
            words = {"module": entry.module, "attribute": entry.attr.partition(".")[0]}
            script = self.bin / entry.name
            script.write_text(SCRIPT.format(python=self.bin / "python", **words), "utf-8")
            script.chmod(0o755)

    def install(self, *requirements: str | Path) -> None:
        """Let pip install from wheels; what a wheel asks for and is not there is an error."""
        self.run("pip", "install", *map(str, requirements))

    def run(
        self, *words: str | Path, code: int = 0, cwd: Path | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment and expect an exit code."""
        done = subprocess.run(
            [str(self.bin / words[0]), *map(str, words[1:])],
            cwd=cwd or self.folder,
            env=self.variables() | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"{words}: {done.stdout}\n{done.stderr}"
        return done

    def shell(self, script: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run lines of a shell as a user would type them; all must succeed."""
        done = subprocess.run(
            ["sh", "-e"],
            input=script,
            cwd=cwd,
            env=self.variables() | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{script}: {done.stdout}\n{done.stderr}"
        return done

    def variables(self) -> dict[str, str]:
        """Return the variables of a shell in which the environment is active, without network."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        return kept | {
            "PATH": os.pathsep.join([str(self.bin), os.environ["PATH"]]),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_NO_BUILD_ISOLATION": "0",  # which means: without isolation
            "PIP_NO_COMPILE": "1",
            "PIP_NO_INDEX": "1",
            "PYTHONUTF8": "1",
            "PYTHONWARNINGS": "ignore",
        }


def declared(requirements: Iterable[str]) -> Iterator[metadata.Distribution]:
    """Yield other people's distributions that are asked for, directly or by what is asked for."""
    waiting = [Requirement(line) for line in requirements]
    seen: set[tuple[str, str]] = set()
    found: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in OURS:
            lines = _asked_by_ours(name, requirement.extras)
        else:
            distribution = metadata.distribution(name)
            if name not in found:
                found.add(name)
                yield distribution
            lines = distribution.requires or []
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            for one in map(Requirement, lines):
                if one.marker is None or one.marker.evaluate({"extra": extra}):
                    waiting.append(one)


def _asked_by_ours(name: str, extras: Iterable[str]) -> list[str]:
    lines = OURS[name].dependencies
    for extra in extras:
        lines += OURS[name].extras[extra]
    return lines

"""The distributions of this repository, as their folders tell."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Distribution:
    """One folder with a pyproject.toml of its own."""

    folder: Path

    @property
    def package(self) -> str:
        return self.folder.name

    @property
    def project(self) -> dict[str, Any]:
        return read_toml(self.folder / "pyproject.toml")["project"]

    @property
    def source(self) -> Path:
        return self.folder / "src" / self.package

    @property
    def dependencies(self) -> list[str]:
        """Return what it needs to run, siblings by version, as a release names them."""
        pyproject = read_toml(self.folder / "pyproject.toml")
        if "dependencies" in pyproject["project"]:
            return list(pyproject["project"]["dependencies"])
        return list(pyproject["tool"]["hatch"]["metadata"]["hooks"]["custom"]["dependencies"])

    @property
    def extras(self) -> dict[str, list[str]]:
        """Return what each extra adds to that."""
        return dict(self.project.get("optional-dependencies", {}))

    def __str__(self) -> str:
        return self.package


def read_toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


DISTRIBUTIONS = [
    Distribution(path.parent)
    for pattern in ("reid_*/pyproject.toml", "plugins/*/pyproject.toml")
    for path in sorted(ROOT.glob(pattern))
]

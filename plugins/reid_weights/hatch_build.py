"""Name the distributions of this repository by their folder in a checkout, by version in a release.

``pip install ./reid_san`` then finds what stands beside it without any index. A release, and an
editable installation of siblings (which pip cannot resolve by path), set ``REID_RELEASE=1``.
The same file lies in every distribution, so that each of them builds alone.
"""

import os
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface
from packaging.requirements import Requirement


class Siblings(MetadataHookInterface):
    """Fill ``project.dependencies`` from this hook's own list."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Write the list as it stands, or with the places of siblings."""
        released = os.environ.get("REID_RELEASE", "0") not in ("", "0")
        lines = self.config["dependencies"]
        metadata["dependencies"] = lines if released else [self._located(line) for line in lines]

    def _located(self, line: str) -> str:
        requirement = Requirement(line)
        if not requirement.name.startswith("reid-"):
            return line
        folder = requirement.name.replace("-", "_")
        for above in (Path(self.root).parent, Path(self.root).parent.parent):
            for place in (above / folder, above / "plugins" / folder):
                if (place / "pyproject.toml").is_file():
                    extras = (
                        f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
                    )
                    return f"{requirement.name}{extras} @ {place.resolve().as_uri()}"
        return line

"""Write the distribution of a new plugin: small, complete, and a place to begin from.

The files of `template` say what is in it; ``plugins/reid_example`` of the repository is what
`files_of` makes of the name ``example``, installed and tested there.
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from importlib import metadata
from pathlib import Path

import reid_core
from reid_core.config import RunConfig
from reid_core.errors import ConfigError
from reid_core.outputs import write_text
from reid_core.plugins.discovery import catalogue, installed

_TEMPLATE = Path(__file__).with_name("template")
"""What it writes, by path: ``full`` or ``bare``, with ``.in`` behind every name."""

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")

_IN_TEMPLATE = ("Annotated", "Field", "Mapping", "StripeHead")
"""Classes that the template imports from elsewhere than `reid_core`."""

_OWNERS = ("core", "encoder")
"""Owners of the core's own names, such as ``core/global`` and ``encoder/map``."""


@dataclass(frozen=True)
class Scaffold:
    """What a new distribution is called.

    Args:
        name: the plugin, as after ``--plugins``.
        author: who holds the rights; empty for ``the authors of <distribution>``.
        summary: one sentence without a full stop; empty for what the template does.
        year: of the licence; 0 takes this year.
        bare: one hook in one module, one test and ``pyproject.toml``, and nothing else.
    """

    name: str
    author: str = ""
    summary: str = ""
    year: int = 0
    bare: bool = False

    @property
    def distribution(self) -> str:
        """What pip installs."""
        return f"reid-{self.name.replace('_', '-')}"

    @property
    def package(self) -> str:
        """What Python imports; also the name of the folder."""
        return f"reid_{self.name}"

    @property
    def cls(self) -> str:
        """The plugin's class."""
        return "".join(part.capitalize() for part in self.name.split("_"))

    def words(self) -> Mapping[str, str]:
        """Return what replaces each placeholder of the templates."""
        what = "short vectors" if self.bare else "a head that knows high from low"
        summary = f"A plugin of reid-core: {what} ({self.name})"
        return {
            "name": self.name,
            "distribution": self.distribution,
            "package": self.package,
            "class": self.cls,
            "author": self.author or f"the authors of {self.distribution}",
            "summary": self.summary or summary,
            "year": str(self.year or date.today().year),
        }


def files_of(scaffold: Scaffold) -> dict[str, str]:
    """Return the files of a distribution: their content by path within its folder."""
    template, words = _TEMPLATE / ("bare" if scaffold.bare else "full"), scaffold.words()

    def filled(text: str) -> str:
        return re.sub(r"\{\{(\w+)\}\}", lambda found: words[found[1]], text)

    files = {
        filled(source.relative_to(template).with_suffix("").as_posix()): source.read_text("utf-8")
        for source in template.rglob("*.in")
    }
    return {path: filled(text) for path, text in sorted(files.items())}


def write_distribution(scaffold: Scaffold, into: Path) -> Path:
    """Write a distribution into a folder of its own and return that folder.

    Args:
        scaffold: what it is called.
        into: the folder's parent; it is made where it is missing.

    Raises:
        ConfigError: the name cannot be a plugin's or is taken, a text does not fit on its line,
            the folder is there already, or it cannot be written.
    """
    check_name(scaffold)
    for option, text in (("--author", scaffold.author), ("--summary", scaffold.summary)):
        if not text.isprintable() or '"' in text or "\\" in text:
            raise ConfigError(
                f"{option}: {text!r} must be one line without quotation marks and backslashes"
            )
    folder = into / scaffold.package
    try:
        into.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
        for path, text in files_of(scaffold).items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, text)
    except FileExistsError as error:
        raise ConfigError(
            f"{error.filename} is there already, and nothing is overwritten; remove it, or choose "
            "another folder with --into"
        ) from None
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}") from None
    return folder


def check_name(scaffold: Scaffold) -> None:
    """Refuse a name that cannot be a plugin's, or that another one has.

    Raises:
        ConfigError: in one line, with what to do.
    """
    name, cls, reason = scaffold.name, scaffold.cls, ""
    wrong = f"'{name}' cannot be the name of a plugin"
    if not _NAME.fullmatch(name):
        reason = "it begins with a small letter and goes on with small letters, digits and single "
        raise ConfigError(f"{wrong}: {reason}'_'{_proposal(name)}")
    if keyword.iskeyword(name):
        reason = ": it is a keyword of Python"
    elif name in _OWNERS or name in RunConfig.model_fields:
        reason = ": the core has names or a section of the configuration that are called so"
    elif cls in {*keyword.kwlist, *dir(builtins), *reid_core.__all__, *_IN_TEMPLATE}:
        reason = f" here: its class would be '{cls}', which is a name of Python or of reid_core"
    if reason:
        raise ConfigError(f"{wrong}{reason}; choose another one")
    _check_free(scaffold)


def _proposal(name: str) -> str:
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).removeprefix("reid_").strip("_")
    return f"; '{plain}' would do" if _NAME.fullmatch(plain) else ""


def _check_free(scaffold: Scaffold) -> None:
    name, distribution = scaffold.name, scaffold.distribution
    if record := installed().get(name):
        raise ConfigError(
            f"there is a plugin '{name}' already, of {record.distribution} {record.version}; "
            "choose another name"
        )
    for known in catalogue().values():
        if name == known.name or distribution == known.distribution:
            raise ConfigError(
                f"'{name}' is taken: {known.distribution} brings the plugin '{known.name}' "
                f"({known.summary}); choose another name, or: {known.install}"
            )
    try:
        version = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return
    raise ConfigError(f"'{name}' is taken: {distribution} {version} is installed; choose another")

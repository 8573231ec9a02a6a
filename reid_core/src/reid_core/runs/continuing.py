"""A run by what it shall be: made, gone on with, or there already.

For whoever makes many runs, here or on other machines: each is asked for by its configuration and
its folder, as often as one likes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reid_core.config import IDLE_IN_TABLES, differences
from reid_core.errors import ConfigError
from reid_core.plugins.discovery import versions_of
from reid_core.runs import running
from reid_core.runs.resolve import Resolved, resolve
from reid_core.runs.running import Progress


def is_finished(
    out: Path, flags: Mapping[str, Any] | None = None, *, recipe: str | None = None
) -> bool:
    """Return whether a folder holds this very run, finished.

    Args:
        out: the run's folder; it need not be there.
        flags, recipe: as for `run`.

    Raises:
        ConfigError: it holds a finished run of other settings or other versions of its plugins.
        ReidError: the configuration cannot work.
    """
    return _finished(out, resolve(flags, recipe=recipe))


def run_once(
    flags: Mapping[str, Any] | None = None,
    *,
    recipe: str | None = None,
    out: Path,
    cache: Path | None = None,
    say: Callable[[str], None] = print,
    progress: Progress | None = None,
) -> bool:
    """Run, or go on with what was interrupted, unless the folder holds this very run finished.

    What is asked for rules, not what the folder says of an interrupted run.

    Args:
        flags, recipe, out, cache, say, progress: as for `run`.

    Returns:
        Whether there was anything left to do.

    Raises:
        ConfigError: the folder holds a finished run of other settings or other versions.
        ReidError: what a run raises.
    """
    resolved = resolve(flags, recipe=recipe)
    if _finished(out, resolved):
        return False
    resume = (out / "config.toml").is_file()  # also before the first checkpoint
    running.run(resolved=resolved, out=out, resume=resume, cache=cache, say=say, progress=progress)
    return True


def _finished(folder: Path, resolved: Resolved) -> bool:
    """Return whether a run is finished, and refuse one that is not the one that is asked for."""
    if not (folder / "results.json").is_file():
        return False
    before = running.stored_settings(folder)
    changed = differences(before, resolved.config.model_dump(mode="json"), IDLE_IN_TABLES)
    now = versions_of(resolved.plugins)
    then = json.loads((folder / "run.json").read_text("utf-8"))["plugins"]
    changed += [
        f"{name} was {then.get(name)}, is {now.get(name)}"
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    ]
    if changed:
        raise ConfigError(
            f"{folder} holds a finished run of other settings: {'; '.join(changed)}; name another "
            "--out, or remove that folder to run it again"
        )
    return True

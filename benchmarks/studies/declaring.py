"""Studies as they are declared, in TOML: what is asked, arms, seeds, comparisons.

A study fixes the data, the start, the budget and the seeds for all of its arms; an arm is what is
different. What no configuration says is declared in words, for the page alone: ``start`` of a study
or an arm whose plugins own the encoder, and the ``stage`` that an arm trains beside. Comparisons,
their protocol and their measure are declared before a row is measured. A study that is ``like``
another one begins with that one's recipe, settings and tests; arms that come out alike share their
rows.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid_core import ConfigError
from reid_core.errors import did_you_mean
from reid_core.runs.recipes import merged_layers

HERE = Path(__file__).resolve().parent / "declared"

_STUDY = {
    *("paper", "order", "asks", "why", "like", "recipe", "seeds", "settings", "elsewhere"),
    *("start", "paired", "arms", "against", "protocol", "comparisons"),
}
_INHERITED = ("recipe", "settings", "elsewhere")
_ARM = {"settings", "recipe", "start", "stage"}
_COMPARISON = {"of", "against", "protocol", "asks"}


@dataclass(frozen=True)
class Arm:
    """What is run.

    Args:
        study, name: where it is declared.
        flags: configuration without a seed.
        recipe: what the flags rule over.
        elsewhere: tests beside those of the configuration's protocols.
        frame: hash of what the study declares for all of its arms.
        start: where its network begins, in words, if that is not ``model.pretrained``; else empty.
        stage: what it trains beside, or has beside, the study's budget, in words; else empty.
    """

    study: str
    name: str
    flags: Mapping[str, Any]
    recipe: str | None
    elsewhere: tuple[str, ...]
    frame: str = ""
    start: str = ""
    stage: str = ""


@dataclass(frozen=True)
class Compared:
    """One question: what an arm does against another one, by mAP under a protocol."""

    study: str
    of: str
    against: str
    protocol: str
    asks: str


@dataclass(frozen=True)
class Study:
    """Arms under one start and budget.

    Args:
        name, paper: which.
        order: studies of lower numbers are measured first.
        asks: the question.
        why: what is known of the answer's reason; for people.
        seeds: of every arm.
        arms: by name.
        comparisons: what is asked of them.
        paired: whether a seed trains the start anew, once for all arms, so that its rows are alike:
            seeds of both arms are then resampled together.
    """

    name: str
    paper: str
    order: float
    asks: str
    why: str
    seeds: tuple[int, ...]
    arms: Mapping[str, Arm]
    comparisons: tuple[Compared, ...]
    paired: bool = False


def load_studies(folder: Path = HERE) -> list[Study]:
    """Return all declared studies, those first that are to be measured first.

    Raises:
        ConfigError: a file that cannot be understood, in one line that names it.
    """
    sections: dict[str, tuple[Path, Mapping[str, Any]]] = {}
    for path in sorted(folder.glob("*.toml")):
        try:
            content = tomllib.loads(path.read_text("utf-8"))
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path}: {error}") from None
        for name, section in content.items():
            if name in sections:
                raise ConfigError(f"{path}: there are two studies '{name}'")
            sections[name] = path, section
    found = [_study(path, name, section, sections) for name, (path, section) in sections.items()]
    return sorted(found, key=lambda study: (study.order, study.name))


def _study(
    path: Path,
    name: str,
    section: Mapping[str, Any],
    others: Mapping[str, tuple[Path, Mapping[str, Any]]],
) -> Study:
    where = f"{path}, study '{name}'"
    _known(where, section, _STUDY)
    section, seen = dict(section), [name]
    while "like" in section:
        other = section.pop("like")
        if other not in others:
            near = did_you_mean(other, others)
            raise ConfigError(f"{where}: there is no study '{other}' to be like{near}")
        if other in seen:
            raise ConfigError(f"{where}: {' is like '.join([*seen, other])}")
        seen.append(other)
        inherited = others[other][1]
        kept = {key: inherited[key] for key in (*_INHERITED, "like") if key in inherited}
        settings = merged_layers(kept.get("settings", {}), section.get("settings", {}))
        section = {**kept, **section, "settings": settings}
    for key in ("paper", "order", "asks", "arms", "against", "protocol"):
        if key not in section:
            raise ConfigError(f"{where}: '{key}' is missing")
    shared = [section.get("recipe"), section.get("settings", {})]
    frame = hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()[:8]
    arms = {}
    for title, own in section["arms"].items():
        _known(f"{where}, arm '{title}'", own, _ARM)
        arms[title] = Arm(
            name,
            title,
            merged_layers(section.get("settings", {}), own.get("settings", {})),
            own.get("recipe", section.get("recipe")),
            tuple(section.get("elsewhere", ())),
            frame,
            own.get("start", section.get("start", "")),
            own.get("stage", ""),
        )
    listed = section.get("comparisons") or [
        {"of": title} for title in arms if title != section["against"]
    ]
    comparisons = []
    for one in listed:
        _known(f"{where}, a comparison", one, _COMPARISON)
        against, protocol = one.get("against", section["against"]), section["protocol"]
        for title in (one["of"], against):
            if title not in arms:
                raise ConfigError(f"{where}: there is no arm '{title}'{did_you_mean(title, arms)}")
        asks = one.get("asks", "")
        for tested in one.get("protocol", protocol if isinstance(protocol, list) else [protocol]):
            comparisons.append(Compared(name, one["of"], against, tested, asks))
    return Study(
        name,
        section["paper"],
        float(section["order"]),
        section["asks"],
        section.get("why", ""),
        tuple(section.get("seeds", range(5))),
        arms,
        tuple(comparisons),
        bool(section.get("paired", False)),
    )


def _known(where: str, section: Mapping[str, Any], keys: Iterable[str]) -> None:
    for key in section:
        if key not in keys:
            raise ConfigError(f"{where}: unknown key '{key}'{did_you_mean(key, keys)}")

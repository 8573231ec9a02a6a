"""Which rows there should be, which of them there are, and which stand side by side."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid_core.config import IDLE_IN_TABLES
from studies.code import code_now, unlike
from studies.declaring import Arm, Compared, Study
from studies.elsewhere import ward
from studies.table import Row, Table

_LETTERS = 12


@dataclass(frozen=True)
class Start:
    """Where an encoder starts.

    Args:
        name: as in ``model.pretrained``.
        sha256: of the file; None where there is none on this machine.
    """

    name: str
    sha256: str | None


@dataclass(frozen=True)
class Planned:
    """An arm as it resolves with the code of this tree.

    Args:
        arm: what is declared.
        config: the whole configuration.
        configuration: its hash, without the seed and without what no score depends on.
        start: of its encoder; None for random weights.
        problem: why it cannot be run here, or nothing.
    """

    arm: Arm
    config: Mapping[str, Any]
    configuration: str
    start: Start | None
    problem: str = ""

    def key(self, seed: int) -> str:
        """Return the name of the row of a seed, without that of its code."""
        return key_of(self.configuration, seed, self.start.sha256 if self.start else None)


def key_of(configuration: str, seed: int, start: str | None) -> str:
    """Return what names a row whatever its code."""
    return _hash([configuration, seed, start])


def without_idle(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration without its seed, and without what no score depends on."""
    found = {section: dict(values) if isinstance(values, Mapping) else values
             for section, values in config.items()}  # fmt: skip
    for key in ("run.seed", *IDLE_IN_TABLES):
        section, _, name = key.partition(".")
        found.get(section, {}).pop(name, None)
    return found


def _hash(content: Any) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_LETTERS]


def classes_for(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the studies' own plugins where a configuration needs them: others do not load them."""
    named = {*config.get("run", {}).get("plugins", ()), config.get("model", {}).get("backbone")}
    named.add(config.get("plugins", {}).get("fsam", {}).get("extractor"))
    if "changed" in named:
        from studies import changes

        return changes.CLASSES
    if not named & {"seen", "taught", "narrow_resnet18", "slim_resnet18"}:
        return {}
    from studies.plugins import CLASSES

    return CLASSES


def with_root(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a configuration in which ``data.root = "WARD"`` is a path.

    Raises:
        ConfigError: WARD is not on this machine.
    """
    if config.get("data", {}).get("root") != "WARD":
        return config
    return {**config, "data": {**config["data"], "root": str(ward())}}


def planned(arm: Arm) -> Planned:
    """Resolve an arm; what is wrong with it is kept, not raised."""
    from reid_core import ReidError
    from reid_core.plugins.slots import assign_slots
    from reid_core.runs.resolve import resolve

    try:
        flags, classes = with_root(arm.flags), classes_for(arm.flags)
        resolved = resolve(flags, recipe=arm.recipe, classes=classes)
        config = resolved.config
        found = config.model_dump(mode="json", exclude_none=True)
        if flags is not arm.flags:
            found["data"]["root"] = arm.flags["data"]["root"]  # where it lies here is no part of it
        start = _start(found)
        owner = assign_slots(resolved.plugins, config.own)["backbone"]
    except ReidError as error:
        return Planned(arm, {}, "", None, str(error))
    problem = ""
    if start is not None and start.sha256 is None:
        problem = f"its start '{start.name}' is not on this machine"
    if owner != "core" and not arm.start:
        problem = f"plugin '{owner}' brings its encoder: declare its 'start' in words"
    return Planned(arm, found, _hash(without_idle(found)), start, problem)


def _start(config: Mapping[str, Any]) -> Start | None:
    """Return the weights that a run begins with: its encoder's, and those that make labels."""
    from reid_core.weights import shipped_weights

    pretrained = config["model"].get("pretrained", False)
    names = [] if pretrained is False else [str(pretrained)]
    if "parsing" in config["run"]["plugins"]:
        names.append(LABELS)
    hashes = []
    for name in names:
        path = shipped_weights().get(name, Path(name))
        if pretrained is True or not path.is_file():
            return Start(name, None)
        hashes.append(hashlib.sha256(path.read_bytes()).hexdigest())
    if len(hashes) > 1:
        hashes = [hashlib.sha256("".join(hashes).encode()).hexdigest()]
    return Start(", ".join(names), hashes[0]) if hashes else None


LABELS = "people/body"
"""Weights of the plugin `parsing` where it trains none."""


@dataclass(frozen=True)
class Sides:
    """The rows of one comparison that stand side by side: one code, one start, the same questions.

    Args:
        before, after: rows of the two arms by seed; both have the same seeds.
        left_out: how many rows of the two arms do not stand beside them, by reason.
    """

    before: Mapping[int, Row]
    after: Mapping[int, Row]
    left_out: Mapping[str, int]

    @property
    def rows(self) -> list[Row]:
        """All of them."""
        return [*self.before.values(), *self.after.values()]


def _asked(row: Row, protocol: str) -> str:
    return str(row.content["scores"][protocol]["questions"])


@dataclass(frozen=True)
class Identity:
    """What names an arm's rows: its configuration, and its start's hash."""

    configuration: str
    start: str | None


def sides(
    table: Table, before: Identity, after: Identity, protocol: str | None, seeds: Sequence[int]
) -> Sides:
    """Return the largest set of rows of two arms that may be compared; the newest of equals.

    Rows of different code are never mixed: two rows fit where every module that both ran is the
    same in both, and so is every library. Rows of another start, or that answered other questions
    (other images, another protocol), do not fit either; without a protocol questions do not count.
    """
    of_arm = {}
    other_start = 0
    for side, wanted in (("before", before), ("after", after)):
        same = [
            row for row in table.rows
            if row.content["configuration"] == wanted.configuration and row.seed in seeds
        ]  # fmt: skip
        of_arm[side] = [row for row in same if row.content["start"].get("sha256") == wanted.start]
        other_start += len(same) - len(of_arm[side])
    tested = {
        side: [row for row in rows if protocol is None or protocol in row.content["scores"]]
        for side, rows in of_arm.items()
    }
    untested = sum(len(rows) - len(tested[side]) for side, rows in of_arm.items())
    best = Sides({}, {}, {})
    every = [*tested["before"], *tested["after"]]
    for leader in reversed(every):
        merged, found = table.code(leader), {"before": {}, "after": {}}
        for side, rows in tested.items():
            for row in [leader, *reversed(rows)] if leader in rows else reversed(rows):
                code = table.code(row)
                if row.seed in found[side] or unlike(merged, code):
                    continue
                if protocol is not None and _asked(row, protocol) != _asked(leader, protocol):
                    continue
                merged |= code
                found[side][row.seed] = row
        both = sorted(found["before"].keys() & found["after"].keys())
        if len(both) > len(best.before):
            best = Sides(
                {seed: found["before"][seed] for seed in both},
                {seed: found["after"][seed] for seed in both},
                {},
            )
        if len(both) == len(seeds):
            break
    ids = {row.id for row in best.rows}
    half = {row.seed for row in every} - best.before.keys()
    others = [row for row in every if row.id not in ids and row.seed not in half]
    left = {
        "of another start": other_start,
        "not tested so": untested,
        "of other code or questions": len(others),
        "without the other arm's row": sum(row.seed in half for row in every),
    }
    return Sides(best.before, best.after, {what: n for what, n in left.items() if n})


def identity(arm: Planned) -> Identity:
    """Return what names the rows of a planned arm."""
    return Identity(arm.configuration, arm.start.sha256 if arm.start else None)


def arm_line(plan: Planned) -> dict[str, Any]:
    """Return what the table keeps of an arm as it was planned."""
    content = {
        "study": plan.arm.study,
        "arm": plan.arm.name,
        "frame": plan.arm.frame,
        "configuration": plan.configuration,
        "start": plan.start.sha256 if plan.start else None,
    }
    return {"key": _hash(content), **content}


def stored_sides(table: Table, one: Compared, seeds: Sequence[int]) -> Sides:
    """Return the rows of a comparison, of the newest frame of its study that has some."""
    for arms in table.framed(one.study):
        if one.of in arms and one.against in arms:
            pair = [
                Identity(arms[name]["configuration"], arms[name]["start"])
                for name in (one.against, one.of)
            ]
            found = sides(table, *pair, one.protocol, seeds)
            if found.before:
                return found
    return Sides({}, {}, {})


def open_tasks(
    studies: Iterable[Study],
    arms: Mapping[tuple[str, str], Planned],
    table: Table,
    again: bool = False,
) -> tuple[list[tuple[Planned, int]], list[str]]:
    """Return the rows that are to be measured, in order, and what should be said before.

    A comparison that is complete, of whatever code, is left as it is unless ``again``. Of one that
    is not, rows of other code than this tree's do not count: new ones cannot stand beside them.
    """
    tasks: dict[str, tuple[Planned, int]] = {}
    said: list[str] = []
    current = {}
    for row in table.rows:
        code = table.code(row)
        if code_now(code) == code:
            current[row.key] = row
    for study in studies:
        wanted: list[tuple[Compared, list[Planned]]] = []
        for one in study.comparisons:
            pair = [arms[study.name, name] for name in (one.against, one.of)]
            if any(arm.problem for arm in pair):
                continue
            now = sides(table, *map(identity, pair), one.protocol, study.seeds)
            then = stored_sides(table, one, study.seeds)
            complete = any(len(found.before) == len(study.seeds) for found in (now, then))
            if again or not complete:
                wanted.append((one, pair))
        for arm in (arms[study.name, name] for name in study.arms):
            if arm.problem:
                said.append(f"{study.name} / {arm.arm.name}: {arm.problem}")
        old: set[str] = set()
        for seed in study.seeds:
            for one, pair in wanted:
                for arm in pair:
                    key = arm.key(seed)
                    row = current.get(key)
                    if row is not None and one.protocol in row.content["scores"]:
                        continue
                    old |= {r.id for r in table.rows if r.key == key}
                    tasks.setdefault(key, (arm, seed))
        if old:
            said.append(
                f"{study.name}: {len(old)} rows are of other code than this tree, and are measured "
                f"again: {', '.join(sorted(old))}"
            )
    return list(tasks.values()), said

"""Does each paper help, by how much, and under what condition: rows, and what they show.

    python benchmarks/evidence.py run [--study NAME ...] [--again] [--hours H] [--work DIR]
    python benchmarks/evidence.py status             what is measured, missing, stopped
    python benchmarks/evidence.py row ID             measure one row again and compare it
    python benchmarks/evidence.py page               write docs/evidence.md from the rows

`run` measures what the declared studies (`studies/declared/*.toml`) have no row of, in their
order, one after the other in one thread, and appends a line to the committed table as soon as a row
is finished. It can be stopped at any time: a row that was begun goes on from its checkpoint. A row
that fails is named, and the next one is run. `--limit` ends a row that takes too many seconds.

What identifies the code of a row stands in `studies/code.py`, what is compared with what in
`studies/planning.py`. Figures of synthetic people say nothing about real ones.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

# Before torch is imported: more threads on a shared machine measure the neighbours.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # python -P leaves it out

from studies.code import code_now, whole_code  # noqa: E402
from studies.declaring import HERE as DECLARED, Arm, Study, load_studies  # noqa: E402
from studies.planning import Planned, Start, arm_line, open_tasks, planned  # noqa: E402
from studies.running import Outcome, Stopped, in_process, keep, measured  # noqa: E402
from studies.table import Table  # noqa: E402

from reid_core import ReidError  # noqa: E402

TABLE = HERE / "results" / "evidence"
PAGE = HERE.parent / "docs" / "evidence.md"


def plan_all(studies: list[Study]) -> dict[tuple[str, str], Planned]:
    """Resolve every arm, in a process of its own: what it imports is no row's code."""
    arms = [arm for study in studies for arm in study.arms.values()]
    plans = in_process(lambda: [planned(arm) for arm in arms])
    return {(plan.arm.study, plan.arm.name): plan for plan in plans}


def chosen(given: argparse.Namespace) -> list[Study]:
    """Return the named studies, or all."""
    studies = load_studies(given.declared)
    if unknown := sorted({*given.study} - {study.name for study in studies}):
        known = ", ".join(study.name for study in studies)
        raise ReidError(f"there is no study {unknown[0]}; there are {known}")
    return [study for study in studies if not given.study or study.name in given.study]


def preload() -> None:
    """Import what every run imports and no row's code has: seconds of each process."""
    from reid_core.torchvision_guard import ensure

    ensure()
    import scipy.stats  # noqa: F401
    import timm  # noqa: F401
    import torch

    torch.set_num_threads(1)


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def run(given: argparse.Namespace) -> int:
    studies, table = chosen(given), Table(given.table)
    plans = plan_all(studies)
    tasks, said = open_tasks(studies, plans, table, given.again)
    for plan in plans.values():
        if not plan.problem:
            table.add("arms", arm_line(plan))
    for line in said:
        say(line)
    whole_code()  # once: rows' processes inherit the hashes, and the libraries
    preload()
    given.work.mkdir(parents=True, exist_ok=True)
    (given.work / "logs").mkdir(exist_ok=True)
    ends, failed = time.monotonic() + 3600 * given.hours, 0
    for number, (plan, seed) in enumerate(tasks, 1):
        name = f"{plan.arm.study} / {plan.arm.name}, seed {seed} ({plan.key(seed)})"
        limit = min(given.limit, ends - time.monotonic())
        if limit <= 0:
            say(f"{given.hours} hours are over; {len(tasks) - number + 1} rows are left")
            break
        log = given.work / "logs" / f"{plan.key(seed)}.log"
        try:
            outcome = in_process(measured, plan, seed, given.work, log, limit=limit)
        except Stopped:
            say(f"{name}: stopped; the same command goes on with it")
            return 130
        except ReidError as error:
            outcome = Outcome(None, {}, str(error))
        for line in outcome.said:
            say(f"{name}: {line}")
        if outcome.row is None:
            failed += 1
            say(f"{name}: no row: {outcome.problem} (log: {log})")
            continue
        for file, lines in outcome.others.items():
            for line in lines:
                table.add(file, line)
        table.add("rows", outcome.row)
        keep(outcome, plan, seed, given.work)
        shown = ", ".join(
            f"{protocol} {100 * one['rank1']:.1f}/{100 * one['mAP']:.1f}"
            for protocol, one in outcome.row["scores"].items()
        )
        say(f"{number} of {len(tasks)}: {name}: {shown}; {outcome.row['cpu_seconds']} s")
    say(f"done; {failed} rows failed")
    return 1 if failed else 0


def status(given: argparse.Namespace) -> int:
    studies, table = chosen(given), Table(given.table)
    plans = plan_all(studies)
    tasks, said = open_tasks(studies, plans, table)
    missing = {plan.key(seed) for plan, seed in tasks}
    for study in studies:
        for arm in study.arms:
            plan = plans[study.name, arm]
            open_seeds = [seed for seed in study.seeds if plan.key(seed) in missing]
            there = [row for row in table.rows if row.key in {plan.key(s) for s in study.seeds}]
            note = plan.problem or f"{len(there)} rows, {len(open_seeds)} to measure"
            print(f"{study.name} / {arm}: {note}")
    for line in said:
        print(line)
    for folder in sorted((given.work / "rows").glob("*")):
        print(f"row {folder.name} was stopped: `run` goes on with it")
    for row in table.rows:
        code = table.code(row)
        now = code_now(code)
        if changed := [name for name in code if now.get(name) != code[name]]:
            print(f"row {row.id}: {len(changed)} modules have changed since, {changed[0]} first")
    print(f"{len(table.rows)} rows, {len(tasks)} to measure")
    return 0


def row(given: argparse.Namespace) -> int:
    from tempfile import TemporaryDirectory

    table = Table(given.table)
    found = [one for one in table.rows if one.id.startswith(given.id)]
    if len(found) != 1:
        raise ReidError(f"{len(found)} rows begin with '{given.id}'")
    (stored,) = found
    content, code = stored.content, table.code(stored)
    now = code_now(code)
    if changed := [name for name in code if now.get(name) != code[name]]:
        print(f"{len(changed)} modules are not what the row ran: {', '.join(changed)}")
    config = table.lines["configurations"][content["configuration"]]["config"]
    prefixes = [name.partition(":")[0] for name in content["scores"] if ":" in name]
    arm = Arm(content["study"], content["arm"], {}, None, tuple(dict.fromkeys(prefixes)))
    start = Start(**content["start"]) if content["start"] else None
    plan = Planned(arm, config, content["configuration"], start)
    with TemporaryDirectory() as temporary:
        work = Path(temporary)
        work.joinpath("rows").mkdir()
        work.joinpath("cache").symlink_to((given.work / "cache").absolute())
        given.work.joinpath("cache").mkdir(parents=True, exist_ok=True)
        outcome = in_process(measured, plan, stored.seed, work, work / "log", limit=given.limit)
    for line in outcome.said:
        print(line)
    if outcome.row is None:
        raise ReidError(outcome.problem)
    print(f"{'protocol':<28} {'stored':>13} {'now':>13}")
    for protocol, before in content["scores"].items():
        after: Any = outcome.row["scores"].get(protocol)
        cells = [
            "-" if one is None else f"{100 * one['rank1']:.2f}/{100 * one['mAP']:.2f}"
            for one in (before, after)
        ]
        print(f"{protocol:<28} {cells[0]:>13} {cells[1]:>13}")
    return 0


def page(given: argparse.Namespace) -> int:
    from studies.page import evidence_page

    PAGE.write_text(evidence_page(load_studies(given.declared), Table(given.table)), "utf-8")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, default=TABLE, help="folder of the rows")
    parser.add_argument("--work", type=Path, default=Path("runs/evidence"))
    parser.add_argument("--declared", type=Path, default=DECLARED, help="folder of the studies")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, command in (("run", run), ("status", status), ("row", row), ("page", page)):
        one = commands.add_parser(name)
        one.set_defaults(command=command)
        if name in ("run", "status"):
            one.add_argument("--study", action="append", default=[])
        if name == "run":
            one.add_argument("--again", action="store_true", help="also what is complete")
            one.add_argument("--hours", type=float, default=1e6)
        if name in ("run", "row"):
            one.add_argument("--limit", type=float, default=1800, help="seconds of one row")
        if name == "row":
            one.add_argument("id", help="of the row, or its beginning")
    given = parser.parse_args()
    return int(given.command(given))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ReidError as error:
        sys.exit(f"evidence: {error}")

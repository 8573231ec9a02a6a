"""The page of evidence: what was asked, what was measured, what it shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from studies import orders, photographs
from studies.declaring import Arm, Compared, Study
from studies.planning import Identity, Sides, sides, stored_sides
from studies.table import Row, Table
from studies.verdicts import RESAMPLES, SEEDS, Found, compared, spread

HEAD = f"""# Evidence: does each paper help, by how much, and under what condition

Written by `python benchmarks/evidence.py page` from the committed rows in
[benchmarks/results/evidence](../benchmarks/results/evidence); a test compares the two. Studies are
declared in [benchmarks/studies/declared](../benchmarks/studies/declared) with their comparisons,
before a row of them is measured. **People are synthetic** unless a protocol begins with `ward:`,
and figures on them say nothing about real ones.

- A row is one run: an arm with one seed. All arms of a study have the same start, data, budget and
  rate, beside stages of their own, which are named; nothing is tuned for an arm.
  `python benchmarks/evidence.py row ID` measures a row again.
- *CPU s*: mean over the rows. A stage is paid by the row that trained it; one that found it made
  has the run alone, so that arms with a stage, marked \\*, are not comparable by time; nor are arms
  that ran on different processors, which are named below them.
- Effects are differences of mAP (and rank-1) in points. Intervals of 95 % come from {RESAMPLES}
  resamples of people (all queries of a person together, the same ones in both arms) and, apart from
  them, of the seeds of each arm, or of both arms together where each seed trains a start of its own
  for all of them (it is said). The percentile bootstrap of five seeds is a little too narrow.
- *shown*: the whole interval of mAP is above 0. *refuted*: the whole interval is below 0.
  *not shown*: 0 is in it. Fewer than {SEEDS} seeds get no verdict. Of twenty comparisons of arms
  that are alike one is shown or refuted by chance.
- *visible*: the smallest effect on mAP that so many people and seeds would have shown in four of
  five repetitions.
- Rows stand side by side only where every module that both have loaded is the same, and every
  library that computes ([studies/code.py](../benchmarks/studies/code.py); rows before December 2026
  do not say which kornia, Pillow and simplejpeg they had); where others are left out, it is said.

| protocol | what is searched for |
|---|---|
| `standard`, `same-clothes`, `cross-clothes` | unseen people of the study's own data set |
| `quick:standard` | unseen people of `synthpeople:quick` |
| `partial:standard` | unseen people of `synthpeople:quick`, seen in part: half to all of the \
height, three quarters to all of the width |
| `ward:standard` | 35 people of WARD before three cameras (Martinel and Micheloni 2012), \
**photographs**, measured on and never learnt from |
"""


def evidence_page(studies: Sequence[Study], table: Table) -> str:
    """Return ``docs/evidence.md`` as the rows have it."""
    parts = [HEAD]
    found = {
        (study.name, number): _compared(table, study, one)
        for study in studies
        for number, one in enumerate(study.comparisons)
    }
    parts.append("\n".join(_summary(studies, found)))
    for study in studies:
        parts.append("\n".join(_section(study, table, found)))
    parts.append("\n".join(photographs.section()))
    parts.append("\n".join(orders.section(table)))
    return "\n".join(parts).rstrip() + "\n"


Results = Mapping[tuple[str, int], tuple[Sides, Found | None]]


def _compared(table: Table, study: Study, one: Compared) -> tuple[Sides, Found | None]:
    rows = stored_sides(table, one, study.seeds)
    return rows, compared(table, rows, one.protocol, study.paired)


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _interval(found: Found, measure: str) -> str:
    one = found.effects[measure]
    between = one.intervals.widest
    return f"{_points(one.value)} [{_points(between.low)}, {_points(between.high)}]"


def _verdict(found: Found | None) -> str:
    if found is None:
        return "no rows yet"
    if found.verdict == "open":
        return f"none: {found.seeds} seed{'s' * (found.seeds > 1)}, fewer than {SEEDS}"
    return f"**{found.verdict}**"


def _summary(studies: Sequence[Study], found: Results) -> Iterator[str]:
    """Yield the verdicts at a glance."""
    yield "## At a glance\n"
    yield f"Comparisons with {SEEDS} seeds or more.\n"
    yield "| paper | comparison | protocol | seeds | mAP | verdict |"
    yield "|---|---|---|---|---|---|"
    for study in studies:
        for number, one in enumerate(study.comparisons):
            _, result = found[study.name, number]
            if result is None or result.verdict == "open":
                continue
            what = f"[{one.of} against {one.against}](#{study.name})"
            cells = (study.paper, what, f"`{one.protocol}`", str(result.seeds))
            yield f"| {' | '.join(cells)} | {_interval(result, 'mAP')} | {_verdict(result)} |"
    yield ""


def _section(study: Study, table: Table, found: Results) -> Iterator[str]:
    yield f"## {study.name}\n"
    yield f"{study.asks} ({study.paper})\n"
    results = [found[study.name, number] for number in range(len(study.comparisons))]
    if all(result is None for _, result in results):
        arms = ", ".join(study.arms)
        yield f"Declared, without rows yet: {arms}; seeds {', '.join(map(str, study.seeds))}.\n"
        return
    yield from _arms(study, table)
    if study.paired:
        yield "All arms of a seed begin with the same weights: seeds are resampled in pairs.\n"
    yield "| comparison | protocol | seeds | mAP | rank-1 | seeds up | visible | verdict |"
    yield "|---|---|---|---|---|---|---|---|"
    notes: dict[str, list[str]] = {}
    for one, (rows, result) in zip(study.comparisons, results, strict=True):
        name = f"{one.of} against {one.against}" + (f" ({one.asks})" if one.asks else "")
        if result is None:
            yield f"| {name} | `{one.protocol}` | 0 | | | | | {_verdict(None)} |"
            continue
        visible = "–" if result.visible is None else f"{100 * result.visible:.1f}"
        cells = (
            *(name, f"`{one.protocol}`", str(result.seeds)),
            *(_interval(result, measure) for measure in ("mAP", "rank1")),
            *(f"{result.up} of {result.seeds}", visible, _verdict(result)),
        )
        yield f"| {' | '.join(cells)} |"
        left = ", ".join(f"{number} {why}" for why, number in rows.left_out.items())
        if left:
            which = f"{one.of} against {one.against}, `{one.protocol}`"
            notes.setdefault(left, []).append(which)
    yield ""
    for left, which in notes.items():
        yield f"Rows left out: {left} ({'; '.join(which)}).\n"
    if study.why:
        yield f"{study.why.strip()}\n"


def _arms(study: Study, table: Table) -> Iterator[str]:
    """Yield the scores of every arm, and its rows."""
    frames = table.framed(study.name)
    of_arm = {name: _rows_of(name, frames, table, study) for name in study.arms}
    shown = {name: rows for name, rows in of_arm.items() if rows}
    protocols = dict.fromkeys(
        protocol for rows in shown.values() for row in rows for protocol in row.content["scores"]
    )
    stages = _alike({name: _stage(study.arms[name], rows) for name, rows in shown.items()})
    starts = _alike({name: _start(study.arms[name], rows) for name, rows in shown.items()})
    steps = _alike({name: f"{rows[0].content['steps']} steps" for name, rows in shown.items()})
    begins, lasts = (
        "; ".join(one if len(each) == 1 else f"{one} ({', '.join(each[one])})" for one in each)
        for each in (starts, steps)
    )
    yield f"Start: {begins}; {lasts}. Rank-1 / mAP in per cent, mean and deviation over seeds:\n"
    yield f"| arm | seeds | {' | '.join(f'`{one}`' for one in protocols)} | CPU s | rows |"
    yield "|---" * (4 + len(protocols)) + "|"
    for name, rows in shown.items():
        cells = []
        for protocol in protocols:
            tested = {row.seed: row for row in rows if protocol in row.content["scores"]}
            both = (spread(tested, protocol, measure) for measure in ("rank1", "mAP"))
            cells.append(" / ".join(both) if tested else "–")
        seconds = sum(row.content["cpu_seconds"] for row in rows) / len(rows)
        ids = " ".join(row.id.partition("-")[0][:6] for row in rows)
        mark = r" \*" if _stage(study.arms[name], rows) else ""
        yield f"| {name}{mark} | {len(rows)} | {' | '.join(cells)} | {seconds:.0f} | {ids} |"
    yield ""
    for stage, names in stages.items():
        if stage:
            yield f"\\* {', '.join(names)}, beside these steps: {stage}.\n"
    processors = _alike({name: _processors(rows) for name, rows in shown.items()})
    if len(processors) > 1:
        ran = "; ".join(f"{', '.join(names)} on {one}" for one, names in processors.items())
        yield f"CPU seconds are not comparable: {ran}.\n"


def _alike(said: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the arms of which the same is said."""
    found: dict[str, list[str]] = {}
    for name, one in said.items():
        found.setdefault(one, []).append(name)
    return found


def _start(arm: Arm, rows: Sequence[Row]) -> str:
    """Return where an arm's network begins: a row knows ``model.pretrained``, and no plugin's."""
    return arm.start or str(rows[0].content["start"].get("name", "random weights"))


def _stage(arm: Arm, rows: Sequence[Row]) -> str:
    """Return what an arm has beside its steps: as it is declared, or the names in its rows."""
    return arm.stage or ", ".join(rows[0].content.get("stages", ()))


def _processors(rows: Sequence[Row]) -> str:
    return " and ".join(sorted({row.content.get("machine", "one unknown") for row in rows}))


def _rows_of(
    name: str, frames: Sequence[Mapping[str, Mapping[str, str]]], table: Table, study: Study
) -> list[Row]:
    """Return an arm's rows of its newest frame that has some, all of one code."""
    for arms in frames:
        if name in arms:
            line = arms[name]
            own = Identity(line["configuration"], line["start"])
            # An arm beside itself: the largest set of its rows of one code.
            found = sides(table, own, own, None, study.seeds)
            if found.after:
                return [found.after[seed] for seed in sorted(found.after)]
    return []

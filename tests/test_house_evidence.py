"""The rows of evidence: what is measured once, what stands side by side, what is said of it."""

import json
import re
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from house import ROOT

from reid_core import ConfigError, DataError, ReidError
from reid_core.testing.tiny import tiny_flags

sys.path.insert(0, str(ROOT / "benchmarks"))

import evidence
from studies import code, declaring, elsewhere, orders, planning, running, verdicts
from studies.page import evidence_page
from studies.table import Row, Table, packed, unpacked

PEOPLE = [1, 1, 2, 2, 3, 3, 4, 4]


def line_of(arm: str, seed: int, ap: float, modules: str = "a", start: str | None = None) -> dict:
    """Return a row of eight queries whose average precision grows by seed."""
    found = np.full(len(PEOPLE), ap + 0.01 * seed)
    score = {"rank1": 0.5, "mAP": float(found.mean()), "questions": "q"}
    score |= {"ranks": packed([1, 2] * 4), "AP": packed(np.round(65535 * found))}
    return {
        "id": f"{arm}{seed}-{modules}",
        "configuration": arm,
        "seed": seed,
        "code": modules,
        "start": {"sha256": start} if start else {},
        "steps": 2,
        "cpu_seconds": 1.0,
        "scores": {"standard": score},
    }


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """A table with two codes, two configurations and no row."""
    made = Table(tmp_path / "table")
    for name in ("none", "head"):
        made.add("configurations", {"configuration": name, "config": {}})
        arm = {"study": "s", "arm": name, "frame": "f", "configuration": name, "start": None}
        made.add("arms", {"key": name, **arm})
    for name in ("a", "b"):
        made.add("code", {"code": name, "modules": {"reid_core.step": name, "torch": "2"}})
    made.add("questions", {"questions": "q", "people": PEOPLE})
    return made


NONE, HEAD = planning.Identity("none", None), planning.Identity("head", None)
ONE = declaring.Compared("s", "head", "none", "standard", "")


def study(seeds: int = 5, **more: object) -> declaring.Study:
    arms = {name: declaring.Arm("s", name, {}, None, (), "f") for name in ("none", "head")}
    return declaring.Study("s", "partaware", 1, "Does it?", "", tuple(range(seeds)), arms, (ONE,))


# The page -----------------------------------------------------------------------------------------


def test_the_page_of_evidence_is_what_the_rows_give():
    page = evidence_page(declaring.load_studies(), Table(evidence.TABLE))
    assert evidence.PAGE.read_text("utf-8") == page, (
        "docs/evidence.md is not what the rows give: run python benchmarks/evidence.py page"
    )


def test_readmes_link_every_study_with_a_verdict():
    glance = evidence.PAGE.read_text("utf-8").partition("## At a glance")[2].partition("\n## ")[0]
    lost = []
    for papers, named in re.findall(r"^\| ([^|]+) \| \[[^\]]*\]\(#([\w-]+)\)", glance, re.M):
        for paper in re.split(r" \+ |, ", papers):
            readme = ROOT / f"reid_{paper}" / "README.md"
            link = f"(../docs/evidence.md#{named})"
            if readme.is_file() and link not in readme.read_text("utf-8"):
                lost.append(f"{paper}: {named}")
    assert not lost


def test_a_page_says_effect_interval_and_verdict(table: Table):
    for seed in range(5):
        table.add("rows", line_of("none", seed, 0.2))
        table.add("rows", line_of("head", seed, 0.3))
    page = evidence_page([study()], Table(table.folder))
    assert "| head against none | `standard` | 5 | +10.0 [+" in page
    assert "| 5 of 5 |" in page
    assert "**shown**" in page


def test_a_page_names_declared_starts_and_stages(table: Table):
    for name in ("none", "head"):
        more = {"start": {"name": "people/somebody", "sha256": None}}
        table.add("rows", {**line_of(name, 0, 0.2), **more})
    page = evidence_page([study()], table)
    assert "Start: people/somebody; 2 steps." in page
    assert "beside these steps" not in page
    own = declaring.Arm("s", "head", {}, None, (), "f", "random weights (it)", "S, 9 steps")
    whole = study()
    page = evidence_page([replace(whole, arms={**whole.arms, "head": own})], table)
    assert "Start: people/somebody (none); random weights (it) (head); 2 steps." in page
    assert r"| head \* | 1 |" in page
    assert r"\* head, beside these steps: S, 9 steps." in page
    table.lines["rows"]["head0-a"]["stages"] = ["san/pg"]
    assert r"\* head, beside these steps: san/pg." in evidence_page([study()], table)


def test_arms_of_one_start_per_seed_are_paired(table: Table):
    for seed in range(5):
        table.add("rows", line_of("none", 10 * seed, 0.2))
        table.add("rows", line_of("head", 10 * seed, 0.201))
    whole = replace(study(), seeds=tuple(range(0, 50, 10)))
    assert "**not shown**" in (alone := evidence_page([whole], table))
    assert "resampled in pairs" not in alone
    paired = evidence_page([replace(whole, paired=True)], table)
    assert "| +0.1 [+0.1, +0.1] |" in paired
    assert "**shown**" in paired
    assert "seeds are resampled in pairs" in paired


def test_a_page_says_whose_seconds_are_not_comparable(table: Table):
    for name in ("none", "head"):
        table.add("rows", {**line_of(name, 0, 0.2), "machine": "one"})
    assert "CPU seconds are not comparable" not in evidence_page([study()], table)
    table.lines["rows"]["head0-a"]["machine"] = "another"
    page = evidence_page([study()], table)
    assert "CPU seconds are not comparable: none on one; head on another." in page


def test_fewer_than_five_seeds_get_no_verdict(table: Table):
    for seed in range(4):
        table.add("rows", line_of("none", seed, 0.2))
        table.add("rows", line_of("head", seed, 0.5))
    page = evidence_page([study()], table)
    assert "none: 4 seeds, fewer than 5" in page
    assert "**shown**" not in page.partition("## Factors of streets")[0]


@pytest.mark.parametrize(
    ("low", "high", "seeds", "verdict"),
    [
        (0.01, 0.2, 5, "shown"),
        (-0.01, 0.2, 5, "not shown"),
        (-0.2, -0.01, 9, "refuted"),
        (0.01, 0.2, 4, "open"),
    ],
)
def test_verdicts_follow_the_interval(low: float, high: float, seeds: int, verdict: str):
    assert verdicts.verdict_of(SimpleNamespace(low=low, high=high), seeds) == verdict


def test_the_visible_effect_grows_with_the_spread_over_seeds(table: Table):
    rng = np.random.default_rng(0)
    found = []
    for wide in (0.01, 0.1):
        sides = {}
        for arm in ("none", "head"):
            rows = {}
            for seed in range(5):
                line = line_of(arm, seed, 0.4)
                values = 0.4 + wide * rng.normal() + np.zeros(len(PEOPLE))
                line["scores"]["standard"]["AP"] = packed(np.round(65535 * values))
                rows[seed] = Row(line)
            sides[arm] = rows
        both = planning.Sides(sides["none"], sides["head"], {})
        result = verdicts.compared(table, both, "standard")
        assert result is not None
        assert result.visible is not None
        found.append(result.visible)
    assert found[1] > 5 * found[0]


# Which rows stand side by side --------------------------------------------------------------------


def test_rows_of_another_code_are_left_out_and_counted(table: Table):
    for seed in range(5):
        table.add("rows", line_of("none", seed, 0.2, "a"))
        table.add("rows", line_of("head", seed, 0.3, "a" if seed < 3 else "b"))
    found = planning.sides(table, NONE, HEAD, "standard", range(5))
    assert sorted(found.before) == sorted(found.after) == [0, 1, 2]
    assert {row.content["code"] for row in found.rows} == {"a"}
    assert found.left_out == {"without the other arm's row": 4}


def test_rows_of_another_start_or_other_questions_are_left_out(table: Table):
    table.add("questions", {"questions": "other", "people": PEOPLE})
    table.add("rows", line_of("none", 0, 0.2))
    table.add("rows", line_of("head", 0, 0.3, start="123"))
    assert not planning.sides(table, NONE, HEAD, "standard", range(5)).before
    line = line_of("head", 1, 0.3)
    line["scores"]["standard"]["questions"] = "other"
    table.add("rows", line_of("none", 1, 0.2))
    table.add("rows", line)
    assert not planning.sides(table, NONE, HEAD, "standard", range(5)).before


def test_arms_of_two_frames_of_a_study_are_not_compared(table: Table):
    for seed in range(5):
        table.add("rows", line_of("none", seed, 0.2))
        table.add("rows", line_of("head", seed, 0.3))
    table.lines["arms"]["head"]["frame"] = "longer"
    assert not planning.stored_sides(table, ONE, range(5)).before


def plan_of(arm: str, problem: str = "") -> planning.Planned:
    declared = study().arms[arm]
    return planning.Planned(declared, {}, arm, None, problem)


def test_what_is_complete_is_not_measured_again_whatever_its_code(table: Table, monkeypatch):
    monkeypatch.setattr(planning, "code_now", lambda names: {"reid_core.step": "c", "torch": "2"})
    plans = {("s", name): plan_of(name) for name in ("none", "head")}
    for seed in range(5):
        for name in ("none", "head"):
            line = line_of(name, seed, 0.2)
            table.add("rows", {**line, "id": f"{plans['s', name].key(seed)}-a"})
    assert planning.open_tasks([study()], plans, table) == ([], [])
    tasks, said = planning.open_tasks([study(6)], plans, table)
    assert len(tasks) == 12
    assert said[0].startswith("s: 10 rows are of other code than this tree, and are measured again")
    assert len(planning.open_tasks([study()], plans, table, again=True)[0]) == 10


def test_rows_of_this_code_are_not_measured_again(table: Table, monkeypatch):
    monkeypatch.setattr(planning, "code_now", lambda names: {"reid_core.step": "a", "torch": "2"})
    plans = {("s", name): plan_of(name) for name in ("none", "head")}
    line = line_of("none", 3, 0.2)
    table.add("rows", {**line, "id": f"{plans['s', 'none'].key(3)}-a"})
    tasks, said = planning.open_tasks([study()], plans, table)
    assert said == []
    assert [(plan.arm.name, seed) for plan, seed in tasks if seed == 3] == [("head", 3)]
    assert len(tasks) == 9


# Code ---------------------------------------------------------------------------------------------


def test_code_is_what_is_computed_not_how_it_is_described(tmp_path: Path):
    texts = (
        '"""A."""\nSIDE = 3  # why\n\n\ndef f(x):\n    """Say."""\n    return x + SIDE\n',
        '"""B."""\n\nSIDE = (3)\n"""The side."""\n\ndef f(x):\n    return (x + SIDE)\n',
        '"""A."""\nSIDE = 4  # why\n\n\ndef f(x):\n    """Say."""\n    return x + SIDE\n',
    )
    hashes = []
    for number, text in enumerate(texts):
        file = tmp_path / f"{number}.py"
        file.write_text(text)
        hashes.append(code.hash_of(file))
    assert hashes[0] == hashes[1] != hashes[2]


def test_loaded_code_is_found_again_in_the_tree():
    loaded = code.loaded_code()
    assert "reid_core.testing.tiny" in loaded
    assert {"kornia", "pillow", "simplejpeg", "torch"} <= loaded.keys()
    assert code.code_now(loaded) == loaded
    assert code.unlike(code.whole_code(), loaded) == []
    changed = {**loaded, "reid_core.testing.tiny": "0"}
    assert code.unlike(loaded, changed) == ["reid_core.testing.tiny"]
    assert code.digest(loaded) != code.digest(changed)


# Tables and declarations --------------------------------------------------------------------------


def test_packed_numbers_come_back():
    assert unpacked(packed([1, 65535, 700000])).tolist() == [1, 65535, 65535]


def test_a_damaged_line_and_a_missing_reference_are_named(table: Table):
    rows = table.folder / "rows.jsonl"
    rows.write_text('{"id": "x-a", "conf')
    with pytest.raises(DataError, match=r"rows.jsonl, line 1 is no line of the table: remove it"):
        Table(table.folder)
    rows.write_text(json.dumps(line_of("lost", 0, 0.2)) + "\n")
    with pytest.raises(DataError, match=r"row lost0-a of .* refers to lost, which configurations"):
        Table(table.folder)


def test_a_declaration_that_cannot_be_meant_is_named(tmp_path: Path):
    file = tmp_path / "x.toml"
    text = '[x]\npaper = "san"\norder = 1\nasks = "?"\nagainst = "none"\nprotocol = "standard"\n'
    file.write_text(f"{text}seed = [0]\n[x.arms.none]\n")
    with pytest.raises(ConfigError, match="study 'x': unknown key 'seed'; did you mean 'seeds'"):
        declaring.load_studies(tmp_path)
    file.write_text(f"{text}comparisons = [{{ of = 'head' }}]\n[x.arms.none]\n")
    with pytest.raises(ConfigError, match="there is no arm 'head'"):
        declaring.load_studies(tmp_path)


def test_a_study_that_is_like_another_shares_its_rows(tmp_path: Path):
    file = tmp_path / "x.toml"
    head = 'paper = "san"\norder = 1\nasks = "?"\nagainst = "none"\nprotocol = "standard"\n'
    text = f"[x]\n{head}[x.settings.data]\nheight = 64\nwidth = 32\n[x.arms.none]\n"
    file.write_text(f"{text}[y]\nlike = 'x'\n{head}[y.settings.data]\nwidth = 16\n[y.arms.none]\n")
    one, other = declaring.load_studies(tmp_path)
    assert one.arms["none"].flags["data"] == {"height": 64, "width": 32}
    assert other.arms["none"].flags["data"] == {"height": 64, "width": 16}
    assert one.arms["none"].frame != other.arms["none"].frame
    third = f"[z]\nlike = 'y'\n{head}[z.settings.optim]\nlr = 0.1\n[z.arms.none]\n"
    file.write_text(f"{file.read_text()}{third}")
    *_, last = declaring.load_studies(tmp_path)
    assert last.arms["none"].flags["data"] == {"height": 64, "width": 16}, "as y, which is like x"
    assert last.arms["none"].flags["optim"] == {"lr": 0.1}
    circle = f"[y]\nlike = 'z'\n{head}[y.arms.none]\n[z]\nlike = 'y'\n{head}[z.arms.none]\n"
    file.write_text(f"{text}{circle}")
    with pytest.raises(ConfigError, match="study 'y': y is like z is like y"):
        declaring.load_studies(tmp_path)
    file.write_text(f"{text}[y]\nlike = 'z'\n{head}[y.arms.none]\n")
    with pytest.raises(ConfigError, match="there is no study 'z' to be like"):
        declaring.load_studies(tmp_path)


def test_orders_agree_or_not_and_say_which_models_disagree(table: Table):
    def ordered(real: dict[str, float], strange: str = "") -> orders.Orders:
        made = Table(table.folder)
        for number, (name, ap) in enumerate(real.items()):
            made.add("configurations", {"configuration": name, "config": {}})
            line = {**line_of(name, 0, 0.2 + 0.1 * number), "study": "s", "arm": name}
            other = line_of(name, 0, ap)["scores"]["standard"]
            test = "quick:standard" if name in strange else "standard"
            line["scores"] = {test: line["scores"]["standard"], "ward:standard": other}
            made.lines["rows"][f"{name}0-a"] = line
        found = orders.orders(made)
        assert found is not None
        return found

    same = ordered({"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4})
    assert same.tau.value == pytest.approx(1)
    assert same.apart == []
    turned = ordered({"a": 0.1, "b": 0.4, "c": 0.3, "d": 0.5})
    assert turned.tau.value == pytest.approx(4 / 6)
    assert turned.at_home == turned.tau
    ((first, second),) = turned.apart
    assert turned.models[first].name == "s / b"
    assert turned.models[second].name == "s / c"
    assert len(turned.models) == 4
    # Without the model that learnt before other cameras the orders are the same.
    mixed = ordered({"a": 0.5, "b": 0.2, "c": 0.3, "d": 0.4}, strange="a")
    assert mixed.tau.value == pytest.approx(0)
    assert mixed.at_home.value == pytest.approx(1)
    assert (mixed.tau.models, mixed.at_home.models) == (4, 3)


def test_a_model_under_two_codes_is_ordered_once(table: Table):
    for name, ap, modules in (("none", 0.2, "a"), ("head", 0.3, "b"), ("head", 0.4, "a")):
        line = {**line_of(name, 0, ap, modules), "study": "s", "arm": name}
        line["scores"]["ward:standard"] = line["scores"]["standard"]
        table.add("rows", line)
    found, _ = orders.models_of(table)
    assert [(one.name, round(one.real.mean(), 3)) for one in found] == [
        ("s / none", 0.2),
        ("s / head", 0.4),
    ], "the newest"
    line = {**line_of("head", 1, 0.3, "b"), "study": "s", "arm": "head"}
    line["scores"]["ward:standard"] = line["scores"]["standard"]
    table.add("rows", line)
    (_, head), _ = orders.models_of(table)
    assert head.seeds == 2, "that with more seeds"


def test_every_declared_arm_resolves():
    for one in declaring.load_studies():
        frames = {arm.frame for arm in one.arms.values()}
        assert len(frames) == 1
        for arm in one.arms.values():
            plan = planning.planned(arm)
            here = plan.problem == "" or plan.problem.startswith("WARD is not here")
            assert here, f"{one.name} / {arm.name}: {plan.problem}"
            assert {*arm.elsewhere} <= elsewhere.TESTS.keys()


def test_an_arm_without_the_cores_encoder_declares_its_start():
    arm = next(o for o in declaring.load_studies() if o.name == "fsam-transfer").arms["A"]
    plan, unsaid = planning.planned(arm), planning.planned(replace(arm, start=""))
    assert plan.problem == ""
    assert unsaid.problem == "plugin 'seen' brings its encoder: declare its 'start' in words"
    assert unsaid.key(0) == plan.key(0)


# Rows ---------------------------------------------------------------------------------------------


def tiny(
    name: str = "none", plugins: tuple[str, ...] = (), pretrained: bool | str = False
) -> declaring.Arm:
    more = {"model": {"pretrained": pretrained}, "engine": {"device": "cpu"}}
    return declaring.Arm("tiny", name, tiny_flags(plugins, more), None, ("ward",), "f")


def test_a_missing_start_is_named():
    plan = planning.planned(tiny(pretrained="people/nobody"))
    assert plan.problem == "its start 'people/nobody' is not on this machine"


def test_a_configuration_is_hashed_without_seed_and_device():
    plain = planning.planned(tiny())
    flags = tiny_flags((), {"run": {"seed": 7}, "engine": {"device": "auto", "log_every": 9}})
    other = planning.planned(declaring.Arm("tiny", "none", flags, None, (), "f"))
    assert plain.configuration == other.configuration
    longer = tiny_flags((), {"schedule": {"epochs": 3}})
    changed = planning.planned(declaring.Arm("tiny", "none", longer, None, (), "f"))
    assert plain.configuration != changed.configuration
    assert plain.key(0) != plain.key(1)


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> SimpleNamespace:
    """A queue of one tiny study whose rows are measured in this process."""
    one = declaring.Compared("tiny", "head", "none", "standard", "")
    arms = {"none": tiny(), "head": tiny("head", ("partaware",))}
    whole = declaring.Study("tiny", "partaware", 1, "?", "", (0,), arms, (one,))
    monkeypatch.setattr(evidence, "load_studies", lambda folder: [whole])
    monkeypatch.setattr(evidence, "in_process", lambda work, *args, limit=None: work(*args))
    monkeypatch.setattr(evidence, "preload", lambda: None)
    monkeypatch.delenv(elsewhere.WARD, raising=False)
    work = tmp_path / "work"
    work.mkdir()
    (work / "cache").symlink_to(cache)
    given = {"study": [], "declared": None, "table": tmp_path / "table", "work": work}
    return SimpleNamespace(**given, again=False, hours=1.0, limit=1e6)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that the tests of this file share."""
    return tmp_path_factory.mktemp("cache")


def test_a_queue_measures_goes_on_and_reproduces(queue: SimpleNamespace, capsys, monkeypatch):
    real, broken = running.measured, [True]

    def measured(plan: planning.Planned, *args: object) -> running.Outcome:
        if plan.config["run"]["plugins"] and broken.pop():
            raise ReidError("the disk is full")
        return real(plan, *args)

    monkeypatch.setattr(evidence, "measured", measured)
    assert evidence.run(queue) == 1
    said = capsys.readouterr().out
    assert "tiny / head, seed 0" in said
    assert "no row: the disk is full" in said
    assert "not tested on ward: WARD is not here: set EVIDENCE_WARD" in said
    (row,) = Table(queue.table).rows
    assert row.content["steps"] == 4
    assert row.content["wall_seconds"] > 0
    assert row.content["stages"] == []
    assert row.score("standard", "mAP") == pytest.approx(
        row.of_queries("standard", "mAP").mean(), abs=1e-4
    )

    monkeypatch.setattr(evidence, "measured", real)
    assert evidence.run(queue) == 0
    assert "1 of 1: tiny / head" in capsys.readouterr().out
    table = Table(queue.table)
    assert len(table.rows) == 2
    assert evidence.run(queue) == 0
    assert "done; 0 rows failed" in capsys.readouterr().out.splitlines()[-1]
    assert evidence.status(queue) == 0
    assert "2 rows, 0 to measure" in capsys.readouterr().out

    assert evidence.row(SimpleNamespace(**{**vars(queue), "id": row.id[:8]})) == 0
    line = capsys.readouterr().out.splitlines()[-1].split()
    assert line[0] == "standard"
    assert line[1] == line[2]


def test_a_row_over_its_limit_keeps_its_time_before_it_is_ended(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(running, "GRACE", 10)

    def slow() -> None:
        try:
            time.sleep(60)
        finally:
            (tmp_path / "spent.json").write_text("{}")

    # As in a queue that a shell has begun in the background.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(ReidError, match="it took more than 1 seconds"):
            running.in_process(slow, limit=1)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "spent.json").is_file()


def test_attempts_of_a_row_add_up_in_both_times(tmp_path: Path, monkeypatch):
    def fail(**given: object) -> None:
        raise ReidError("the disk is full")

    clock = iter((0.0, 3.0, 100.0, 104.0))
    monkeypatch.setattr("reid_core.runs.running.run", fail)
    monkeypatch.setattr(running, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(running, "_cpu_seconds", lambda: 2.0)
    plan = planning.planned(tiny())
    for _ in range(2):
        with pytest.raises(ReidError, match="the disk is full"):
            running.measured(plan, 0, tmp_path, tmp_path / "log")
    spent = json.loads((tmp_path / "rows" / plan.key(0) / "spent.json").read_text())
    assert spent == {"cpu_seconds": 4.0, "wall_seconds": 7.0}


def test_stages_of_other_code_are_not_taken(tmp_path: Path):
    running._forget_others(tmp_path, {"reid_core.step": "a"})
    stage = tmp_path / "stages" / "san" / "pg"
    stage.mkdir(parents=True)
    running._forget_others(tmp_path, {"reid_core.step": "a"})
    assert stage.is_dir()
    running._forget_others(tmp_path, {"reid_core.step": "b"})
    assert not stage.exists()


def test_an_unfinished_row_of_other_sources_is_begun_anew(tmp_path: Path):
    sources = {"reid_core.step": "a"}
    (tmp_path / "code.json").write_text(json.dumps({"reid_core.step": "b"}))
    assert running._not_to_be_continued(tmp_path, sources).startswith("1 modules have changed")
    (tmp_path / "code.json").write_text(json.dumps(sources))
    (tmp_path / "spent.json").write_text('{"cpu_seconds": 1.0}')
    assert running._not_to_be_continued(tmp_path, sources) == "how long it took was not kept"
    (tmp_path / "spent.json").write_text('{"cpu_seconds": 1.0, "wall_seconds": 1.0}')
    assert running._not_to_be_continued(tmp_path, sources) == ""

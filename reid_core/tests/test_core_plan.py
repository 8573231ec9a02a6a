"""The plan of a step: how the schedules of several plugins merge, and what clashes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from reid_core.contract.step import Group, Pass, Schedule, Update
from reid_core.errors import ConflictError, PluginError
from reid_core.loop.plan import StepPlan
from reid_core.runs.assembly.schedules import merge_schedules

PARAMS = {
    "encoder": ("encoder.a", "encoder.b"),
    "ant/head": ("branches.ant/head.w", "branches.ant/head.b"),
    "gnu/net": ("branches.gnu/net.w",),
    "core/global/neck": ("heads.core/global.w",),
    "gnu/frozen": (),
}
SOURCES = ("main", "ant/pairs")


def merged(*owned: tuple[str, Schedule], scale: float = 1.0) -> StepPlan:
    return merge_schedules(owned, PARAMS, SOURCES, scale)


def update(name: str, **options: Any) -> Update:
    options = {"passes": (Pass(f"{name}-pass"),), **options}
    return Update(name, **options)


def names(plan: StepPlan) -> list[str]:
    return [u.name for u in plan.updates]


def passes(plan: StepPlan, name: str) -> list[str]:
    (found,) = (u for u in plan.updates if u.name == name)
    return [p.name for p in found.passes]


def test_alone_the_core_steps_everything_in_main() -> None:
    plan = merged(scale=10.0)
    (main,) = plan.updates
    assert set(main.groups) == {"encoder", "ant/head", "gnu/net", "core/global/neck"}
    assert (main.terms, main.every, passes(plan, "main")) == (("*",), (1, 0), ["main"])
    scales = {name: group.lr_scale for name, group in plan.groups.items()}
    assert scales == {"encoder": 1.0, "ant/head": 10.0, "gnu/net": 10.0, "core/global/neck": 10.0}
    assert main.passes[0].bn == "update"
    assert main.passes[0].shared


@pytest.mark.parametrize("parameters", [("gnu/frozen",), ()])
def test_a_group_without_a_parameter_is_refused(parameters: tuple[str, ...]) -> None:
    with pytest.raises(PluginError, match=r"'gnu': group 'gnu/g' has no trainable parameter in"):
        merged(("gnu", Schedule(groups=(Group("gnu/g", parameters),))))


def test_every_parameter_is_in_one_group() -> None:
    own = Group("ant/some", ("branches.ant/head.w", "gnu/net"), lr_scale=3.0)
    plan = merged(("ant", Schedule(groups=(own,))))
    grouped = [name for group in plan.groups.values() for name in group.parameters]
    assert sorted(grouped) == sorted(name for part in PARAMS.values() for name in part)
    assert plan.groups["ant/some"].parameters == ("branches.ant/head.w", "branches.gnu/net.w")
    assert plan.groups["ant/head"].parameters == ("branches.ant/head.b",)
    assert plan.groups["ant/some"].lr_scale == 3.0
    assert "gnu/net" not in plan.groups


def test_two_groups_of_one_parameter_are_both_named() -> None:
    with pytest.raises(ConflictError, match=r"'encoder\.a' is in two groups, 'ant/x' and 'gnu/y'"):
        merged(
            ("ant", Schedule(groups=(Group("ant/x", ("encoder",)),))),
            ("gnu", Schedule(groups=(Group("gnu/y", ("encoder.a",)),))),
        )


def test_a_group_of_something_unknown_is_refused() -> None:
    with pytest.raises(PluginError, match=r"'ant': group 'ant/x' names 'ant/haed'.*'ant/head'"):
        merged(("ant", Schedule(groups=(Group("ant/x", ("ant/haed",)),))))


def test_updates_run_in_the_order_that_they_ask_for() -> None:
    plan = merged(
        ("gnu", Schedule(updates=(update("gnu/late"),))),
        ("ant", Schedule(updates=(update("ant/early", after=(), before=("main",)),))),
        ("emu", Schedule(updates=(update("emu/last", after=("gnu/late",)),))),
    )
    assert names(plan) == ["ant/early", "main", "gnu/late", "emu/last"]


def test_before_main_needs_no_word_about_after() -> None:
    assert names(merged(("ant", Schedule(updates=(update("ant/x", before=("main",)),))))) == [
        "ant/x",
        "main",
    ]


def test_updates_without_an_order_run_by_name() -> None:
    owned = [(o, Schedule(updates=(update(f"{o}/x"),))) for o in ("gnu", "ant", "emu")]
    expected = ["main", "ant/x", "emu/x", "gnu/x"]
    assert names(merged(*owned)) == expected
    assert names(merged(*reversed(owned))) == expected


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(5)), st.data())
def test_the_plan_does_not_depend_on_the_order_of_plugins(
    order: list[int], data: st.DataObject
) -> None:
    owned = []
    for i in range(5):
        after = tuple(f"p{j}/u" for j in data.draw(st.sets(st.integers(0, i - 1)))) if i else ()
        owned.append((f"p{i}", Schedule(updates=(update(f"p{i}/u", after=("main", *after)),))))
    plan = merged(*owned)
    assert names(merged(*(owned[i] for i in order))) == names(plan)
    for one in plan.updates:
        assert all(names(plan).index(o) < names(plan).index(one.name) for o in one.after)


def test_updates_in_a_circle_are_named() -> None:
    with pytest.raises(ConflictError, match=r"circle: .*ant/x.*gnu/x"):
        merged(
            ("ant", Schedule(updates=(update("ant/x", after=("gnu/x",)),))),
            ("gnu", Schedule(updates=(update("gnu/x", after=("ant/x",)),))),
        )


def test_an_update_takes_its_owners_terms_where_it_says_nothing() -> None:
    plan = merged(
        ("ant", Schedule(updates=(update("ant/x"), update("ant/y", terms=("ant/*", "core/*"))))),
    )
    terms = {u.name: u.terms for u in plan.updates}
    assert terms == {"main": ("*",), "ant/x": ("ant/*",), "ant/y": ("ant/*", "core/*")}


def test_an_update_takes_its_groups_from_main_and_shares_others() -> None:
    own = update("ant/x", groups=("ant/head",), shares=("encoder",))
    plan = merged(("ant", Schedule(updates=(own,))))
    main, ours = plan.updates
    assert "ant/head" not in main.groups
    assert "encoder" in main.groups
    assert (ours.groups, ours.shares) == (("ant/head",), ("encoder",))


def test_shares_may_be_patterns_and_never_repeat_own_groups() -> None:
    own = update("ant/x", groups=("ant/head",), shares=("*",))
    plan = merged(("ant", Schedule(updates=(own,))))
    assert plan.updates[1].shares == ("core/global/neck", "encoder", "gnu/net")


def test_shares_of_a_part_follow_its_parameters_into_another_plugin_s_group() -> None:
    slow = Group("gnu/slow", ("encoder", "gnu/net"), frozen_until=1)
    some = Group("gnu/some", ("branches.ant/head.w",))
    shares = ("encoder", "ant/*", "core/*/neck")
    own = update("ant/x", shares=shares)
    plan = merged(("ant", Schedule(updates=(own,))), ("gnu", Schedule(groups=(slow, some))))
    assert "encoder" not in plan.groups
    assert plan.updates[1].shares == ("ant/head", "core/global/neck", "gnu/slow", "gnu/some")


def test_two_updates_of_one_group_are_both_named() -> None:
    with pytest.raises(ConflictError, match=r"'encoder' .*'ant/x' and 'gnu/x'.*share"):
        merged(
            ("ant", Schedule(updates=(update("ant/x", groups=("encoder",)),))),
            ("gnu", Schedule(updates=(update("gnu/x", groups=("encoder",)),))),
        )


def test_two_updates_may_share_one_group() -> None:
    plan = merged(
        ("ant", Schedule(updates=(update("ant/x", shares=("encoder",)),))),
        ("gnu", Schedule(updates=(update("gnu/x", shares=("encoder",)),))),
    )
    assert [u.shares for u in plan.updates[1:]] == [("encoder",), ("encoder",)]


def test_passes_are_added_to_updates_in_name_order() -> None:
    plan = merged(
        ("gnu", Schedule(passes=(Pass("gnu/b"), Pass("gnu/a", source="ant/pairs")))),
        ("ant", Schedule(passes=(Pass("ant/z", update="ant/x"),), updates=(update("ant/x"),))),
    )
    assert passes(plan, "main") == ["main", "gnu/a", "gnu/b"]
    assert passes(plan, "ant/x") == ["ant/x-pass", "ant/z"]


def test_main_leaves_the_terms_that_plugins_take_from_it() -> None:
    plan = merged(
        ("ant", Schedule(updates=(update("ant/x"),), main_without=("core/*/ce",))),
        ("gnu", Schedule(main_without=("gnu/y", "core/*/ce"))),
    )
    main, other = plan.updates
    assert plan.without(main) == ("core/*/ce", "gnu/y")
    assert plan.without(other) == ()


def test_main_can_alternate_with_another_update() -> None:
    alternating = Schedule(updates=(update("ant/x", every=(2, 1)),), main_every=(2, 0))
    plan = merged(("ant", alternating), ("gnu", Schedule(main_every=(2, 0))))
    due = [[u.name for u in plan.due(step)] for step in range(4)]
    assert due == [["main"], ["ant/x"], ["main"], ["ant/x"]]


def test_two_wishes_for_main_that_differ_name_both() -> None:
    with pytest.raises(ConflictError, match=r"'ant' and 'gnu'.*\(2, 0\) and \(3, 0\)"):
        merged(("ant", Schedule(main_every=(2, 0))), ("gnu", Schedule(main_every=(3, 0))))


@pytest.mark.parametrize("every", [(0, 0), (2, 2), (2, -1), (-1, 0)])
def test_an_update_that_never_runs_is_refused(every: tuple[int, int]) -> None:
    with pytest.raises((PluginError, ValueError), match=r"period|every"):
        merged(("ant", Schedule(updates=(update("ant/x", every=every),))))
    with pytest.raises((PluginError, ValueError), match=r"period|every"):
        merged(("ant", Schedule(main_every=every)))


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Schedule(groups=(Group("gnu/x", ("encoder",)),)), r"'ant': group 'gnu/x' is outside"),
        (Schedule(updates=(update("x"),)), r"'ant': update 'x' is outside"),
        (Schedule(passes=(Pass("main"),)), r"'ant': pass 'main' is outside"),
        (
            Schedule(updates=(update("ant/x", groups=("encodr",)),)),
            r"'ant/x' steps the unknown group 'encodr'; did you mean 'encoder'",
        ),
        (
            Schedule(updates=(update("ant/x", shares=("ant/hed",)),)),
            r"'ant/x' steps the unknown group 'ant/hed'; did you mean 'ant/head'",
        ),
        (
            Schedule(passes=(Pass("ant/p", update="mian"),)),
            r"'ant/p' belongs to the unknown update 'mian'; did you mean 'main'",
        ),
        (
            Schedule(passes=(Pass("ant/p", source="ant/pair"),)),
            r"'ant/p' runs on the unknown source 'ant/pair'; did you mean 'ant/pairs'",
        ),
        (Schedule(updates=(update("ant/x", passes=()),)), r"'ant/x' has no forward pass"),
        (
            Schedule(updates=(update("ant/x", after=("mian",)),)),
            r"'ant/x' is to run beside the unknown update 'mian'; did you mean 'main'",
        ),
    ],
)
def test_names_that_nobody_declares_are_refused(schedule: Schedule, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        merged(("ant", schedule))


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (
            Schedule(groups=(Group("ant/x", ("encoder",)), Group("ant/x", ("gnu/net",)))),
            "group 'ant/x'",
        ),
        (Schedule(updates=(update("ant/x"), update("ant/x"))), "update 'ant/x'"),
        (Schedule(passes=(Pass("ant/x"), Pass("ant/x"))), "pass 'ant/x'"),
    ],
)
def test_names_declared_twice_are_refused(schedule: Schedule, message: str) -> None:
    with pytest.raises(ConflictError, match=rf"{message} is declared by 'ant' twice"):
        merged(("ant", schedule))

"""Slots and owned names: one owner of each role, and no name outside its owner's space."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from reid_core.contract.hookspecs import hookimpl
from reid_core.contract.names import check_owned, check_unique
from reid_core.contract.plugin import SLOTS, Plugin
from reid_core.errors import ConfigError, ConflictError, PluginError
from reid_core.plugins.slots import assign_slots

HOOK = {
    "backbone": "reid_backbone",
    "identity": "reid_identity",
    "embedding": "reid_auxiliary_branches",
    "labels:pid": "reid_pseudo_labels",
}


def claimant(name: str, *slots: str, implements: bool = True) -> Plugin:
    members: dict[str, Any] = {"claims": slots}
    for slot in slots:
        if implements and slot in HOOK:
            members[HOOK[slot]] = hookimpl(lambda self: [])
    return type(name.title(), (Plugin,), members)(name)


def plugins(*made: Plugin) -> dict[str, Plugin]:
    return {plugin.name: plugin for plugin in (Plugin("core"), *made)}


def test_the_core_fills_what_nobody_claims_but_labels() -> None:
    assert assign_slots(plugins(), {}) == {
        "backbone": "core",
        "embedding": "core",
        "identity": "core",
    }


@pytest.mark.parametrize("slot", SLOTS)
def test_a_claim_takes_its_slot_alone(slot: str) -> None:
    owners = assign_slots(plugins(claimant("zebra", slot)), {})
    assert owners[slot] == "zebra"
    assert {s for s, owner in owners.items() if owner == "zebra"} == {slot}


@pytest.mark.parametrize("slot", SLOTS)
def test_two_claimants_are_named_with_the_remedy(slot: str) -> None:
    both = plugins(claimant("zebra", slot), claimant("ant", slot))
    with pytest.raises(ConflictError) as caught:
        assign_slots(both, {})
    message = str(caught.value)
    for word in ("'zebra'", "'ant'", f"'{slot}'", f"--own {slot}="):
        assert word in message


def test_the_users_choice_decides() -> None:
    both = plugins(claimant("zebra", "identity"), claimant("ant", "identity", "embedding"))
    for name in ("ant", "zebra"):
        owners = assign_slots(both, {"identity": name})
        assert owners["identity"] == name
        assert owners["embedding"] == "ant"


def test_a_choice_of_an_unknown_slot_or_of_no_claimant_is_refused() -> None:
    one = plugins(claimant("zebra", "identity"))
    with pytest.raises(ConfigError, match=r"no slot 'identiy'; did you mean 'identity'\?"):
        assign_slots(one, {"identiy": "zebra"})
    with pytest.raises(ConfigError, match=r"--own backbone=zebra.*does not claim it"):
        assign_slots(one, {"backbone": "zebra"})
    with pytest.raises(ConfigError, match=r"--own identity=ant.*\(zebra\)"):
        assign_slots(one, {"identity": "ant"})


def test_an_unknown_claim_is_refused() -> None:
    with pytest.raises(PluginError, match=r"'zebra'.*'embeding'; did you mean 'embedding'\?"):
        assign_slots(plugins(claimant("zebra", "embeding")), {})


@pytest.mark.parametrize("slot", SLOTS)
def test_a_claim_without_its_hook_is_refused(slot: str) -> None:
    with pytest.raises(PluginError, match=rf"'zebra'.*'{slot}'.*{HOOK[slot]}"):
        assign_slots(plugins(claimant("zebra", slot, implements=False)), {})


@pytest.mark.parametrize("name", ["zebra/head", "zebra/a/b", "zebra/part-1", "zebra/x_2"])
def test_a_name_in_its_owners_space_passes(name: str) -> None:
    check_owned("zebra", "branch", name)


@pytest.mark.parametrize(
    "name", ["head", "gnu/head", "zebra/", "/head", "zebra", "zebra/a b", "zebra/a.b", "zebra//a"]
)
def test_a_name_outside_its_owners_space_is_refused(name: str) -> None:
    with pytest.raises(PluginError) as caught:
        check_owned("zebra", "branch", name)
    for word in ("'zebra'", "branch", f"'{name}'", "'zebra/"):
        assert word in str(caught.value)


@settings(max_examples=50, deadline=None)
@given(st.text("abz-._/ é", min_size=1, max_size=8))
def test_the_name_that_a_refusal_proposes_is_accepted(name: str) -> None:
    try:
        check_owned("zebra", "branch", name)
    except PluginError as error:
        _, proposes, proposed = str(error).rpartition("call it '")
        if proposes:
            check_owned("zebra", "branch", proposed.rstrip("'"))


def test_a_plugin_whose_name_has_a_dash_can_own_names() -> None:
    check_owned("night-zebra", "branch", "night-zebra/head")


def test_a_name_declared_twice_names_its_owners() -> None:
    check_unique("pass", [("ant", "ant/x"), ("gnu", "gnu/x")])
    with pytest.raises(ConflictError, match=r"pass 'ant/x' is declared by 'ant' and 'gnu'"):
        check_unique("pass", [("ant", "ant/x"), ("gnu", "ant/x")])
    with pytest.raises(ConflictError, match=r"pass 'ant/x' is declared by 'ant' twice"):
        check_unique("pass", [("ant", "ant/x"), ("ant", "ant/x")])

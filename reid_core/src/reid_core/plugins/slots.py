"""Slots: roles that only one plugin can fill. Claims come before effects."""

from __future__ import annotations

from collections.abc import Mapping

from reid_core.contract.names import check_known
from reid_core.contract.plugin import CORE, SLOTS, Plugin
from reid_core.contract.words import several
from reid_core.errors import ConfigError, ConflictError, PluginError

_HOOK_OF = {
    "backbone": "reid_backbone",
    "identity": "reid_identity",
    "embedding": "reid_auxiliary_branches",
    "labels:pid": "reid_pseudo_labels",
}

_OF_THE_CORE = tuple(slot for slot in SLOTS if slot != "labels:pid")
"""Slots that the core fills where nobody else does, or where the user says so."""


def assign_slots(plugins: Mapping[str, Plugin], own: Mapping[str, str]) -> dict[str, str]:
    """Decide who fills each slot.

    Args:
        plugins: the run's plugins by name, the core's included.
        own: the user's choices (``--own SLOT=PLUGIN``); ``core`` takes a slot back.

    Returns:
        Owner by slot; the core fills what nobody claims, except ``labels:pid``.

    Raises:
        ConflictError: two plugins claim a slot; the message names both and the choice.
        ConfigError: ``--own`` names an unknown slot or a plugin that does not claim it.
        PluginError: a plugin claims an unknown slot, or does not implement the slot's hook.
    """
    claims: dict[str, list[str]] = {slot: [] for slot in SLOTS}
    for name, plugin in plugins.items():
        for slot in several(name, "claims", plugin.claims, str):
            check_known(slot, SLOTS, f"plugin '{name}' claims the unknown slot")
            if not hasattr(plugin, _HOOK_OF[slot]):
                raise PluginError(
                    f"plugin '{name}' claims the slot '{slot}' but does not implement "
                    f"{_HOOK_OF[slot]}"
                )
            claims[slot].append(name)
    for slot, choice in own.items():
        check_known(slot, SLOTS, "--own: there is no slot", ConfigError)
        if choice not in claims[slot] and (choice != CORE or slot not in _OF_THE_CORE):
            others = ", ".join(claims[slot]) or "no plugin of the run does"
            core = f"; or leave it to {CORE}" if slot in _OF_THE_CORE else ""
            raise ConfigError(
                f"--own {slot}={choice}: '{choice}' does not claim it; name one that does "
                f"({others}){core}"
            )
    owners = {}
    for slot, claimants in claims.items():
        if len(claimants) > 1 and slot not in own:
            first, second = claimants[:2]
            raise ConflictError(
                f"plugins '{first}' and '{second}' both claim the slot '{slot}' ({SLOTS[slot]}), "
                f"which only one can fill; leave one out, or choose with --own {slot}={first} or "
                f"--own {slot}={second}"
            )
        if slot in own:
            owners[slot] = own[slot]
        elif claimants:
            owners[slot] = claimants[0]
        elif slot in _OF_THE_CORE:
            owners[slot] = CORE
    return owners

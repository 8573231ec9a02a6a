"""Check, before anything is built, that what plugins need is there; decide who makes a field."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

from reid_core.contract.fields import SHARED_FIELDS, SPATIAL, FieldSpec
from reid_core.contract.labelers import Labeler
from reid_core.contract.names import in_order
from reid_core.contract.plugin import CONDITIONS, CORE, Need, Plugin
from reid_core.contract.samples import DataProvider, Source
from reid_core.contract.words import several
from reid_core.errors import ConfigError, ConflictError, DataError, PluginError, did_you_mean
from reid_core.model.frames import names_of_frames
from reid_core.model.graph import ReidModel
from reid_core.plugins.calls import HookCalls


def field_makers(
    owned: Sequence[tuple[str, Labeler]],
    slots: Mapping[str, str],
    chosen: Mapping[str, str],
    carried: Mapping[str, FieldSpec],
) -> dict[str, tuple[str, Labeler]]:
    """Decide which labeler makes which field.

    The user's ``--label`` rules even where the data set has the truth; otherwise the data set's
    own field does; otherwise the only labeler that offers the field.

    Args:
        owned: pairs of plugin and labeler.
        slots: who fills which slot (``labels:pid``).
        chosen: the user's choices, field to plugin.
        carried: fields that the main source has.

    Returns:
        Plugin and labeler by field, for fields that a labeler will make.

    Raises:
        ConflictError: several labelers offer a field that nobody decided on; all are named.
        ConfigError: a choice that nobody offers.
        PluginError: a labeler of ``pid`` without the claim.
    """
    offers: dict[str, dict[str, Labeler]] = {}
    for owner, labeler in owned:
        name = labeler.spec.name
        if name == "pid" and slots.get("labels:pid") != owner:
            raise PluginError(
                f"plugin '{owner}' offers identities but does not claim the slot 'labels:pid'"
            )
        if owner in offers.setdefault(name, {}):
            raise PluginError(f"plugin '{owner}' offers two labelers of '{name}'")
        offers[name][owner] = labeler
    maker = slots.get("labels:pid")
    if maker is not None and maker not in offers.get("pid", {}):
        raise PluginError(
            f"plugin '{maker}' fills the slot 'labels:pid' but offers no labeler of 'pid'"
        )
    for name, owner in chosen.items():
        if owner not in offers.get(name, {}):
            listed = ", ".join(offers.get(name, {})) or "no requested plugin does"
            raise ConfigError(
                f"--label {name}={owner}: plugin '{owner}' does not make '{name}' ({listed})"
            )
    makers = {}
    for name, by_owner in sorted(offers.items()):
        if name in chosen:
            makers[name] = (chosen[name], by_owner[chosen[name]])
        elif name in carried and name != "pid":
            continue
        elif len(by_owner) > 1:
            first, second = sorted(by_owner)[:2]
            raise ConflictError(
                f"plugins '{first}' and '{second}' both make the field '{name}'; choose with "
                f"--label {name}={first}"
            )
        else:
            makers[name] = next(iter(by_owner.items()))
    return makers


def labels_in_order(makers: Mapping[str, tuple[str, Labeler]], wanted: Iterable[str]) -> list[str]:
    """Return the wanted fields that are made once, each behind those that its labeler reads.

    Args:
        makers: who makes which field.
        wanted: names of fields; those that nobody makes, or makes at every epoch, are left out.

    Raises:
        PluginError: two labelers read each other's fields.
    """
    once = {name: labeler for name, (_, labeler) in makers.items() if labeler.when == "once"}
    waiting, reads = sorted(set(wanted) & set(once), reverse=True), dict[str, list[str]]()
    while waiting:
        name = waiting.pop()
        if name not in reads:
            reads[name] = sorted(set(once[name].reads) & set(once))
            waiting += reads[name]
    return in_order(reads, "labelers read each other's fields")


def check_needs(
    plugins: Mapping[str, Plugin],
    slots: Mapping[str, str],
    makers: Mapping[str, tuple[str, Labeler]],
    source: Source,
) -> None:
    """Refuse a run in which a plugin misses a field or a condition that it needs.

    Args:
        plugins: the run's plugins by name.
        slots: who fills which slot.
        makers: who makes which field.
        source: the main source.

    Raises:
        ConflictError: a condition that another plugin breaks; both are named, with the remedy.
        DataError: a field that nobody provides, with who could.
        PluginError: a need that the core does not know.
    """
    maker = makers.get("pid")
    moving = maker[0] if maker is not None and maker[1].when == "epoch" else None
    for name, plugin in plugins.items():
        for need in several(name, "needs", plugin.needs, Need):
            remedy = f"; {need.remedy}" if need.remedy else ""
            if need.what == "fixed_identities":
                if moving is not None:
                    raise ConflictError(
                        f"plugin '{name}' needs identities that stay the same, but plugin "
                        f"'{moving}' makes new ones at every epoch{remedy}"
                    )
            elif need.what in CONDITIONS:
                if lacking := _lacking(need.what, source, makers):
                    raise DataError(f"plugin '{name}' needs {lacking}{remedy}")
            elif need.what in SHARED_FIELDS or "/" in need.what:
                if need.what not in source.fields and need.what not in makers:
                    raise DataError(_nobody_makes(name, need.what, source) + remedy)
            else:
                known = [*CONDITIONS, *SHARED_FIELDS]
                raise PluginError(
                    f"plugin '{name}' needs '{need.what}', which is neither a field nor a "
                    f"condition{did_you_mean(need.what, known)}"
                )
    if moving is not None and slots["identity"] == CORE:
        raise ConflictError(
            f"plugin '{moving}' makes new identities at every epoch, but the core's "
            "classifiers have fixed ones: a plugin must fill the slot 'identity'"
        )


def _lacking(condition: str, source: Source, makers: Container[str]) -> str:
    """Return what training samples should say, and do not; empty where they do, or will."""
    of_all = f"samples of '{source.name}'"
    unknown = sum(sample.clothes < 0 for sample in source.samples)
    if condition == "identities" and not source.identities and "pid" not in makers:
        return f"identities, which the source '{source.name}' does not have"
    if condition == "clothes" and unknown:
        return (
            f"the outfit of every training sample (clothes), which {unknown} of {len(source)} "
            f"{of_all} do not say; choose a data set with clothes"
        )
    if condition == "camid" and len({sample.camid for sample in source.samples}) < 2:
        return (
            f"several cameras (camid), and all {len(source)} training {of_all} come from one; "
            "choose a data set that says which camera took an image"
        )
    if condition == "frames" and not source.tracklets:
        return (
            f"tracklets (frames), and the training {of_all} are single images; choose a data set "
            "of tracklets (`reid data list`)"
        )
    return ""


def check_frames(
    plugins: Mapping[str, Plugin],
    calls: HookCalls,
    makers: Mapping[str, tuple[str, Labeler]],
    source: Source,
) -> None:
    """Refuse tracklets where a plugin cannot take several images of a sample.

    Args:
        plugins: the run's plugins by name.
        calls: their hooks.
        makers: who makes which field.
        source: the main source.

    Raises:
        ConflictError: naming the plugin and what it does.
    """
    if not source.tracklets:
        return
    wanted = [name for name, one in plugins.items() if any(n.what == "frames" for n in one.needs)]
    remedy = (
        f"and plugin '{wanted[0]}' needs tracklets: leave one of the two out"
        if wanted
        else f"and '{source.name}' has tracklets: leave the plugin out, or choose single images"
    )
    for name in calls.implementers("reid_data_synthesis"):
        raise ConflictError(f"plugin '{name}' generates single images (data synthesis), {remedy}")
    asked = dict.fromkeys(calls.implementers("reid_losses"), "losses")
    for field, (name, labeler) in makers.items():
        if labeler.spec.kind not in SPATIAL:
            asked.setdefault(name, f"labels '{field}'")
    for name, what in asked.items():
        if not plugins[name].takes_frames:
            raise ConflictError(
                f"plugin '{name}' does not say that its {what} fit several frames of a sample "
                f"(takes_frames), {remedy}"
            )


def check_fields_of_frames(
    plugins: Mapping[str, Plugin], model: ReidModel, source: Source, frames: int
) -> None:
    """Refuse an encoder of clips beside a plugin that compares its maps with every frame's field.

    Args:
        plugins: the run's plugins by name.
        model: built.
        source: the main source.
        frames: of a clip.

    Raises:
        ConflictError: naming the plugin, the field and the owner of the encoder.
    """
    if not (source.tracklets and model.encoder.clips and frames > 1):
        return
    branches = list(model.declarations.values())
    of_single = names_of_frames(model.encoder, branches, source.fields)
    for name, plugin in plugins.items():
        own = [one for one in branches if one.name.partition("/")[0] == name]
        if any(not of_single.isdisjoint(one.writes) for one in own):
            continue  # it makes something of every frame
        for need in plugin.needs:
            spec = source.fields.get(need.what)
            if spec is not None and spec.kind in SPATIAL:
                raise ConflictError(
                    f"plugin '{name}' needs the field '{need.what}' of every frame, but the "
                    f"encoder sees {frames} frames together and makes one map of them "
                    "(Encoder.clips): take another encoder (--backbone), leave the plugin out, or "
                    "show single frames (-s data.frames=1)"
                )


def _nobody_makes(plugin: str, field: str, source: Source) -> str:
    carried = ", ".join(sorted(source.fields)) or "none"
    return (
        f"plugin '{plugin}' needs the field '{field}', which nobody provides: the data set carries "
        f"{carried}; choose a data set that has it, give files with --field {field}=DIR, or add a "
        f"plugin that makes it with --plugins and --label {field}=PLUGIN"
    )


def fields_to_load(
    plugins: Mapping[str, Plugin], reads: Sequence[str], source: Source
) -> tuple[str, ...]:
    """Return the fields of a source that the run uses: needs, sources' requests and reads."""
    wanted = {need.what for plugin in plugins.values() for need in plugin.needs}
    wanted |= {f for plugin in plugins.values() for r in plugin.sources for f in r.fields}
    wanted |= set(reads)
    return tuple(sorted(wanted & set(source.fields)))


def fitting_sources(fields: Iterable[str], offers: Iterable[tuple[str, DataProvider]]) -> list[str]:
    """Return the names of the training sources that say that they carry certain fields."""
    wanted = set(fields)
    return sorted(
        offer.name for _, offer in offers if offer.kind == "source" and wanted <= set(offer.fields)
    )


def choose_source_provider(
    owner: str,
    name: str,
    fields: Sequence[str],
    chosen: str | None,
    offers: Sequence[tuple[str, DataProvider]],
    main: str,
) -> str:
    """Decide who provides a training source beside the main one, by what it must carry.

    Args:
        owner: the plugin that asks.
        name: the source.
        fields: what every sample must carry.
        chosen: the user's or the plugin's choice, or None.
        offers: all providers with their plugins.
        main: the provider's name of the main data set; its sibling ``<main>-...`` is preferred.

    Returns:
        The name of the provider.

    Raises:
        DataError: nobody fits, or several do and nobody decided.
    """
    if chosen is not None:
        return chosen
    fitting = fitting_sources(fields, offers)
    siblings = [n for n in fitting if n.startswith(f"{main}-")]
    if len(siblings) == 1:
        return siblings[0]
    if len(fitting) == 1:
        return fitting[0]
    wanted = ", ".join(fields) or "no field"
    listed = ", ".join(fitting) or "none"
    raise DataError(
        f"plugin '{owner}' needs the source '{name}' with {wanted}; providers that fit: {listed}; "
        f"choose with --source {name}=PROVIDER"
    )

"""What plugins need is there before anything is built; every refusal says what could be done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reid_core.contract.fields import SHARED_FIELDS, FieldKind, FieldSpec
from reid_core.contract.labelers import Labeler
from reid_core.contract.plugin import Need, Plugin
from reid_core.contract.samples import DataProvider, Source, SourceRequest
from reid_core.errors import ConfigError, ConflictError, DataError, PluginError
from reid_core.runs.assembly.needs import (
    check_needs,
    choose_source_provider,
    field_makers,
    fields_to_load,
)
from reid_core.runs.assembly.sources import source_name
from reid_core.testing.probe_plugins import PROBES
from reid_core.testing.probes import Head
from reid_core.testing.tiny import tiny_assembly

PID = FieldSpec("pid", FieldKind.SCALAR)
PARTS = SHARED_FIELDS["parts"]
SLOTS = {"backbone": "core", "embedding": "core", "identity": "core"}
CLUSTERED = {**SLOTS, "identity": "ant", "labels:pid": "ant"}


def labeler(spec: FieldSpec, when: Any = "once") -> Labeler:
    return Labeler(spec, lambda labels: [], when, key="v1")


def source(*fields: str, identities: bool = True) -> Source:
    return Source("main", (), {f: SHARED_FIELDS[f] for f in fields}, identities)


def needing(name: str, *needs: Need) -> dict[str, Plugin]:
    return {name: type(name.title(), (Plugin,), {"needs": needs})(name)}


def test_the_only_labeler_of_a_field_makes_it() -> None:
    one = labeler(PARTS)
    assert field_makers([("ant", one)], SLOTS, {}, {}) == {"parts": ("ant", one)}


def test_the_data_sets_own_field_comes_before_a_labeler() -> None:
    offers = [("ant", labeler(PARTS)), ("gnu", labeler(PARTS))]
    assert field_makers(offers, SLOTS, {}, {"parts": PARTS}) == {}


def test_the_users_choice_rules_even_where_the_data_set_has_the_truth() -> None:
    offers = [("ant", labeler(PARTS)), ("gnu", labeler(PARTS))]
    found = field_makers(offers, SLOTS, {"parts": "gnu"}, {"parts": PARTS})
    assert found["parts"][0] == "gnu"


def test_two_labelers_of_a_field_are_both_named_with_the_choice() -> None:
    offers = [("gnu", labeler(PARTS)), ("ant", labeler(PARTS))]
    with pytest.raises(ConflictError, match=r"'ant' and 'gnu' both make.*'parts'.*--label parts="):
        field_makers(offers, SLOTS, {}, {})


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"parts": "gnu"}, r"--label parts=gnu: plugin 'gnu' does not make 'parts' \(ant\)"),
        ({"pose": "ant"}, r"--label pose=ant.*\(no requested plugin does\)"),
    ],
)
def test_a_choice_that_nobody_offers_is_refused(chosen: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        field_makers([("ant", labeler(PARTS))], SLOTS, chosen, {})


def test_a_labeler_of_identities_needs_the_claim() -> None:
    one = labeler(PID, "epoch")
    assert field_makers([("ant", one)], CLUSTERED, {}, {}) == {"pid": ("ant", one)}
    with pytest.raises(
        PluginError, match=r"'ant' offers identities but does not claim.*labels:pid"
    ):
        field_makers([("ant", one)], SLOTS, {}, {})


def test_two_labelers_of_one_plugin_for_one_field_are_refused() -> None:
    with pytest.raises(PluginError, match=r"'ant' offers two labelers of 'parts'"):
        field_makers([("ant", labeler(PARTS)), ("ant", labeler(PARTS))], SLOTS, {}, {})


def test_a_field_that_nobody_provides_lists_the_remedies() -> None:
    with pytest.raises(DataError) as caught:
        check_needs(
            needing("ant", Need("parts", "-s ant.parts=false")),
            SLOTS,
            {},
            source("pose", "texture"),
        )
    for word in (
        "'ant'",
        "'parts'",
        "pose, texture",
        "--field parts=DIR",
        "--label parts=PLUGIN",
        "--plugins",
        "-s ant.parts=false",
    ):
        assert word in str(caught.value)


def test_a_field_that_is_carried_or_made_is_enough() -> None:
    plugins = needing("ant", Need("parts"))
    check_needs(plugins, SLOTS, {}, source("parts"))
    check_needs(plugins, SLOTS, {"parts": ("gnu", labeler(PARTS))}, source())


def test_identities_are_needed_or_made() -> None:
    plugins = needing("ant", Need("identities", "use --data toy"))
    check_needs(plugins, SLOTS, {}, source())
    with pytest.raises(
        DataError, match=r"'ant' needs identities.*'main' does not have; use --data"
    ):
        check_needs(plugins, SLOTS, {}, source(identities=False))
    made = {"pid": ("ant", labeler(PID, "epoch"))}
    check_needs(plugins, CLUSTERED, made, source(identities=False))


def test_fixed_identities_and_new_ones_conflict_naming_both_and_the_remedy() -> None:
    plugins = needing("zebra", Need("fixed_identities", "-s zebra.teacher=none"))
    check_needs(plugins, SLOTS, {}, source())
    made = {"pid": ("ant", labeler(PID, "epoch"))}
    with pytest.raises(ConflictError, match=r"'zebra'.*'ant'.*-s zebra\.teacher=none"):
        check_needs(plugins, CLUSTERED, made, source())
    once = {"pid": ("ant", labeler(PID, "once"))}
    check_needs(plugins, CLUSTERED, once, source())


def test_new_identities_need_a_criterion_that_can_follow() -> None:
    made = {"pid": ("ant", labeler(PID, "epoch"))}
    with pytest.raises(ConflictError, match=r"'ant' makes new identities.*slot 'identity'"):
        check_needs({}, {**CLUSTERED, "identity": "core"}, made, source())


def test_a_need_that_is_neither_field_nor_condition_is_refused() -> None:
    with pytest.raises(PluginError, match=r"'ant' needs 'part', which is neither.*'parts'"):
        check_needs(needing("ant", Need("part")), SLOTS, {}, source())
    with pytest.raises(DataError, match=r"'ant' needs the field 'gnu/depth'"):
        check_needs(needing("ant", Need("gnu/depth")), SLOTS, {}, source())


def test_needs_are_checked_when_a_run_is_assembled(reid_cache: Path) -> None:
    class Fixed(Plugin):
        needs = (Need("fixed_identities", "-s fixed.teacher=none"),)

    with pytest.raises(ConflictError, match=r"'fixed'.*'clustering'.*teacher=none"):
        tiny_assembly(("fixed", "clustering"), cache=reid_cache, classes={**PROBES, "fixed": Fixed})


def test_only_fields_that_somebody_uses_are_loaded() -> None:
    carried = source("parts", "pose", "texture", "keypoints")
    plugins: dict[str, Plugin] = {"head": Head("head"), "pairs": PROBES["pairs"]("pairs")}
    assert fields_to_load(plugins, ["image", "keypoints"], carried) == (
        "keypoints",
        "parts",
        "texture",
    )
    assert fields_to_load({}, ["encoder/map"], carried) == ()


def offers(*names: str, fields: tuple[str, ...] = ("texture",)) -> list[tuple[str, DataProvider]]:
    kind = {"kind": "source", "fields": fields}
    return [("p", DataProvider(name, lambda request: None, **kind)) for name in names]  # type: ignore[arg-type, return-value]


def test_a_source_is_chosen_by_what_it_carries() -> None:
    wanted = ("zebra", "zebra/pairs", ("texture",), None)
    assert choose_source_provider(*wanted, offers("a"), "toy") == "a"
    assert choose_source_provider(*wanted, offers("a", "toy-pairs"), "toy") == "toy-pairs"
    chosen = ("zebra", "zebra/pairs", ("texture",), "b")
    assert choose_source_provider(*chosen, offers("a"), "toy") == "b"
    data_set = [("p", DataProvider("toy", lambda request: None, fields=("texture",)))]  # type: ignore[arg-type, return-value]
    assert choose_source_provider(*wanted, [*data_set, *offers("a")], "toy") == "a"


@pytest.mark.parametrize(
    ("found", "listed"),
    [(offers("a", "b"), "a, b"), ([], "none"), (offers("a", fields=("pose",)), "none")],
)
def test_a_source_that_nobody_decided_on_lists_what_fits(
    found: list[tuple[str, DataProvider]], listed: str
) -> None:
    with pytest.raises(DataError) as caught:
        choose_source_provider("zebra", "zebra/pairs", ("texture",), None, found, "toy")
    for word in ("'zebra'", "'zebra/pairs'", "texture", listed, "--source zebra/pairs=PROVIDER"):
        assert word in str(caught.value)


def test_a_source_that_lacks_what_is_needed_is_refused(reid_cache: Path) -> None:
    with pytest.raises(DataError, match=r"--source pairs/textures=toy:tiny: .* no training source"):
        tiny_assembly(
            ("pairs",),
            {"sources": {"pairs/textures": "toy:tiny"}},
            cache=reid_cache,
            classes=PROBES,
        )


def test_a_source_that_nobody_asks_for_is_refused(reid_cache: Path) -> None:
    given = {"sources": {"nobody/x": "nothing"}}
    with pytest.raises(
        ConfigError,
        match=r"--source nobody/x=nothing: no plugin of this run asks .*\(asked for: none\)$",
    ):
        tiny_assembly((), given, cache=reid_cache)
    near = {"sources": {"pairs/texture": "toy-textures:tiny"}}
    with pytest.raises(ConfigError, match=r"'pairs/texture'; did you mean 'pairs/textures'\?"):
        tiny_assembly(("pairs",), near, cache=reid_cache, classes=PROBES)


def test_a_sibling_comes_in_the_size_of_the_data_set(reid_cache: Path) -> None:
    assembly = tiny_assembly(("pairs",), cache=reid_cache, classes=PROBES)
    [request] = assembly.plugins["pairs"].sources
    assert source_name(assembly.ctx, "pairs", request) == "toy-pairs:tiny"
    assembly.ctx.config.sources["pairs/textures"] = "toy-pairs"
    assert source_name(assembly.ctx, "pairs", request) == "toy-pairs"


def test_a_source_without_sizes_comes_in_none(reid_cache: Path) -> None:
    ctx = tiny_assembly((), cache=reid_cache).ctx
    request = SourceRequest("pairs/own", fields=("san/frontal",))
    ctx = replace(ctx, providers=OwnPairs())
    assert source_name(ctx, "pairs", request) == "own-pairs"


class OwnPairs:
    """Offers one source, which has no sizes."""

    def dataset(self, name: str) -> DataProvider:
        return self.datasets()[0][1]

    def datasets(self) -> list[tuple[str, DataProvider]]:
        fields = ("texture", "san/frontal")
        return [("own", DataProvider("own-pairs", lambda request: 1 / 0, "source", fields))]

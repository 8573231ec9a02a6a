"""Providers: who is searched in which order, and what a broken stranger may not do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_distributions import FakeSite, fake_site

from reid_core.contract.hookspecs import hookimpl
from reid_core.contract.plugin import EncoderProvider, Plugin
from reid_core.contract.samples import DataProvider, DataRequest
from reid_core.defaults import Core
from reid_core.errors import ConfigError, ConflictError, DataError
from reid_core.plugins import discovery, providers as providers_module
from reid_core.plugins.calls import HookCalls
from reid_core.plugins.discovery import KnownPlugin
from reid_core.plugins.providers import Providers, check_request, parse_data_name

OFFERING = """
from reid_core import DataProvider, Plugin, hookimpl

class Made(Plugin):
    @hookimpl
    def reid_datasets(self):
        return [DataProvider(name, lambda request: None, summary="stranger's") for name in {names}]
"""

STRANGERS = {
    "fails to import": "import no_such_library",
    "misspells a hook": (
        "from reid_core import Plugin, hookimpl\n"
        "class Made(Plugin):\n"
        "    @hookimpl\n"
        "    def reid_dataset(self):\n"
        "        return []\n"
    ),
    "cannot be made": (
        "from reid_core import Plugin\n"
        "class Made(Plugin):\n"
        "    def __init__(self, name):\n"
        "        raise RuntimeError('no licence')\n"
    ),
    "fails when asked": (
        "from reid_core import Plugin, hookimpl\n"
        "class Made(Plugin):\n"
        "    @hookimpl\n"
        "    def reid_datasets(self):\n"
        "        raise RuntimeError('no licence')\n"
    ),
    "returns nothing": (
        "from reid_core import Plugin, hookimpl\n"
        "class Made(Plugin):\n"
        "    @hookimpl\n"
        "    def reid_datasets(self):\n"
        "        pass\n"
    ),
}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FakeSite]:
    with fake_site(tmp_path / "site") as made:
        yield made


def offering(owner: str, *names: str) -> Plugin:
    def datasets(self: Any) -> list[DataProvider]:
        return [DataProvider(name, lambda request: None, summary=owner) for name in names]  # type: ignore[arg-type, return-value]

    return type(owner.title(), (Plugin,), {"reid_datasets": hookimpl(datasets)})(owner)


def search(*requested: Plugin) -> Providers:
    return Providers(HookCalls({p.name: p for p in (Core("core"), *requested)}))


def test_requested_plugins_come_before_the_core() -> None:
    assert search().dataset("folder").summary != "zebra"
    assert search(offering("zebra", "folder")).dataset("folder").summary == "zebra"


def test_the_core_comes_before_installed_plugins(site: FakeSite) -> None:
    source = OFFERING.format(names="('folder', 'savanna')")
    site.add("reid-zebra", {"zebra": "zebra_module:Made"}, modules={"zebra_module": source})
    found = search()
    assert found.dataset("folder").summary != "stranger's"
    assert found.dataset("savanna").summary == "stranger's"
    assert search(offering("ant", "savanna")).dataset("savanna").summary == "ant"


def test_two_requested_offers_of_one_name_are_both_named() -> None:
    with pytest.raises(ConflictError, match=r"'savanna'.*'ant'.*'zebra'"):
        search(offering("zebra", "savanna"), offering("ant", "savanna")).dataset("savanna")


def test_two_installed_offers_of_one_name_are_both_named(site: FakeSite) -> None:
    source = OFFERING.format(names="('savanna',)")
    for name in ("zebra", "ant"):
        module = f"{name}_module"
        site.add(f"reid-{name}", {name: f"{module}:Made"}, modules={module: source})
    with pytest.raises(ConflictError, match=r"'savanna'.*'ant'.*'zebra'"):
        search().dataset("savanna")


def test_an_unknown_name_is_answered_with_the_nearest_and_the_list() -> None:
    with pytest.raises(DataError, match=r"no data set 'tou'; did you mean 'toy'\?.*folder.*toy"):
        search().dataset("tou")
    with pytest.raises(DataError, match=r"protocol 'standart'; did you mean 'standard'\?"):
        search().protocol("standart")


def test_a_data_set_of_a_known_plugin_is_answered_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {"savanna": KnownPlugin("savanna", "reid-savanna", "Grass")}
    monkeypatch.setattr(providers_module, "catalogue", lambda: known)
    with pytest.raises(DataError, match=r"'savanna' is not installed: pip install reid-sav.*toy"):
        search().dataset("savanna")


def test_an_encoder_of_a_known_plugin_is_answered_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {"savanna": KnownPlugin("savanna", "reid-savanna", "Grass", {"backbones": ["grass"]})}
    monkeypatch.setattr(discovery, "catalogue", lambda: known)
    with pytest.raises(ConfigError, match=r"encoder 'grass' is not installed: pip install reid-s"):
        search().build_backbone("grass", None)  # type: ignore[arg-type]


def test_an_encoder_that_nobody_offers_is_left_to_timm() -> None:
    class Zebra(Plugin):
        @hookimpl
        def reid_backbones(self) -> list[EncoderProvider]:
            return [EncoderProvider("stripes", lambda ctx: None)]  # type: ignore[arg-type, return-value]

    found = search(Zebra("zebra"))
    chosen = found.backbone("stripes")
    assert chosen is not None
    assert chosen.name == "stripes"
    assert found.backbone("resnet50") is None


@pytest.mark.parametrize("kind", STRANGERS)
def test_a_broken_stranger_is_reported_only_where_a_name_stays_unfound(
    kind: str, site: FakeSite
) -> None:
    source = OFFERING.format(names="('savanna',)")
    site.add("reid-zebra", {"zebra": "zebra_module:Made"}, modules={"zebra_module": source})
    site.add("reid-gnu", {"gnu": "gnu_module:Made"}, modules={"gnu_module": STRANGERS[kind]})
    found = search()
    assert found.dataset("toy").name == "toy"
    assert found.dataset("savanna").summary == "stranger's", "the broken one hides another"
    assert found.backbone("resnet50") is None
    with pytest.raises(DataError, match=r"no data set 'steppe'.*'gnu'"):
        found.dataset("steppe")
    assert "gnu" in found._others.broken
    assert {"toy", "savanna"} <= {offer.name for _, offer in found.datasets()}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("toy", ("toy", None, None)),
        ("toy:tiny", ("toy", None, "tiny")),
        ("prcc/cc", ("prcc", "cc", None)),
        ("prcc/cc:half", ("prcc", "cc", "half")),
        ("prcc/sc/multi", ("prcc", "sc/multi", None)),
    ],
)
def test_a_data_name_has_a_variant_and_a_size(
    text: str, parts: tuple[str, str | None, str | None]
) -> None:
    assert parse_data_name(text) == parts
    assert DataRequest(*parts, None, Path()).text == text


@pytest.mark.parametrize("text", ["", ":tiny", "toy:", "toy/", "/cc", "toy/:tiny"])
def test_a_data_name_with_an_empty_part_is_refused(text: str) -> None:
    with pytest.raises(DataError, match=r"NAME\[/VARIANT\]\[:SIZE\]"):
        parse_data_name(text)


def test_a_request_must_fit_the_provider(tmp_path: Path) -> None:
    provider = DataProvider(
        "prcc",
        lambda request: None,  # type: ignore[arg-type, return-value]
        variants=("cc", "sc"),
        needs_root=True,
        layout="rgb/train",
    )

    def request(variant: str | None, size: str | None, root: Path | None) -> DataRequest:
        return DataRequest("prcc", variant, size, root, tmp_path)

    check_request(provider, request("cc", None, tmp_path))
    with pytest.raises(DataError, match=r"'prcc' has no variant 'ccc'; did you mean 'cc'\?"):
        check_request(provider, request("ccc", None, tmp_path))
    with pytest.raises(DataError, match=r"no size 'tiny' \(it has none\)"):
        check_request(provider, request(None, "tiny", tmp_path))
    with pytest.raises(DataError, match=r"--data-root DIR \(rgb/train\)"):
        check_request(provider, request(None, None, None))

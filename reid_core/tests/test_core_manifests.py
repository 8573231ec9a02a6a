"""Manifests: what is listed without importing, what counts as none, and who must keep it true."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_distributions import PLUGIN, FakeSite, fake_site

from reid_core.contract import hookspecs
from reid_core.contract.hookspecs import Lifetime, hookimpl
from reid_core.contract.plugin import Plugin
from reid_core.defaults import Core
from reid_core.errors import DataError, PluginError
from reid_core.plugins.calls import HookCalls
from reid_core.plugins.discovery import installed, load_class
from reid_core.plugins.manifests import MANIFEST, Contents, Manifest, OfferedData, Offers, parsed
from reid_core.plugins.offers import InstalledOffers
from reid_core.plugins.providers import Providers
from reid_core.runs.manifests import manifests_of
from reid_core.testing.conformance import CHECKS, Subject
from reid_core.testing.fixtures import RunReid

OFFERING = """
from reid_core import (
    DataProvider, FieldKind, FieldSpec, Labeler, Need, Plugin, Settings, hookimpl
)
from reid_core.contract.fields import SHARED_FIELDS


class HerdSettings(Settings):
    size: int = 3


class Herd(Plugin):
    \"\"\"Count the stripes.

    More of it.
    \"\"\"

    Settings = HerdSettings
    claims = ("labels:pid",)
    needs = (Need("parts"), Need("identities"))

    @hookimpl
    def reid_datasets(self):
        return [
            DataProvider(
                "savanna", lambda request: None, fields=("parts",), sizes=("tiny",), summary="Grass"
            )
        ]

    @hookimpl
    def reid_pseudo_labels(self, ctx):
        labels = Labeler(SHARED_FIELDS["pose"], print, reads=("keypoints",))
        return [labels, Labeler(FieldSpec("pid", FieldKind.SCALAR), print, when="epoch")]
"""

CONTENTS = Contents(
    "zebra_package:Herd",
    "Stripes",
    hooks=("reid_datasets", "reid_pseudo_labels"),
    claims=("labels:pid",),
    reads=("keypoints", "parts"),
    makes=("pid", "pose"),
    settings=("size",),
    offers=Offers((OfferedData("savanna", summary="Grass", fields=("parts",), sizes=("tiny",)),)),
)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FakeSite]:
    with fake_site(tmp_path / "site") as made:
        yield made


def add(site: FakeSite, source: str = OFFERING, manifest: str | None = None, **more: str) -> Path:
    """Install a package with a plugin; return the path of its manifest."""
    package = site.folder / "zebra_package"
    package.mkdir()
    (package / "__init__.py").write_text(source, encoding="utf-8")
    if manifest is not None:
        (package / MANIFEST).write_text(manifest, encoding="utf-8")
    site.add("reid-zebra", {"zebra": "zebra_package:Herd"}, summary="Stripes", **more)  # type: ignore[arg-type]
    return package / MANIFEST


def text(version: str = "1.2", contents: Contents = CONTENTS) -> str:
    return Manifest(version, {"zebra": contents}).text()


def test_a_manifest_says_what_the_plugin_says(site: FakeSite, reid_cache: Path) -> None:
    path = add(site)
    assert manifests_of("reid-zebra") == {path: Manifest("1.2", {"zebra": CONTENTS})}
    assert parsed(text()) == Manifest("1.2", {"zebra": CONTENTS})


def test_a_plugin_s_name_in_place_of_its_distribution_s_is_answered(site: FakeSite) -> None:
    add(site)
    with pytest.raises(PluginError, match=r"has plugins or commands; 'zebra' is of reid-zebra$"):
        manifests_of("zebra")


def test_a_single_module_has_no_manifest_and_that_is_said(
    site: FakeSite, run_reid: RunReid
) -> None:
    source = "from reid_core import Plugin\nclass Made(Plugin):\n    pass"
    site.add("reid-lone", {"lone": "lone_module:Made"}, modules={"lone_module": source})
    code, _, said = run_reid("plugins", "manifest", "reid-lone")
    assert code == 2
    assert said.startswith("reid: reid-lone: its plugins are single modules; a manifest stands in")


def test_the_core_and_its_toy_have_a_manifest_that_is_true(
    reid_cache: Path, tmp_path: Path
) -> None:
    CHECKS["manifest"](Subject("toy", reid_cache, tmp_path))
    assert InstalledOffers().by_plugin()["core"].names("datasets") == ("folder",)


def test_what_has_a_manifest_is_listed_and_looked_up_without_importing_it(site: FakeSite) -> None:
    add(site, "raise RuntimeError('imported')", text())
    offers = InstalledOffers()
    assert offers.by_plugin()["zebra"] == CONTENTS.offers
    assert offers.broken == {}
    providers = Providers(HookCalls({"core": Core("core")}))
    assert providers.dataset("folder").name == "folder"
    assert providers.backbone("resnet50") is None
    assert "zebra_package" not in sys.modules
    with pytest.raises(DataError, match=r"no data set 'savanna'.*'zebra'.*RuntimeError: imported"):
        providers.dataset("savanna")


def test_a_name_imports_only_the_plugin_that_offers_it(site: FakeSite) -> None:
    add(site, OFFERING, text())
    site.add("reid-gnu", {"gnu": "gnu_module:Gnu"}, modules={"gnu_module": PLUGIN})
    found = Providers(HookCalls({"core": Core("core")})).dataset("savanna")
    assert found.sizes == ("tiny",)


@pytest.mark.parametrize(
    "manifest",
    [None, "{", "[]", text("1.1"), text().replace('"format": 1', '"format": 2')],
    ids=["none", "no JSON", "no table", "another version", "another format"],
)
def test_a_package_without_a_manifest_of_its_version_is_imported(
    site: FakeSite, manifest: str | None
) -> None:
    add(site, OFFERING.replace("savanna", "steppe"), manifest)
    assert InstalledOffers().by_plugin()["zebra"].names("datasets") == ("steppe",)
    assert "zebra_package" in sys.modules


def test_a_manifest_that_is_not_true_fails_the_suite_and_the_name_is_explained(
    site: FakeSite, reid_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = add(site, OFFERING.replace("savanna", "steppe"), text())
    with pytest.raises(AssertionError, match=r"reid_plugin\.json is not true: .*manifest reid-zeb"):
        CHECKS["manifest"](Subject("zebra", reid_cache, tmp_path))
    (site.folder / "reid_zebra-1.2.dist-info" / "direct_url.json").write_text(
        json.dumps({"url": path.parent.as_uri(), "dir_info": {"editable": True}}), "utf-8"
    )
    with pytest.raises(DataError, match=r"'zebra' offers the data set 'steppe', which its manife"):
        Providers(HookCalls({"core": Core("core")})).dataset("steppe")


def test_a_distribution_that_has_none_is_answered_with_the_nearest(site: FakeSite) -> None:
    add(site)
    with pytest.raises(PluginError, match=r"'reid-zebr' has plugins.*did you mean 'reid-zebra'\?"):
        manifests_of("reid-zebr")


@pytest.mark.parametrize(
    ("requirement", "unmet"),
    [
        ("reid-core>=0.4", "needs reid-core >=0.4; installed"),
        ("reid_core (<0.1)", "needs reid-core <0.1; installed"),
        ("reid-core[test]>=99; extra == 'test'", ""),
        ("reid-core>=0.1", ""),
        ("reid-core @ file:///somewhere", ""),
        ("reid-core-extras>=99", ""),
        ("reid-core", ""),
    ],
)
def test_a_plugin_for_another_core_is_refused_before_it_is_imported(
    site: FakeSite, requirement: str, unmet: str
) -> None:
    site.add(
        "reid-zebra",
        {"zebra": "zebra_module:Made"},
        modules={"zebra_module": PLUGIN},
        version="0.3",
        requires=(requirement,),
    )
    assert installed()["zebra"].unmet.startswith(unmet)
    assert bool(installed()["zebra"].unmet) == bool(unmet)
    if unmet:
        said = rf"plugin 'zebra' of reid-zebra 0\.3 {unmet}.*pip install --up"
        with pytest.raises(PluginError, match=said):
            load_class("zebra")
        assert "zebra_module" not in sys.modules
    else:
        assert load_class("zebra").__name__ == "Made"


class Leaving(Plugin):
    @hookimpl
    def reid_observe(self, event, ctx):  # type: ignore[no-untyped-def]
        pass


@pytest.mark.parametrize(
    ("leaves", "message"),
    [
        ("ctx", r"'x': the argument 'ctx' of the hook reid_observe is dep.* in 0\.3: read event"),
        ("", r"plugin 'x': the hook reid_observe is deprecated and leaves .* in 0\.3: read event"),
    ],
)
def test_what_leaves_warns_whoever_uses_it(
    monkeypatch: pytest.MonkeyPatch, leaves: str, message: str
) -> None:
    gone = Lifetime("0.1", deprecated={leaves: "0.3; read event"})
    monkeypatch.setitem(hookspecs.LIFETIMES, "reid_observe", gone)
    with pytest.warns(DeprecationWarning, match=message):
        HookCalls({"x": Leaving("x")})
    HookCalls({"y": Plugin("y")})


def test_every_hook_has_a_lifetime() -> None:
    assert set(hookspecs.LIFETIMES) == set(hookspecs.HOOKS)
    for name, life in hookspecs.LIFETIMES.items():
        takes = hookspecs.__dict__[name].__code__.co_varnames
        assert {*life.added, *life.deprecated} - {""} <= set(takes), name

"""Discovery reads metadata only; what is asked for and cannot be had is one clear error."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from fake_distributions import PLUGIN, FakeSite, fake_site

from reid_core.errors import ConflictError, PluginError
from reid_core.plugins import discovery
from reid_core.plugins.discovery import (
    COMMAND_GROUP,
    KnownPlugin,
    PluginRecord,
    catalogue,
    installed,
    load_class,
    versions_of,
)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FakeSite]:
    with fake_site(tmp_path / "site") as made:
        yield made


def test_listing_reads_metadata_and_imports_nothing(site: FakeSite) -> None:
    site.add(
        "reid-zebra",
        {"zebra": "zebra_module:Zebra"},
        modules={"zebra_module": "raise RuntimeError('imported')"},
        version="3.1",
        summary="Stripes",
    )
    record = installed()["zebra"]
    assert (record.distribution, record.version, record.summary, record.target) == (
        "reid-zebra",
        "3.1",
        "Stripes",
        "zebra_module:Zebra",
    )
    assert "zebra_module" not in sys.modules


def test_plugins_are_listed_in_name_order(site: FakeSite) -> None:
    site.add("reid-b", {"zz_second": "m:A", "zz_first": "m:B"})
    site.add("reid-a", {"zz_third": "m:C"})
    names = list(installed())
    assert names == sorted(names)
    assert {"zz_first", "zz_second", "zz_third"} <= set(names)


def test_two_distributions_with_one_name_are_both_named(site: FakeSite) -> None:
    site.add("reid-zebra", {"zebra": "a:A"}, version="1.0")
    site.add("zebra-reid", {"zebra": "b:B"}, version="2.0")
    with pytest.raises(ConflictError) as caught:
        installed()
    message = str(caught.value)
    for word in ("'zebra'", "reid-zebra 1.0", "zebra-reid 2.0", "uninstall"):
        assert word in message


def test_a_distribution_counts_once_however_its_name_is_written(site: FakeSite) -> None:
    site.add("Reid-Zebra", {"zebra": "a:A"}, version="1.0")
    site.add("reid_zebra", {"zebra": "b:B"}, version="2.0")
    site.add("reid.zebra", {"zebra": "c:C"}, version="3.0")
    assert installed()["zebra"].version in ("1.0", "2.0", "3.0")


def test_versions_are_those_of_distributions_and_a_plugin_of_no_distribution_says_so(
    site: FakeSite,
) -> None:
    site.add("reid-zebra", {"zebra": "a:A"}, version="3.1")
    core = metadata.version("reid-core")
    assert versions_of(["zebra", "mine", "core"]) == {
        "zebra": "3.1",
        "mine": "unpackaged",
        "core": core,
    }


def test_commands_have_a_group_of_their_own(site: FakeSite) -> None:
    site.add("reid-zebra", {"zebra": "a:A"}, commands={"gallop": "a:gallop"})
    assert "gallop" in installed(COMMAND_GROUP)
    assert "zebra" not in installed(COMMAND_GROUP)
    assert "gallop" not in installed()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("METADATA", None),
        ("entry_points.txt", b"[reid.plugins]\nno equals sign\n"),
        ("entry_points.txt", b"[reid.plugins]\nlatin = m\xe4:A\n"),
    ],
    ids=["no metadata", "malformed entry points", "not UTF-8"],
)
def test_a_broken_distribution_does_not_disturb_the_others(
    site: FakeSite, file: str, content: bytes | None
) -> None:
    broken = site.add("reid-broken", {"broken": "m:A"})
    site.add("reid-zebra", {"zebra": "zebra_module:Made"}, modules={"zebra_module": PLUGIN})
    if content is None:
        (broken / file).unlink()
    else:
        (broken / file).write_bytes(content)
    assert "zebra" in installed()
    assert load_class("zebra").__name__ == "Made"


def test_a_plugin_loads_without_importing_the_others(site: FakeSite) -> None:
    site.add("reid-zebra", {"zebra": "zebra_module:Made"}, modules={"zebra_module": PLUGIN})
    site.add("reid-gnu", {"gnu": "gnu_module:Gnu"}, modules={"gnu_module": "1 / 0"})
    assert load_class("zebra").__name__ == "Made"
    assert "gnu_module" not in sys.modules


def test_a_known_plugin_that_is_missing_is_answered_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {"okapi": KnownPlugin("okapi", "reid-okapi", "A forest giraffe")}
    monkeypatch.setattr(discovery, "catalogue", lambda: known)
    with pytest.raises(PluginError, match=r"'okapi' is not installed: pip install reid-okapi"):
        load_class("okapi")
    with pytest.raises(PluginError, match=r"no plugin 'okpai'; did you mean 'okapi'\?"):
        load_class("okpai")


def test_an_unknown_plugin_is_answered_with_the_nearest_and_the_installed(site: FakeSite) -> None:
    site.add("reid-zebra", {"zebra": "m:A"})
    with pytest.raises(
        PluginError, match=r"no plugin 'zebr'; did you mean 'zebra'\?.*installed: .*zebra"
    ):
        load_class("zebr")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import no_such_library", ("ModuleNotFoundError", "no_such_library", "reinstall")),
        ("class Other:\n    pass", ("AttributeError", "Made")),
        ("def", ("SyntaxError",)),
        ("raise RuntimeError('two' + chr(10) + 'lines')", ("RuntimeError", "two", "lines")),
    ],
    ids=["missing library", "missing class", "no Python", "long message"],
)
def test_a_plugin_that_fails_to_import_is_named_in_one_line(
    site: FakeSite, source: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    site.add("reid-zebra", {"zebra": "zebra_module:Made"}, modules={"zebra_module": source})
    with pytest.raises(PluginError) as caught:
        load_class("zebra")
    message = str(caught.value)
    for word in ("'zebra'", "reid-zebra 1.2", "zebra_module:Made", "cannot be imported", *words):
        assert word in message
    assert "\n" not in message
    assert "; reinstall it with: pip install --force-reinstall reid-zebra" in message
    monkeypatch.setattr(PluginRecord, "developed", True)
    with pytest.raises(PluginError) as caught:
        load_class("zebra")
    assert "reinstall" not in str(caught.value), "its author mends it in place"


@pytest.mark.parametrize("source", ["class Made:\n    pass", "def Made():\n    pass", "Made = 1"])
def test_what_is_no_plugin_class_is_refused(site: FakeSite, source: str) -> None:
    site.add("reid-zebra", {"zebra": "zebra_module:Made"}, modules={"zebra_module": source})
    with pytest.raises(PluginError, match=r"'zebra' \(reid-zebra 1\.2.*not a subclass of .*Plugin"):
        load_class("zebra")


def test_the_catalogue_has_a_distribution_and_a_summary_for_every_name() -> None:
    assert catalogue(), "the catalogue is empty"
    for name, entry in catalogue().items():
        assert entry.name == name
        assert entry.distribution.startswith("reid-")
        assert entry.install == f"pip install {entry.distribution}"
        assert entry.summary
        assert "\n" not in entry.summary


@pytest.mark.parametrize(
    ("requires", "oldest"),
    [
        ("reid-core>=0.4,<1", "reid-core==0.4"),
        ("reid-core ~= 0.4.1", "reid-core==0.4.1"),
        ("reid_core[test] (>=0.4, !=0.5)", "reid-core==0.4"),
        ("reid-core==0.4.*,>=0.4.2", "reid-core==0.4.2"),
    ],
)
def test_the_oldest_core_is_the_lower_end_of_the_range(
    requires: str, oldest: str, site: FakeSite
) -> None:
    extra = "reid-core>=9; extra == 'test'"
    site.add("reid-zebra", requires=["torch>=2", requires, extra])
    assert discovery.oldest_core("reid-zebra") == oldest


@pytest.mark.parametrize(
    ("requires", "message"),
    [
        ("torch>=2", "begins to work (any): write 'reid-core>=VERSION' into"),
        ("reid-core<2", "begins to work (<2): write 'reid-core>=VERSION' into"),
    ],
)
def test_a_range_without_a_lower_end_is_refused(
    requires: str, message: str, site: FakeSite
) -> None:
    site.add("reid-zebra", requires=[requires])
    with pytest.raises(PluginError, match=re.escape(message)):
        discovery.oldest_core("reid-zebra")
    with pytest.raises(PluginError, match="there is no distribution 'reid-gone': pip install"):
        discovery.oldest_core("reid-gone")

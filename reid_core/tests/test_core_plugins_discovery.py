"""Discovery reads metadata only; what is asked for and cannot be had is one clear error."""

from __future__ import annotations

import re
import sys
import typing
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
    ("source", "ends"),
    [
        (
            "import no_such_library",
            "ModuleNotFoundError: No module named 'no_such_library'; it lacks what it requires: "
            "pip install no-such-library 'other-name>=2'",
        ),
        ("class Other:\n    pass", "AttributeError: module 'zebra_module' has no attribute 'Made'"),
        ("\ndef", "SyntaxError: invalid syntax (zebra_module.py, line 2), in {file}, line 2"),
        (
            "import json\nclass Made:\n    found = json.loads('')",
            "JSONDecodeError: Expecting value: line 1 column 1 (char 0), in {file}, line 3",
        ),
        (
            "from typing import nothing",
            "ImportError: cannot import name 'nothing' from 'typing' ({typing}), in {file}, line 1",
        ),
        (
            "import json.nothing",
            "ModuleNotFoundError: No module named 'json.nothing', in {file}, line 1",
        ),
        (
            "raise RuntimeError('two' + chr(10) + 'lines')",
            "RuntimeError: two lines, in {file}, line 1",
        ),
        (
            "raise ModuleNotFoundError('needs CUDA')",
            "ModuleNotFoundError: needs CUDA, in {file}, line 1",
        ),
        (None, "No module named 'zebra_module'; its files are gone: pip install --force-reinstall"
               " reid-zebra"),
    ],
)  # fmt: skip
def test_a_plugin_that_fails_to_import_is_named_in_one_line_with_what_helps(
    site: FakeSite, source: str | None, ends: str
) -> None:
    site.add(
        "reid-zebra",
        {"zebra": "zebra_module:Made"},
        modules={} if source is None else {"zebra_module": source},
        requires=["numpy", "no-such-library", "other-name>=2; python_version > '3'",
                  "not-here; extra == 'all'"],
    )  # fmt: skip
    with pytest.raises(PluginError) as caught:
        load_class("zebra")
    message = str(caught.value)
    assert message.startswith(
        "plugin 'zebra' (reid-zebra 1.2, zebra_module:Made) cannot be imported: "
    )
    file = site.folder / "zebra_module.py"
    assert message.endswith(ends.format(file=file, typing=typing.__file__))
    assert ("reinstall" in message) == (source is None)


def test_a_module_that_no_requirement_brings_is_named(site: FakeSite) -> None:
    site.add(
        "reid-zebra",
        {"zebra": "zebra_module:Made"},
        modules={"zebra_module": "import no_such_library.inner"},
        requires=["numpy"],
    )
    with pytest.raises(PluginError, match="does not say what brings 'no_such_library': install th"):
        load_class("zebra")


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

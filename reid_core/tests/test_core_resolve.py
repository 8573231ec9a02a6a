"""Resolving: which layer rules, what clashes, and what an unknown key is answered with."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from fake_distributions import PLUGIN, FakeSite, fake_site

from reid_core.config import RunConfig, differences
from reid_core.contract.plugin import Plugin, Settings
from reid_core.errors import ConfigError, ConflictError, PluginError
from reid_core.runs.recipes import load_recipe
from reid_core.runs.resolve import resolve


class ZebraSettings(Settings):
    weight: float = 1.0
    stripes: int | None = None


class Zebra(Plugin):
    Settings = ZebraSettings
    defaults: Mapping[str, Any] = {"optim.lr": 1e-3, "schedule.gamma": 0.5}


class Gnu(Plugin):
    defaults: Mapping[str, Any] = {"optim.lr": 2e-3}


class Ant(Plugin):
    defaults: Mapping[str, Any] = {"optim.lr": 1e-3}


CLASSES: dict[str, type[Plugin]] = {"zebra": Zebra, "gnu": Gnu, "ant": Ant}
QUICK = load_recipe("core/quick")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FakeSite]:
    with fake_site(tmp_path / "site") as made:
        yield made


def recipe(folder: Path, content: dict[str, Any]) -> str:
    path = folder / "recipe.toml"
    path.write_text(tomli_w.dumps(content), encoding="utf-8")
    return str(path)


def config_of(
    plugins: tuple[str, ...] = (), flags: dict[str, Any] | None = None, named: str | None = None
) -> RunConfig:
    flags = {"run": {"plugins": list(plugins)}, **(flags or {})}
    return resolve(flags, recipe=named, classes=CLASSES).config


def test_without_a_recipe_core_quick_rules_over_the_cores_defaults() -> None:
    config = config_of()
    assert config.run.recipe == "core/quick"
    assert config.optim.lr == QUICK["optim"]["lr"] != RunConfig().optim.lr
    assert config.data.height == QUICK["data"]["height"]
    assert config.optim.momentum == RunConfig().optim.momentum


def test_a_plugins_default_beats_core_quick() -> None:
    config = config_of(("zebra",))
    assert (config.optim.lr, config.schedule.gamma) == (1e-3, 0.5)
    assert config.data.height == QUICK["data"]["height"]


def test_a_named_recipe_beats_a_plugins_default_and_replaces_core_quick(tmp_path: Path) -> None:
    named = recipe(tmp_path, {"optim": {"lr": 5e-3}})
    config = config_of(("zebra",), named=named)
    assert config.optim.lr == 5e-3
    assert config.schedule.gamma == 0.5, "the default of a key that the recipe leaves open"
    assert config.data.height == RunConfig().data.height, "core/quick still rules"
    assert config.run.recipe == named


def test_core_quick_by_name_beats_a_plugins_default() -> None:
    assert config_of(("zebra",), named="core/quick").optim.lr == QUICK["optim"]["lr"]


def test_the_command_line_beats_everything(tmp_path: Path) -> None:
    named = recipe(tmp_path, {"optim": {"lr": 5e-3, "momentum": 0.5}})
    config = config_of(("zebra",), {"optim": {"lr": 7e-3}}, named)
    assert (config.optim.lr, config.optim.momentum) == (7e-3, 0.5)
    named = recipe(tmp_path, {"plugins": {"zebra": {"weight": 0.5}}})
    config = config_of(("zebra",), {"plugins": {"zebra": {"weight": 0.25}}}, named)
    assert config.plugins["zebra"]["weight"] == 0.25


def test_two_defaults_that_differ_name_both_plugins_and_the_remedy() -> None:
    with pytest.raises(ConflictError) as caught:
        config_of(("zebra", "gnu"))
    message = str(caught.value)
    for word in ("'zebra'", "'gnu'", "optim.lr", "0.001", "0.002", "-s optim.lr="):
        assert word in message


def test_equal_defaults_and_decided_ones_do_not_clash(tmp_path: Path) -> None:
    assert config_of(("zebra", "ant")).optim.lr == 1e-3
    assert config_of(("zebra", "gnu"), {"optim": {"lr": 3e-3}}).optim.lr == 3e-3
    named = recipe(tmp_path, {"optim": {"lr": 4e-3}})
    assert config_of(("zebra", "gnu"), named=named).optim.lr == 4e-3


def test_a_default_of_an_unknown_key_is_the_plugins_error() -> None:
    cls = type("Okapi", (Plugin,), {"defaults": {"optim.learning_rate": 1}})
    with pytest.raises(PluginError, match=r"'okapi'.*'optim\.learning_rate'"):
        resolve({"run": {"plugins": ["okapi"]}}, classes={"okapi": cls})


def test_a_default_out_of_range_names_the_plugin() -> None:
    cls = type("Okapi", (Plugin,), {"defaults": {"optim.lr": -1.0}})
    with pytest.raises((ConfigError, PluginError), match=r"optim\.lr"):
        resolve({"run": {"plugins": ["okapi"]}}, classes={"okapi": cls})


def test_a_value_that_is_none_does_not_hide_in_toml(tmp_path: Path) -> None:
    config = config_of(("zebra",), {"plugins": {"zebra": {"stripes": 3}}})
    assert config.plugins["zebra"] == {"weight": 1.0, "stripes": 3}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"data": {"hieght": 64}}, r"unknown key 'data\.hieght'; did you mean 'data\.height'\?"),
        ({"engine": {"momentum": 0}}, r"'engine\.momentum'; did you mean 'optim\.momentum'\?"),
        ({"optim": {"wieght_decay": 0}}, r"did you mean 'optim\.weight_decay'\?"),
        ({"lr": 0.1}, r"unknown key 'lr'; did you mean 'optim\.lr'\?; every key belongs to a"),
        (
            {"plugins": {"optimiser": {"lr": 1}}},
            r"'optimiser' is neither a section nor.*did you mean 'optim'\?",
        ),
        ({"plugins": {"gnu": {"x": 1}}}, r"'gnu' is neither a section nor a requested plugin"),
        ({"plugins": {"zebr": {"weight": 1}}}, r"'zebr' is neither.*did you mean 'zebra'\?"),
        (
            {"plugins": {"zebra": {"wieght": 1}}},
            r"unknown key 'plugins\.zebra\.wieght'; did you mean 'plugins\.zebra\.weight'\?",
        ),
        ({"plugins": {"zebra": {"weight": "much"}}}, r"plugins\.zebra\.weight: .*given: 'much'"),
        ({"optim": {"lr": "fast"}}, r"optim\.lr: .*number.*given: 'fast'"),
        ({"data": {"instances": 0}}, r"data\.instances: .*greater than or equal to 1"),
        ({"plugins": {"zebra": 3}}, r"plugins\.zebra"),
        ({"optim": 3}, r"'optim'"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        config_of(("zebra",), flags)
    assert "\n" not in str(caught.value)


def test_an_unknown_section_of_a_recipe_is_answered_with_the_nearest(tmp_path: Path) -> None:
    named = recipe(tmp_path, {"optimiser": {"lr": 1.0}})
    with pytest.raises(ConfigError, match=r"unknown key 'optimiser'; did you mean 'optim"):
        config_of(named=named)


@pytest.mark.parametrize("plugins", ["zebra", 3, [1]])
def test_plugins_must_be_a_list_of_names(plugins: Any) -> None:
    with pytest.raises(ConfigError, match=r"run\.plugins"):
        resolve({"run": {"plugins": plugins}}, classes=CLASSES)


def test_the_core_cannot_be_requested() -> None:
    with pytest.raises(PluginError, match=r"'core' is the core's own plugin"):
        config_of(("core",))


def test_a_plugin_named_twice_counts_once() -> None:
    resolved = resolve({"run": {"plugins": ["zebra", "ant", "zebra"]}}, classes=CLASSES)
    assert resolved.config.run.plugins == ("ant", "zebra")
    assert set(resolved.plugins) == {"core", "ant", "zebra"}


def test_a_plugin_checks_the_resolved_configuration() -> None:
    seen = []

    class Picky(Plugin):
        def check(self, config: RunConfig) -> None:
            seen.append(config.optim.lr)
            raise ConfigError("plugin 'picky' needs a warm-up")

    with pytest.raises(ConfigError, match="needs a warm-up"):
        resolve({"run": {"plugins": ["picky"]}, "optim": {"lr": 0.5}}, classes={"picky": Picky})
    assert seen == [0.5]


def test_each_run_has_instances_of_its_own() -> None:
    first, second = (resolve({"run": {"plugins": ["zebra"]}}, classes=CLASSES) for _ in range(2))
    assert first.plugins["zebra"] is not second.plugins["zebra"]


def test_what_a_run_wrote_resolves_to_the_same_configuration(tmp_path: Path) -> None:
    flags = {
        "optim": {"betas": [0.5, 0.999]},
        "schedule": {"milestones": [2, 5]},
        "loss_weights": {"core/global/ce": 0.5},
        "plugins": {"zebra": {"weight": 0.25}},
        "model": {"neck": "fc", "dim": 7, "pretrained": "weights.pth"},
        "data": {"root": "some/where"},
    }
    config = config_of(("zebra",), flags)
    path = tmp_path / "config.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    again = resolve(recipe=str(path), classes=CLASSES).config
    assert again.model_copy(update={"run": config.run}) == config
    assert again.run.plugins == config.run.plugins
    assert again.run.recipe == config.run.recipe
    assert again.plugins["zebra"] == {"weight": 0.25, "stripes": None}


def test_none_over_a_default_is_still_none_when_it_is_read_again(tmp_path: Path) -> None:
    class OkapiSettings(Settings):
        stripes: int | None = 3

    class Okapi(Plugin):
        Settings = OkapiSettings
        defaults: Mapping[str, Any] = {"optim.clip_norm": 1.0, "evaluation.weights": "okapi/own"}

    flags = {
        "run": {"plugins": ["okapi"]},
        "optim": {"clip_norm": "none"},
        "evaluation": {"weights": "none"},
        "plugins": {"okapi": {"stripes": "none"}},
    }
    config = resolve(flags, classes={"okapi": Okapi}).config
    path = tmp_path / "config.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    assert "root" not in path.read_text("utf-8")
    again = resolve(recipe=str(path), classes={"okapi": Okapi}).config
    assert again.model_copy(update={"run": config.run}) == config
    assert (again.optim.clip_norm, again.evaluation.weights) == (None, None)
    assert again.plugins["okapi"] == {"stripes": None}
    assert resolve({"run": flags["run"]}, classes={"okapi": Okapi}).config.optim.clip_norm == 1.0
    # A file of before, in which it was left out, is not of other settings.
    plain = RunConfig.model_validate(tomllib.loads(config.to_toml()))
    assert differences(plain.model_dump(mode="json"), config.model_dump(mode="json")) == []


def test_a_recipe_stands_on_another_one_and_rules_over_it(tmp_path: Path) -> None:
    recipe(tmp_path, {"optim": {"lr": 4e-3, "momentum": 0.5}})
    upper = tmp_path / "upper.toml"
    upper.write_text('base = "recipe.toml"\n[optim]\nlr = 1e-3\n')
    config = config_of(named=str(upper))
    assert (config.optim.lr, config.optim.momentum) == (1e-3, 0.5)
    assert config.run.recipe == str(upper)


def test_a_recipe_s_base_must_be_there_and_no_circle(tmp_path: Path) -> None:
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    first.write_text('base = "second.toml"\n')
    second.write_text('base = "first.toml"\n')
    with pytest.raises(ConfigError, match=r"in a circle: .*first.*second.*first"):
        load_recipe(str(first))
    second.write_text('base = "core/quik"\n')
    with pytest.raises(ConfigError, match=r"first.toml' stands on .*no recipe 'core/quik'"):
        load_recipe(str(first))
    second.write_text("base = 3\n")
    with pytest.raises(ConfigError, match=r"base must name one recipe \(given: 3\)"):
        load_recipe(str(first))


def test_recipes_are_joined_and_later_ones_rule(tmp_path: Path) -> None:
    lower, upper = tmp_path / "lower.toml", tmp_path / "a+b.toml"
    lower.write_text("[optim]\nlr = 1.0\nweight_decay = 0.25\n")
    upper.write_text("[optim]\nlr = 2.0\n")
    found = load_recipe(f"core/quick+{lower}")["optim"]
    assert found == {**QUICK["optim"], "lr": 1.0, "weight_decay": 0.25}
    assert load_recipe(f"core/quick+{lower}+quick") == QUICK, "the plugin is that of the one before"
    assert load_recipe(str(upper)) == {"optim": {"lr": 2.0}}, "a file may be named with a plus"
    standing = recipe(tmp_path, {"base": "core/quick+nowhere"})
    with pytest.raises(ConfigError, match=r"stands on 'core/quick\+nowhere'.*'core/nowhere'"):
        load_recipe(standing)
    config = resolve(recipe=f"core/quick+{lower}").config
    assert config.optim.lr == 1.0
    assert config.run.recipe == f"core/quick+{lower}"


def test_a_recipe_of_a_plugin_that_is_not_installed_is_answered_with_the_pip_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("reid_core.runs.recipes.installed", dict)
    with pytest.raises(ConfigError, match=r"'dgnet' is not installed: pip install reid-dgnet"):
        load_recipe("dgnet/market1501")


def test_a_missing_recipe_lists_those_that_there_are(site: FakeSite) -> None:
    with pytest.raises(ConfigError, match=r"no recipe 'core/quik'.*core/quick"):
        load_recipe("core/quik")
    with pytest.raises(ConfigError, match=r"no recipe file .*nowhere\.toml"):
        load_recipe("nowhere.toml")
    with pytest.raises(ConfigError, match=r"'nobody/here': expected PLUGIN/NAME of an installed"):
        load_recipe("nobody/here")
    site.add("reid-zebra", {"zebra": "zebra_module:Made"}, modules={"zebra_module": PLUGIN})
    with pytest.raises(ConfigError, match=r"no recipe 'zebra/market1501' \(it has none\)"):
        load_recipe("zebra/market1501")


def test_a_recipe_that_is_not_toml_names_its_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    for content in (b"[optim\nlr = 1", b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"broken\.toml is not valid TOML"):
            load_recipe(str(path))


def test_a_folder_in_place_of_a_recipe_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(ConfigError, match=r"folder\.toml"):
        load_recipe(str(tmp_path / "folder.toml"))


def test_a_recipe_comes_with_its_plugins_package(site: FakeSite) -> None:
    site.add("reid-zebra", {"zebra": "zebra_package.plugin:Made"})
    recipes = site.folder / "zebra_package" / "recipes" / "zebra"
    recipes.mkdir(parents=True)
    (recipes.parents[1] / "__init__.py").write_text("raise RuntimeError('imported')")
    (recipes / "market1501.toml").write_text("[optim]\nlr = 0.125\n")
    assert load_recipe("zebra/market1501") == {"optim": {"lr": 0.125}}
    with pytest.raises(ConfigError, match=r"no recipe 'zebra/duke'.*\(zebra/market1501\)"):
        load_recipe("zebra/duke")


def test_core_quick_stays_within_its_budget() -> None:
    config = config_of()
    per_epoch = config.schedule.iterations_per_epoch
    assert per_epoch is not None
    assert config.schedule.epochs * per_epoch * config.data.batch_size <= 9000
    assert config.data.size == (128, 64)
    assert config.model.pretrained is not True, "nothing is fetched"

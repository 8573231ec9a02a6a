"""Models on a hub: pushed to one on this machine, fetched from it, and refused in one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_hub import Hub, small_hub
from stored_runs import stored_run

from reid_core import CheckpointError, ConfigError, load_embedder
from reid_core.testing.fixtures import RunReid
from reid_core.testing.tiny import tiny_assembly
from reid_search.hub.addresses import fetch, parse
from reid_search.hub.card import MUST_NOT, licence_of
from reid_search.hub.pushing import prepare
from reid_search.models import resolve_model


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub of the test's own, and a cache beside it: nothing leaves this machine."""
    # Old versions of the library keep copies of the name.
    for module in ("constants", "file_download", "_snapshot_download"):
        name = f"huggingface_hub.{module}.HF_HUB_CACHE"
        monkeypatch.setattr(name, str(tmp_path / "cache"), raising=False)
    monkeypatch.setenv("HF_TOKEN", "hf_nobody")
    with small_hub() as made:
        monkeypatch.setenv("HF_ENDPOINT", made.address)
        yield made


@pytest.fixture(scope="module")
def embedder_folder(reid_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embedder")
    tiny_assembly((), cache=reid_cache).embedder().save(folder / "embedder.safetensors")
    return folder


@pytest.fixture
def finished(embedder_folder: Path, tmp_path: Path) -> Path:
    """A run's folder with an embedder."""
    config = {"data": {"name": "toy:tiny", "root": "/media/mine/pictures"}}
    run = stored_run(tmp_path / "run", [1, 2, 3, 4], config)
    for file in embedder_folder.iterdir():
        (run / file.name).write_bytes(file.read_bytes())
    return run


def test_a_pushed_embedder_is_fetched_and_computes_the_same(
    run_reid: RunReid, hub: Hub, finished: Path
) -> None:
    code, out, err = run_reid("push", finished, "hf://me/people", "--licence", "mit")
    assert code == 0, err
    (commit,) = hub.models["me/people"]
    assert out == f"pushed: hf://me/people@{commit}\n"
    assert hub.private["me/people"]
    files = hub.models["me/people"][commit]
    assert set(files) == {
        "README.md", "config.toml", "embedder.json", "embedder.safetensors", "results.json"
    }  # fmt: skip
    images = torch.rand(2, 3, 64, 32)
    theirs = load_embedder(f"hf://me/people@{commit}")
    assert torch.equal(theirs(images), load_embedder(finished)(images))
    # What is in the cache needs no hub.
    before = len(hub.asked)
    assert resolve_model(f"hf://me/people@{commit}").is_file()
    assert not [one for one in hub.asked[before:] if "/resolve/" in one]


def test_an_address_is_evaluated_like_a_run(
    run_reid: RunReid, hub: Hub, finished: Path, tmp_path: Path
) -> None:
    names = ("embedder.json", "embedder.safetensors")
    commit = hub.commit("me/people", {name: (finished / name).read_bytes() for name in names})
    found = []
    for number, model in enumerate((f"hf://me/people@{commit}", "hf://me/people@main", finished)):
        file = tmp_path / f"{number}.json"
        code, _, err = run_reid("eval", model, "--data", "toy:tiny", "--json", file)
        assert code == 0, err
        found.append(json.loads(file.read_text("utf-8")))
    assert found[0] == found[1] == found[2]


def test_nothing_private_is_uploaded(run_reid: RunReid, finished: Path, tmp_path: Path) -> None:
    made = tmp_path / "looked at"
    code, out, err = run_reid("push", finished, made, "--licence", "cc-by-nc-4.0")
    assert code == 0, err
    assert "README.md, config.toml, embedder.json" in out
    everything = "".join(
        path.read_text("utf-8") for path in made.iterdir() if path.suffix != ".safetensors"
    )
    for private in ("/media/mine", "query/a.png", "gallery/0.png"):
        assert private not in everything
    assert 'root = "pictures"' in everything
    card = (made / "README.md").read_text("utf-8")
    for words in (
        "license: cc-by-nc-4.0", "- synthetic", "core 0.1.0", "64 x 32", "`toy:tiny`; licence: mit",
        "standard v1: everything", "| 52.1 | 25.0 |", "fingerprint of the data abc", *MUST_NOT,
    ):  # fmt: skip
        assert words in card, words
    code, _, err = run_reid("push", finished, made, "--licence", "mit")
    assert code == 2
    assert "holds something already" in err


def test_a_model_is_public_only_where_that_is_asked_for(
    run_reid: RunReid, hub: Hub, finished: Path
) -> None:
    code, _, err = run_reid("push", finished, "hf://me/open", "--licence", "mit", "--public")
    assert code == 0, err
    assert not hub.private["me/open"]


def test_the_licence_of_a_data_set_is_known_or_said() -> None:
    assert licence_of(["synthpeople/mixed:tiny", "toy"], None) == "mit"
    assert licence_of(["market1501"], "research only") == "research only"
    with pytest.raises(ConfigError, match=r"the licence of 'market1501'.*--data-licence"):
        licence_of(["toy", "market1501"], None)
    with pytest.raises(ConfigError, match="'duke' has been withdrawn by its owners"):
        licence_of(["toy", "duke"], "mine")
    with pytest.raises(ConfigError, match="'occluded-duke' has been withdrawn"):
        licence_of(["occluded-duke"], "mine")


def test_what_the_first_weights_learnt_from_counts(finished: Path, tmp_path: Path) -> None:
    description = json.loads((finished / "embedder.json").read_text("utf-8"))
    description["learnt_from"] = {"data": ["market1501"], "people": []}
    (finished / "embedder.json").write_text(json.dumps(description), "utf-8")
    with pytest.raises(ConfigError, match="needs the licence of 'market1501'"):
        prepare(finished, tmp_path / "made", name="a/b", licence="mit")
    assert not (tmp_path / "made").exists()
    prepare(finished, tmp_path / "made", name="a/b", licence="mit", data_licence="research only")
    card = (tmp_path / "made" / "README.md").read_text("utf-8")
    assert "It learnt from `market1501`, `toy:tiny`; licence: research only." in card
    assert "- synthetic" not in card


def test_published_weights_that_a_run_began_with_count(finished: Path, tmp_path: Path) -> None:
    config = finished / "config.toml"
    told = config.read_text("utf-8")
    assert "pretrained = false" in told
    for start, named in (("true", "published "), ('"/media/resnet18.pth"', "weights resnet18.pth")):
        config.write_text(told.replace("pretrained = false", f"pretrained = {start}"), "utf-8")
        with pytest.raises(ConfigError, match=f"needs the licence of '{named}"):
            prepare(finished, tmp_path / "made", name="a/b", licence="mit")
    # Whom shipped weights have learnt from stands in the embedder.
    shipped = told.replace("pretrained = false", 'pretrained = "people/osnet_x0_25"')
    config.write_text(shipped, "utf-8")
    prepare(finished, tmp_path / "made", name="a/b", licence="mit")


def test_what_cannot_be_pushed_is_refused_before_anything_is_sent(
    run_reid: RunReid, hub: Hub, finished: Path, tmp_path: Path
) -> None:
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "config.toml").touch()
    bare = stored_run(tmp_path / "bare", [1, 2, 3, 4])
    for arguments, said in (
        ((unfinished, "hf://me/x", "--licence", "mit"), "the run has not finished; go on with"),
        ((bare, "hf://me/x", "--licence", "mit"), "holds no embedder.safetensors"),
        ((finished, "hf://me", "--licence", "mit"), "hf://me is no address of a model"),
        ((finished, "s3://me/x", "--licence", "mit"), "is no address of a model"),
        ((finished, tmp_path / "d", "--licence", "mit", "--public"), "--public is for an address"),
        ((finished, unfinished, "--licence", "mit"), "unfinished: holds something already"),
        ((finished, "hf://me/x"), "--licence"),
    ):
        code, _, err = run_reid("push", *arguments)
        assert code == 2, arguments
        assert said in err
    assert hub.asked == []
    assert not (tmp_path / "d").exists()


def test_a_hub_that_refuses_or_is_not_there_is_one_line(
    run_reid: RunReid, hub: Hub, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = run_reid("push", finished, "hf://stranger/x", "--licence", "mit")
    assert code == 2
    assert err.count("\n") == 1
    assert "hf://stranger/x: the hub refuses (40" in err
    hub.commit("me/empty", {"README.md": b"#"})
    for address, said in (
        ("hf://me/none@main", "there is no hf://me/none@main, or you may not see"),
        ("hf://me/empty@v9", "me/empty has no revision 'v9'"),
        ("hf://me/empty@main", "holds no embedder.safetensors and no embedder.json"),
    ):
        with pytest.raises(CheckpointError, match=said):
            fetch(address)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match="is not in the cache, and the hub cannot be reached"):
        fetch("hf://me/people@main")
    code, _, err = run_reid("push", finished, "hf://me/x", "--licence", "mit")
    assert code == 2
    assert "the hub cannot be reached" in err


def test_addresses_name_a_revision() -> None:
    assert parse("hf://a/b.c-d@v1.0").revision == "v1.0"
    assert parse("hf://a/b").text == "hf://a/b"
    with pytest.raises(ConfigError, match=r"names no revision.*@main for what is there today"):
        fetch("hf://a/b")
    for wrong in ("hf://a", "hf://a/b/c", "hf://a/b@", "hf://../b@main", "hf:/a/b"):
        with pytest.raises(ConfigError, match="is no address of a model"):
            parse(wrong)

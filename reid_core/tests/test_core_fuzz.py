"""Whatever is in a file, reading it ends in a value or in one line: no traceback, no code, no net.

``REID_FUZZ_EXAMPLES=5000`` tries more; docs/security.md says how many were tried.
"""

from __future__ import annotations

import json
import os
import pickle
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import tomli_w
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from safetensors.torch import load_file, save_file

from reid_core import FieldKind, FieldSpec, load_embedder, write_json
from reid_core.cli.options import to_flags
from reid_core.config import RunConfig, known_keys
from reid_core.contract.samples import DataRequest
from reid_core.data.decoding import read_field, read_labels
from reid_core.data.folder import PATTERNS, load_folder
from reid_core.errors import CheckpointError, DataError, ReidError
from reid_core.loop.state import read_checkpoint
from reid_core.loop.trainer import Trainer
from reid_core.runs.resolve import resolve
from reid_core.testing.tiny import tiny_assembly

EXAMPLES = int(os.environ.get("REID_FUZZ_EXAMPLES", "40"))
FUZZ = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
DEAR = settings(FUZZ, max_examples=int(os.environ.get("REID_FUZZ_EXAMPLES", "10")))
"""For what resolves a run or builds a network at every example."""

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=True)
    | st.text(max_size=8)
    | st.sampled_from(
        ["none", "..", "/etc/passwd", "http://127.0.0.1:9/x", "hf-hub:a/b", "os:system"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)
"""Whatever JSON and TOML can say."""


@pytest.fixture(autouse=True)
def no_net(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a file opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def in_one_line(call: Callable[[], Any]) -> Any:
    """Return what a call returns, or None where it refuses in one line."""
    problem = None
    try:
        return call()
    except ReidError as error:
        problem = str(error)
    assert problem
    assert "\n" not in problem
    return None


def edits(content: Any) -> st.SearchStrategy[Any]:
    """Draw plain data of which one place has another value, or is missing."""

    def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        yield path
        items = value.items() if isinstance(value, dict) else ()
        items = enumerate(value) if isinstance(value, list) else items
        for key, inner in items:
            yield from places(inner, (*path, key))

    def edited(path: tuple[Any, ...], value: Any, drop: bool) -> Any:
        if not path:
            return value
        copy: Any = json.loads(json.dumps(content))
        inner = copy
        for key in path[:-1]:
            inner = inner[key]
        if drop:
            del inner[path[-1]]
        else:
            inner[path[-1]] = value
        return copy

    return st.builds(edited, st.sampled_from(list(places(content))), PLAIN, st.booleans())


@DEAR
@given(
    st.dictionaries(
        st.sampled_from([*RunConfig.model_fields, "base"]) | st.text(max_size=6),
        st.dictionaries(
            st.sampled_from([key.rpartition(".")[2] for key in known_keys()]) | st.text(max_size=6),
            PLAIN,
            max_size=3,
        )
        | PLAIN,
        max_size=4,
    )
)
def test_configuration_files(place: Path, content: dict[str, Any]) -> None:
    file = place / "recipe.toml"
    try:
        text = tomli_w.dumps(content)
    except (TypeError, ValueError, UnicodeError, AttributeError):
        text = repr(content)
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    in_one_line(lambda: resolve(recipe=str(file)))


@FUZZ
@given(st.binary(max_size=300))
def test_configuration_files_of_any_bytes(place: Path, content: bytes) -> None:
    (place / "bytes.toml").write_bytes(content)
    in_one_line(lambda: resolve(recipe=str(place / "bytes.toml")))


@FUZZ
@given(
    st.lists(st.tuples(st.sampled_from(known_keys()) | st.text(max_size=9), st.text(max_size=9)))
)
def test_settings_of_the_command_line(pairs: list[tuple[str, str]]) -> None:
    words = [f"{key}={value}" for key, value in pairs]
    in_one_line(lambda: resolve(to_flags({"settings": words})))


@pytest.fixture(scope="module")
def embedder(reid_cache: Path, place: Path) -> Path:
    assembly = tiny_assembly(cache=reid_cache)
    path = place / "embedder.safetensors"
    assembly.embedder().save(path)
    return path


@pytest.fixture(scope="module")
def description(embedder: Path) -> Any:
    return json.loads(embedder.with_suffix(".json").read_text("utf-8"))


@DEAR
@given(data=st.data())
def test_descriptions_of_embedders(embedder: Path, description: Any, data: st.DataObject) -> None:
    before = set(sys.modules)
    path = embedder.with_name("edited.safetensors")
    if not path.exists():
        path.write_bytes(embedder.read_bytes())
    write_json(path.with_suffix(".json"), data.draw(edits(description)))
    in_one_line(lambda: load_embedder(path))
    came = {name.partition(".")[0] for name in set(sys.modules) - before}
    assert came <= {"timm", "torch", "torchvision", "reid_core", *sys.stdlib_module_names}


@FUZZ
@given(st.binary(max_size=300), st.booleans())
def test_embedders_of_any_bytes(embedder: Path, content: bytes, whole: bool) -> None:
    path = embedder.with_name("bytes.safetensors")
    path.with_suffix(".json").write_bytes(embedder.with_suffix(".json").read_bytes())
    path.write_bytes(content if whole else embedder.read_bytes()[: len(content)] + content)
    with pytest.raises(CheckpointError):
        load_embedder(path)
    path.with_suffix(".json").write_bytes(content)
    with pytest.raises(CheckpointError):
        load_embedder(path)


@pytest.mark.parametrize(
    "factory",
    [
        "antigravity:x",
        "this:s",
        "os:system",
        "subprocess:Popen",
        "idlelib.idle:x",
        ":",
        "..x:y",
        "a b:c",
    ],
)
def test_a_description_imports_nothing_but_plugins(
    embedder: Path, description: Any, factory: str
) -> None:
    path = embedder.with_name("foreign.safetensors")
    path.write_bytes(embedder.read_bytes())
    content = json.loads(json.dumps(description))
    content["encoder"]["factory"] = factory
    write_json(path.with_suffix(".json"), content)
    with pytest.raises(CheckpointError):
        load_embedder(path)
    assert not {"antigravity", "this", "idlelib.idle"} & set(sys.modules)


@pytest.mark.parametrize("weights", [True, "/etc/passwd", "http://127.0.0.1/x"])
def test_a_description_fetches_no_weights(
    embedder: Path, description: Any, weights: object
) -> None:
    path = embedder.with_name("fetching.safetensors")
    path.write_bytes(embedder.read_bytes())
    content = json.loads(json.dumps(description))
    content["encoder"]["kwargs"]["pretrained"] = weights
    write_json(path.with_suffix(".json"), content)
    with pytest.raises(CheckpointError, match="asks for other weights than those beside it"):
        load_embedder(path)


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (exec, ("raise SystemExit('executed')",))


def test_a_pickle_is_not_executed_wherever_it_lies(place: Path, reid_cache: Path) -> None:
    for content in (pickle.dumps(Evil()), pickle.dumps({"model": Evil()})):
        for name in ("a.pt", "a.safetensors", "a.npy", "a.png"):
            (place / name).write_bytes(content)
        with pytest.raises(CheckpointError):
            read_checkpoint(place / "a.pt")
        with pytest.raises(CheckpointError):
            load_embedder(place / "a.safetensors")
        with pytest.raises(DataError):
            read_field(place / "a.npy", FieldSpec("x", FieldKind.FIXED))
        with pytest.raises(DataError):
            read_labels(place / "a.png")
    torch.save({"model": Evil()}, place / "evil.pt")
    with pytest.raises(CheckpointError):
        read_checkpoint(place / "evil.pt")
    np.save(place / "evil.npy", np.array([Evil()], dtype=object))
    with pytest.raises(DataError):
        read_field(place / "evil.npy", FieldSpec("x", FieldKind.FIXED))


@pytest.fixture(scope="module")
def trainer(reid_cache: Path, place: Path) -> Trainer:
    made = Trainer(tiny_assembly(cache=reid_cache), place / "checkpoint.pt")
    made.save()
    return made


ENTRIES = (
    *("format", "progress", "plugins", "data", "ranks", "config", "model", "conventions"),
    *("frozen", "optimisers", "kept"),
)


@DEAR
@given(st.sampled_from(ENTRIES), PLAIN, st.booleans())
def test_checkpoints(trainer: Trainer, entry: str, value: Any, deeper: bool) -> None:
    assert trainer.checkpoint is not None
    whole = trainer.checkpoint.with_name("whole.pt")
    if not whole.exists():
        whole.write_bytes(trainer.checkpoint.read_bytes())
    content = read_checkpoint(whole)
    if deeper and isinstance(content.get(entry), dict) and content[entry]:
        first = next(iter(content[entry]))
        content[entry] = {**content[entry], first: value}
    else:
        content[entry] = value
    torch.save(content, trainer.checkpoint)
    in_one_line(trainer.resume)


@FUZZ
@given(st.binary(max_size=200), st.integers(0, 3000))
def test_checkpoints_of_any_bytes(trainer: Trainer, content: bytes, at: int) -> None:
    assert trainer.checkpoint is not None
    (trainer.checkpoint.parent / "bytes.pt").write_bytes(
        trainer.checkpoint.read_bytes()[:at] + content
    )
    with pytest.raises(CheckpointError):
        read_checkpoint(trainer.checkpoint.parent / "bytes.pt")


NAME = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=12
) | st.from_regex(
    r"-?[0-9]{1,22}_c[0-9]{1,22}(s1)?(_o[0-9]{1,9})?(_x)?\.(jpg|png|gif)", fullmatch=True
)


@FUZZ
@given(st.lists(NAME, max_size=5, unique=True), st.sampled_from(sorted(PATTERNS)), st.booleans())
def test_names_of_files(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], variant: str, nested: bool
) -> None:
    root = tmp_path_factory.mktemp("names")
    folder = root / "train" / ("7" if nested else "")
    folder.mkdir(parents=True)
    for name in names:
        if name not in (".", ".."):
            (folder / name).touch()
    request = DataRequest("folder", variant, None, root, root)
    found = in_one_line(lambda: load_folder(request))
    for sample in found.train.samples if found else ():
        assert sample.path.parent == folder


@FUZZ
@given(
    st.binary(max_size=200), st.sampled_from([".npy", ".png", ".jpg"]), st.sampled_from(FieldKind)
)
def test_side_car_files_of_any_bytes(
    place: Path, content: bytes, suffix: str, kind: FieldKind
) -> None:
    heads = {".npy": b"\x93NUMPY\x01\x00", ".png": b"\x89PNG\r\n\x1a\n", ".jpg": b"\xff\xd8\xff"}
    for head in (b"", heads[suffix]):
        (place / f"field{suffix}").write_bytes(head + content)
        in_one_line(lambda: read_field(place / f"field{suffix}", FieldSpec("x", kind)))


@FUZZ
@given(st.binary(min_size=8, max_size=64), st.integers(0, 2**64 - 1))
def test_headers_of_safetensors(embedder: Path, content: bytes, length: int) -> None:
    path = embedder.with_name("header.safetensors")
    path.with_suffix(".json").write_bytes(embedder.with_suffix(".json").read_bytes())
    path.write_bytes(length.to_bytes(8, "little") + content)
    with pytest.raises(CheckpointError):
        load_embedder(path)


def test_weights_of_another_shape_are_one_line(embedder: Path) -> None:
    state = load_file(embedder)
    name = next(name for name, value in state.items() if value.ndim == 4)
    other = embedder.with_name("shape.safetensors")
    save_file({**state, name: state[name][:1].contiguous()}, other)
    embedder.with_name("shape.json").write_bytes(embedder.with_suffix(".json").read_bytes())
    with pytest.raises(CheckpointError, match="do not fit"):
        load_embedder(other)

"""The authors' released weights: names and shapes, and what becomes of every tensor.

The files are written here, with the names and shapes of the release and numbers of their own.
"""

import json

import pytest
import torch
from click.testing import CliRunner
from dgnet_fill import numbers

from reid_core import CheckpointError, DataError, load_embedder, restore
from reid_core.model.encoder import TimmEncoder
from reid_core.testing.tiny import tiny_assembly
from reid_dgnet.commands import dgnet
from reid_dgnet.generating import Composer
from reid_dgnet.networks.decoder import Decoder, ParameterMlps, SelfAttention
from reid_dgnet.networks.structure import StructureEncoder
from reid_dgnet.official import generator_names, identity_names, load_official
from reid_dgnet.weights import read_tensors

BLOCKS = 4


def conv(name, inputs, outputs, kernel):
    return {f"{name}.weight": (outputs, inputs, kernel, kernel), f"{name}.bias": (outputs,)}


def linear(name, inputs, outputs):
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def generator_shapes(width=16, channels=2048, non_local=False):
    """Return names and shapes of gen_*.pt, as tables 6 and 7 and the public code have them."""
    w, code, found = width, 8 * width, {}
    for number, (inputs, outputs) in enumerate(
        ((1, w), (w, 2 * w), (2 * w, 2 * w), (2 * w, 4 * w))
    ):
        found |= conv(f"enc_content.model.{number}.conv", inputs, outputs, 3)
    for block in range(BLOCKS):
        for half in (0, 1):
            inside = f"model.{block}.model.{half}"
            found |= conv(f"enc_content.model.4.{inside}.conv", 4 * w, 4 * w, 3)
            found |= conv(f"dec.model.1.{inside}.conv", code, code, 3)
            for kind in ("mean", "var"):
                found[f"dec.model.1.{inside}.norm.running_{kind}"] = (code,)
    found |= conv("enc_content.model.5.conv1.conv", 4 * w, 2 * w, 1)
    for name in ("conv6", "conv12", "conv18"):
        found |= conv(f"enc_content.model.5.{name}.0.conv", 4 * w, 2 * w, 1)
        found |= conv(f"enc_content.model.5.{name}.1.conv", 2 * w, 2 * w, 3)
    found |= conv("enc_content.model.5.fuse.conv", code, code, 1)
    at = 3
    if non_local:
        for part in ("query", "key"):
            found |= conv(f"dec.model.2.{part}_conv", code, code // 8, 1)
        found |= conv("dec.model.2.value_conv", code, code, 1)
        found["dec.model.2.gamma"] = (1,)
        at = 4
    for number, (inputs, outputs) in ((at, (code, 4 * w)), (at + 2, (4 * w, 2 * w))):
        found |= conv(f"dec.model.{number}.conv", inputs, outputs, 5)
        found |= {f"dec.model.{number}.norm.{kind}": (outputs,) for kind in ("gamma", "beta")}
    found |= conv(f"dec.model.{at + 3}.conv", 2 * w, 2 * w, 3)
    found |= conv(f"dec.model.{at + 4}.conv", 2 * w, 2 * w, 3)
    found |= conv(f"dec.model.{at + 5}.conv", 2 * w, 3, 1)
    for letter in "wb":
        for block in range(1, BLOCKS + 1):
            name = f"mlp_{letter}{block}.model"
            found |= linear(f"{name}.0.fc", channels, 32 * w)
            found |= linear(f"{name}.1.fc", 32 * w, 32 * w)
            found |= linear(f"{name}.2.fc", 32 * w, 16 * w)
    return found


def identity_shapes(trunk, channels=2048, dim=512, classes=751):
    """Return names and shapes of id_*.pt: the encoder, ImageNet's classifier, two heads."""
    found = {f"model.{name}": tuple(value.shape) for name, value in trunk.state_dict().items()}
    found |= linear("model.fc", channels, 1000)
    for head in ("classifier1", "classifier2"):
        found |= linear(f"{head}.add_block.0", channels, dim)
        for kind in ("weight", "bias", "running_mean", "running_var"):
            found[f"{head}.add_block.1.{kind}"] = (dim,)
        found[f"{head}.add_block.1.num_batches_tracked"] = ()
        found |= linear(f"{head}.classifier.0", dim, classes)
    return found


@pytest.mark.parametrize("non_local", [False, True])
def test_every_tensor_of_the_released_generator_has_a_place_of_its_shape(non_local):
    shapes, names = generator_shapes(non_local=non_local), generator_names(4, non_local)
    trainable = {name for name in shapes if "running" not in name}
    assert set(names) == trainable
    assert len(trainable) == 118 + 7 * non_local
    with torch.device("meta"):
        parts = {
            "structure": StructureEncoder(),
            "decoder": Decoder(non_local=non_local),
            "parameters": ParameterMlps(2048),
        }
    own = {f"{k}.{n}": tuple(p.shape) for k, v in parts.items() for n, p in v.named_parameters()}
    assert {names[name]: shapes[name] for name in trainable} == own


def test_every_tensor_of_the_released_encoder_has_a_place():
    with torch.device("meta"):
        trunk = TimmEncoder("resnet50", (256, 128), last_stride=1, pretrained=False).trunk
    shapes, names = identity_shapes(trunk), identity_names(trunk)
    assert set(shapes) - set(names) == {"model.fc.weight", "model.fc.bias"}
    assert len([n for n in shapes if "running" not in n and "batches" not in n]) == 173
    assert names["model.layer4.0.conv2.weight"] == "encoder.trunk.layer4.0.conv2.weight"
    assert names["classifier1.classifier.0.bias"] == "criteria.dgnet/prim.classifier.bias"
    assert names["classifier2.add_block.0.weight"] == "heads.dgnet/fine.neck.linear.weight"


SIZE = {"height": 96, "width": 48}
SMALL = {"width": 1, "dim": 16, "teacher": "none", "anchors": 4, "picture": 0}


@pytest.fixture(scope="module")
def released(reid_cache):
    """Return tensors of a narrow release with a non-local block, of the toy people."""
    sections = {"plugins": {"dgnet": {**SMALL, "non_local": True}}, "data": SIZE}
    model = tiny_assembly(("dgnet",), sections, cache=reid_cache).model
    trunk, channels = model.encoder.trunk, model.encoder.taps[-1].channels
    shapes = generator_shapes(1, channels, non_local=True)
    parts = (identity_shapes(trunk, channels, 16, 8), shapes)
    state, offset = [], 0
    for part in parts:
        state.append({})
        for name, shape in part.items():
            state[-1][name] = 0.1 * numbers(shape or (1,), offset).float().reshape(shape)
            if name.endswith("running_var"):
                state[-1][name] = state[-1][name].abs() + 1
            if name.endswith("num_batches_tracked"):
                state[-1][name] = torch.tensor(7)
            offset += 1000
    return state


@pytest.fixture
def files(released, tmp_path):
    paths = tmp_path / "id_00100000.pt", tmp_path / "gen_00100000.pt"
    for path, state in zip(paths, released, strict=True):
        torch.save({"a": state}, path)
    return paths


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "toy.toml"
    path.write_text(
        '[run]\nplugins = ["dgnet"]\n[data]\nname = "toy:tiny"\nheight = 96\nwidth = 48\n'
        'batch_size = 8\ninstances = 2\n[model]\nbackbone = "test_resnet"\n'
        '[engine]\ndevice = "cpu"\n[plugins.dgnet]\nanchors = 4\n'
    )
    return path


def test_a_release_becomes_a_run_that_everything_reads(files, recipe, released, tmp_path):
    out = tmp_path / "run"
    given = ("--identity", files[0], "--generator", files[1], "--recipe", recipe, "--out", out)
    words = ["import", *(str(word) for word in given)]
    result = CliRunner().invoke(dgnet, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    report = json.loads((out / "imported.json").read_text())
    identity, generator = released
    idle = {n for n in generator if "running" in n} | {"model.fc.weight", "model.fc.bias"}
    assert set(report["idle"]) == idle
    assert set(report["taken"]) == ({*identity, *generator} - idle)
    assert f"{len(report['taken'])} tensors taken" in result.output
    assert "dec.model.1.model.0.model.0.norm.running_mean" in result.output

    ctx = restore(out, say=lambda line: None).ctx
    state = ctx.model.state_dict()
    for theirs, ours in report["taken"].items():
        ours = ours if ours in state else f"branches.dgnet/{ours}"
        assert torch.equal(state[ours], {**identity, **generator}[theirs]), theirs
    assert ctx.module("dgnet/decoder").attention is not None
    assert load_embedder(out).dim == 32
    composer = Composer.of(ctx)
    appearance, structure = composer.codes(composer.read(ctx.main.samples[:2]))
    assert composer.compose(structure, appearance).shape == (2, 3, 96, 48)


def assembled(cache, **settings):
    sections = {"plugins": {"dgnet": {**SMALL, "non_local": True, **settings}}, "data": SIZE}
    return tiny_assembly(("dgnet",), sections, cache=cache).model


def test_tensors_that_nobody_knows_are_named(released, reid_cache):
    identity, generator = ({**part} for part in released)
    generator["dec.model.2.strange.weight"] = torch.zeros(1)
    del identity["classifier2.classifier.0.bias"]
    with pytest.raises(
        CheckpointError,
        match=r"without a place here: dec.model.2.strange.weight; without a counterpart: "
        r"criteria.dgnet/fine.classifier.bias$",
    ):
        load_official(assembled(reid_cache), identity, generator)


def test_counters_of_old_files_may_be_missing(released, reid_cache):
    identity = {n: v for n, v in released[0].items() if not n.endswith("batches_tracked")}
    taken, _ = load_official(assembled(reid_cache), identity, released[1])
    assert "classifier1.add_block.1.running_var" in taken


def test_other_identities_are_refused_and_nothing_is_changed(released, reid_cache):
    identity = {**released[0], "classifier1.classifier.0.weight": torch.zeros(9, 16)}
    model = assembled(reid_cache)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(
        CheckpointError, match=r"classifier1.classifier.0.weight is \(9, 16\).*8, 16"
    ):
        load_official(model, identity, released[1])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_files_in_the_wrong_order_are_refused(released, reid_cache):
    with pytest.raises(CheckpointError, match=r"give id_\*.pt and gen_\*.pt .* in this order"):
        load_official(assembled(reid_cache), released[1], released[0])


def test_a_file_is_read_as_tensors_and_never_unpickled(tmp_path):
    torch.save({"a": torch.nn.Linear(1, 1)}, tmp_path / "module.pt")
    with pytest.raises(CheckpointError, match=r"module.pt does not hold tensors alone"):
        read_tensors(tmp_path / "module.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="holds no tensors by name, but list"):
        read_tensors(tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="there is no file"):
        read_tensors(tmp_path / "none.pt")
    torch.save({"a": {"x": torch.ones(1)}}, tmp_path / "state.pt")
    assert read_tensors(tmp_path / "state.pt") == {"x": torch.ones(1)}


def test_attention_reads_all_positions():
    layer = SelfAttention(8)
    maps = torch.randn(2, 8, 3, 2)
    assert torch.equal(layer(maps), maps)
    torch.nn.init.constant_(layer.gain, 2.0)
    flat = maps.flatten(2)
    query, key, value = (
        torch.einsum("oi,bip->bop", part.weight[:, :, 0, 0], flat) + part.bias[:, None]
        for part in (layer.query, layer.key, layer.value)
    )
    share = torch.einsum("bcp,bcq->bpq", query, key).softmax(2)
    read = torch.einsum("bcq,bpq->bcp", value, share).reshape(maps.shape)
    assert torch.allclose(layer(maps), maps + 2 * read, atol=1e-5)


def test_the_data_set_of_the_release_must_be_there(files, tmp_path):
    words = ["import", "--identity", files[0], "--generator", files[1], "--out", tmp_path / "run"]
    with pytest.raises(DataError, match=r"'market1501' reads files that you have.*--data-root"):
        CliRunner().invoke(dgnet, [str(w) for w in words], catch_exceptions=False)

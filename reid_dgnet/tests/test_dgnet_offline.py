"""Both features learnt from images that were generated before (section 4.3)."""

import json

import numpy as np
import PIL.Image
import pytest
from test_dgnet_gradients import SMALL
from test_dgnet_plugin import Rival, watched

from reid_core import ConfigError, DataError, open_dataset
from reid_core.testing.tiny import tiny_assembly
from reid_dgnet.offline import CARD, label_order, load_generated
from reid_dgnet.settings import DgnetSettings

PEOPLE = (3, 1, 6, 6, 0, 2)


@pytest.fixture
def made(reid_cache, tmp_path):
    """Write six images, named after people 3, 1, 6, 6, 0 and 2 of the toy people."""
    rng, folder = np.random.default_rng(0), tmp_path / "made"
    (folder / "train").mkdir(parents=True)
    for number, pid in enumerate(PEOPLE):
        pixels = rng.integers(0, 255, (64, 32, 3), dtype=np.uint8)
        name = f"{pid}_c{number % 2}_generated{number}-0.png"
        PIL.Image.fromarray(pixels).save(folder / "train" / name)
    (folder / "train" / "3_c0_real0.png").touch()
    samples = open_dataset("toy:tiny", cache=reid_cache).train.samples
    card = {"named_after": "structure", "labels": label_order(samples)}
    (folder / CARD).write_text(json.dumps(card))
    return folder


def assembled(cache, folder, classes=None, **settings):
    layer = {"plugins": {"dgnet": {**SMALL, "labels": "uniform", "offline": str(folder)}}}
    layer["plugins"]["dgnet"] |= settings
    plugins = ("dgnet", *(classes or ()))
    own = {"own": {"embedding": "rival"}} if classes else {}
    return tiny_assembly(plugins, {**layer, **own}, cache=cache, classes=classes)


def test_generated_files_carry_the_identity_of_the_structure(made):
    source = load_generated(made)
    assert sorted(s.pid for s in source.samples) == sorted(PEOPLE)
    assert {s.camid for s in source.samples} == {0, 1}


def test_both_features_learn_from_them_and_nothing_is_composed(made, reid_cache):
    assembly = assembled(reid_cache, made)
    assert not [name for name in assembly.model.branches if "decoder" in name]
    assert [u.name for u in assembly.parts.plan.updates] == ["main"]
    trainer, views = watched(assembly)
    seen = views["main"].passes["dgnet/offline"]
    assert set(views["main"].passes) == {"main", "dgnet/offline"}
    assert len(seen.batch) == SMALL["anchors"]
    assert set(seen.batch.pid.tolist()) <= set(PEOPLE)
    assert {n.partition(":")[2] for n in trainer.trace[-1]} == {
        *("dgnet/prim/ce", "dgnet/fine/ce", "dgnet/fine_on_real"),
        *("dgnet/fine_grained", "dgnet/primary"),
    }


def test_without_the_embeddings_nothing_is_learnt_from_them(made, reid_cache):
    assembly = assembled(reid_cache, made, {"rival": Rival})
    assert [p.name for p in assembly.parts.plan.updates[0].passes] == ["main"]
    trainer, _ = watched(assembly)
    assert set(trainer.metrics.seen) == {"rival/vector/ce", "rival/vector/triplet"}


def test_a_set_that_does_not_fit_is_refused(made, reid_cache, tmp_path):
    with pytest.raises(DataError, match=r"there is no generated.json; make the set with"):
        load_generated(tmp_path)
    card = json.loads((made / CARD).read_text())
    (made / CARD).write_text(json.dumps({**card, "labels": "others"}))
    with pytest.raises(ConfigError, match="generated of other images or identities than this"):
        assembled(reid_cache, made)
    (made / CARD).write_text(json.dumps({**card, "named_after": "appearance"}))
    with pytest.raises(ConfigError, match=r"fine-grained features learn the structure's"):
        load_generated(made)
    (made / CARD).write_text(json.dumps(card))
    for path in (made / "train").glob("*generated*"):
        path.unlink()
    with pytest.raises(DataError, match="there is no generated image in its 'train'"):
        load_generated(made)


@pytest.mark.parametrize("style", ["appearance", "masked"])
def test_labels_that_ask_for_the_appearance_s_person_are_refused(style):
    with pytest.raises(ValueError, match=f"labels = '{style}' asks whose appearance"):
        DgnetSettings(offline="made", labels=style)

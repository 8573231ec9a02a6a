import pytest
import torch

from reid_core.runs.stages import prepare_stage
from reid_core.testing.tiny import Recorder, tiny_assembly
from reid_parsing import RECIPES, build_parser, parser_stage, trained_parser
from reid_parsing.networks.in_training import NetworkInTraining
from reid_parsing.training import NETWORK, ParserTraining


def assemble(reid_cache, network="light", **sections):
    settings = {"network": network, "canvas": [32, 32], "scale": [0.8, 1.25], "rotation": 10.0}
    plugins = {"plugins": {"parsing": settings}, "model": {"neck": "none"}}
    return tiny_assembly(
        ("parsing",), plugins, sections, cache=reid_cache, classes={"parsing": ParserTraining}
    )


def test_the_network_learns_from_labels(reid_cache):
    long = {"epochs": 1, "iterations_per_epoch": 12, "warmup_epochs": 0}
    trainer = Recorder(assemble(reid_cache, schedule=long, identity={"triplet_weight": 0.0}))
    trainer.fit()
    losses = [step["main:parsing/logits"] for step in trainer.trace]
    assert sum(losses[-3:]) < 0.85 * sum(losses[:3])


@pytest.mark.parametrize(
    ("network", "terms"),
    [
        ("danet", {"parsing/logits"}),
        ("schp", {"parsing/logits", "parsing/decoded", "parsing/edges"}),
    ],
)
def test_every_parameter_of_the_large_networks_is_trained(reid_cache, network, terms):
    assembly = assemble(reid_cache, network, data={"batch_size": 2, "instances": 1})
    trainer = Recorder(assembly)
    assembly.model.train()
    streams = trainer.streams(1)
    batches = trainer.batches(streams)
    for stream in streams.values():
        stream.close()
    update = assembly.parts.plan.updates[0]
    loss, report = assembly.parts.forward(update, batches)
    loss.backward()
    assert terms <= set(report.terms)
    module = assembly.model.branches[NETWORK]
    still = [name for name, p in module.named_parameters() if p.grad is None]
    assert still == []


def test_in_evaluation_nothing_is_moved():
    torch.manual_seed(0)
    network = NetworkInTraining(build_parser("light"), (16, 16), (0.5, 2.0), 45.0)
    image, labels = torch.randn(2, 3, 32, 16), torch.randint(0, 8, (2, 32, 16)).byte()
    found, logits = network.eval()(image, labels)
    assert torch.equal(found, labels.long())
    assert torch.equal(logits, network.network(image))
    moved, logits = network.train()(image, labels)
    assert moved.shape == (2, 16, 16)
    assert logits.shape == (2, 8, 8, 8)


def test_the_author_s_recipe():
    stage = parser_stage("parts", "danet", "parsing-densepose")
    optim, schedule = stage.settings["optim"], stage.settings["schedule"]
    assert (optim["name"], optim["lr"], optim["momentum"]) == ("sgd", 3e-3, 0.9)
    assert (optim["weight_decay"], optim["new_layers_scale"]) == (1e-4, 1.0)
    assert (schedule["epochs"], schedule["gamma"]) == (5, 0.6)
    assert (schedule["milestones"], schedule["warmup_epochs"]) == ([1, 2, 3, 4], 0)
    data, moved = stage.settings["data"], stage.settings["plugins"]["parsing"]
    assert (data["width"], data["batch_size"], data["sampler"]) == (192, 16, "random")
    shorter = [data["width"] * factor for factor in moved["scale"]]
    assert (shorter, moved["canvas"], moved["rotation"]) == ([144, 240], [256, 256], 10.0)
    assert stage.settings["augment"]["flip"] == 0.5
    assert set(RECIPES) == {"light", "danet", "schp"}


def test_a_parser_does_not_depend_on_the_run_that_asks_for_it(reid_cache):
    stage = parser_stage("parts", "light", "toy:tiny", epochs=1, iterations=1)
    one = tiny_assembly(cache=reid_cache)
    other = tiny_assembly(
        (),
        {
            "data": {"height": 96, "threads": 1},
            "model": {"backbone": "test_vit", "last_stride": 2},
            "optim": {"lr": 0.1},
            "augment": {"pad": 4},
        },
        cache=reid_cache,
    )
    keys = {prepare_stage(assembly.ctx, stage)[2] for assembly in (one, other)}
    assert len(keys) == 1
    longer = parser_stage("parts", "light", "toy:tiny", epochs=2, iterations=1)
    garments = parser_stage("garments", "light", "toy:tiny", epochs=1, iterations=1)
    more = {prepare_stage(one.ctx, s)[2] for s in (longer, garments)}
    assert len(keys | more) == 3


def test_another_plugin_trains_a_parser_by_the_stage(reid_cache):
    """What a paper does that wants a parser of its own in its graph."""
    assembly = tiny_assembly(cache=reid_cache)
    result = assembly.ctx.stage(
        parser_stage("garments", "light", "toy:tiny", epochs=1, iterations=2)
    )
    parser = trained_parser(result)
    assert (parser.architecture, parser.labels.name, parser.size) == (
        "light",
        "garments",
        (128, 64),
    )
    image = torch.randn(1, 3, 64, 32, requires_grad=True)
    parser.network(image).softmax(1)[:, 3].mean().backward()
    assert image.grad.abs().sum() > 0

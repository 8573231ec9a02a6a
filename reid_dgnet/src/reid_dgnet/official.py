"""Read the authors' released weights: whose tensor is which here, and what was left over.

The files are the user's own (``id_*.pt`` and ``gen_*.pt``, CC BY-NC-SA 4.0); none is part of this
distribution. `weights` reads them as tensors alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reid_core import CheckpointError, build_run, write_json, write_text
from reid_core.loop.trainer import Trainer
from reid_core.model.graph import ReidModel
from reid_dgnet.weights import read_tensors

PLUGIN = "dgnet"

IDLE = (
    re.compile(r"model\.fc\.(weight|bias)"),
    re.compile(r"dec\.model\.1\..*\.norm\.running_(mean|var)"),
)
"""Tensors that no image passes: ImageNet's classifier, and buffers of the AdaIN layers."""

HEADS = {"prim": "classifier1", "fine": "classifier2"}
"""Our embeddings and the authors' heads."""


def imported_run(
    identity: Path, generator: Path, recipe: str, root: Path | None, out: Path
) -> tuple[dict[str, str], list[str]]:
    """Make a finished run of released weights; say in ``imported.json`` what became of them.

    Args:
        identity, generator: the files.
        recipe: of the data set that they were trained on, whose identities the classifiers know.
        root: folder of that data set.
        out: the run's folder.

    Returns:
        See `load_official`.

    Raises:
        ReidError: a file does not fit, or the data set is not there.
    """
    files = read_tensors(identity), read_tensors(generator)
    flags = {
        "data": {} if root is None else {"root": str(root)},
        "model": {"pretrained": False},
        "plugins": {PLUGIN: {"teacher": "none", **sizes_of(*files)}},
    }
    assembly = build_run(flags, recipe=recipe, say=lambda line: None)
    taken, idle = load_official(assembly.model, *files)
    assembly.ctx.progress.epoch = assembly.config.schedule.epochs
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "config.toml", assembly.config.to_toml())
    Trainer(assembly, out / "checkpoint.pt").save()
    assembly.embedder().save(out / "embedder.safetensors")
    write_json(out / "imported.json", {"taken": taken, "idle": idle})
    return taken, idle


def sizes_of(identity: Mapping[str, Tensor], generator: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the settings of dgnet that released weights were trained with.

    Raises:
        CheckpointError: a file is not what it should be.
    """
    try:
        width = generator["enc_content.model.0.conv.weight"].shape[0]
        dim = identity["classifier1.add_block.0.weight"].shape[0]
    except KeyError as error:
        raise CheckpointError(
            f"the files hold no tensor {error}: give id_*.pt and gen_*.pt of the release, in this "
            "order"
        ) from None
    blocks = {name.split(".")[4] for name in generator if name.startswith("dec.model.1.")}
    non_local = "dec.model.2.gamma" in generator
    return {"width": width, "dim": dim, "blocks": len(blocks), "non_local": non_local}


def generator_names(blocks: int = 4, non_local: bool = False) -> dict[str, str]:
    """Return our names of the generator's parameters by the authors'.

    Args:
        blocks: residual blocks of encoder and decoder.
        non_local: whether the decoder attends over all positions, which moves its later layers.
    """
    found: dict[str, str] = {}

    def layer(theirs: str, ours: str) -> None:
        found.update({f"{theirs}.{kind}": f"{ours}.{kind}" for kind in ("weight", "bias")})

    for number in range(4):
        layer(f"enc_content.model.{number}.conv", f"structure.down.{number}.0")
    for block in range(blocks):
        for half in range(2):
            inside = f"model.{block}.model.{half}.conv"
            layer(f"enc_content.model.4.{inside}", f"structure.blocks.{block}.layers.{half}.0")
            side = ("first", "second")[half]
            layer(f"dec.model.1.{inside}", f"decoder.blocks.{block}.{side}")
    pyramid = "structure.pyramid.branches"
    layer("enc_content.model.5.conv1.conv", f"{pyramid}.0.0")
    for branch, theirs in enumerate(("conv6", "conv12", "conv18"), 1):
        for half in range(2):
            layer(f"enc_content.model.5.{theirs}.{half}.conv", f"{pyramid}.{branch}.{half}.0")
    layer("enc_content.model.5.fuse.conv", "structure.fuse.0")
    first = 3 + non_local
    if non_local:
        for part in ("query", "key", "value"):
            layer(f"dec.model.2.{part}_conv", f"decoder.attention.{part}")
        found["dec.model.2.gamma"] = "decoder.attention.gain"
    for stage in range(2):
        theirs, ours = f"dec.model.{first + 2 * stage}", f"decoder.upper.{4 * stage}"
        layer(f"{theirs}.conv", f"decoder.upper.{4 * stage + 1}")
        norm = f"decoder.upper.{4 * stage + 2}"
        found |= {f"{theirs}.norm.gamma": f"{norm}.weight", f"{theirs}.norm.beta": f"{norm}.bias"}
    for number in range(3):
        layer(f"dec.model.{first + 3 + number}.conv", f"decoder.last.{2 * number}")
    for letter, ours in (("w", "scales"), ("b", "shifts")):
        for block in range(blocks):
            for number in range(3):
                theirs = f"mlp_{letter}{block + 1}.model.{number}.fc"
                layer(theirs, f"parameters.{ours}.{block}.{2 * number}")
    return found


def identity_names(trunk: nn.Module) -> dict[str, str]:
    """Return our names of the appearance encoder's and its heads' tensors by the authors'.

    Args:
        trunk: the encoder's network, whose tensors the authors' carry the same names.
    """
    found = {f"model.{name}": f"encoder.trunk.{name}" for name in trunk.state_dict()}
    for ours, theirs in HEADS.items():
        neck, classifier = f"heads.{PLUGIN}/{ours}.neck", f"criteria.{PLUGIN}/{ours}.classifier"
        for kind in ("weight", "bias"):
            found[f"{theirs}.add_block.0.{kind}"] = f"{neck}.linear.{kind}"
            found[f"{theirs}.classifier.0.{kind}"] = f"{classifier}.{kind}"
        for kind in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            found[f"{theirs}.add_block.1.{kind}"] = f"{neck}.norm.{kind}"
    return found


def load_official(
    model: ReidModel, identity: Mapping[str, Tensor], generator: Mapping[str, Tensor]
) -> tuple[dict[str, str], list[str]]:
    """Put released weights into the model of a run with the plugin.

    Every tensor of both files has a place, or is known to play no part, and every parameter of the
    model but the discriminator's is filled; otherwise nothing is changed.

    Args:
        model: of a run with the sizes of `sizes_of`.
        identity, generator: tensors of ``id_*.pt`` and ``gen_*.pt``.

    Returns:
        Names of the tensors that were taken, with those here; names of those that play no part.

    Raises:
        CheckpointError: tensors without a place, without a counterpart, or of another shape.
    """
    sizes = sizes_of(identity, generator)
    parts = generator_names(sizes["blocks"], sizes["non_local"])
    trunk: nn.Module = model.encoder.trunk  # type: ignore[assignment]
    names = identity_names(trunk)
    names |= {theirs: f"branches.{PLUGIN}/{ours}" for theirs, ours in parts.items()}
    own = model.state_dict()
    wanted = {
        name
        for name in own
        if name.startswith(("encoder.", "heads.", "criteria.", "branches."))
        and not name.startswith(f"branches.{PLUGIN}/discriminator.")
    }
    given = {**identity, **generator}
    idle = sorted(name for name in given if any(known.fullmatch(name) for known in IDLE))
    strange = sorted(name for name in given if name not in names and name not in idle)
    reached = {names[name] for name in given if name in names}
    # Files of the first versions of torch do not count the batches.
    lacking = sorted(n for n in wanted - reached if not n.endswith("num_batches_tracked"))
    if strange or lacking:
        raise CheckpointError(
            "these are not the weights of the published networks: "
            f"without a place here: {_listed(strange)}; without a counterpart: {_listed(lacking)}"
        )
    taken = {name: names[name] for name in given if name in names}
    for theirs, ours in taken.items():
        if given[theirs].shape != own[ours].shape:
            raise CheckpointError(
                f"{theirs} is {tuple(given[theirs].shape)}, and {ours} is "
                f"{tuple(own[ours].shape)}; a classifier has a row for each training identity of "
                "the data set"
            )
    with torch.no_grad():
        for theirs, ours in taken.items():
            own[ours].copy_(given[theirs])
    return taken, idle


def _listed(names: Sequence[str], shown: int = 4) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return (", ".join(names[:shown]) or "none") + more

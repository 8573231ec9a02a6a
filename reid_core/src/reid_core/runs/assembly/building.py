"""Build the training model from what the plugins declare, and verify it on two real rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from reid_core.contract.batches import Batch
from reid_core.contract.context import RunContext
from reid_core.contract.model import CLEAN_IMAGE, Branch, Embedding, Tap
from reid_core.errors import PluginError
from reid_core.machine.randomness import scoped
from reid_core.model.blocks import EmbeddingHead
from reid_core.model.encoder import verify_taps
from reid_core.model.graph import ReidModel, dry_outputs, order_branches, tap_of
from reid_core.model.modes import evaluating
from reid_core.plugins.calls import HookCalls


def build_model(ctx: RunContext, calls: HookCalls, batches: Mapping[str, Batch]) -> ReidModel:
    """Build encoder, branches, embeddings and criteria, each in a random scope of its own.

    Args:
        ctx: the run; ``ctx.model`` is set.
        calls: the run's hooks.
        batches: two real rows of every source, normalised, on the CPU. Every branch is run on
            them, so that a mismatch shows before the first second of training.

    Raises:
        PluginError, ConflictError: what plugins declare does not fit together.
    """
    seed = ctx.config.run.seed
    owner = ctx.slots["backbone"]
    encoder = calls.backbone(owner, ctx)
    verify_taps(encoder, ctx.image_size, owner)
    taps = {tap.name: tap for tap in encoder.taps}
    owned = calls.auxiliary_branches(ctx, taps)
    fields = {name for batch in batches.values() for name in batch.fields}
    ordered = order_branches(owned, taps, fields)
    known: dict[str, dict[str, Tensor]] = {}
    with evaluating(encoder):
        for source, batch in batches.items():
            known[source] = {
                "image": batch.image,
                CLEAN_IMAGE: batch.image,
                **batch.fields,
                **encoder(batch.image),
            }
    built = [_built(branch, taps, known, ctx) for branch in ordered]
    vectors = {name: tensor for outputs in known.values() for name, tensor in outputs.items()}
    heads = {}
    for embedding in sorted((e for b in built for e in b.embeddings), key=lambda e: e.name):
        with scoped(seed, "embedding", embedding.name):
            heads[embedding.name] = _head(embedding, vectors)
    model = ctx.model = ReidModel(encoder, built, heads)
    for name, head in heads.items():
        if head.declaration.supervision is not None and ctx.main.identities:
            dims = {"raw": head.channels, "neck": head.dim, "unit": head.dim}
            criterion = calls.identity(ctx.slots["identity"], ctx, head.declaration, dims)
            model.criteria[name] = criterion
    return model


def _built(
    branch: Branch, taps: dict[str, Tap], known: Mapping[str, dict[str, Tensor]], ctx: RunContext
) -> Branch:
    module = branch.module
    if not isinstance(module, nn.Module):
        with scoped(ctx.config.run.seed, "branch", branch.name):
            module = module({read: taps[read] for read in branch.reads if read in taps})
        if not isinstance(module, nn.Module):
            raise PluginError(
                f"branch '{branch.name}': its factory returned a {type(module).__name__}, not a "
                "torch.nn.Module"
            )
    # A stage's model lies on the run's device; everything is tried out on the CPU.
    branch = replace(branch, module=module.cpu())
    for source, outputs in known.items():
        wanted = branch.sources is None or source in branch.sources
        if branch.reads and wanted and all(read in outputs for read in branch.reads):
            for name, tensor in dry_outputs(branch, outputs).items():
                outputs[name] = tensor
                taps[name] = tap_of(name, tensor, ctx.image_size[0])
    return branch


def _head(embedding: Embedding, vectors: Mapping[str, Tensor]) -> EmbeddingHead:
    if embedding.reads not in vectors:
        raise PluginError(
            f"embedding '{embedding.name}' reads '{embedding.reads}', which no branch wrote on "
            "any training source"
        )
    raw = vectors[embedding.reads]
    if raw.flatten(1).shape[1] != raw.shape[1]:
        raise PluginError(
            f"embedding '{embedding.name}' reads '{embedding.reads}' of shape "
            f"{tuple(raw.shape)}; it needs vectors, so pool the map first"
        )
    head = EmbeddingHead(embedding, raw.shape[1])
    with evaluating(head):
        found = head(raw).neck.shape[1]
    if found != head.dim:
        raise PluginError(
            f"embedding '{embedding.name}': its neck returns {found} values, dim says {head.dim}"
        )
    return head

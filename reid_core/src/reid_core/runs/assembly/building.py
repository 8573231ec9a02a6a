"""Build the training model from what the plugins declare, and verify it on two real rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from reid_core.contract.batches import Batch
from reid_core.contract.context import RunContext
from reid_core.contract.fields import SPATIAL
from reid_core.contract.model import CLEAN_IMAGE, FRAME_POOLINGS, Branch, Embedding, Tap
from reid_core.contract.names import check_unique
from reid_core.contract.step import MAIN
from reid_core.contract.vectors import vector_of
from reid_core.errors import PluginError
from reid_core.machine.randomness import scoped
from reid_core.model.blocks import EmbeddingHead
from reid_core.model.encoder import verify_taps
from reid_core.model.frames import FramePool, names_of_frames, of_frames, reads_clips
from reid_core.model.graph import ReidModel, dry_outputs, order_branches, tap_of
from reid_core.model.inputs import encoded, inputs_of
from reid_core.model.modes import evaluating
from reid_core.model.values import Values
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
    owner = ctx.slots["backbone"]
    encoder = calls.backbone(owner, ctx)
    main = batches[MAIN]
    specs = [spec for batch in batches.values() for spec in batch.specs.values()]
    spatial = {spec.name for spec in specs if spec.kind in SPATIAL}
    verify_taps(encoder, ctx.image_size, owner, main.readable, spatial)
    taps = {tap.name: tap for tap in encoder.taps}
    owned = calls.auxiliary_branches(ctx, taps)
    fields = {name for batch in batches.values() for name in batch.fields}
    ordered = order_branches(owned, taps, fields)
    named = set(names_of_frames(encoder, (), spatial))
    making = _Making(ctx, taps, named)
    with evaluating(encoder):
        offered = inputs_of(encoder, (), main.readable, named)
        for source, batch in batches.items():
            read = batch.readable
            maps = encoded(encoder, batch.image, read, offered, batch.frames, named)
            known = {"image": batch.image, CLEAN_IMAGE: batch.image, **read, **maps}
            making.begin(source, known, batch.frames)
    built = making.branches(ordered)
    deployed = [head for _, head in sorted(making.heads.items()) if head.declaration.at_test]
    for head in deployed:
        more = calls.embedding_branches(ctx, head.declaration, dims_of(head))
        _check_further(more)
        built += making.branches(order_branches(more, making.taps, fields, making.declared))
    check_unique("branch", [(branch.name.partition("/")[0], branch.name) for branch in built])
    heads = dict(sorted(making.heads.items()))
    values = {n: v for batch in reversed(list(batches.values())) for n, v in batch.readable.items()}
    # Only a model that knows clips tells what is of frames from what is of samples.
    clips = ctx.main.tracklets or reads_clips(encoder, built)
    inputs = inputs_of(encoder, built, values, spatial if clips else ())
    clip = ctx.config.data.frames if ctx.main.tracklets else None
    model = ctx.model = ReidModel(encoder, built, heads, inputs, clip)
    for name, head in heads.items():
        if head.declaration.supervision is not None and ctx.main.identities:
            owner = ctx.slots["identity"]
            model.criteria[name] = calls.identity(owner, ctx, head.declaration, dims_of(head))
    return model


@dataclass
class _Making:
    """A model in the making, run on two rows of every source.

    Args:
        ctx: the run.
        taps: what is known of outputs so far.
        of_frames: names of what has a row per frame.
        known: values of every source.
        heads: embeddings so far.
        declared: those of the branches so far, by name.
    """

    ctx: RunContext
    taps: dict[str, Tap]
    of_frames: set[str]
    known: dict[str, Values] = field(default_factory=dict)
    heads: dict[str, EmbeddingHead] = field(default_factory=dict)
    declared: dict[str, Embedding] = field(default_factory=dict)

    def begin(self, source: str, values: dict[str, Tensor], frames: int) -> None:
        """Begin with what the data and the encoder give of rows of so many frames."""
        self.known[source] = Values(
            values,
            self.declared,
            self.heads,
            lambda name: evaluating(self.heads[name]),
            frames,
            self.of_frames,
        )

    def branches(self, ordered: Sequence[Branch]) -> list[Branch]:
        """Build branches, and embeddings as soon as their input is there.

        Raises:
            PluginError: nobody wrote the input of one.
        """
        self.declared |= {e.name: e for branch in ordered for e in branch.embeddings}
        self._settle()
        built = []
        for branch in ordered:
            built.append(self._built(branch))
            self._settle()
        for name, embedding in self.declared.items():
            if name not in self.heads:
                raise PluginError(
                    f"embedding '{name}' reads '{embedding.reads}', which no branch wrote on any "
                    "training source"
                )
        return built

    def _settle(self) -> None:
        """Build the heads whose inputs are there, those that read other embeddings included."""
        made = True
        while made:
            made = False
            for name in sorted(self.declared.keys() - self.heads.keys()):
                embedding = self.declared[name]
                with_it = [s for s, known in self.known.items() if embedding.reads in known]
                if with_it:
                    with scoped(self.ctx.config.run.seed, "embedding", name):
                        self.heads[name] = self._head(embedding, with_it[-1])
                    made = True

    def _tap(self, name: str) -> Tap | None:
        """Describe an output or a vector; None for an image, a field, and what is not there."""
        if name in self.taps or vector_of(name) is None:
            return self.taps.get(name)
        found = [known[name] for known in self.known.values() if name in known]
        return tap_of(name, found[-1], self.ctx.image_size[0]) if found else None

    def _built(self, branch: Branch) -> Branch:
        module = branch.module
        if not isinstance(module, nn.Module):
            told = {name: self._tap(name) for name in (*branch.reads, *branch.sizes)}
            with scoped(self.ctx.config.run.seed, "branch", branch.name):
                module = module({name: tap for name, tap in told.items() if tap is not None})
            if not isinstance(module, nn.Module):
                raise PluginError(
                    f"branch '{branch.name}': its factory returned a {type(module).__name__}, "
                    "not a torch.nn.Module"
                )
        # A stage's model lies on the run's device; everything is tried out on the CPU.
        branch = replace(branch, module=module.cpu())
        for source, known in self.known.items():
            wanted = branch.sources is None or source in branch.sources
            if branch.reads and wanted and all(read in known for read in branch.reads):
                written = dry_outputs(branch, known, known.frames, self.of_frames)
                known.known |= written
                height = self.ctx.image_size[0]
                self.taps |= {name: tap_of(name, value, height) for name, value in written.items()}
        if of_frames(branch, self.of_frames):
            self.of_frames.update(branch.writes)
        return branch

    def _head(self, embedding: Embedding, source: str) -> EmbeddingHead:
        raw = self.known[source][embedding.reads]
        if raw.flatten(1).shape[1] != raw.shape[1]:
            raise PluginError(
                f"embedding '{embedding.name}' reads '{embedding.reads}' of shape "
                f"{tuple(raw.shape)}; it needs vectors, so pool the map first"
            )
        frames = self.known[source].frames if embedding.reads in self.of_frames else None
        pool = None
        if frames is not None and self.ctx.main.tracklets:
            pool = frame_pooling(self.ctx, raw.shape[1])
        head = EmbeddingHead(embedding, raw.shape[1], pool)
        with evaluating(head):
            found = head(raw, frames).neck.shape[1]
        if found != head.dim:
            raise PluginError(
                f"embedding '{embedding.name}': its neck returns {found} values, dim says "
                f"{head.dim}"
            )
        return head


def frame_pooling(ctx: RunContext, channels: int) -> nn.Module:
    """Return what pools the vectors of a tracklet's frames, as ``model.frame_pooling`` says.

    Args:
        ctx: the run.
        channels: length of the vectors.
    """
    kind = ctx.config.model.frame_pooling
    if kind in FRAME_POOLINGS:
        return FramePool(kind)
    return ctx.providers.build_pooling(kind, channels, pools="frames")


def dims_of(head: EmbeddingHead) -> dict[str, int]:
    """Return the lengths of an embedding's vectors."""
    return {"raw": head.channels, "neck": head.dim, "unit": head.dim}


def _check_further(owned: Sequence[tuple[str, Branch]]) -> None:
    for owner, branch in owned:
        for embedding in branch.embeddings:
            if embedding.at_test:
                raise PluginError(
                    f"plugin '{owner}': embedding '{embedding.name}' of reid_embedding_branches "
                    "must have at_test=False: what is deployed is declared before"
                )

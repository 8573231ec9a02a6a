"""The training model: encoder, branches in an order that fits their reads, embeddings, criteria."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from reid_core.contract.criterion import IdentityOutput
from reid_core.contract.encoder import Encoder
from reid_core.contract.fields import SHARED_FIELDS
from reid_core.contract.model import CLEAN_IMAGE, SAMPLE_LABELS, Branch, Embedding, Tap
from reid_core.contract.names import check_declared, check_owned, in_order
from reid_core.contract.vectors import DEPLOYED, Embedded, embeddings_of
from reid_core.contract.views import matches
from reid_core.errors import ConflictError, PluginError, did_you_mean, with_choices
from reid_core.machine.ranks import gather, world
from reid_core.model.blocks import EmbeddingHead
from reid_core.model.frames import fitted, names_of_frames
from reid_core.model.inputs import Input, encoded
from reid_core.model.modes import evaluating
from reid_core.model.trunks import stride_of
from reid_core.model.values import Scope, Values, no_scope


class ReidModel(nn.Module):
    """Everything that is trained together.

    Args:
        encoder: the encoder.
        branches: all branches with built modules, in the order in which they run.
        heads: embeddings by name.
        inputs: what encoder and branches read beside the image, by name.
        clip: see below.

    Attributes:
        declarations: the branches' declarations by name, in order.
        criteria: identity criteria by embedding, filled in when they are built.
        of_frames: names of the values that have a row per frame of a tracklet.
        clip: frames of the clips that it is trained on; None where they are single images.
    """

    def __init__(
        self,
        encoder: Encoder,
        branches: Sequence[Branch],
        heads: Mapping[str, EmbeddingHead],
        inputs: Mapping[str, Input] | None = None,
        clip: int | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.declarations = {branch.name: branch for branch in branches}
        self.branches = nn.ModuleDict({branch.name: branch.module for branch in branches})  # type: ignore[misc]
        self.heads = nn.ModuleDict(dict(heads))
        self.criteria = nn.ModuleDict()
        self.inputs = dict(inputs or {})
        self.clip = clip
        fields = [name for name, one in self.inputs.items() if one.of_frames]
        self.of_frames = names_of_frames(encoder, branches, fields)
        for branch in branches:
            if branch.frozen:
                self.branches[branch.name].requires_grad_(False).eval()
        test = [name for name, one in self.embeddings.items() if one.at_test]
        self._deployed = {one.name for one in leading_to(self.embeddings, branches, test)[0]}

    @property
    def embeddings(self) -> dict[str, Embedding]:
        """Declarations of the embeddings by name."""
        return {name: head.declaration for name, head in self.heads.items()}  # type: ignore[misc]

    def train(self, mode: bool = True) -> ReidModel:
        """Set training mode everywhere but in frozen branches, which stay in evaluation mode."""
        super().train(mode)
        for name, declaration in self.declarations.items():
            if declaration.frozen:
                self.branches[name].eval()
        return self

    def forward(
        self,
        image: Tensor,
        fields: Mapping[str, Tensor],
        source: str,
        patterns: Sequence[str],
        scope: Scope,
        labels: Tensor | None = None,
        soft_targets: Tensor | None = None,
        frames: int = 1,
    ) -> tuple[dict[str, Tensor], dict[str, Embedded], dict[str, IdentityOutput]]:
        """Return outputs and embeddings, and what the identity criteria say where labels are given.

        Criteria see the rows of all ranks, so that a hardest negative is the whole batch's; the
        logits returned are those of this rank's rows. See `run` and `IdentityCriterion.forward` for
        the arguments.
        """
        outputs, values = self._run(image, fields, source, patterns, scope, frames)
        embedded, identity = values.vectors(), {}
        if labels is not None:
            everybody = gather(labels)
            soft = None if soft_targets is None else gather(soft_targets)
            own = slice(world()[0] * len(labels), (world()[0] + 1) * len(labels))
            for name, criterion in sorted(self.criteria.items()):
                if name in embedded:
                    with scope(f"{name}/identity"):
                        found = criterion(gathered(embedded[name]), everybody, soft)
                    logits = None if found.logits is None else found.logits[own]
                    identity[name] = IdentityOutput(found.terms, logits, found.weights)
        return outputs, embedded, identity

    def parts(self) -> dict[str, list[str]]:
        """Return the names of the trainable parameters by part of the model.

        Parts are ``encoder``, every branch, ``<embedding>/neck`` and ``<embedding>/identity``.
        """
        prefixes = {"encoder": "encoder"}
        for root, suffix in (("branches", ""), ("heads", "/neck"), ("criteria", "/identity")):
            prefixes |= {f"{name}{suffix}": f"{root}.{name}" for name in getattr(self, root)}
        trained = [name for name, one in self.named_parameters() if one.requires_grad]
        return {
            part: [name for name in trained if name.startswith(f"{prefix}.")]
            for part, prefix in prefixes.items()
        }

    def run(
        self,
        image: Tensor,
        fields: Mapping[str, Tensor],
        source: str,
        patterns: Sequence[str],
        scope: Scope = no_scope,
        frames: int = 1,
    ) -> dict[str, Tensor]:
        """Run the encoder and the branches that can and should run on a batch.

        Args:
            image: ``B 3 H W``, normalised; of tracklets ``B*frames 3 H W``.
            fields: the batch's fields by name.
            source: the batch's source.
            patterns: fnmatch patterns of the branches wanted.
            scope: opens a part's random scope; none where the model is only looked at.
            frames: of every sample.

        Returns:
            All outputs by name, without image and fields.
        """
        return self._run(image, fields, source, patterns, scope, frames)[0]

    def _run(
        self,
        image: Tensor,
        fields: Mapping[str, Tensor],
        source: str,
        patterns: Sequence[str],
        scope: Scope,
        frames: int,
    ) -> tuple[dict[str, Tensor], Values]:
        named = self.of_frames
        with scope("encoder"):
            outputs = encoded(self.encoder, image, fields, self.inputs, frames, named)
        known = {"image": image, **fields, **outputs}
        values = Values(known, self.embeddings, self.heads, scope, frames, named)
        for name, branch in self.declarations.items():
            elsewhere = branch.sources is not None and source not in branch.sources
            leads = DEPLOYED in patterns and name in self._deployed
            if not branch.reads or elsewhere or not (leads or matches(name, patterns)):
                continue
            found = [values.get(one) for one in branch.reads]
            read = [value for value in found if value is not None]
            if len(read) < len(found):
                continue
            read = fitted(read, branch.reads, frames, branch.clips, named)
            with scope(name):
                written = written_by(branch, self.branches[name](*read))
            outputs |= written
            values.known |= written
        return outputs, values

    def embed(self, outputs: Mapping[str, Tensor], scope: Scope = no_scope) -> dict[str, Embedded]:
        """Return the embeddings whose inputs are among the outputs."""
        return Values(dict(outputs), self.embeddings, self.heads, scope).vectors()


def gathered(embedded: Embedded) -> Embedded:
    """Return the vectors of all ranks' rows, with their gradient."""
    return Embedded(gather(embedded.raw), gather(embedded.neck), gather(embedded.unit))


def leading_to(
    declared: Mapping[str, Embedding],
    branches: Iterable[Branch],
    embeddings: Iterable[str],
    outputs: Iterable[str] = (),
) -> tuple[list[Branch], set[str]]:
    """Return what leads to embeddings and outputs.

    Args:
        declared: all embeddings by name.
        branches: all branches, in the order in which they run.
        embeddings: what is wanted.
        outputs: what else is wanted, of branches or of vectors.

    Returns:
        The branches, in the order in which they run, and all embeddings on the way.
    """
    wanted = list(embeddings)
    read = _with_embeddings([*outputs, *(declared[name].reads for name in wanted)], declared)
    needed: list[Branch] = []
    for branch in reversed(list(branches)):  # it reads what those before it write
        if not read.isdisjoint(branch.writes):
            needed.insert(0, branch)
            read |= _with_embeddings(branch.reads, declared)
    return needed, {*wanted, *(one for name in read for one in embeddings_of(name, declared))}


def _with_embeddings(reads: Iterable[str], embeddings: Mapping[str, Embedding]) -> set[str]:
    """Return what is read, and what the embeddings among it read in their turn."""
    found, left = set[str](), list(reads)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += [embeddings[one].reads for one in embeddings_of(name, embeddings)]
    return found


def written_by(branch: Branch, written: Tensor | Sequence[Tensor]) -> dict[str, Tensor]:
    """Pair a branch's return value with the names that it writes.

    Raises:
        PluginError: it returned another number of tensors than it declares.
    """
    values = [written] if isinstance(written, Tensor) else list(written)
    if len(values) != len(branch.writes):
        raise PluginError(
            f"branch '{branch.name}' returned {len(values)} tensors and declares "
            f"{len(branch.writes)} outputs ({', '.join(branch.writes) or 'none'})"
        )
    return dict(zip(branch.writes, values, strict=True))


def order_branches(
    owned: Sequence[tuple[str, Branch]],
    taps: Iterable[str],
    fields: Iterable[str],
    given: Mapping[str, Embedding] | None = None,
) -> list[Branch]:
    """Check the branches' names and order them by reads and writes, then by name.

    Args:
        owned: pairs of owner and branch.
        taps: the encoder's taps.
        fields: fields of the training sources.
        given: embeddings that are there already, by name.

    Raises:
        PluginError: a name outside its owner's space, an unknown read, a cycle.
        ConflictError: two writers of one output.
    """
    check_declared("branch", [(owner, branch.name) for owner, branch in owned])
    check_declared("embedding", [(o, e.name) for o, b in owned for e in b.embeddings])
    writers: dict[str, str] = dict.fromkeys(taps, "encoder")
    for owner, branch in owned:
        for name in branch.writes:
            check_owned(owner, "output", name)
            if name in writers:
                raise ConflictError(
                    f"output '{name}' is written by '{writers[name]}' and by '{branch.name}' of "
                    f"plugin '{owner}'"
                )
            writers[name] = branch.name
    branches = {branch.name: branch for _, branch in sorted(owned, key=lambda pair: pair[1].name)}
    known = {*writers, *fields, *SAMPLE_LABELS, "image", CLEAN_IMAGE}
    declared = {e.name: e for branch in branches.values() for e in branch.embeddings}
    declared |= given or {}
    for branch in branches.values():
        wanted = [*branch.reads, *branch.sizes, *(e.reads for e in branch.embeddings)]
        for name in wanted:
            vectors = embeddings_of(name, declared)
            if name == DEPLOYED or name.startswith(f"{DEPLOYED}:"):
                if not vectors:
                    raise PluginError(
                        f"branch '{branch.name}' reads '{name}', and no embedding of the run is "
                        "declared at_test"
                    )
            elif vectors and vectors[0] not in declared:
                wrong = f"branch '{branch.name}' reads '{name}', and there is no such embedding"
                raise PluginError(with_choices(wrong, vectors[0], sorted(declared)))
            elif not vectors and name not in known:
                hint = did_you_mean(name, known)
                if name in SHARED_FIELDS:
                    hint = f"; declare Need('{name}') so that a labeler or the user can provide it"
                raise PluginError(
                    f"branch '{branch.name}' reads '{name}', which nobody provides{hint}"
                )
    before = {}
    for name, branch in branches.items():
        read = _with_embeddings((*branch.reads, *branch.sizes), declared)
        before[name] = {writers[one] for one in read & writers.keys()} & branches.keys()
    return [branches[name] for name in in_order(before, "branches read each other in a circle")]


def tap_of(name: str, feature: Tensor, height: int) -> Tap:
    """Describe an output as a tap; vectors have stride 0."""
    is_map = feature.dim() == 4 and feature.shape[2] > 1
    return Tap(
        name,
        feature.shape[1] if feature.dim() > 1 else 1,
        stride_of(height, feature.shape[2]) if is_map else 0,
    )


def dry_outputs(
    branch: Branch,
    known: Mapping[str, Tensor] | Values,
    frames: int = 1,
    names: Iterable[str] = (),
) -> dict[str, Tensor]:
    """Run one branch in evaluation mode without gradient, to learn its outputs' shapes.

    Args:
        branch: with a built module.
        known: values by name.
        frames: of every sample.
        names: of what has a row per frame.
    """
    module = branch.module
    assert isinstance(module, nn.Module)
    read = fitted([known[name] for name in branch.reads], branch.reads, frames, branch.clips, names)
    with evaluating(module):
        written = module(*read)
    return written_by(branch, written)

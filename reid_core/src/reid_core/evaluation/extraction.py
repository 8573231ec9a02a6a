"""Features of many images, by the current model in evaluation mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from reid_core.config import EngineSection, RunConfig
from reid_core.contract.fields import FieldSpec
from reid_core.contract.labelers import Change
from reid_core.contract.model import SAMPLE_LABELS, Vector
from reid_core.contract.samples import Sample, Source
from reid_core.contract.vectors import Embedded
from reid_core.data.augmentation import DeviceAugmentation
from reid_core.data.clips import clips_in_order
from reid_core.data.draws import in_order
from reid_core.data.loading import BatchLoader
from reid_core.evaluation.tracklets import Gathering, before_pooling, mean_of_frames, pooled
from reid_core.machine.devices import autocast_of, memory_format_of
from reid_core.machine.ranks import gather_array, world
from reid_core.model.blocks import EmbeddingHead
from reid_core.model.embedder import Embedder, embedder_of
from reid_core.model.graph import ReidModel
from reid_core.model.modes import evaluating


@torch.inference_mode()
def extract(
    embedder: Embedder,
    samples: Sequence[Sample],
    device: torch.device,
    *,
    specs: Mapping[str, FieldSpec] | None = None,
    batch_size: int = 128,
    flip: str = "off",
    vector: Vector | None = None,
    compute: Callable[[Tensor, Mapping[str, Tensor]], Tensor] | None = None,
    gathering: Callable[[], Gathering] | None = None,
    fields: Sequence[str] = (),
    width: int | None = None,
    threads: int = 2,
    engine: EngineSection | None = None,
    advance: Callable[[int], None] | None = None,
    gather: bool = True,
    unknown: Sequence[str] = (),
) -> NDArray[np.float32]:
    """Return features ``N D`` of the samples, in their order; several ranks share the work.

    Of a tracklet all frames are embedded, in batches like any other images, and one feature is made
    of them; ranks share whole tracklets.

    Args:
        embedder: its modules' training modes are restored afterwards.
        samples: what to embed.
        device: where the embedder is.
        specs: fields that the samples carry, for embedders that read some.
        batch_size: images per forward.
        compute: makes ``B D`` of normalised images and fields; None takes the deployed feature.
        gathering: the same of tracklets; None takes the mean of ``compute`` over a tracklet's
            frames, or the deployed feature.
        fields: names of the fields that ``compute`` reads beside the embedder's.
        width: the ``D`` of ``compute`` where it is not the deployed feature's.
        flip: how the mirrored image's feature is added (`merge_mirrored`), or ``off``; not
            possible where the embedder reads fields.
        vector: which vector of every embedding; None takes the deployed ones.
        threads: decoding threads.
        engine: precision and memory format of a run; None takes float32, channels first.
        advance: is told how many more samples are done.
        unknown: what the embedder is to take for unknown, though the samples have it.
        gather: whether all ranks return all rows; otherwise each its own.
    """
    if width is None:
        width = embedder.width(vector) if vector else embedder.dim
    if not samples:
        return np.empty((0, width), np.float32)
    source = Source("test", tuple(samples), dict(specs or {}))
    read = sorted({*embedder.fields, *fields} & set(source.fields))
    loader = BatchLoader(source, embedder.size, read, threads=threads)
    computing: Callable[[], AbstractContextManager[None]]
    computing = partial(torch.autocast, device.type, enabled=False)
    layout = torch.contiguous_format
    if engine is not None:
        computing, layout = autocast_of(engine, device), memory_format_of(engine)
    prepare = DeviceAugmentation(memory_format=layout).prepare
    make = compute or partial(embedder.embed_normalised, vector=vector)
    gatherings: list[Gathering] = []
    if source.tracklets:
        frames = (embedder.clip or 1) if embedder.whole_clips else 1
        draws = clips_in_order(samples, frames, batch_size, *world())
        begin = gathering or partial(Gathering.of, embedder, samples, vector)
        if compute and not gathering:
            begin = partial(Gathering, samples, lambda x, f, _: [compute(x, f)], mean_of_frames)
        gatherings = [begin()] if flip == "off" else [begin(), begin()]
    else:
        draws = in_order(len(samples), batch_size, *world())
    chunks: list[NDArray[np.float32]] = []

    def keep(found: Sequence[Sequence[Tensor]]) -> None:
        """Keep the features of images, or of images and of their mirror images as one."""
        for views in zip(*found, strict=True):
            features = views[0] if flip == "off" else merge_mirrored(views[0], views[1], flip)
            chunks.append(features.float().cpu().numpy())
            if advance:
                advance(len(features))

    with evaluating(embedder):
        for host in loader.load(draws, epoch=0):
            batch = prepare(host, device)
            known = {n: v for n, v in batch.readable.items() if n not in unknown}
            images = [batch.image] if flip == "off" else [batch.image, batch.image.flip(3)]
            with computing():
                if gatherings:
                    pairs = zip(gatherings, images, strict=True)
                    keep([gathered.add(batch, image, known) for gathered, image in pairs])
                else:
                    keep([[make(image, known)] for image in images])
        with computing():
            keep([gathered.rest() for gathered in gatherings])
    if not gather:
        return np.concatenate(chunks)
    return gather_array(np.concatenate([np.empty((0, width), np.float32), *chunks]))


def extract_output(
    reader: Embedder, name: str, samples: Sequence[Sample], device: torch.device, **options: Any
) -> NDArray[np.float32]:
    """Return an output of a model for all samples, ``N ...``, in their order.

    Of a tracklet it is the mean over frames, or over clips where the output is of those.

    Args:
        reader: see `reader_of`.
        name: the output.
        samples, device, options: as of `extract`.
    """
    shape: list[tuple[int, ...]] = []

    def show(image: Tensor, fields: Mapping[str, Tensor], frames: int) -> list[Tensor]:
        found = reader.values(image, fields, frames)[name]
        shape[:] = [tuple(found.shape[1:])]
        return [found.flatten(1) if found.dim() > 1 else found[:, None]]

    # One image tells the shape, also to a rank that gets none of the others.
    some: Sequence[Sample] = [samples[0]] * world()[1]
    how: dict[str, Any] = {
        "compute": lambda image, fields: show(image, fields, 1)[0],
        "gathering": lambda: Gathering(some, show, mean_of_frames),
        **options,
    }
    extract(reader, some, device, width=0, **how, gather=False)
    some, width = samples, int(np.prod(shape[0], dtype=np.int64))
    found = extract(reader, some, device, width=width, **how)
    return found.reshape(len(samples), *shape[0])


def merge_mirrored(plain: Tensor, mirrored: Tensor, flip: str) -> Tensor:
    """Return features ``B D`` of images and of their mirror images as one feature each.

    Args:
        plain, mirrored: ``B D``.
        flip: ``sum`` adds them as they are; ``unit-sum`` gives each length one before.
    """
    if flip == "unit-sum":
        plain, mirrored = (F.normalize(f.float(), dim=1) for f in (plain, mirrored))
    return plain + mirrored


_DEPLOYED = ""
"""Stands for the deployed feature among the vectors of embeddings, whose names are not empty."""


class EpochFeatures:
    """Features of the main source at an epoch's start: computed once, when first asked for.

    All embeddings come from one pass over the images, in evaluation mode with the test transform.

    Args:
        model: the run's, as it stands whenever features are asked for.
        truth: the main source with the data set's own identities.
        config: the run's configuration.
        device: where the model is.
    """

    def __init__(
        self, model: ReidModel, truth: Source, config: RunConfig, device: torch.device
    ) -> None:
        self._model, self._truth, self._config, self._device = model, truth, config, device

    def of(self, embedding: str) -> NDArray[np.float32]:
        """Return the unit vectors ``N D`` of an embedding."""
        return self._plain[embedding]

    def deployed(
        self, change: Change | None = None, fields: Sequence[str] = ()
    ) -> NDArray[np.float32]:
        """Return what the run evaluates: the test embeddings together, with length one, ``N D``.

        Of every embedding it is the vector that it declares for the test, times its weight, as in
        `Embedder.embed_normalised`: what is clustered is compared as it will be evaluated.

        See `FeatureMaker` for the arguments; features of changed images are computed on every call.
        """
        found = self._plain if change is None else self._seen(change, fields)
        joined = found[_DEPLOYED]
        norms = np.maximum(np.linalg.norm(joined, axis=1, keepdims=True), 1e-12)
        return np.asarray(joined / norms, np.float32)

    @cached_property
    def _plain(self) -> dict[str, NDArray[np.float32]]:
        return self._seen(None, ())

    def _seen(self, change: Change | None, fields: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        config = self._config
        deployed = embedder_of(self._model, config.data.size, config.evaluation.embed)
        wanted = {*self._model.criteria, *deployed.heads}
        embedder = embedder_of(self._model, config.data.size, sorted(wanted))
        heads = cast(Mapping[str, EmbeddingHead], embedder.heads)
        widths = {name: head.dim for name, head in heads.items()}
        widths[_DEPLOYED] = deployed.dim

        def vectors(image: Tensor, carried: Mapping[str, Tensor]) -> Tensor:
            shown = {n: value for n, value in carried.items() if n not in SAMPLE_LABELS}
            seen = image if change is None else change(image, shown)
            return together(embedder.vectors(seen, carried))

        def together(known: Mapping[str, Embedded]) -> Tensor:
            units = [known[name].unit for name in embedder.heads]
            return torch.cat([*units, deployed.joined(known)], 1)

        def gathering() -> Gathering:
            return Gathering(
                self._truth.samples,
                before_pooling(embedder, change),
                lambda parts: together(pooled(embedder, parts)),
            )

        found = extract(
            embedder,
            self._truth.samples,
            self._device,
            specs=self._truth.fields,
            batch_size=config.evaluation.batch_size,
            compute=vectors,
            gathering=gathering,
            fields=fields,
            width=sum(widths.values()),
            threads=config.data.threads,
            engine=config.engine,
        )
        ends = np.cumsum(list(widths.values()))
        return dict(zip(widths, np.split(found, ends[:-1], axis=1), strict=True))

"""Loading: threads decode the rows of a batch into batch memory that is used again and again."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import InitVar, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reid_core.contract.batches import Batch
from reid_core.contract.fields import SPATIAL, FieldKind, FieldSpec
from reid_core.contract.samples import Sample, Source
from reid_core.data.augmentation import ERASING, PHOTOMETRIC, ErasingPolicy, PhotometricPolicy
from reid_core.data.buffers import Buffers, Column
from reid_core.data.clips import ClipPolicy, frame_of
from reid_core.data.decoding import read_field
from reid_core.data.draws import Draw, row_uniforms
from reid_core.data.geometry import (
    GEOMETRY_NUMBERS,
    PARTIAL_NUMBERS,
    Geometry,
    GeometryPolicy,
    transform_image,
)
from reid_core.errors import DataError
from reid_core.images import read_image

_CHUNK = 16
"""Rows that a thread decodes per task: few enough to spread, enough to hide the hand-over."""


@dataclass(frozen=True, eq=False)
class _Filling:
    """A batch on its way: its memory and the tasks that fill it, in the order of the rows."""

    draw: Draw
    buffers: Buffers
    draws: dict[str, torch.Tensor]
    frames: NDArray[np.int64] | None = None
    tasks: list[Future[None]] = field(default_factory=list)


@dataclass(eq=False, repr=False)
class BatchLoader:
    """Load batches of one source.

    **Lease.** A batch's ``image`` and its fields lie in memory that is used again. They are valid
    until the next batch is asked for, or the iterator is closed; `DeviceAugmentation.prepare`
    copies all of it. ``pid``, ``camid``, ``clothes``, ``index``, ``origin``, scalars and ``draws``
    are the batch's own.

    Args:
        source: the samples.
        size: height and width of the network's input.
        fields: names of the fields to load.
        policy: the random geometry of training; None resizes and does nothing else.
        threads: decoding threads; they live as long as one `load`.
        prefetch: batches prepared beyond the one in use.
        seed: the run's seed.
        pin_memory: page-locked memory, for copies to a CUDA device that overlap with computing.
        erasing, photometric: policies whose random numbers travel in ``Batch.draws``.
        clips: how the frames of tracklets are drawn; draws that bring their own need none.

    Raises:
        DataError: the source is empty or lacks a field.
    """

    source: Source
    size: tuple[int, int]
    fields: InitVar[Sequence[str]] = ()
    policy: GeometryPolicy | None = None
    threads: int = 2
    prefetch: int = 3
    seed: int = 0
    pin_memory: bool = False
    erasing: ErasingPolicy | None = None
    photometric: PhotometricPolicy | None = None
    clips: ClipPolicy | None = None

    def __post_init__(self, fields: Sequence[str]) -> None:
        source = self.source
        if not source.samples:
            raise DataError(f"source '{source.name}' has no samples")
        self.specs: dict[str, FieldSpec] = {name: _spec(source, name) for name in fields}
        self.seconds_waited = 0.0
        """Time that consumers of all `load` calls have spent waiting for a batch."""
        self._labels = {
            name: np.array([getattr(s, name) for s in source.samples], dtype=np.int64)
            for name in ("pid", "camid", "clothes")
        }
        self._scalars = {
            name: _scalars(source, spec)
            for name, spec in self.specs.items()
            if spec.kind is FieldKind.SCALAR
        }
        self._lengths = np.array([len(s.images) for s in source.samples], np.int64)
        self._columns: list[Column] | None = None
        self._free: deque[Buffers] = deque()

    def load(self, draws: Iterable[Draw], epoch: int) -> Generator[Batch]:
        """Yield the batches of ``draws``, in order; see the class for how long each is valid.

        Threads start with the first batch and end with the iterator, also when the consumer stops
        early or a row fails; batches that were prepared in vain are dropped.

        Args:
            draws: rows and their positions in the epoch's global order; read lazily, ``prefetch``
                batches ahead.
            epoch: keys the random numbers, with the seed, the source's name and the positions.

        Raises:
            DataError: an image or field cannot be read, names its file, row and source.
        """
        pending = iter(draws)
        waiting: deque[_Filling] = deque()
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix=f"load-{self.source.name}")
        try:
            while True:
                while len(waiting) <= self.prefetch and (draw := next(pending, None)) is not None:
                    waiting.append(self._start(pool, draw, epoch))
                if not waiting:
                    return
                yield self._finish(waiting[0])
                self._set_free(waiting.popleft())
        finally:
            # Only when no thread writes any more may another `load` have the memory.
            pool.shutdown(wait=True, cancel_futures=True)
            for filling in waiting:
                self._set_free(filling)

    def _set_free(self, filling: _Filling) -> None:
        filling.buffers.mark_used()
        self._free.append(filling.buffers)

    def _start(self, pool: ThreadPoolExecutor, draw: Draw, epoch: int) -> _Filling:
        frames = self._frames(draw, epoch)
        images = len(draw) if frames is None else frames.size
        each = 1 if frames is None else frames.shape[1]
        together = self.clips is None or self.clips.together
        positions = draw.positions
        if not together:
            positions = (positions[:, None] * each + np.arange(each)).ravel()

        def uniforms(purpose: str, width: int) -> NDArray[np.float64]:
            name = self.source.name
            numbers = row_uniforms(self.seed, purpose, name, epoch, positions, width)
            return np.repeat(numbers, each, axis=0) if together and each > 1 else numbers

        device_draws: dict[str, torch.Tensor] = {}
        if self.erasing is not None:
            numbers = uniforms(ERASING, self.erasing.NUMBERS)
            device_draws[ERASING] = torch.from_numpy(self.erasing.draw(self.size, numbers))
        if self.photometric is not None:
            numbers = uniforms(PHOTOMETRIC, self.photometric.NUMBERS)
            device_draws[PHOTOMETRIC] = torch.from_numpy(self.photometric.draw(numbers))
        geometries = [Geometry.plain(self.size)] * images
        if self.policy is not None:
            numbers = uniforms("geometry", GEOMETRY_NUMBERS)
            geometries = [Geometry.draw(self.policy, self.size, row) for row in numbers]
            if self.policy.partial and epoch >= self.policy.partial_from:
                numbers = uniforms("partial", PARTIAL_NUMBERS)
                geometries = [
                    geometry.partial(self.policy, row)
                    for geometry, row in zip(geometries, numbers, strict=True)
                ]
        filling = _Filling(draw, self._buffers(len(draw), each), device_draws, frames)
        for first in range(0, images, _CHUNK):
            places = range(first, min(first + _CHUNK, images))
            filling.tasks.append(pool.submit(self._fill, filling, places, geometries))
        return filling

    def _frames(self, draw: Draw, epoch: int) -> NDArray[np.int64] | None:
        """Return the frames of every row, ``B T``; None where rows are single images."""
        if draw.frames is not None or self.clips is None:
            return draw.frames
        numbers = row_uniforms(
            self.seed, "frames", self.source.name, epoch, draw.positions, self.clips.numbers
        )
        return self.clips.draw(self._lengths[draw.rows], numbers)

    def _fill(self, filling: _Filling, places: range, geometries: list[Geometry]) -> None:
        """Decode some images of a batch; runs in a thread."""
        filling.buffers.wait_until_free()
        for place in places:
            frames = filling.frames
            row = int(filling.draw.rows[place if frames is None else place // frames.shape[1]])
            try:
                sample = self.source.samples[row]
                if frames is not None:
                    sample = frame_of(sample, int(frames.flat[place]), self.specs)
                self._fill_row(filling.buffers, place, sample, geometries[place])
            except DataError as error:
                raise DataError(f"{error} (row {row} of source '{self.source.name}')") from error
            except Exception as error:
                error.add_note(
                    f"while loading {self.source.samples[row].path}, row {row} of source "
                    f"'{self.source.name}'"
                )
                raise

    def _fill_row(self, buffers: Buffers, place: int, sample: Sample, geometry: Geometry) -> None:
        pixels = read_image(sample.path)
        transform_image(pixels.transpose(2, 0, 1), geometry, buffers.image[place])
        image_size = (pixels.shape[0], pixels.shape[1])
        for column in self._columns or ():
            name = column.spec.name
            column.store(sample, image_size, geometry, buffers.fields[name][place])

    def _finish(self, filling: _Filling) -> Batch:
        """Wait for a batch; the first row in order that failed raises its error."""
        began = time.perf_counter()
        try:
            for task in filling.tasks:
                task.result()
        finally:
            self.seconds_waited += time.perf_counter() - began
        rows = filling.draw.rows
        frames = 1 if filling.frames is None else filling.frames.shape[1]
        image, fields = filling.buffers.first(len(rows) * frames)
        if frames > 1:
            # What is no matter of pixels is the same in all frames of a tracklet.
            fields = {
                name: value if self.specs[name].kind in SPATIAL else value[::frames]
                for name, value in fields.items()
            }
        fields |= {n: torch.from_numpy(values[rows]) for n, values in self._scalars.items()}
        labels = {name: torch.from_numpy(values[rows]) for name, values in self._labels.items()}
        return Batch(
            image=image,
            **labels,
            index=torch.from_numpy(rows.astype(np.int64)),
            origin=torch.arange(len(rows)),
            source=self.source.name,
            identities=self.source.identities,
            fields=fields,
            specs=self.specs,
            draws=filling.draws,
            frames=frames,
        )

    def _buffers(self, rows: int, frames: int) -> Buffers:
        """Return free memory for a batch; the first sample decides the shapes of the fields."""
        rows *= frames
        if self._columns is None:
            self._columns = [
                Column.like(frame_of(self.source.samples[0], 0, self.specs), spec, self.size)
                for spec in self.specs.values()
                if spec.kind is not FieldKind.SCALAR
            ]
        while self._free:
            buffers = self._free.popleft()
            if buffers.capacity >= rows:
                return buffers
        return Buffers(rows, self.size, self._columns, self.pin_memory)


def _spec(source: Source, name: str) -> FieldSpec:
    """Return the specification of a field that every sample carries."""
    if name not in source.fields:
        carried = ", ".join(sorted(source.fields)) or "no fields"
        raise DataError(f"source '{source.name}' lacks the field '{name}'; it carries {carried}")
    for row, sample in enumerate(source.samples):
        if name not in sample.fields:
            raise DataError(
                f"{sample.path}: row {row} of source '{source.name}' lacks the field '{name}', "
                "which the source declares"
            )
        if sample.frames and source.fields[name].kind in SPATIAL:
            value = sample.fields[name]
            values = len(value) if isinstance(value, tuple | np.ndarray) else 1
            if values != len(sample.frames):
                raise DataError(
                    f"{sample.path}: row {row} of source '{source.name}' has {len(sample.frames)} "
                    f"frames and {values} of the field '{name}', which belongs to every frame"
                )
    return source.fields[name]


def _scalars(source: Source, spec: FieldSpec) -> NDArray[Any]:
    """Return a scalar field of all rows: int64 where all are integers, otherwise float32."""
    values = [sample.fields[spec.name] for sample in source.samples]
    if not all(isinstance(value, (int, float)) for value in values):
        values = [read_field(value, spec).item() for value in values]
    column = np.asarray(values)
    return column.astype(np.float32 if column.dtype.kind == "f" else np.int64)

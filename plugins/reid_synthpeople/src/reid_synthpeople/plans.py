"""Plans: which images a data set has, of whom, in what clothes, before which camera, for what.

A plan needs no renderer. It depends on the variant, the size and the seed alone, and is the same on
every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from reid_synthpeople import layouts
from reid_synthpeople.names import CROPS, PAIRS, REDRESSED
from reid_synthpeople.people import Range
from reid_synthpeople.scenes import Shot, Walk
from reid_synthpeople.settings import WorldSettings
from reid_synthpeople.variants import Scale, scale_of, world_of

_PLANS = 11
"""Stream of random numbers."""

_SESSION = 100
"""Numbers of shots per outfit: two outfits before one camera never share a pose and a backdrop."""

_LTCC_OUTFITS, _LTCC_CAMERAS = (2, 5), 3
_MARKET_CAMERAS = (3, 6)
_STREET_CAMERAS, _STREET_CHANGING = (3, 5), 3
_VC_OUTFITS = (0, 1, 1, 2)
"""Outfit before each camera: the second and third see the same one, the third and fourth do not."""

CHUNK = 32
"""Images that are rendered, written and resumed together."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a plan.

    Args:
        file: its path, relative to the data set's folder.
        split: ``train``, ``query``, ``gallery``, or ``val`` (set aside; in no `DataSet`).
        pid: identity as the file's name says it: -1 is junk, and 0 a distractor in ``market``.
        clothes: outfit, unique over all identities; -1 for junk and distractors.
        shot: the picture.
        person: False shows the scene without its person.
        template: in the source of people taken again, the image whose outfit is put on.
    """

    file: str
    split: str
    pid: int
    clothes: int
    shot: Shot
    person: bool = True
    template: Entry | None = None


@dataclass(frozen=True)
class Plan:
    """Everything that is written for a data set or source.

    Args:
        variant, size: what it is.
        world: where the pictures are taken.
        image: height and width.
        entries: the images, those of a person together.
        texts: further small files by path.
        textures: whether the atlases are written.
        fields: the side-cars that are written.
    """

    variant: str
    size: str
    world: WorldSettings
    image: tuple[int, int]
    entries: tuple[Entry, ...]
    texts: Mapping[str, str] = field(default_factory=dict)
    textures: bool = True
    fields: tuple[str, ...] = layouts.LABELLED

    def __len__(self) -> int:
        return len(self.entries)

    def chunks(self) -> list[tuple[Entry, ...]]:
        """Return the entries in the groups in which they are rendered."""
        groups: list[tuple[Entry, ...]] = []
        for person in (True, False):
            own = [entry for entry in self.entries if entry.person is person]
            groups += [tuple(own[i : i + CHUNK]) for i in range(0, len(own), CHUNK)]
        return groups


def plan_of(
    variant: str,
    size: str,
    seed: int,
    pretraining: bool = False,
    factors: Collection[str] | None = None,
) -> Plan:
    """Plan a variant (``mixed``, ``market``, ...) or a source (``pairs``, ``crops``).

    Args:
        variant, size: what is planned.
        seed: the user's.
        pretraining: whether the people to train on are those that no other set has.
        factors: what photographs have; None is the variant's own.
    """
    scale = scale_of(variant, size)
    world = world_of(variant, seed, factors)
    to_train_on = Range.PRETRAINING if pretraining else Range.TRAINING
    entries = _with_clothes(_PLANNERS[variant](scale, world, to_train_on))
    if variant == REDRESSED:
        entries = with_templates(entries, scale.shots * scale.sessions)
    return Plan(
        variant,
        size,
        world,
        scale.image,
        entries,
        texts=_texts(variant, entries),
        textures=variant not in (CROPS, REDRESSED),
        fields={PAIRS: (), REDRESSED: layouts.DRESSING}.get(variant, layouts.LABELLED),
    )


def with_templates(entries: Sequence[Entry], own: int) -> tuple[Entry, ...]:
    """Give every image a template: an image of somebody else, which nobody else gets.

    Args:
        entries: the images, those of a person side by side.
        own: images of one person.
    """
    # The first images get those of the next person, the second ones those of the one after, ...
    places = [(i + own * (1 + i % own)) % len(entries) for i in range(len(entries))]
    return tuple(
        replace(entry, template=entries[place])
        for entry, place in zip(entries, places, strict=True)
    )


def _texts(variant: str, entries: Sequence[Entry]) -> dict[str, str]:
    if variant == "ltcc":
        return _ltcc_texts(entries)
    if variant == REDRESSED:
        return {
            layouts.TEMPLATES: layouts.templates_text(
                (entry.file, entry.template.file) for entry in entries if entry.template is not None
            )
        }
    return {}


@dataclass(frozen=True, slots=True)
class _Taken:
    """An image before outfits are numbered over all people; ``known``: whether it has an outfit."""

    file: str
    split: str
    pid: int
    shot: Shot
    person: bool = True
    known: bool = True


def _with_clothes(taken: Iterator[_Taken]) -> tuple[Entry, ...]:
    images = list(taken)
    worn = sorted({(t.shot.pid, t.shot.outfit) for t in images if t.known})
    numbers = {outfit: number for number, outfit in enumerate(worn)}
    return tuple(
        Entry(
            t.file,
            t.split,
            t.pid,
            numbers[t.shot.pid, t.shot.outfit] if t.known else -1,
            t.shot,
            t.person,
        )
        for t in images
    )


def _people(scale: Scale, to_train_on: Range) -> Iterator[tuple[int, int, bool, int]]:
    """Yield everybody's place in the set and person, whether for training, and how many images.

    The images are those per outfit and camera.
    """
    for place in range(scale.train):
        yield place, to_train_on.number(place), True, scale.shots
    for index in range(scale.test):
        yield scale.train + index, Range.TEST.number(index), False, scale.test_shots


def _split(training: bool, asks: bool) -> str:
    return "train" if training else ("query" if asks else "gallery")


def _draws(world: WorldSettings, person: int) -> np.random.Generator:
    return np.random.default_rng([world.seed, _PLANS, person])


def _mixed(scale: Scale, world: WorldSettings, to_train_on: Range) -> Iterator[_Taken]:
    """Every session of a person has an outfit of its own and is seen by two of the cameras.

    The first image of a test person before a camera asks, the others are searched in: every query
    has a match in the same and one in other clothes before another camera.
    """
    for place, person, training, shots in _people(scale, to_train_on):
        rng = _draws(world, person)
        for session in range(scale.sessions):
            for camid in sorted(rng.permutation(world.cameras)[:2].tolist()):
                for number in range(shots):
                    split = _split(training, number == 0)
                    pid = place + 1
                    file = layouts.folder_file(split, pid, camid, session, number)
                    shot = Shot(person, session, camid, session * _SESSION + number)
                    yield _Taken(file, split, pid, shot)


def _tracklets(scale: Scale, world: WorldSettings, to_train_on: Range) -> Iterator[_Taken]:
    """As ``mixed``, with a walk of some frames in place of each image."""
    for taken in _mixed(scale, world, to_train_on):
        shot = taken.shot
        key = (shot.camid, shot.number)
        frames = np.random.default_rng([world.seed, _PLANS, shot.pid, *key]).integers(
            scale.frames // 2 + 1, scale.frames + scale.frames // 2
        )
        for frame in range(int(frames)):
            file = layouts.frame_file(
                taken.split, taken.pid, shot.camid, shot.outfit, shot.number % _SESSION, frame
            )
            walk = Walk(shot.pid, shot.outfit, shot.camid, shot.number, frame)
            yield replace(taken, file=file, shot=walk)


def _market(scale: Scale, world: WorldSettings, to_train_on: Range) -> Iterator[_Taken]:
    """One outfit each, three to six cameras; one query per test person and camera.

    Distractors (0000) are people whom nobody asks for, junk (-1) is what a detector finds where
    nobody stands.
    """
    few, many = _MARKET_CAMERAS
    for place, person, training, shots in _people(scale, to_train_on):
        rng = _draws(world, person)
        seen = rng.permutation(world.cameras)[: rng.integers(few, many + 1)].tolist()
        for camid in sorted(seen):
            for number in range(shots):
                split, pid = _split(training, number == 0), place + 1
                file = layouts.market_file(split, pid, camid, number)
                yield _Taken(file, split, pid, Shot(person, 0, camid, number))
    stranger = Range.DISTRACTORS.number(0)
    for pid in (0, -1):
        for number in range(scale.strangers):
            camid = int(_draws(world, stranger).integers(world.cameras))
            file = layouts.market_file("gallery", pid, camid, number)
            shot = Shot(stranger, 0, camid, number)
            yield _Taken(file, "gallery", pid, shot, person=pid == 0, known=False)
            stranger += number % 2  # two images in a row show the same stranger


def _street(scale: Scale, world: WorldSettings, to_train_on: Range) -> Iterator[_Taken]:
    """Every third person has two outfits, the others one; each is seen by three to five cameras.

    The first image of a test person's outfit before a camera asks.
    """
    few, many = _STREET_CAMERAS
    for place, person, training, shots in _people(scale, to_train_on):
        rng = _draws(world, person)
        for outfit in range(2 if place % _STREET_CHANGING == 0 else 1):
            seen = rng.permutation(world.cameras)[: rng.integers(few, many + 1)].tolist()
            for camid in sorted(seen):
                for number in range(shots):
                    split, pid = _split(training, number == 0), place + 1
                    file = layouts.folder_file(split, pid, camid, outfit, number)
                    shot = Shot(person, outfit, camid, outfit * _SESSION + number)
                    yield _Taken(file, split, pid, shot)


def _prcc(scale: Scale, world: WorldSettings, to_train_on: Range) -> Iterator[_Taken]:
    """One outfit before the cameras A and B, another one before C; A is the gallery."""
    for place, person, training, shots in _people(scale, to_train_on):
        for camid in range(world.cameras):
            for number in range(shots + (scale.validation if training else 0)):
                split = _split(training, camid > 0) if number < shots else "val"
                file = layouts.prcc_file(split, place + 1, camid, number)
                shot = Shot(person, int(camid == 2), camid, number)
                yield _Taken(file, split, place + 1, shot)


def _ltcc(scale: Scale, world: WorldSettings, to_train_on: Range) -> Iterator[_Taken]:
    """A third of the people never change, the others have two to five outfits, each on 3 cameras.

    One query per test person, outfit and camera.
    """
    few, many = _LTCC_OUTFITS
    for place, person, training, shots in _people(scale, to_train_on):
        rng = _draws(world, person)
        outfits = 1 if place % 3 == 2 else int(rng.integers(few, many + 1))
        for outfit in range(outfits):
            for camid in sorted(rng.permutation(world.cameras)[:_LTCC_CAMERAS].tolist()):
                for number in range(shots):
                    split = _split(training, number == 0)
                    file = layouts.ltcc_file(split, place, camid, outfit, number)
                    shot = Shot(person, outfit, camid, outfit * _SESSION + number)
                    yield _Taken(file, split, place, shot)


def _ltcc_texts(entries: Sequence[Entry]) -> dict[str, str]:
    outfits: dict[tuple[str, int], set[int]] = {}
    for entry in entries:
        split = "train" if entry.split == "train" else "test"
        outfits.setdefault((split, entry.pid), set()).add(entry.clothes)
    changing: dict[str, list[int]] = {"train": [], "test": []}
    constant: dict[str, list[int]] = {"train": [], "test": []}
    for (split, pid), worn in sorted(outfits.items()):
        (changing if len(worn) > 1 else constant)[split].append(pid)
    return layouts.ltcc_lists(changing, constant)


def _vcclothes(scale: Scale, world: WorldSettings, to_train_on: Range) -> Iterator[_Taken]:
    """All four cameras, one outfit before each; one query per test person and camera."""
    for place, person, training, shots in _people(scale, to_train_on):
        for camid, outfit in zip(range(world.cameras), _VC_OUTFITS, strict=True):
            for number in range(shots):
                split = _split(training, number == 0)
                file = layouts.vcclothes_file(split, place + 1, camid, outfit, number)
                yield _Taken(file, split, place + 1, Shot(person, outfit, camid, number))


def _source(scale: Scale, world: WorldSettings, to_train_on: Range) -> Iterator[_Taken]:
    """Everybody before random cameras."""
    for place in range(scale.train):
        person = to_train_on.number(place)
        rng = _draws(world, person)
        for outfit in range(scale.sessions):
            for number in range(scale.shots):
                camid = int(rng.integers(world.cameras))
                file = layouts.image_file(place, outfit, number)
                shot = Shot(person, outfit, camid, outfit * _SESSION + number)
                yield _Taken(file, "train", -1, shot)


_PLANNERS: dict[str, Callable[[Scale, WorldSettings, Range], Iterator[_Taken]]] = {
    "mixed": _mixed,
    "market": _market,
    "prcc": _prcc,
    "ltcc": _ltcc,
    "vcclothes": _vcclothes,
    "tracks": _prcc,
    "street": _street,
    "tracklets": _tracklets,
    PAIRS: _source,
    CROPS: _source,
    REDRESSED: _source,
}

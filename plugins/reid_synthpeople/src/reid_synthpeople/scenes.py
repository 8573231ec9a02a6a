"""The parameters of scenes: who, in what, before which camera, in which pose and view.

Everything is a function of the settings and of keys, and drawn the same on every machine; nothing
here is rendered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from reid_core.errors import DataError
from reid_synthpeople.camera import (
    Camera,
    View,
    draw_camera,
    draw_view,
    face_front,
    view_later,
)
from reid_synthpeople.fingerprint import Fingerprint
from reid_synthpeople.gait import FRONTAL_POSE, STEP, Pose, draw_pose
from reid_synthpeople.garments import Outfit, adapt_template, draw_outfit
from reid_synthpeople.identity import Person, draw_person
from reid_synthpeople.people import Range, range_of
from reid_synthpeople.randomness import Stream, generator
from reid_synthpeople.settings import WorldSettings
from reid_synthpeople.street import Street

_CACHED = 1024
"""People and outfits that are kept; others are drawn again, which takes well under 1 ms."""


@dataclass(frozen=True)
class Shot:
    """One picture to take.

    Pose, view, noise and backdrop follow from the world's seed, `pid`, `camid` and `number` only:
    the same shot with another `outfit` shows the same moment in other clothes.

    Args:
        pid: identity, from 0.
        outfit: number of the person's outfit, from 0.
        camid: camera, from 0.
        number: tells the pictures of one person before one camera apart, from 0.
    """

    pid: int
    outfit: int
    camid: int
    number: int


@dataclass(frozen=True)
class Walk(Shot):
    """One frame of a walk: a while later than the shot of the same number, which is frame 0.

    Args:
        frame: from 0.
    """

    frame: int


@dataclass(frozen=True, eq=False)
class Scene:
    """All parameters of one picture."""

    person: Person
    outfit: Outfit
    camera: Camera
    pose: Pose
    view: View


class Scenes:
    """Draw people, outfits, cameras and scenes of one world; see `WorldSettings`."""

    def __init__(self, settings: WorldSettings) -> None:
        self.settings = settings
        self._street = Street(settings.seed, settings.factors)
        self.person = lru_cache(_CACHED)(self._draw_person)
        self.outfit = lru_cache(_CACHED)(self._draw_outfit)
        self.camera = lru_cache(None)(self._draw_camera)

    def scene(self, shot: Shot, frontal: bool = False) -> Scene:
        """Return the parameters of a shot; with `frontal`, in the pose and view that all share."""
        settings = self.settings
        person, camera = self.person(shot.pid), self.camera(shot.camid)
        rng = generator(settings.seed, Stream.PICTURE, shot.pid, shot.camid, shot.number)
        frame = shot.frame if isinstance(shot, Walk) else 0
        pose = draw_pose(person.gait, rng, frame * STEP)
        view = draw_view(
            camera, rng, settings.p_occlusion, settings.p_truncation, settings.bystanders
        )
        if self._street:
            view = self._street.view(view, camera, shot.pid, shot.camid, shot.number)
        if frame:
            view = view_later(view, frame)
        if frontal:
            pose, view = FRONTAL_POSE, face_front(view)
        return Scene(person, self.outfit(shot.pid, shot.outfit), camera, pose, view)

    def parameters_hash(self, shots: Sequence[Shot]) -> str:
        """Return a hash of all parameters of some shots in their order, 16 hexadecimal digits."""
        fingerprint = Fingerprint()
        known: set[tuple[str, tuple[int, ...]]] = set()

        def add_once(kind: str, key: tuple[int, ...], parameters: object) -> None:
            if (kind, key) not in known:
                known.add((kind, key))
                fingerprint.add(parameters)

        for shot in shots:
            scene = self.scene(shot)
            add_once("person", (shot.pid,), scene.person)
            add_once("outfit", (shot.pid, shot.outfit), scene.outfit)
            add_once("camera", (shot.camid,), scene.camera)
            fingerprint.add((shot, scene.pose, scene.view))
        return fingerprint.digest()

    def _draw_person(self, pid: int) -> Person:
        rng = generator(self.settings.seed, Stream.IDENTITY, pid)
        return self._street.person(draw_person(rng, self.settings.spread), pid)

    def _draw_outfit(self, pid: int, number: int) -> Outfit:
        return self._street.outfit(self._draw_worn(pid, number), pid, number)

    def _draw_worn(self, pid: int, number: int) -> Outfit:
        settings = self.settings
        rng = generator(settings.seed, Stream.OUTFIT, pid, number)
        female = self.person(pid).female
        # A permutation per person: two of the first outfits never share a template.
        order = generator(settings.seed, Stream.STYLES, pid).permutation(settings.styles)
        if rng.random() < settings.wardrobe:
            style = int(order[number % settings.styles])
            # Whoever is trained on shares no template with anybody who is searched for.
            shared = generator(settings.seed, Stream.TEMPLATE, int(female), style, *_own(pid))
            return adapt_template(draw_outfit(shared, female), rng)
        return draw_outfit(rng, female)

    def _draw_camera(self, camid: int) -> Camera:
        settings = self.settings
        if not 0 <= camid < settings.cameras:
            raise DataError(
                f"synthpeople: camera {camid} of a world with {settings.cameras}; "
                f"camid is 0 to {settings.cameras - 1}"
            )
        camera = draw_camera(
            generator(settings.seed, Stream.CAMERA, camid),
            settings.camera_var,
            None if settings.yaw0 is None else settings.yaw0[camid],
            settings.yaw_sd,
            settings.twoway,
        )
        return self._street.camera(camera, camid) if self._street else camera


def _own(person: int) -> tuple[int, ...]:
    """Return what tells the templates of a person's range from those of people to train on."""
    own = range_of(person)
    return () if own is Range.TRAINING else (int(own),)

"""What was asked for, and the card that says what a folder holds."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from reid_synthpeople.names import VARIANTS
from reid_synthpeople.plans import Plan, plan_of

CARD = "card.json"
"""Written last: a folder with a card is whole."""

STARTED = ".making.json"
"""Written first: what an unfinished folder is going to be."""

INDEX = "index.csv"
"""One line per image: everything that is known without looking at it."""

README = "README.txt"

SPLITS = ("train", "val", "query", "gallery")
"""All splits that an index may have; ``val`` is set aside and in no `DataSet`."""

_DIGITS = 12
"""Of the stamp in the name of a cache's folder."""

SYNTHETIC = "synthetic people: figures on them say nothing about real ones"
"""Shown on every run."""


@dataclass(frozen=True)
class Order:
    """What to make; equal orders give equal files.

    Args:
        variant, size: of the data set or source.
        seed: of people, outfits, cameras and pictures.
        mask_noise: factor on the noise of the label maps, 0 for the truth.
        pretraining: whether the people to train on are those that no other set has.
        factors: what photographs have, of `names.FACTORS`; None is the variant's own.
    """

    variant: str
    size: str
    seed: int = 0
    mask_noise: float = 0.0
    pretraining: bool = False
    factors: tuple[str, ...] | None = None

    @property
    def title(self) -> str:
        """The name by which `--data` or `--source` knows it."""
        return title_of(self.variant, self.size)

    @property
    def name(self) -> str:
        """The title, and in words what is not as usual."""
        unusual = {
            "seed": f"seed {self.seed}",
            "mask_noise": f"mask noise {self.mask_noise:g}",
            "pretraining": "people for pre-training",
        }
        named = [self.title, *(unusual[key] for key in unusual if getattr(self, key))]
        if self.factors is not None:
            named.append(f"factors {'+'.join(self.factors) or 'none'}")
        return ", ".join(named)

    @property
    def folder(self) -> str:
        """A folder name of its own, also of this state of the code.

        What other code has made stays beside it, for a run that reads it meanwhile.
        """
        stamp = json.dumps(self.stamp(), sort_keys=True).encode()
        return f"{self._usual_folder}-{hashlib.sha256(stamp).hexdigest()[:_DIGITS]}"

    @property
    def _usual_folder(self) -> str:
        noise = f"-noise{self.mask_noise:g}" if self.mask_noise else ""
        people = "-pretraining" if self.pretraining else ""
        factors = "" if self.factors is None else f"-{'+'.join(self.factors) or 'plain'}"
        return f"synthpeople-{self.variant}-{self.size}-seed{self.seed}{noise}{people}{factors}"

    def of_other_code(self, cache: Path) -> list[Path]:
        """Return the folders of a cache that other code has made for the same order."""
        name = re.compile(rf"{re.escape(self._usual_folder)}(-[0-9a-f]{{{_DIGITS}}})?")
        found = [path for path in cache.glob("synthpeople-*") if name.fullmatch(path.name)]
        return sorted(path for path in found if path.is_dir() and path.name != self.folder)

    def plan(self) -> Plan:
        """Return the images to make."""
        return plan_of(self.variant, self.size, self.seed, self.pretraining, self.factors)

    def stamp(self) -> dict[str, Any]:
        """Return what tells this order from all others, whoever makes it included.

        What another version of this package has made, or another state of its code (plans,
        renderer, layouts), is another order.
        """
        own = asdict(self)
        if self.factors is not None:
            own["factors"] = list(self.factors)  # as JSON reads it
        return {**own, "version": version("reid-synthpeople"), "code": _code()}


@cache
def _code() -> str:
    """Return a hash of this package's modules."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(f"{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def title_of(variant: str, size: str) -> str:
    """Return ``synthpeople/prcc:quick``, ``synthpeople-pairs:quick``."""
    if variant not in VARIANTS:
        return f"synthpeople-{variant}:{size}"
    return f"synthpeople{'' if variant == VARIANTS[0] else f'/{variant}'}:{size}"


def read_card(folder: Path) -> dict[str, Any] | None:
    """Return a folder's card, or None where it has none: nothing is there, or it is unfinished."""
    return _read(folder / CARD)


def read_started(folder: Path) -> dict[str, Any] | None:
    """Return the stamp of the order that was begun in a folder, or None."""
    return _read(folder / STARTED)


def card_of(order: Order, plan: Plan, layout: str, parameters: str) -> dict[str, Any]:
    """Return the card of a finished folder.

    Args:
        order, plan: what was made.
        layout: id of the atlas's layout.
        parameters: hash of all scene parameters.
    """
    return {
        "synthetic": True,
        "data": order.name,
        "order": order.stamp(),
        "counts": counts_of(plan),
        "image_size": list(plan.image),
        "fields": [*plan.fields, *(("texture",) if plan.textures else ())],
        "texture_layout": layout if plan.textures else None,
        "world": asdict(plan.world),
        "parameters": parameters,
    }


def counts_of(plan: Plan) -> dict[str, dict[str, int]]:
    """Return images, people, outfits and cameras per split; distractors are nobody."""
    counts = {}
    for split in SPLITS:
        own = [entry for entry in plan.entries if entry.split == split]
        if own:
            counts[split] = {
                "images": len(own),
                "people": len({e.shot.pid for e in own if e.clothes >= 0}),
                "outfits": len({e.clothes for e in own if e.clothes >= 0}),
                "cameras": len({e.shot.camid for e in own}),
            }
    return counts


def readme_of(order: Order, card: Mapping[str, Any]) -> str:
    """Return the text that keeps anybody from taking the folder for a real data set."""
    counts = "\n".join(
        f"  {split:8} " + ", ".join(f"{what} {number}" for what, number in of.items())
        for split, of in card["counts"].items()
    )
    noise = "\nThe label maps are spoilt on purpose (mask_noise)." if order.mask_noise else ""
    return f"""THIS IS SYNTHETIC DATA

{order.title}, seed {order.seed}, made by reid-synthpeople {card["order"]["version"]}.{noise}
Every person here is computed: there is no real person behind any image, and no image of any
published data set. Where folders and names follow a published data set, they do so only to be
read by the same programs. Figures on these people say nothing about real ones.

{counts}

card.json    what was made, and the hash of all scene parameters
index.csv    one line per image: file, split, pid, camid (from 0), clothes (unique, -1 unknown),
             and the scene: person, outfit, number, and whether the person is shown
fields/      parts, garments (palette PNG, the values are the classes) and keypoints (.npy, 17 x 3:
             x, y, visibility 0, 0.5 hidden or 1), each at the path of its image
textures/    the surface of each person in each outfit; the layout's id is in layout.txt

Not every set has all of these. The silhouette is where parts is not 0.
"""


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None

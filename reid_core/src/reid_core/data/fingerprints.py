"""What data are, by content: short hashes of images, labels and fields."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

from reid_core.contract.samples import Sample, Source
from reid_core.data.label_store import content_hash, value_hash

_PLAIN = (str, int, float, bool, type(None))


def source_fingerprint(source: Source, fields: Iterable[str] = ()) -> dict[str, str]:
    """Return hashes of what a source holds, in the order of its samples.

    Files count by their bytes and not by name, place or time, so that a copy is the same and a file
    written anew is not.

    Args:
        source: any source.
        fields: names of those of its fields that count.

    Returns:
        ``images``, ``labels`` (identities, cameras, outfits and what else is known of an image) and
        ``field NAME``, each to a short hash.

    Raises:
        DataError: a file cannot be read.
    """
    found = {
        "images": _digest(
            content_hash(path) for sample in source.samples for path in sample.images
        ),
        "labels": _digest(_labels(sample) for sample in source.samples),
    }
    for name in sorted(fields):
        values = (value_hash(sample.fields[name]) for sample in source.samples)
        found[f"field {name}"] = _digest((repr(source.fields[name]), *values))
    return found


def _labels(sample: Sample) -> str:
    extra = sorted((name, v) for name, v in sample.extra.items() if isinstance(v, _PLAIN))
    frames = (len(sample.frames),) if sample.frames else ()
    return repr((sample.split, sample.pid, sample.camid, sample.clothes, extra, *frames))


def _digest(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(os.fsencode(f"{line}\n"))
    return digest.hexdigest()[:16]

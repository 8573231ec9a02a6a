"""Find a protocol by its name, or read one from a file of rules.

Three places know names: the generic rules of this library, other distributions by the entry-point
group ``reid.protocols`` (reid-benchmarks has the published ones, beside the loaders that make their
labels), and `PUBLISHED`, which says by which generic rule a public set is scored.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from reid_retrieval.errors import ConfigError, did_you_mean
from reid_retrieval.protocols import (
    GENERIC_PROTOCOLS,
    EveryGallery,
    JunkRule,
    Protocol,
    SingleShot,
    Subset,
)

GROUP = "reid.protocols"
"""Entry points of distributions that offer protocols; each is an iterable of `Protocol`."""

PUBLISHED: Mapping[str, str] = {
    "celeb-reid": "no-camera",
    "celeb-reid-light": "no-camera",
    "cuhk03/np": "standard",
    "deepchange/camera": "standard",
    "last": "no-camera",
    "ltcc/cc": "cross-clothes",
    "ltcc/general": "standard",
    "ltcc/sc": "same-clothes",
    "market1501": "standard",
    "msmt17": "standard",
    "vcclothes/all": "standard",
}
"""Published protocols that are a generic rule, where a file holds the set's queries and gallery and
nothing else; the others choose images by labels that only their loaders know."""


def find_protocol(name: str | Path) -> Protocol:
    """Return a protocol by its name, or from a TOML file.

    An installed distribution's protocol comes first; without one, a name of `PUBLISHED` gives its
    generic rule, under the rule's own name.

    Args:
        name: ``standard``, ``market1501``, ...; or the path of a file that ends in ``.toml``, see
            `protocol_of`.

    Raises:
        ConfigError: there is no such protocol, or the file does not describe one.

    Example:
        >>> find_protocol("cross-clothes").junk.text
        'same pid & (same camid or same clothes)'
    """
    if str(name).endswith(".toml"):
        return read_protocol(Path(name))
    found = {protocol.name: protocol for protocol in GENERIC_PROTOCOLS}
    wanted = str(name)
    if wanted in found:  # others are not imported for it
        return found[wanted]
    for protocol in offered_protocols():
        found.setdefault(protocol.name, protocol)
    if wanted not in found and wanted in PUBLISHED:
        wanted = PUBLISHED[wanted]
    if wanted not in found:
        names = sorted({*found, *PUBLISHED})
        raise ConfigError(
            f"there is no protocol '{wanted}'{did_you_mean(wanted, names)}; known: "
            f"{', '.join(names)}; reid-benchmarks has all published ones, and a file of rules "
            "(.toml) describes your own"
        )
    return found[wanted]


def offered_protocols() -> Iterator[Protocol]:
    """Yield the protocols of installed distributions.

    Raises:
        ConfigError: one of them cannot be imported; names it.
    """
    for record in sorted(metadata.entry_points(group=GROUP), key=lambda record: record.name):
        try:
            protocols = tuple(record.load())
        except Exception as error:
            owner = record.dist.name if record.dist else record.value
            raise ConfigError(
                f"the protocols of {owner} cannot be imported: {type(error).__name__}: {error}"
            ) from error
        yield from protocols


def read_protocol(path: Path) -> Protocol:
    """Return the protocol that a TOML file describes.

    Raises:
        ConfigError: the file cannot be read, says nothing, has other rules than the known protocol
            of its name, or as `protocol_of` does; names the file.
    """
    protocol = _described(path)
    if _known_otherwise(protocol):
        raise ConfigError(
            f"{path}: '{protocol.name}' is a known protocol with other rules; give these another "
            "name (name = ...)"
        )
    return protocol


def _described(path: Path) -> Protocol:
    try:
        described = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot read the protocol {path}: {error}") from error
    try:
        if not described.keys() - {"name"}:
            raise ConfigError("says nothing of who is searched for, or what does not count")
        return protocol_of({"name": path.stem, **described})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _known_otherwise(protocol: Protocol) -> bool:
    """Return whether results would stand under a known name whose rules are others."""
    known = {one.name: one for one in (*offered_protocols(), *GENERIC_PROTOCOLS)}
    own = known.get(protocol.name) or known.get(PUBLISHED.get(protocol.name, ""))
    return own is not None and replace(own, name=protocol.name) != protocol


def protocol_of(described: Mapping[str, Any]) -> Protocol:
    """Return the protocol that plain data describes, as TOML or JSON hold it.

    Args:
        described: arguments of `Protocol`; ``query`` and ``gallery`` those of `Subset` (``extra``
            a table of labels and the values to keep), ``junk`` those of `JunkRule`,
            ``single_shot`` those of `SingleShot`, or ``"all"`` for `EveryGallery`.

    Raises:
        ConfigError: a key is unknown, a value has the wrong type or is out of range.

    Example:
        >>> protocol_of({"name": "mine", "junk": {"same": ["camid"]}}).text
        'mine v1: query all; gallery all; multi-shot; junk same pid & same camid; pid -1 dropped; \
means over valid queries'
    """
    values = dict(described)
    if not isinstance(values.get("name"), str):
        raise ConfigError("a protocol needs a name, which is text")
    shots = values.get("single_shot")
    if shots == "all":
        values["single_shot"] = EveryGallery()
    elif shots is not None:
        values["single_shot"] = _made(SingleShot, "single_shot", shots)
    for side in ("query", "gallery"):
        if side in values:
            values[side] = _subset(side, values[side])
    if "junk" in values:
        values["junk"] = _made(JunkRule, "junk", values["junk"])
    made = _made(Protocol, "a protocol", values)
    assert isinstance(made, Protocol)
    return made


def _subset(side: str, described: Any) -> Subset:
    values = dict(described) if isinstance(described, Mapping) else described
    if isinstance(values, dict) and "extra" in values:
        extra = values["extra"]
        if not isinstance(extra, Mapping):
            raise ConfigError(f"{side}: 'extra' must be a table of labels and the values to keep")
        own = {"camid": "cameras", "pid": "pids", "split": "splits"}
        for key in own.keys() & extra.keys():
            raise ConfigError(f"{side}: '{key}' is chosen by '{own[key]}', not by 'extra'")
        values["extra"] = [(key, _tuples(keep)) for key, keep in extra.items()]
    made = _made(Subset, side, values)
    assert isinstance(made, Subset)
    return made


def _made(kind: type[Any], what: str, values: Any) -> Any:
    """Return an object of a kind from its arguments; lists become tuples."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{what} must be a table, not {values!r}")
    known = {field.name: field for field in fields(kind)}
    for key, value in values.items():
        if key not in known:
            raise ConfigError(
                f"{what} has no key '{key}'{did_you_mean(key, known)}; known: {', '.join(known)}"
            )
        declared = str(known[key].type)
        plural = declared.startswith("tuple")
        if plural != isinstance(value, list | tuple):
            kinds = "a list" if plural else "a single value"
            raise ConfigError(f"{what}: '{key}' must be {kinds}, not {value!r}")
        inner = next((name for name in ("int", "str") if f"tuple[{name}, ..." in declared), "")
        wrong = [one for one in value if type(one).__name__ != inner] if inner else []
        if wrong:
            raise ConfigError(f"{what}: '{key}' must be a list of {inner}, not {wrong[0]!r}")
        expected = {"int": int, "str": str}.get(declared, object)
        if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
            raise ConfigError(f"{what}: '{key}' must be {known[key].type}, not {value!r}")
    return kind(**{key: _tuples(value) for key, value in values.items()})


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

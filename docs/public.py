"""The reference of public names: functions, classes that authors build on, errors, constants."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from docstrings import docstring, paragraphs, table, unwrapped, wrapped
from reference import GROUPS, NOTE, class_parts

import reid_core
import reid_core.testing
import reid_retrieval

ENTRY_POINTS = {
    "reid.plugins": "plugins by name: classes ([writing a plugin](writing_a_plugin.md))",
    "reid.commands": "click commands of `reid` by name; `data.NAME` is one of `reid data`, "
    "`eval.cost` the function that `reid eval MODEL --cost` calls",
    "reid.protocols": "lists of `Protocol`, found by `find_protocol` where no plugin is requested",
    "reid.weights": "files of weights by name, for `model.pretrained` ([weights](weights.md))",
    "reid.layouts": "layouts of other projects' weights by name, for `model.importer`",
    "reid.addresses": "what turns an address of a scheme (`hf://...`) into a file",
}
"""Groups of entry points by which a distribution offers something."""

TYPES = {name for names in GROUPS.values() for name in names}
"""What the page of types shows."""


def public_page() -> str:
    """Return the reference of everything public that the pages of hooks and types do not show."""
    parts = [
        "# Public names",
        NOTE,
        "What may be imported beside [hooks](hooks.md) and [types](types.md): from `reid_core`, "
        "from `reid_core.testing` for tests, and from `reid_retrieval`, which knows features and "
        "labels alone. All of it is kept as the versions promise "
        "([writing a plugin](writing_a_plugin.md#versions)).",
    ]
    for title, module in (
        ("reid_core", reid_core),
        ("reid_core.testing", reid_core.testing),
        ("reid_retrieval", reid_retrieval),
    ):
        parts += [f"## {title}", *_names(module)]
    rows = ((f"`{group}`", what) for group, what in ENTRY_POINTS.items())
    parts += ["## Entry points", "A distribution offers by these groups:"]
    parts.append(table(("group", "what it names"), rows))
    return "\n\n".join(parts) + "\n"


def _names(module: Any) -> Iterator[str]:
    names: Mapping[str, Any] = {name: getattr(module, name) for name in module.__all__}
    elsewhere = [f"`{name}`" for name in names if name in TYPES]
    if elsewhere:
        yield wrapped(f"On the page of [types](types.md): {', '.join(elsewhere)}.")
    for name, value in names.items():
        if name in TYPES:
            continue
        if module is not reid_core and name in reid_core.__all__:
            yield f"### {module.__name__}.{name}"
            if value is getattr(reid_core, name):
                yield f"The same as [`{name}`](#{name.lower()}) of reid_core."
                continue
        else:
            yield f"### {name}"
        yield from _shown(name, value)


def _shown(name: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        base = value.__bases__[0].__name__
        if issubclass(value, Exception):
            yield f"An error, a `{base}`."
        elif not hasattr(value, "__dataclass_fields__"):
            yield f"```python\nclass {name}{signature(value)}\n```"
        yield from class_parts(value)
    elif callable(value):
        yield f"```python\n{name}{signature(value)}\n```"
        yield from _function(value)
    else:
        listed = ", ".join(f"`{one}`" for one in value) if not isinstance(value, str) else ""
        yield wrapped(listed or f"`{value!r}`")


def signature(value: Any) -> str:
    """Return a signature; long ones with a line per argument."""
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    found = found.replace(
        parameters=[
            one.replace(annotation=_Bare.of(one.annotation)) for one in found.parameters.values()
        ],
        return_annotation=_Bare.of(found.return_annotation),
    )
    text = str(found)
    if len(text) <= 80:
        return text
    listed = [str(one) for one in found.parameters.values()]
    kinds = [one.kind for one in found.parameters.values()]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        listed.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    returns = found.return_annotation
    arrow = "" if returns is inspect.Signature.empty else f" -> {returns!s}"
    return "(\n" + "".join(f"    {one},\n" for one in listed) + f"){arrow}"


class _Bare(str):
    """An annotation as it stands in the source; a signature shows texts in quotes."""

    @classmethod
    def of(cls, annotation: Any) -> Any:
        """Return it bare where it is a text."""
        return cls(annotation) if isinstance(annotation, str) else annotation

    def __repr__(self) -> str:
        return str(self)


def _function(value: Any) -> Iterator[str]:
    doc = docstring(value)
    yield paragraphs(doc.text)
    meanings = doc.entries("Args")
    if meanings:
        yield table(("argument", "meaning"), ((f"`{k}`", text) for k, text in meanings.items()))
    for title in ("Returns", "Raises"):
        text = unwrapped(" ".join(doc.sections.get(title, {}).values()))
        if text:
            yield wrapped(f"{title}: {text}")


def undocumented() -> list[str]:
    """Return the public names without a docstring; constants have none."""
    return [
        f"{module.__name__}.{name}"
        for module in (reid_core, reid_core.testing, reid_retrieval)
        for name in module.__all__
        if callable(value := getattr(module, name)) and not (value.__doc__ or "").strip()
    ]

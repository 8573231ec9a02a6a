"""The reference pages: hooks, types and configuration, from docstrings and signatures."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
import types
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from docstrings import Docstring, docstring, paragraphs, table, unwrapped, wrapped
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import reid_core
from reid_core import config
from reid_core.contract import hookspecs

DOCS = Path(__file__).resolve().parent
NOTE = "<!-- Made by docs/generate.py from the source. Do not edit. -->"

GROUPS = {
    "The plugin": ("Plugin", "Settings", "Need"),
    "The run": ("RunContext", "Stage", "Start"),
    "The model": (
        *(
            "Tap",
            "Encoder",
            "EncoderProvider",
            "PoolingProvider",
            "Branch",
            "Embedding",
            "Supervision",
        ),
        *("IdentityCriterion", "IdentityOutput"),
    ),
    "The step": (
        *("StepView", "PassView", "Embedded", "Batch", "LossTerm", "LinearRamp", "Synthetic"),
        *("Schedule", "Group", "Optimiser", "Update", "Pass", "UpdateReport", "Weights"),
    ),
    "Data": (
        *("DataProvider", "Counts", "DataRequest", "DataSet", "Source", "Sample", "SourceRequest"),
        *("FieldSpec", "FieldKind", "Labeler", "LabelContext"),
    ),
    "Evaluation": ("Protocol", "EvaluationView", "Metric"),
    "Events": ("Event", "RunBegan", "StepEnded", "EpochEnded", "Evaluated", "RunEnded"),
}
"""Public classes that hooks take and return, as the page of types shows them."""


# Hooks -------------------------------------------------------------------------------------------


def hooks_page() -> str:
    """Return the reference of hooks, from their specifications."""
    examples = examples_of(DOCS / "writing_a_plugin.md", *sorted((DOCS / "howto").glob("*.md")))
    parts = [
        "# Hooks",
        NOTE,
        paragraphs(inspect.cleandoc(hookspecs.__doc__ or "").partition("\n\n")[2]),
        "When each is called is in [lifecycle.md](lifecycle.md); the types are in "
        "[types.md](types.md).",
        table(
            ("hook", "what it is for", "returns", "since"),
            (
                (
                    f"[`{name}`](#{name})",
                    docstring(spec).first,
                    f"`{_returns(spec)}`",
                    hookspecs.LIFETIMES[name].since,
                )
                for name, spec in specs().items()
            ),
        ),
    ]
    for name, spec in specs().items():
        parts += [f"## {name}", *_hook(name, spec)]
        if name in examples:
            links = [f"[{title}]({target})" for title, target in examples[name].items()]
            parts.append(wrapped(f"{'Examples' if links[1:] else 'Example'}: {', '.join(links)}."))
    return "\n\n".join(parts) + "\n"


def specs() -> dict[str, Callable[..., object]]:
    """Return the hook specifications by name, in the order of `HOOKS`."""
    return {name: getattr(hookspecs, name) for name in hookspecs.HOOKS}


def _hook(name: str, spec: Callable[..., object]) -> Iterator[str]:
    doc = docstring(spec)
    parameters = inspect.signature(spec).parameters
    listed = ", ".join(parameters)
    yield f"```python\n@hookimpl\ndef {name}(self{', ' if listed else ''}{listed}): ...\n```"
    yield paragraphs(doc.text)
    meanings, lifetime = doc.entries("Args"), hookspecs.LIFETIMES[name]
    if "" in lifetime.deprecated:
        yield wrapped(f"Deprecated: it leaves in {lifetime.deprecated['']}.")
    if parameters:
        rows = (
            (f"`{key}`", f"`{parameter.annotation}`", meanings.get(key, "") + _life(key, lifetime))
            for key, parameter in parameters.items()
        )
        yield table(("argument", "type", "meaning"), rows)
    text = " ".join(doc.sections.get("Returns", {}).values())
    yield wrapped(f"Returns `{_returns(spec)}`.{' ' if text else ''}{text}")


def _life(argument: str, lifetime: hookspecs.Lifetime) -> str:
    since, until = lifetime.added.get(argument), lifetime.deprecated.get(argument)
    told = f" (since {since})" if since else ""
    return f"{told} (deprecated: it leaves in {until})" if until else told


def _returns(spec: Callable[..., object]) -> str:
    return str(inspect.signature(spec).return_annotation)


def examples_of(*pages: Path) -> dict[str, dict[str, str]]:
    """Return the headings under which pages implement each hook, with links from this folder."""
    found: dict[str, dict[str, str]] = {}
    for page in pages:
        title = target = ""
        for line in page.read_text(encoding="utf-8").splitlines():
            if heading := re.fullmatch(r"(#+) ([0-9]+\. )?(.+)", line):
                title, target = heading[3], page.relative_to(DOCS).as_posix()
                if len(heading[1]) > 1:
                    anchor = re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower())
                    target += f"#{anchor.replace(' ', '-')}"
            elif hook := re.fullmatch(r"    def (reid_\w+)\(.*", line):
                found.setdefault(hook[1], {})[title] = target
    return found


# Types -------------------------------------------------------------------------------------------


def types_page() -> str:
    """Return the reference of the public classes that hooks take and return."""
    parts = [
        "# Types",
        NOTE,
        "What hooks take and return. All of it is imported from `reid_core`: "
        "`from reid_core import Branch, LossTerm`.",
    ]
    for title, names in GROUPS.items():
        parts.append(f"## {title}")
        for name in names:
            parts += [f"### {name}", *class_parts(getattr(reid_core, name))]
    return "\n\n".join(parts) + "\n"


def class_parts(cls: type) -> Iterator[str]:
    """Yield what a class is, and a table of its fields, properties and methods."""
    doc = docstring(cls)
    yield paragraphs(doc.text)
    rows = [*_fields(cls, doc), *_members(cls)]
    if rows:
        yield table(("name", "type", "default", "meaning"), iter(rows))


def _fields(cls: type, doc: Docstring) -> Iterator[tuple[str, ...]]:
    meanings = doc.entries("Args", "Attributes")
    if dataclasses.is_dataclass(cls):
        for field in dataclasses.fields(cls):
            default = field.default
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            meaning = meanings.pop(field.name, "")
            yield f"`{field.name}`", f"`{field.type}`", _default(default), meaning
    for name, meaning in meanings.items():
        if not isinstance(vars(cls).get(name), property):
            default = vars(cls).get(name, dataclasses.MISSING)
            yield f"`{name}`", _annotation(cls, name), _default(default), meaning


def _members(cls: type) -> Iterator[tuple[str, ...]]:
    """Yield what a class defines itself beside its fields: properties, methods, enum values."""
    if issubclass(cls, StrEnum):
        after = _attribute_docstrings(cls)
        for member in cls:
            yield f"`{member.name}`", "", f'`"{member.value}"`', after.get(member.name, "")
        return
    fields = vars(cls).get("__dataclass_fields__", {})
    for name, member in vars(cls).items():
        if name.startswith("_") or name == "model_config" or name in fields:
            continue
        if isinstance(member, property) and member.fget is not None:
            kind = str(inspect.signature(member.fget).return_annotation)
            yield f"`{name}`", f"`{kind}`", "", docstring(member).first
        elif inspect.isfunction(member):
            listed = ", ".join(list(inspect.signature(member).parameters)[1:])
            yield f"`{name}({listed})`", "method", "", docstring(member).first


def _annotation(cls: type, name: str) -> str:
    # An error takes what every error takes.
    parameters = {} if issubclass(cls, Exception) else inspect.signature(cls).parameters
    found = cls.__annotations__.get(name) or (
        parameters[name].annotation if name in parameters else ""
    )
    return f"`{found}`" if found else ""


def _default(value: object) -> str:
    if value is dataclasses.MISSING:
        return ""
    name = getattr(value, "__name__", "")
    if name.startswith(("_", "<")):
        return ""  # a function that has no public name says nothing
    return f"`{name or repr(value)}`"


# Configuration -----------------------------------------------------------------------------------


def configuration_page() -> str:
    """Return the reference of the configuration: sections, keys, types, defaults, meanings."""
    parts = [
        "# Configuration",
        NOTE,
        wrapped(
            "A run's configuration is one frozen object of closed sections. Later layers rule: the "
            "defaults below, the recipe `core/quick` (where no recipe is named), what the plugins "
            "cannot work without, the named recipe (`--recipe`), the command line "
            "(`-s section.key=value`). The run's folder holds the result as `config.toml`; given "
            "as `--recipe FILE.toml` it makes the same run again. `+` joins recipes, and later "
            "ones rule: `--recipe fsam/prcc+one_way`. An unknown key is an error that "
            "names the nearest known one."
        ),
        "A plugin's settings are its own section, `[plugins.<name>]`; on the command line "
        "`-s <name>.key=value`.",
    ]
    for name, info in config.RunConfig.model_fields.items():
        kind = info.annotation
        if inspect.isclass(kind) and issubclass(kind, BaseModel):
            parts += [f"## [{name}]", paragraphs(inspect.cleandoc(kind.__doc__ or ""))]
            parts.append(table(("key", "type", "default", "meaning"), _keys(kind)))
    parts += ["## Sections of names", "Their keys are names, so that any key is possible."]
    rows = (row for row in _keys(config.RunConfig) if row[0] not in _sections())
    parts.append(table(("section", "type", "default", "meaning"), rows))
    return "\n\n".join(parts) + "\n"


def _sections() -> set[str]:
    return {
        f"`{name}`"
        for name, info in config.RunConfig.model_fields.items()
        if inspect.isclass(info.annotation) and issubclass(info.annotation, BaseModel)
    }


def _keys(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    after = _attribute_docstrings(model)
    for name, info in model.model_fields.items():
        default = info.get_default(call_default_factory=True)
        meaning = info.description or after.get(name, "")
        yield f"`{name}`", _kind(info), f"`{_toml(default)}`", meaning


def undescribed_keys() -> list[str]:
    """Return the dotted keys of the configuration whose meaning the source does not tell."""
    return [
        f"{section}.{row[0].strip('`')}"
        for section, info in config.RunConfig.model_fields.items()
        if inspect.isclass(info.annotation) and issubclass(info.annotation, BaseModel)
        for row in _keys(info.annotation)
        if not row[3]
    ]


def _attribute_docstrings(cls: type) -> dict[str, str]:
    """Return the strings that follow the attributes of a class, by attribute."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for before, after in zip(tree.body, tree.body[1:], strict=False):
        target = before.targets[0] if isinstance(before, ast.Assign) else before
        name = target.target if isinstance(target, ast.AnnAssign) else target
        if (
            isinstance(name, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            found[name.id] = unwrapped(after.value.value)
    return found


def _kind(info: FieldInfo) -> str:
    return _type(Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation)


def _type(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        # What `Field` carries may itself be metadata, one level deeper.
        limits = [m for a in arguments[1:] for m in getattr(a, "metadata", [a])]
        bounds = " and ".join(bound for limit in limits for bound in _bounds(limit))
        return f"{_type(arguments[0])} {bounds}".strip()
    if origin is Literal:
        return ", ".join(f"`{_toml(value)}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(one) for one in arguments if one is not type(None))
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"list of {_type(arguments[0])}"
        return f"[{', '.join(_type(one) for one in arguments)}]"
    if origin is dict:
        return f"table of {_type(arguments[1])}"
    return {str: "text", Path: "path", Any: "any"}.get(kind) or str(kind.__name__)


def _bounds(limit: object) -> Iterator[str]:
    for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
        if (bound := getattr(limit, name, None)) is not None:
            yield f"{sign} {2**31 if bound == 2**31 else format(bound, 'g')}"


def _toml(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case str() | Path():
            return f'"{value}"'
        case tuple() | list():
            return f"[{', '.join(_toml(one) for one in value)}]"
        case dict():
            return "{}"
        case _:
            return str(value)

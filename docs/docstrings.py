"""Docstrings in their parts, and the Markdown that is made of them."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Docstring:
    """A docstring in its parts; ``sections`` by title (``Args``), each entry by name."""

    text: str
    sections: Mapping[str, Mapping[str, str]]

    @property
    def first(self) -> str:
        """The first sentence."""
        return unwrapped(self.text.split("\n\n")[0])

    def entries(self, *titles: str) -> dict[str, str]:
        """Return the entries of some sections; one that describes several names counts for each."""
        found: dict[str, str] = {}
        for title in titles:
            for names, text in self.sections.get(title, {}).items():
                found.update(dict.fromkeys((name.strip() for name in names.split(",")), text))
        return found


_TITLE = re.compile(r"^(Args|Attributes|Returns|Raises|Example|Sources):$", re.MULTILINE)
_ENTRY = re.compile(r"^(\w[\w, ]*): ", re.MULTILINE)


def docstring(thing: object) -> Docstring:
    """Parse the docstring of a function or a class of its own."""
    text = inspect.cleandoc(getattr(thing, "__doc__", None) or "")
    pieces = _TITLE.split(text)
    sections: dict[str, dict[str, str]] = {}
    for title, body in zip(pieces[1::2], pieces[2::2], strict=True):
        body = textwrap.dedent(body).strip()
        named = _ENTRY.split(body) if title in ("Args", "Attributes") else ["", "", body]
        pairs = zip(named[1::2], named[2::2], strict=True)
        sections[title] = {name: unwrapped(entry) for name, entry in pairs}
    return Docstring(pieces[0].strip(), sections)


def unwrapped(text: str) -> str:
    """Return a text in one line."""
    return " ".join(text.split())


def paragraphs(text: str) -> str:
    """Return a docstring's text as Markdown, each paragraph wrapped anew."""
    return "\n\n".join(wrapped(part) for part in text.split("\n\n"))


def wrapped(text: str) -> str:
    """Return a paragraph as Markdown, in lines of at most 110 characters."""
    text = unwrapped(text).replace("``", "`")
    return textwrap.fill(text, 110, break_long_words=False, break_on_hyphens=False)


def table(titles: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    lines = [titles, tuple("---" for _ in titles), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return unwrapped(text).replace("``", "`").replace("|", "\\|")

"""Errors that a user can act on: one line that says what happened, where, and what to do next.

Every error that reaches a user on purpose derives from [ReidError][reid_core.errors.ReidError]; the
command line prints its text as one line and exits with 2. Anything else is a defect and keeps its
traceback.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from reid_retrieval import errors as retrieval
from reid_retrieval.errors import did_you_mean as did_you_mean


def reason_of(error: BaseException, most: int | None = None) -> str:
    """Return what an error says in one line; its type where it says nothing.

    Args:
        error: of whatever library.
        most: characters to keep.
    """
    return " ".join(str(error).split())[:most] or type(error).__name__


def some(names: Iterable[str], most: int = 3) -> str:
    """Return the first few of many names."""
    listed = list(names)
    return ", ".join(listed[:most]) + (", ..." if len(listed) > most else "")


def with_choices(message: str, name: str, known: Collection[str]) -> str:
    """Return a message about a wrong name, with the nearest right one and all that there are."""
    return f"{message}{did_you_mean(name, known)} (there are: {', '.join(known) or 'none'})"


def typed_reason(error: BaseException, most: int | None = None) -> str:
    """Return the class of an error and its reason, on one line; see `reason_of`."""
    return f"{type(error).__name__}: {reason_of(error, most)}"


class ReidError(Exception):
    """Base of all errors that a user can act on.

    Attributes:
        exit_code: what the command line exits with.
    """

    exit_code = 2

    def __str__(self) -> str:
        """Return the message in one line, also where it quotes a name with line breaks."""
        text = Exception.__str__(self)
        return r"\n".join(text.splitlines()) if len(text.splitlines()) > 1 else text.strip("\r\n")


class ConfigError(ReidError):
    """The configuration is wrong: an unknown key, a value out of range, settings that clash."""


class PluginError(ReidError):
    """A plugin is missing, broken, or breaks the contract."""


class ConflictError(PluginError):
    """Two plugins want what only one can have; the message names both and a remedy."""


class DeclarationError(PluginError, ValueError):
    """What a plugin declares is none of what it may be: a misspelt word, a string for a tuple."""


class UnknownNameError(PluginError, KeyError):
    """A plugin asks for an output, a pass, a field or a module that is not there."""


class DataError(ReidError):
    """A data set, a sample, a label or an image is missing, corrupt or unusable."""


class CheckpointError(ReidError):
    """A checkpoint or an exported embedder cannot be used here."""


class OutputError(ReidError, OSError):
    """A file cannot be written: no space, no permission, no such place any more."""


class DeviceError(ReidError):
    """The device that was asked for is not available."""


@contextmanager
def own_errors() -> Iterator[None]:
    """Turn errors of reid-retrieval in this block into those of the core, with the same text."""
    try:
        yield
    except retrieval.RetrievalError as error:
        kind = DataError if isinstance(error, retrieval.DataError) else ConfigError
        raise kind(str(error)) from error

"""Errors that a user can act on: one family, one line, the nearest name."""

from __future__ import annotations

import pytest

import reid_core
from reid_core import errors
from reid_core.errors import ReidError, did_you_mean, reason_of

KINDS = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)
]


def test_every_error_is_of_one_family_and_exits_with_two() -> None:
    assert len(KINDS) >= 7
    for kind in KINDS:
        assert issubclass(kind, ReidError)
        assert kind.exit_code == 2
        assert getattr(reid_core, kind.__name__) is kind
    assert issubclass(errors.ConflictError, errors.PluginError)


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("heigth", ["width", "height"], "; did you mean 'height'?"),
        ("zzz", ["width", "height"], ""),
        ("x", [], ""),
        ("partawar", iter(["partaware", "san"]), "; did you mean 'partaware'?"),
    ],
)
def test_the_nearest_name_is_proposed(name: str, known: list[str], expected: str) -> None:
    assert did_you_mean(name, known) == expected


def test_a_tie_does_not_depend_on_the_order() -> None:
    known = ["ab1", "ab2", "ab3"]
    assert did_you_mean("ab", known) == did_you_mean("ab", reversed(known))


@pytest.mark.parametrize(
    ("error", "most", "expected"),
    [
        (ValueError("no\n  such\tfile"), None, "no such file"),
        (ValueError("no such file"), 7, "no such"),
        (EOFError(), None, "EOFError"),
        (EOFError(" \n"), 3, "EOFError"),
    ],
)
def test_what_a_library_says_is_one_line_and_never_empty(
    error: Exception, most: int | None, expected: str
) -> None:
    assert reason_of(error, most) == expected

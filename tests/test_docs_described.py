"""Nothing that the reference pages show is without a meaning."""

import inspect
import re

import pytest
from house import ROOT

from reid_core.contract import hookspecs
from reid_core.contract.hookspecs import HOOKS


def test_every_key_of_the_configuration_is_described():
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (`\w+`) .*\|  \|$", page, re.MULTILINE) == []


@pytest.mark.parametrize("hook", HOOKS)
def test_every_argument_and_answer_of_a_hook_is_described(hook: str):
    spec = getattr(hookspecs, hook)
    for argument in inspect.signature(spec).parameters:
        assert f"        {argument}: " in (spec.__doc__ or "")
    answers = inspect.signature(spec).return_annotation not in (None, "None")
    assert ("Returns:" in spec.__doc__) == answers

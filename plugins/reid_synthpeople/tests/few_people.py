"""Data sets of four people, where what is tested does not need more."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from reid_synthpeople import plans
from reid_synthpeople.variants import Scale, scale_of


@contextmanager
def few_people() -> Iterator[None]:
    """Let every data set have two people to train on and two to search for, in small chunks.

    Whatever is made meanwhile goes to a folder of the test's own: its order says nothing of it.
    """

    def few(variant: str, size: str) -> Scale:
        return replace(scale_of(variant, size), train=2, test=2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plans, "scale_of", few)
        patch.setattr(plans, "CHUNK", plans.CHUNK // 4)
        yield

"""Import all that a tiny run imports: processes forked from a server that did start at once."""

from __future__ import annotations

import importlib

import reid_core.testing.ranks  # noqa: F401
from reid_core.model import torchvision_guard

torchvision_guard.guard_torchvision()
for _name in ("timm", "torch._dynamo"):
    importlib.import_module(_name)

"""Import all that a tiny run imports: processes forked from a server that did start at once.

In such a server, and nowhere else, what is imported is no garbage, so nobody looks for some in it,
also when the server ends.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import sys

import reid_core.testing.ranks  # noqa: F401

for _name in ("timm", "torch._dynamo"):
    importlib.import_module(_name)
# A server is known by the command that `multiprocessing` starts it with.
if any("multiprocessing.forkserver" in word for word in sys.orig_argv):
    gc.freeze()
    atexit.register(os._exit, 0)

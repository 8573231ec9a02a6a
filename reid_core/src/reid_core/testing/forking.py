"""Processes forked from one that has imported everything and computed nothing.

To import torch and timm anew takes longer than all that ranks do in a tiny run. But whoever has
computed must not be forked: the child has none of the threads that OpenMP, CUDA and others believe
to have, and may wait for them for ever. So a test run that looks at ranks forks a server before its
first test (`reid_core.testing.fixtures`), and ranks are forked from that.
"""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import sys
import warnings
from collections.abc import Callable
from multiprocessing import Pipe, set_forkserver_preload
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from torch.multiprocessing.spawn import ProcessException, start_processes

_IMPORTED = ("reid_core.testing.ranks", "timm", "torch._dynamo")
"""All that a tiny run imports, in an order that works."""


class _Server:
    """Forks processes on request; it ends with whoever made it."""

    def __init__(self) -> None:
        self._here, there = Pipe()
        with warnings.catch_warnings():
            # Python warns of threads. Those that there are before the first test receive messages.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pid = os.fork()
        if not self._pid:
            try:
                self._here.close()
                # What fails is told; nobody collects the output of these processes.
                for stream in (1, 2):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
                gc.freeze()
                while True:
                    path, call, count = there.recv()
                    there.send(_failure("fork", _called, (path, call), count))
            finally:
                os._exit(0)
        there.close()

    def failure(self, work: Callable[..., None], arguments: tuple[Any, ...], count: int) -> str:
        # Pickled here and read in the processes: the server imports nothing that a test brings.
        call = bytes(ForkingPickler.dumps((work, arguments)))
        self._here.send((sys.path, call, count))
        return str(self._here.recv())

    def end(self) -> None:
        self._here.close()
        os.waitpid(self._pid, 0)


_server: _Server | None = None


def begin() -> None:
    """Import all that runs need, and start the server where processes can be forked."""
    global _server
    if _server is None and sys.platform == "linux" and not torch.cuda.is_available():
        for name in _IMPORTED:
            importlib.import_module(name)
        _server = _Server()


def end() -> None:
    """Let the server end, where there is one."""
    global _server
    if _server is not None:
        _server.end()
        _server = None


def failure_of(work: Callable[..., None], arguments: tuple[Any, ...], count: int) -> str:
    """Call a function in processes of their own, and wait for them.

    Args:
        work: takes the number of its process, and the arguments; it can be pickled, and so can
            they.
        arguments: what else it takes.
        count: how many processes there are.

    Returns:
        What has happened where one of them failed; all others are stopped then.
    """
    if _server is not None:
        return _server.failure(work, arguments, count)
    # Python's own server imports everything itself, once.
    set_forkserver_preload(list(_IMPORTED))
    return _failure("forkserver", work, arguments, count)


def _called(number: int, path: list[str], call: bytes) -> None:
    """Call a function as its caller sees the world, who may have found modules since the fork."""
    sys.path[:] = path
    importlib.invalidate_caches()
    # Where the fork was made, warnings may have been errors; torch warns of what two ranks do.
    warnings.resetwarnings()
    work, arguments = pickle.loads(call)
    work(number, *arguments)


def _failure(method: str, work: Callable[..., None], arguments: tuple[Any, ...], count: int) -> str:
    try:
        start_processes(work, arguments, count, start_method=method)
    except ProcessException as error:
        return str(error).strip()
    return ""

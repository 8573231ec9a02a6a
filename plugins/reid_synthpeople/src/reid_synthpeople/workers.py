"""Chunks written by several processes, in order, with one answer per chunk.

The processes are started as such and not by `multiprocessing`: a pool would run the caller's script
a second time in each of them, and hang where the script is not prepared for that.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from reid_synthpeople.chunks import Chunk

# The parent is interrupted too, and ends its workers. This stands before anything slow.
_CODE = """
import json, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.path[:] = json.loads(sys.argv[1])
from reid_synthpeople.workers import serve
serve()
"""


class WorkerError(Exception):
    """A worker process has ended by itself."""


def write_chunks(chunks: Sequence[Chunk], workers: int) -> Iterator[str]:
    """Write chunks in processes of their own and yield the hashes of their scenes, in order.

    Args:
        chunks: each goes to the next process in turn, whatever the others take.
        workers: how many processes.

    Raises:
        OSError: a file cannot be written.
        WorkerError: a process has ended by itself.
    """
    processes: list[subprocess.Popen[bytes]] = []
    try:
        processes += [_started() for _ in range(workers)]
        for number, process in enumerate(processes):
            with suppress(BrokenPipeError):  # it is told below, with the exit status
                pickle.dump(chunks[number::workers], _pipe(process.stdin))
                _pipe(process.stdin).close()
        for number in range(len(chunks)):
            yield _answer(processes[number % workers])
    finally:
        for process in processes:
            process.kill()  # files appear whole or not at all
        for process in processes:
            _end(process)


def serve() -> None:
    """Write the chunks that come in and answer each with its hash: a worker's whole life."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else is printed must not come between the answers
    from reid_synthpeople.chunks import one_thread, write_chunk

    with one_thread(), suppress(BrokenPipeError):  # the parent is gone
        for chunk in pickle.load(sys.stdin.buffer):
            try:
                answer: str | OSError = write_chunk(chunk)
            except OSError as error:
                answer = OSError(error.errno, error.strerror or str(error))
            pickle.dump(answer, answers)
            answers.flush()


def _started() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", _CODE, json.dumps(sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def _answer(process: subprocess.Popen[bytes]) -> str:
    try:
        answer = pickle.load(_pipe(process.stdout))
    except EOFError:
        raise WorkerError(_reason(process.wait())) from None
    if isinstance(answer, OSError):
        raise answer
    return str(answer)


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(BrokenPipeError):
        _pipe(process.stdin).close()
    _pipe(process.stdout).close()
    process.wait()


def _reason(status: int) -> str:
    if status == -9:
        return "it was killed, for lack of memory if you have not done it"
    return f"its exit status is {status}"


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe

"""Break the code on purpose, one change at a time, and see whether the tests notice.

A list of mutations is a TOML file beside the tests of a distribution::

    wider = "reid_core/tests/test_core_step.py ..."   # tried where a mutation's own tests all pass

    [[mutation]]
    file = "reid_core/src/reid_core/model/losses.py"  # from the repository's root
    old = "dim=1"                                     # stands there exactly once
    new = "dim=0"
    tests = "reid_core/tests/test_core_losses.py"     # what pytest is told
    reason = "..."                                    # only of a survivor that is meant to survive

Each mutation is made in a copy of the package, which is put before the installed one on the
import path, so the working tree is never touched and several lists can run at once.

    python benchmarks/mutations.py reid_core/tests/mutations.toml [--only WORDS] [--missing]

A mutation is *caught* when a test fails that passes without it, and *survives* when all pass. The
exit code is 1 when one survives without a reason. Outcomes go to the file of results as they come,
the first of each mutation kept beside the last.
"""

import argparse
import fcntl
import gc
import hashlib
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
import tomllib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results/mutations.json"
LISTS = {
    path.parent.parent.name: path
    for pattern in ("*", "plugins/*")
    for path in sorted(ROOT.glob(f"{pattern}/tests/mutations.toml"))
}
"""The lists that there are, by distribution."""

PASSED, FAILED, INTERRUPTED = 0, 1, 2  # pytest's exit codes; the last: a file is not collected
SLOW = "none, for they do not come to an end"
LONGEST = 300  # seconds for the tests of one mutation
GUARD = ROOT / "reid_core/src/reid_core/torchvision_guard.py"
HEAVY = (
    "numpy",
    "scipy.stats",
    "sklearn.cluster",
    "torch",
    "torch.utils.data",
    "timm",
    "kornia",
    "pytest",
    "hypothesis.extra.numpy",
)


def main() -> int:
    """Run the lists that are named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lists", nargs="+", type=Path, help="of distributions; .toml")
    parser.add_argument("--only", default="", help="mutations whose file, old or new contain this")
    parser.add_argument("--part", default="1/1", help="2/3: the second third of them")
    parser.add_argument("--missing", action="store_true", help="those without an outcome yet")
    parser.add_argument("--survivors", action="store_true", help="those that survived last time")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the outcomes go")
    args = parser.parse_args()
    import_heavy()
    part, parts = map(int, args.part.split("/"))
    outcomes, catchers = [], set[str]()
    for path in args.lists:
        name = path.resolve().parent.parent.name
        wider, mutations = read_list(path)
        with changing(args.results) as results:
            # What has left the list leaves the results; rows stand in the list's order.
            rows = results.get(name, {})
            rows = {key: rows[key] for key in map(key_of, mutations) if key in rows}
            results[name] = rows
        for mutation in mutations[part - 1 :: parts]:
            key = key_of(mutation)
            last = read_results(args.results)[name].get(key, {}).get("outcome")
            if (
                args.only not in "\n".join(mutation[word] for word in ("file", "old", "new"))
                or (args.missing and last in ("caught", "survives"))
                or (args.survivors and last != "survives")
            ):
                continue
            row = outcome(mutation, wider)
            with changing(args.results) as results:
                first = results[name].get(key, {}).get("first", row["outcome"])
                results[name][key] = {"what": describe(mutation), "first": first, **row}
            print(f"{row['outcome']:9} {describe(mutation)}  {row['by'] or ''}", flush=True)
            outcomes.append(row["outcome"] if not mutation.get("reason") else "explained")
            catchers |= {row["by"]} - {None, SLOW}
    failing = failures(sorted(catchers))
    if failing:
        sys.exit(f"these fail without any mutation, so that they show nothing: {failing}")
    print(f"{outcomes.count('caught')} of {len(outcomes)} caught")
    return "survives" in outcomes or "broken" in outcomes


def read_list(path: Path) -> tuple[str, list[dict[str, str]]]:
    """Return the wider tests of a list ('' without any) and its mutations."""
    content = tomllib.loads(path.read_text("utf-8"))
    return content.get("wider", ""), content["mutation"]


def key_of(mutation: dict[str, str]) -> str:
    """Return the name of a mutation's row in the results: a hash of what it changes."""
    text = "\0".join(mutation[key] for key in ("file", "old", "new"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_results(path: Path = RESULTS) -> dict[str, dict[str, dict[str, Any]]]:
    """Return by distribution and key what was changed, the first and last outcome, by whom."""
    with path.open(encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # who changes it empties it first
        results: dict[str, dict[str, dict[str, Any]]] = json.load(file)
    return results


@contextmanager
def changing(path: Path) -> Iterator[dict[str, dict[str, dict[str, Any]]]]:
    """Read the results, let them be changed, and write them, one process at a time."""
    with path.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        results = json.loads(file.read() or "{}")
        yield results
        file.truncate(0)
        file.write(json.dumps(results, indent=1) + "\n")


def outcome(mutation: dict[str, Any], wider: str = "") -> dict[str, Any]:
    """Return 'caught' and by which test, 'survives', or 'broken' where pytest says neither."""
    with tempfile.TemporaryDirectory() as folder:
        source, _, inside = mutation["file"].partition("/src/")
        shutil.copytree(ROOT / source / "src", folder, dirs_exist_ok=True)
        path = Path(folder, inside)
        text = path.read_text("utf-8")
        if text.count(mutation["old"]) != 1:
            sys.exit(f"{mutation['file']}: not exactly once: {mutation['old']!r}")
        path.write_text(text.replace(mutation["old"], mutation["new"]), "utf-8")
        for tests in filter(None, (mutation["tests"], wider)):
            code, failed, output = pytest(["-x", *shlex.split(tests)], [folder])
            if code != PASSED:
                break
    # Some mutations break the import of what the tests import, or never come to an end.
    if code in (FAILED, INTERRUPTED):
        return {"outcome": "caught", "by": failed[0]}
    if code == -signal.SIGALRM and pytest(shlex.split(tests), [])[0] == PASSED:
        return {"outcome": "caught", "by": SLOW}
    if code == PASSED:
        return {"outcome": "survives", "by": None}
    print(output)
    return {"outcome": "broken", "by": None}


def failures(tests: list[str]) -> list[str]:
    """Return those of some tests that fail without a mutation."""
    code, failed, output = pytest(tests, [], longest=0) if tests else (PASSED, [], "")
    return failed if code in (PASSED, FAILED) else [output]


class Failed:
    """A plugin of pytest that writes down which tests, or files, fail."""

    def __init__(self, file: int) -> None:
        self.file = file

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Look at a test."""
        if report.failed:
            os.write(self.file, f"{report.nodeid}\n".encode())

    pytest_collectreport = pytest_runtest_logreport


def import_heavy() -> None:
    """Import what tests import and nothing of the project, so that forks have it."""
    spec = spec_from_file_location("guard", GUARD)
    assert spec is not None
    assert spec.loader is not None
    guard = module_from_spec(spec)
    spec.loader.exec_module(guard)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        guard.install()
        import_module("torchvision")
    for name in HEAVY:
        import_module(name)
    torch = import_module("torch")
    torch.set_num_threads(1)
    gc.freeze()  # pytest collects garbage as it ends: not among all of this


def pytest(words: list[str], path: list[str], longest: int = LONGEST) -> tuple[int, list[str], str]:
    """Run tests with folders before all others on the import path.

    They run in a fork of this process, which has the heavy libraries imported and nothing of the
    project, so a mutation costs its tests alone. What lasts longer than that many seconds is
    stopped; 0: nothing is. Returns pytest's exit code, the tests that failed, and the end of what
    was printed.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as failed:
        child = os.fork()
        if child == 0:
            signal.alarm(longest)
            os._exit(_in_child(words, path, output.fileno(), failed.fileno()))
        _, status = os.waitpid(child, 0)
        for file in (output, failed):
            file.seek(0)
        names = failed.read().decode().splitlines()
        printed = output.read()[-6000:].decode(errors="replace")
        return os.waitstatus_to_exitcode(status), names, printed


def _in_child(words: list[str], path: list[str], output: int, failed: int) -> int:
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(ROOT)
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": os.pathsep.join(path)}
    sys.dont_write_bytecode = True
    sys.path[:0] = path
    quiet = ["-q", "--no-header", "--assert=plain", "-p", "no:cacheprovider"]
    code = 1
    try:
        code = int(import_module("pytest").main([*quiet, *words], [Failed(failed)]))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return code


def describe(mutation: dict[str, Any]) -> str:
    """Say in one line what was changed."""
    short = [" ".join(mutation[key].split())[:40] for key in ("old", "new")]
    return f"{Path(mutation['file']).name}: {short[0]} -> {short[1]}"


if __name__ == "__main__":
    sys.exit(main())

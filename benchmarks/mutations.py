"""Break the code on purpose, one change at a time, and see whether the tests notice.

A list of mutations is a TOML file beside the tests of a distribution::

    [[mutation]]
    file = "reid_core/src/reid_core/model/losses.py"  # from the repository's root
    old = "dim=1"                                     # stands there exactly once
    new = "dim=0"
    tests = "reid_core/tests/test_core_losses.py"     # what pytest is told
    reason = "..."                                    # only of a survivor that is meant to survive

Each mutation is made in a copy of the package, which is put before the installed one on the
import path, so the working tree is never touched and several lists can run at once.

    python benchmarks/mutations.py reid_core/tests/mutations.toml [--only WORDS] [--json FILE]

A mutation is *caught* when a test fails, *survives* when all pass. The exit code is 1 when one
survives without a reason. Without any mutation the tests have to pass, which is tried first.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
import tomllib
import warnings
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FAILED, INTERRUPTED = 1, 2  # pytest's exit codes: tests failed; a file could not be collected
LONGEST = 300  # seconds for the tests of one mutation
GUARD = ROOT / "reid_core/src/reid_core/model/torchvision_guard.py"
HEAVY = (
    "numpy",
    "scipy.stats",
    "sklearn.cluster",
    "torch",
    "torch.utils.data",
    "timm",
    "kornia",
    "pytest",
)


def main() -> int:
    """Run the lists that are named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lists", nargs="+", type=Path)
    parser.add_argument("--only", default="", help="mutations whose file, old or new contain this")
    parser.add_argument("--part", default="1/1", help="2/3: the second third of them")
    parser.add_argument("--json", type=Path, help="where the outcome of each is written")
    args = parser.parse_args()
    mutations = [
        mutation
        for path in args.lists
        for mutation in tomllib.loads(path.read_text("utf-8"))["mutation"]
        if args.only in "\n".join(mutation[key] for key in ("file", "old", "new"))
    ]
    import_heavy()
    part, parts = map(int, args.part.split("/"))
    mutations = mutations[part - 1 :: parts]
    rows, passing = [], set[str]()
    for mutation in mutations:
        if mutation["tests"] not in passing:
            code, output = pytest(mutation["tests"], [])
            if code:
                sys.exit(f"{mutation['tests']} fails without any mutation:\n{output}")
            passing.add(mutation["tests"])
        rows.append({**mutation, "outcome": outcome(mutation)})
        print(f"{rows[-1]['outcome']:9} {describe(mutation)}", flush=True)
    caught = sum(row["outcome"] == "caught" for row in rows)
    print(f"{caught} of {len(rows)} caught")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    return any(row["outcome"] == "survives" and not row.get("reason") for row in rows)


def outcome(mutation: dict[str, Any]) -> str:
    """Return 'caught', 'survives', or 'broken' where pytest could not even run the tests."""
    with tempfile.TemporaryDirectory() as folder:
        source, _, inside = mutation["file"].partition("/src/")
        shutil.copytree(ROOT / source / "src", folder, dirs_exist_ok=True)
        path = Path(folder, inside)
        text = path.read_text("utf-8")
        if text.count(mutation["old"]) != 1:
            sys.exit(f"{mutation['file']}: not exactly once: {mutation['old']!r}")
        path.write_text(text.replace(mutation["old"], mutation["new"]), "utf-8")
        code, output = pytest(mutation["tests"], [folder])
    # Some mutations break the import of what the tests import, or never come to an end.
    outcomes = {0: "survives", FAILED: "caught", INTERRUPTED: "caught", -signal.SIGALRM: "caught"}
    if code not in outcomes:
        print(output)
    return outcomes.get(code, "broken")


def import_heavy() -> None:
    """Import what tests import and nothing of the project, so that forks have it."""
    spec = spec_from_file_location("guard", GUARD)
    assert spec is not None
    assert spec.loader is not None
    guard = module_from_spec(spec)
    spec.loader.exec_module(guard)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        guard.ensure()
    for name in HEAVY:
        import_module(name)
    torch = import_module("torch")
    torch.set_num_threads(1)


def pytest(tests: str, path: list[str]) -> tuple[int, str]:
    """Run the tests with folders before all others on the import path.

    They run in a fork of this process, which has the heavy libraries imported and nothing of the
    project, so a mutation costs its tests alone.
    """
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            os._exit(_in_child(tests, path, output.fileno()))
        _, status = os.waitpid(child, 0)
        output.seek(0)
        return os.waitstatus_to_exitcode(status), output.read()[-6000:].decode(errors="replace")


def _in_child(tests: str, path: list[str], output: int) -> int:
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(ROOT)
    signal.alarm(LONGEST)
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": os.pathsep.join(path)}
    sys.dont_write_bytecode = True
    sys.path[:0] = path
    # What is imported before pytest starts is not rewritten, which is none of these tests' affair.
    quiet = ["-W", "ignore::pytest.PytestAssertRewriteWarning", "-p", "no:cacheprovider"]
    words = ["-x", "-q", "--no-header", *quiet, *shlex.split(tests)]
    code = 1
    try:
        code = int(import_module("pytest").main(words))
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

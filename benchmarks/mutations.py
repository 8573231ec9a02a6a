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
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FAILED = 1  # pytest's exit code when tests ran and some failed


def main() -> int:
    """Run the lists that are named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lists", nargs="+", type=Path)
    parser.add_argument("--only", default="", help="mutations whose file, old or new contain this")
    parser.add_argument("--json", type=Path, help="where the outcome of each is written")
    args = parser.parse_args()
    mutations = [
        mutation
        for path in args.lists
        for mutation in tomllib.loads(path.read_text("utf-8"))["mutation"]
        if args.only in "\n".join(mutation[key] for key in ("file", "old", "new"))
    ]
    for tests in sorted({mutation["tests"] for mutation in mutations}):
        code, output = pytest(tests, [])
        if code:
            sys.exit(f"{tests} fails without any mutation:\n{output}")
    rows = []
    for mutation in mutations:
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
    if code not in (0, FAILED):
        print(output)
    return {0: "survives", FAILED: "caught"}.get(code, "broken")


def pytest(tests: str, path: list[str]) -> tuple[int, str]:
    """Run the tests with folders before all others on the import path."""
    variables = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    variables["PYTHONPATH"] = os.pathsep.join(path)
    words = [
        sys.executable,
        "-P",
        "-m",
        "pytest",
        "-x",
        "-q",
        "--no-header",
    ]
    words += ["-p", "no:cacheprovider", *shlex.split(tests)]
    done = subprocess.run(words, cwd=ROOT, env=variables, capture_output=True, text=True)
    return done.returncode, done.stdout[-3000:] + done.stderr[-3000:]


def describe(mutation: dict[str, Any]) -> str:
    """Say in one line what was changed."""
    short = [" ".join(mutation[key].split())[:40] for key in ("old", "new")]
    return f"{Path(mutation['file']).name}: {short[0]} -> {short[1]}"


if __name__ == "__main__":
    sys.exit(main())

"""A data set of 200,000 files: seconds and memory of listing it, checking its labels, and a table.

The alternative is a bare walk over the same tree (`os.walk`), which any reader must do.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

PER_FILE = 40
"""Images of a person."""
LINKS = 20_000
"""Names of one file: file systems limit them."""

STEPS = {
    "walk": "sum(len(files) for _, _, files in os.walk(root))",
    "folder": "load('folder', root)",
    "folder, labels checked": "checked(load('folder', root))",
    "index.csv": "load('index', root)",
}
CODE = """
import os, resource, sys, time
from pathlib import Path
from reid_core import open_dataset
from reid_benchmarks.doctor.labels import check_labels
import reid_core.runs.finding, reid_core.data.folder, reid_benchmarks.datasets.index
root = Path(sys.argv[1])
def load(name, root):
    return open_dataset(name, root)
def checked(data):
    return list(check_labels(data, {}, []))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began = time.process_time()
STEP
spent = time.process_time() - began
print(spent, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def write_tree(root: Path, files: int) -> None:
    """Write a tree of so many names of a few small pictures, and its table."""
    rng = np.random.default_rng(0)
    (root / "train").mkdir(parents=True)
    rows = ["path,pid,camid"]
    for number in range(files):
        pid, camera = number // PER_FILE, number % 6
        name = f"train/{pid}_c{camera}_{number}.jpg"
        source = root / f"source{number // LINKS}.jpg"
        if not source.exists():
            pixels = rng.integers(0, 256, (128, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(source)
        os.link(source, root / name)
        rows.append(f"{name},{pid},{camera}")
    (root / "index.csv").write_text("\n".join(rows) + "\n", "utf-8")


def measured(root: Path, step: str) -> tuple[float, float]:
    """Return CPU seconds and MiB of a step, in a process of its own."""
    code = CODE.replace("STEP", f"found = {step}")
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(root)], capture_output=True, text=True, check=True
    )
    seconds, memory = done.stdout.split()[-2:]
    return float(seconds), float(memory)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        began = time.perf_counter()
        write_tree(root, options.files)
        print(f"{options.files:,} files written in {time.perf_counter() - began:.0f} s")
        found = {name: measured(root, step) for name, step in STEPS.items()}
    for name, (seconds, memory) in found.items():
        print(f"{name:26} {seconds:8.2f} s {memory:8.0f} MiB {seconds / found['walk'][0]:8.1f} x")
    if options.json:
        content = {name: {"seconds": s, "mib": m} for name, (s, m) in found.items()}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""A gallery of a million rows: CPU seconds and memory of filling, searching and removing.

The alternative to the search is what one writes oneself: products of numpy with blocks of the same
memory-mapped vectors, and a partial sort of each. The rows are random; every step has a process of
its own, so that its memory is its own.

    python benchmarks/many_rows.py [--rows N] [--queries N] [--folder DIR] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

# Before torch is imported: more threads on a shared machine measure the neighbours.
os.environ.setdefault("OMP_NUM_THREADS", "1")

BLOCK = 10_000
"""Rows that are appended, and multiplied by the alternative, at once."""

STEPS = {
    "fill": "fill(rows)",
    "open and search": "Gallery.open(folder).nearest(asked(queries), 10)",
    "search again": "opened.nearest(asked(queries), 10)",
    "numpy by blocks": "by_blocks(opened.features, asked(queries))",
    "go through all items": "sum(1 for _ in opened.items())",
    "remove one in a hundred": "opened.remove(lambda item: item['pid'] % 100 == 0)",
}
CODE = """
import resource, sys, time
from pathlib import Path
import numpy as np
from reid_core import make_embedder
from reid_search.gallery.gallery import Gallery, model_of
folder, rows, queries = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

def unit(count, seed):
    made = np.random.default_rng(seed).standard_normal((count, 512), np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)

def asked(count):
    return unit(count, 10**6)

def fill(rows):
    gallery = Gallery.create(folder, model)
    for start in range(0, rows, BLOCK):
        count = min(BLOCK, rows - start)
        items = [{"path": f"/photos/{n}.jpg", "pid": n // 10} for n in range(start, start + count)]
        gallery.append(unit(count, start), items)

def by_blocks(features, queries, top=10):
    found = []
    for start in range(0, len(features), BLOCK):
        products = queries @ np.asarray(features[start : start + BLOCK]).T
        best = np.argpartition(-products, top, axis=1)[:, :top]
        found.append((np.take_along_axis(products, best, 1), best + start))
    values, places = (np.concatenate(parts, 1) for parts in zip(*found))
    order = np.argsort(-values, axis=1)[:, :top]
    return np.take_along_axis(places, order, 1)

opened = Gallery.open(folder) if folder.exists() else None
model = model_of(make_embedder("resnet18", weights="random")) if opened is None else None
if "again" in sys.argv[4]:
    opened.nearest(asked(1), 10)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
wall, began = time.perf_counter(), time.process_time()
STEP
spent, wall = time.process_time() - began, time.perf_counter() - wall
print(spent, wall, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def measured(folder: Path, rows: int, queries: int, name: str) -> dict[str, float]:
    """Return CPU and wall seconds, and MiB beside what was there before, of a step."""
    code = CODE.replace("BLOCK", str(BLOCK)).replace("STEP", f"found = {STEPS[name]}")
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(folder), str(rows), str(queries), name],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, wall, memory = map(float, done.stdout.split()[-3:])
    return {"cpu_seconds": round(seconds, 1), "seconds": round(wall, 1), "mib": round(memory)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--folder", type=Path, help="where to put the gallery; a temporary one")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        gallery, found = Path(place) / "gallery", {}
        for name in STEPS:
            found[name] = measured(gallery, given.rows, given.queries, name)
            print(f"{name:24} {found[name]}", flush=True)
        disk = sum(path.stat().st_size for path in gallery.rglob("*") if path.is_file())
    content = {
        "rows": given.rows,
        "dim": 512,
        "queries": given.queries,
        "threads": int(os.environ["OMP_NUM_THREADS"]),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "gallery_mib": round(disk / 2**20),
        "steps": found,
    }
    if given.json:
        given.json.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()

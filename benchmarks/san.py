"""SAN on synthetic people: what its textures are worth, and the rows of the paper's ablation.

    python benchmarks/san.py textures [--json FILE]      regressed textures against the mean texture
    python benchmarks/san.py rows [--json FILE]          table 1, and with --pose all of table 2
    python benchmarks/san.py choices [--json FILE]       quick settings against the paper's
    python benchmarks/san.py pairs --keep DIR            pairs with frontal images

`textures` trains SAN-PG and SAN and compares what they regress on test people, whom neither has
seen, with the truth: the mean absolute error of colours in -1 .. 1, of the texels that the image
shows and of those that it does not, against two guesses that look at nothing: the mean texture of
the pairs, and the mean true texture of the training people, which no method is given. Which texels
an image shows is the renderer's knowledge: those within --reach texels of one that is some pixel's,
in the same piece of the atlas.

`rows` trains every row on the same batches of people from the same seeds. Rows with a decoder see
pairs beside them and start from SAN-PG; the row `start` starts from SAN-PG, too, and does nothing
else, so that the decoder can be told from the start.

`choices` trains SAN with the quick recipe's settings, and with one of them at a time as in the
paper's recipes, and reports what the run itself logs at its end: errors and colour of the textures
of test people, the decoder's dead channels, and rank-1 and mAP.

`pairs` writes synthpeople's pairs as a folder for `-s san.pairs_root=DIR`, everybody once more in
one pose from the front; nothing is measured.

Options: --seeds 0,1,2; --epochs, --iterations, --batch, --height, --width and --backbone scale the
budget; --set KEY=VALUE sets anything else. Figures on synthetic people say nothing about real ones.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# Before torch is imported: more threads on a shared machine measure the neighbours.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from reid_core import Sample, evenly, open_source, restore, run
from reid_core.runs.assembly.datasets import load_source
from reid_san.plugin import San
from reid_san.regressing import mean_field, regress, truth
from reid_synthpeople.atlas import CHARTS, SIDE
from reid_synthpeople.redress import shot_of, world_behind

TABLE_1 = ("baseline", "start", "basic", "tr", "synthetic", "")
TABLE_2 = ("input", "pose")
NAMES = {
    "baseline": "baseline",
    "start": "baseline, from SAN-PG's encoder",
    "basic": "SAN-basic",
    "tr": "SAN with L_TR",
    "synthetic": "SAN with synthetic data",
    "": "SAN",
    "input": "input reconstructed",
    "pose": "frontal pose reconstructed",
}


def flags(given: argparse.Namespace, seed: int, **more: Any) -> dict[str, Any]:
    """Return the run's flags: the budget and the seed."""
    chosen: dict[str, Any] = {
        "run": {"seed": seed},
        "data": {"height": given.height, "width": given.width, "batch_size": given.batch},
        "model": {"backbone": given.backbone},
        "schedule": {"epochs": given.epochs, "iterations_per_epoch": given.iterations},
        "engine": {"device": "cpu", "tensorboard": False},
        "evaluation": {"ranked_list": 0, "untrained": False},
    }
    for text in given.set:
        key, _, value = text.partition("=")
        *sections, leaf = ("plugins", *key.split(".")) if key.startswith("san.") else key.split(".")
        place = chosen
        for section in sections:
            place = place.setdefault(section, {})
        place[leaf] = json.loads(value)
    return merged(chosen, more)


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return nested settings, of which the second rule."""
    found = dict(below)
    for key, value in above.items():
        known = found.get(key)
        both = isinstance(value, dict) and isinstance(known, dict)
        found[key] = merged(known, value) if both else value  # type: ignore[arg-type]
    return found


def trained(given: argparse.Namespace, row: str, seed: int, out: Path, **more: Any) -> Any:
    """Train a row; return its summary and the CPU seconds that it took."""
    recipe = f"san/synthpeople-{row}" if row else "san/synthpeople"
    settings = flags(given, seed, **more)
    if row == "baseline":
        settings.pop("plugins", None)
    began = time.process_time()
    found = run(settings, recipe=recipe, out=out, say=print)
    return found, time.process_time() - began


# Textures -------------------------------------------------------------------------------------


def seen_texels(samples: Sequence[Sample], side: int, reach: int) -> Iterator[torch.Tensor]:
    """Yield which texels each image shows, and which belong to the body; bool ``2 side side``."""
    world = world_behind(samples[0].path)
    body = torch.zeros(SIDE, SIDE)
    for chart in CHARTS:
        body[chart.slices] = 1
    for start in range(0, len(samples), 32):
        shots = [shot_of(sample) for sample in samples[start : start + 32]]
        for picture in world.render(shots):
            texels = picture.surface[picture.silhouette].astype(np.int64)
            hit = torch.zeros(SIDE, SIDE)
            hit[texels[:, 1], texels[:, 0]] = 1
            seen = torch.zeros(SIDE, SIDE)
            for chart in CHARTS:
                one = hit[chart.slices][None, None]
                seen[chart.slices] = F.max_pool2d(one, 2 * reach + 1, 1, reach)[0, 0]
            both = torch.stack([seen, body])
            yield F.interpolate(both[None], (side, side), mode="area")[0] > 0.5


def textures(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train SAN, and measure what SAN-PG and SAN regress on test people.

    Seeds that the JSON file has of the same budget are not trained again.
    """
    seeds: list[dict[str, Any]] = stored(given).get("textures", [])
    for seed in given.seeds:
        if seed in [known["seed"] for known in seeds]:
            continue
        out = folder / f"textures-{seed}"
        _, seconds = trained(given, "", seed, out)
        assembly = restore(out, say=lambda line: None)
        plugin, ctx = assembly.plugins["san"], assembly.ctx
        assert isinstance(plugin, San)
        assert plugin.pairs is not None
        (start,) = plugin.starts(assembly.config)
        models = {"SAN-PG": ctx.stage(start.stage).model, "SAN": assembly.model}
        people = evenly([*ctx.dataset.query, *ctx.dataset.gallery], given.people)
        spec = plugin.pairs.fields["texture"]
        side = assembly.model.branches["san/decoder"].size[0]
        worn = open_truth(assembly)
        found: dict[str, dict[str, list[float]]] = {}
        guesses = {
            "mean of the pairs": mean_field(evenly(plugin.pairs.samples, 500), spec, (side, side)),
            "mean of the training people": mean_field(evenly(worn, 500), spec, (side, side)),
        }
        masks = list(seen_texels(people, side, given.reach))
        wanted = [truth(sample, spec, (side, side)) for sample in people]
        for name, model in models.items():
            images = [image.clamp(-1, 1) for _, image in regress(ctx, model, people)]
            found[name] = compared(images, wanted, masks)
        for name, guess in guesses.items():
            found[name] = compared([guess] * len(people), wanted, masks)
        shown = float(np.mean([m[0].sum() / m[1].sum() for m in masks]))
        seeds.append(
            {
                "seed": seed,
                "cpu_seconds": round(seconds),
                "people": len(people),
                "share_seen": round(shown, 3),
                "l1": {
                    n: {k: round(statistics.fmean(v), 4) for k, v in by.items()}
                    for n, by in found.items()
                },
            }
        )
        store(given, {"textures": seeds})
    return {"textures": seeds}


def open_truth(assembly: Any) -> Sequence[Sample]:
    """Return the training people with their true textures, which the run does not look at."""
    data = assembly.config.data
    return load_source(data.name, data.root, assembly.ctx.cache, assembly.ctx.providers).samples


def compared(
    found: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor], masks: Sequence[torch.Tensor]
) -> dict[str, list[float]]:
    """Return mean absolute errors of every image: of all texels, of the body's seen and hidden."""
    errors: dict[str, list[float]] = {"all": [], "seen": [], "hidden": []}
    for one, true, (seen, body) in zip(found, wanted, masks, strict=True):
        off = (one - true).abs().mean(0)
        errors["all"].append(float(off.mean()))
        errors["seen"].append(float(off[seen & body].mean()))
        errors["hidden"].append(float(off[~seen & body].mean()))
    return errors


# Rows -----------------------------------------------------------------------------------------


def rows(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train the rows of table 1, and of table 2 where it is wanted.

    What the JSON file has of the same budget is not trained again.
    """
    wanted = given.rows if given.rows else (*TABLE_1, *(TABLE_2 if given.pose else ("input",)))
    pose: dict[str, Any] = {}
    if "pose" in wanted:
        root = folder / "pairs"
        write_frontal_pairs(root, given.pairs)
        pose = {"plugins": {"san": {"pairs_root": str(root)}}}
    table: dict[str, Any] = stored(given).get("rows", {})
    for seed in given.seeds:
        for row in wanted:
            entry = table.setdefault(NAMES[row], {"seeds": [], "scores": [], "cpu_seconds": []})
            if seed in entry["seeds"]:
                continue
            more = pose if row == "pose" else {}
            found, seconds = trained(given, row, seed, folder / f"row-{row}-{seed}", **more)
            scores = {r.label: [r.cmc[0], r.mean_ap] for r in found.results}
            entry["seeds"].append(seed)
            entry["scores"].append({k: [round(float(x), 4) for x in v] for k, v in scores.items()})
            entry["cpu_seconds"].append(round(seconds))
            store(given, {"rows": table})
    return {"rows": table}


def write_frontal_pairs(root: Path, pairs: str) -> None:
    """Write synthpeople's pairs as a folder of `san-pairs`, with frontal images beside them."""
    source = open_source(pairs)
    world = world_behind(source.samples[0].path)
    for folder in ("images", "textures", "frontal"):
        (root / folder).mkdir(parents=True)
    (root / "textures" / "layout.txt").write_text(f"{source.fields['texture'].layout}\n")
    lines = ["image,texture"]
    for start in range(0, len(source), 32):
        some = source.samples[start : start + 32]
        pictures = world.render([shot_of(sample) for sample in some], frontal=True)
        for sample, picture in zip(some, pictures, strict=True):
            texture = Path(str(sample.fields["texture"]))
            for folder, path in (("images", sample.path), ("textures", texture)):
                target = root / folder / path.name
                if not target.exists():
                    target.symlink_to(path.resolve())
            Image.fromarray(picture.image).save(root / "frontal" / f"{sample.path.stem}.png")
            lines.append(f"{sample.path.name},{texture.name}")
    (root / "pairs.csv").write_text("\n".join(lines) + "\n")


# Choices --------------------------------------------------------------------------------------

CHOICES: dict[str, dict[str, Any]] = {
    "quick": {},
    "distances over places (hw)": {"tr_norm": "hw"},
    "one learning rate": {"decoder_lr_scale": 1.0},
    "no linear colours": {"colour": False},
    "all three": {"tr_norm": "hw", "decoder_lr_scale": 1.0, "colour": False},
}
"""The quick recipe's settings, and what the paper's recipes have in their place."""


def choices(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train SAN with each choice; what the JSON file has is not trained again."""
    found: dict[str, Any] = stored(given).get("choices", {})
    for seed in given.seeds:
        for name in given.choices or CHOICES:
            settings, entry = CHOICES[name], found.setdefault(name, {})
            if str(seed) in entry:
                continue
            out = folder / f"{name.replace(' ', '-')}-{seed}"
            more = {"plugins": {"san": settings}}
            summary, seconds = trained(given, "", seed, out, **more)
            last = (out / "san" / "textures.jsonl").read_text("utf-8").splitlines()[-1]
            pg = (out / "san" / "pseudo.json").read_text("utf-8")
            first = summary.results[0]
            entry[str(seed)] = {
                **json.loads(last),
                "pg": json.loads(pg),
                "rank_1": round(float(first.cmc[0]), 4),
                "map": round(float(first.mean_ap), 4),
                "cpu_seconds": round(seconds),
            }
            store(given, {"choices": found})
    return {"choices": found}


# Output ---------------------------------------------------------------------------------------


def table(found: dict[str, Any]) -> str:
    """Return the figures as text: means over seeds, and their spread."""
    lines = ["synthetic people: figures on them say nothing about real ones"]
    if "textures" in found:
        seeds = found["textures"]
        lines.append(f"{'L1 to the true texture':<32}{'all':>16}{'seen':>16}{'hidden':>16}")
        for name in seeds[0]["l1"]:
            cells = (
                spread([s["l1"][name][k] for s in seeds], 1) for k in ("all", "seen", "hidden")
            )
            lines.append(f"{name:<32}" + "".join(f"{cell:>16}" for cell in cells))
        lines.append(f"an image shows {100 * seeds[0]['share_seen']:.0f} % of the body's texels")
    if "choices" in found:
        keys = ("l1", "red_green", "blue_green", "spread", "dead", "rank_1", "map")
        lines.append(f"{'SAN, at its end':<30}" + "".join(f"{key:>16}" for key in keys))
        for name, entry in found["choices"].items():
            cells = (spread([e[key] for e in entry.values()], 1) for key in keys)
            lines.append(f"{name:<30}" + "".join(f"{cell:>16}" for cell in cells))
    if "rows" in found:
        labels = list(next(iter(found["rows"].values()))["scores"][0])
        lines.append(f"{'rank-1 / mAP':<34}" + "".join(f"{label:>34}" for label in labels))
        for name, entry in found["rows"].items():
            cells = []
            for label in labels:
                first, ap = ([s[label][i] for s in entry["scores"]] for i in (0, 1))
                cells.append(f"{spread(first, 100)} / {spread(ap, 100)}")
            lines.append(f"{name:<34}" + "".join(f"{cell:>34}" for cell in cells))
    return "\n".join(lines)


def spread(values: Sequence[float], scale: float) -> str:
    """Return mean and standard deviation."""
    digits = 1 if scale == 100 else 3
    mean = f"{scale * statistics.fmean(values):.{digits}f}"
    if len(values) < 2:
        return mean
    return f"{mean} ± {scale * statistics.stdev(values):.{digits}f}"


def budget(given: argparse.Namespace) -> dict[str, Any]:
    """Return what the figures depend on."""
    left_out = ("json", "what", "seeds", "rows", "choices", "pose", "keep", "pairs")
    return {key: value for key, value in vars(given).items() if key not in left_out}


def stored(given: argparse.Namespace) -> dict[str, Any]:
    """Return what the JSON file has of this benchmark under the same budget."""
    if given.json is None or not given.json.exists():
        return {}
    found: dict[str, Any] = json.loads(given.json.read_text("utf-8")).get(given.what, {})
    return found if found.get("budget") == budget(given) else {}


def store(given: argparse.Namespace, found: dict[str, Any]) -> None:
    """Write figures to the JSON file, beside those of the other benchmark."""
    if given.json is None:
        return
    known = json.loads(given.json.read_text("utf-8")) if given.json.exists() else {}
    known[given.what] = {"synthetic": True, "budget": budget(given), **found}
    given.json.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description="SAN on synthetic people.")
    options.add_argument("what", choices=("textures", "rows", "choices", "pairs"))
    options.add_argument(
        "--seeds", type=lambda text: [int(s) for s in text.split(",")], default=[0, 1, 2]
    )
    options.add_argument("--epochs", type=int, default=7)
    options.add_argument("--iterations", type=int, default=20)
    options.add_argument("--batch", type=int, default=64)
    options.add_argument("--height", type=int, default=128)
    options.add_argument("--width", type=int, default=64)
    options.add_argument("--backbone", default="resnet18")
    options.add_argument("--people", type=int, default=200, help="Test images whose textures count")
    options.add_argument("--reach", type=int, default=4, help="Texels around one that is seen")
    options.add_argument("--rows", nargs="*", help="Only these rows; '' is SAN")
    options.add_argument("--choices", nargs="*", choices=CHOICES, help="Only these choices")
    options.add_argument("--pose", action="store_true", help="Also the frontal pose of table 2")
    options.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options.add_argument("--keep", type=Path, help="Leave the runs in this folder")
    options.add_argument("--json", type=Path)
    options.add_argument("--pairs", default="synthpeople-pairs:quick", help="Which are written")
    given = options.parse_args()
    if given.what == "pairs":
        write_frontal_pairs(given.keep or Path("pairs"), given.pairs)
        return
    with TemporaryDirectory() as folder:
        work = {"textures": textures, "rows": rows, "choices": choices}[given.what]
        found = work(given, Path(folder) if given.keep is None else given.keep)
    print(table(found))
    store(given, found)


if __name__ == "__main__":
    main()

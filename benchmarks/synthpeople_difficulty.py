"""How hard the synthetic people are: rank-1 and mAP of a small model, by what it may see.

    python benchmarks/synthpeople_difficulty.py [--inputs rgb,parts,...] [--seed N] [--json FILE]

A world of three cameras in the manner of PRCC: everybody wears one outfit before cameras A and B
and another before camera C. An 18-layer residual net of a quarter of the usual cost (base width
32, input 96 x 48) is trained from scratch on 300 identities with 4 images per camera, with
cross-entropy and a soft batch-hard triplet loss, and tested on 50 others: the gallery is A, queries
are B (same clothes) and C (other clothes). Chance is rank-1 of 2 %.

| input | what the model sees |
| --- | --- |
| `rgb` | the picture |
| `parts` | the true part masks |
| `noisy` | part masks spoilt by `MaskNoise` |
| `silhouette` | the true silhouette |
| `nobody` | the same scenes without their people: whatever is above chance here leaks |

One run is one draw of people and one of weights: 200 queries of 50 identities have a binomial
standard deviation of 3 points, seeds differ by more. All figures are synthetic. One thread, some
five minutes per input; `--epochs`, `--identities` and `--width` make it shorter, and change the
figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Before torch is imported: more threads on a shared machine are slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from reid_core.contract.fields import PART_CLASSES
from reid_synthpeople.mask_noise import MaskNoise, spoil_labels
from reid_synthpeople.world import Shot, World, WorldSettings

INPUTS = ("rgb", "parts", "noisy", "silhouette", "nobody")
SIZE = (128, 64)
INPUT_SIZE = (96, 48)
GALLERY, SAME, CROSS = range(3)
"""Cameras A, B, C."""

IDENTITIES, IMAGES = 16, 4
"""Of a batch."""

CHUNK = 32


@dataclass(frozen=True)
class Budget:
    train: int = 300
    test: int = 50
    shots: int = 4
    epochs: int = 28
    width: int = 32
    lr: float = 1.5e-3


def take_pictures(world: World, shots: list[Shot], inputs: list[str]) -> dict[str, Tensor]:
    """Return what the model sees by name of the input, uint8 ``N C H W``, one hot for masks."""
    seen: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in inputs}
    for start in range(0, len(shots), CHUNK):
        chunk = shots[start : start + CHUNK]
        pictures = world.render(chunk)
        if "rgb" in seen:
            seen["rgb"] += [picture.image for picture in pictures]
        if "parts" in seen:
            seen["parts"] += [picture.parts for picture in pictures]
        if "silhouette" in seen:
            seen["silhouette"] += [picture.silhouette.astype(np.uint8) for picture in pictures]
        if "noisy" in seen:
            for shot, picture in zip(chunk, pictures, strict=True):
                key = (world.settings.seed, shot.pid, shot.camid, shot.number)
                seen["noisy"].append(spoil_labels(picture.parts, MaskNoise(), *key))
        if "nobody" in seen:
            seen["nobody"] += [picture.image for picture in world.render(chunk, people=False)]
    return {name: torch.from_numpy(np.stack(arrays)) for name, arrays in seen.items()}


def as_network_input(name: str, values: Tensor) -> Tensor:
    """Return float32 ``N C 96 48`` of pictures or label maps."""
    if name in ("parts", "noisy"):
        planes = functional.one_hot(values.long(), len(PART_CLASSES))[..., 1:].permute(0, 3, 1, 2)
        planes = planes.float()
    elif name == "silhouette":
        planes = values[:, None].float() - 0.4
    else:
        planes = (values.permute(0, 3, 1, 2).float() / 255 - 0.45) / 0.25
    return functional.interpolate(planes, INPUT_SIZE, mode="area")


class Block(nn.Module):
    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.skip: nn.Module = nn.Identity()
        if stride > 1 or channels_in != channels:
            self.skip = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.skip(x))


class Net(nn.Module):
    """ResNet-18 with a narrow stem of stride 4, average plus maximum pooling, and a BNNeck."""

    def __init__(self, channels: int, width: int, identities: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(channels, width, 5, 2, 2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        ]
        size = width
        for level in range(4):
            stride = 1 if level in (0, 3) else 2
            layers += [
                Block(size, width << level, stride),
                Block(width << level, width << level, 1),
            ]
            size = width << level
        self.encoder = nn.Sequential(*layers)
        self.neck = nn.BatchNorm1d(size)
        self.neck.bias.requires_grad_(False)
        self.classifier = nn.Linear(size, identities, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.encoder(x)
        feature = maps.mean((2, 3)) + maps.amax((2, 3))
        return feature, self.neck(feature)


def augment(batch: Tensor, rng: np.random.Generator) -> Tensor:
    """Flip half of the rows and shift the batch."""
    flips = torch.from_numpy(rng.random(len(batch)) < 0.5)[:, None, None, None]
    batch = torch.where(flips, batch.flip(3), batch)
    padded = functional.pad(batch, (4, 4, 6, 6), mode="replicate")
    top, left = int(rng.integers(13)), int(rng.integers(9))
    height, width = INPUT_SIZE
    cut = padded[:, :, top : top + height, left : left + width]
    return cut.contiguous(memory_format=torch.channels_last)


def train(images: Tensor, pids: NDArray[np.int64], budget: Budget, seed: int) -> Net:
    """Train a net on identities ``0 .. N-1``."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = Net(images.shape[1], budget.width, budget.train).to(memory_format=torch.channels_last)
    rows = [np.flatnonzero(pids == pid) for pid in range(budget.train)]
    iterations = len(images) // (IDENTITIES * IMAGES)
    parameters = [p for p in net.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=budget.lr, weight_decay=5e-4)
    rates = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, budget.lr, total_steps=budget.epochs * iterations, pct_start=0.25
    )
    for epoch in range(budget.epochs):
        for _ in range(iterations):
            chosen = rng.choice(budget.train, IDENTITIES, replace=False)
            drawn = np.concatenate([rng.choice(rows[pid], IMAGES, replace=False) for pid in chosen])
            labels = torch.from_numpy(np.repeat(chosen, IMAGES))
            feature, embedded = net(augment(images[torch.from_numpy(drawn)], rng))
            entropy = functional.cross_entropy(
                net.classifier(embedded), labels, label_smoothing=0.1
            )
            same = labels[:, None] == labels
            distance = torch.cdist(feature, feature)
            hardest = (distance * same).amax(1) - (distance + 1e9 * same).amin(1)
            optimiser.zero_grad()
            (entropy + functional.softplus(hardest).mean()).backward()
            optimiser.step()
            rates.step()
        if epoch % 4 == 3:
            print(f"  epoch {epoch + 1}: cross-entropy {entropy.item():.2f}", flush=True)
    return net


@torch.inference_mode()
def embed(net: Net, images: Tensor) -> NDArray[np.float32]:
    net.eval()
    rows = [
        functional.normalize(net(batch)[1]) + functional.normalize(net(batch.flip(3))[1])
        for batch in images.split(128)
    ]
    return functional.normalize(torch.cat(rows)).numpy()


def retrieve(
    features: NDArray[np.float32], pids: NDArray[np.int64], camids: NDArray[np.int64], query: int
) -> dict[str, float]:
    """Return rank-1 and mAP in percent of one camera's images against the gallery's.

    `single_shot` is rank-1 with one gallery image per identity, mean over 20 draws.
    """
    asked, kept = camids == query, camids == GALLERY
    similarity = features[asked] @ features[kept].T
    pids_asked, pids_kept = pids[asked], pids[kept]
    right = pids_kept[np.argsort(-similarity, axis=1, kind="stable")] == pids_asked[:, None]
    precision = right.cumsum(1) / np.arange(1, right.shape[1] + 1)
    single = []
    for draw in range(20):
        rng = np.random.default_rng(draw)
        columns = [rng.choice(np.flatnonzero(pids_kept == pid)) for pid in np.unique(pids_kept)]
        found = pids_kept[columns][similarity[:, columns].argmax(1)]
        single.append((found == pids_asked).mean())
    return {
        "rank1": round(100 * float(right[:, 0].mean()), 1),
        "mAP": round(100 * float(((precision * right).sum(1) / right.sum(1)).mean()), 1),
        "single_shot": round(100 * float(np.mean(single)), 1),
    }


def measure(inputs: list[str], budget: Budget, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Render, train and test; yield each input with its results."""
    world = World(WorldSettings(seed=seed), SIZE)
    shots = [
        Shot(pid, int(camid == CROSS), camid, number)
        for pid in range(budget.train + budget.test)
        for camid in (GALLERY, SAME, CROSS)
        for number in range(budget.shots)
    ]
    began = time.process_time()
    seen = take_pictures(world, shots, inputs)
    print(f"rendered {len(shots)} shots in {time.process_time() - began:.0f} s of CPU", flush=True)
    pids = np.array([shot.pid for shot in shots])
    camids = np.array([shot.camid for shot in shots])
    training = pids < budget.train
    for name in inputs:
        print(name, flush=True)
        images = as_network_input(name, seen.pop(name))
        began = time.process_time()
        net = train(images[torch.from_numpy(training)], pids[training], budget, seed)
        features = embed(net, images[torch.from_numpy(~training)])
        where = pids[~training], camids[~training]
        yield (
            name,
            {
                "same": retrieve(features, *where, SAME),
                "cross": retrieve(features, *where, CROSS),
                "cpu_seconds": round(time.process_time() - began),
            },
        )


def main() -> None:
    """Measure and print a table; chance is stated beside it."""
    parser = argparse.ArgumentParser(description="Difficulty of the synthetic people.")
    parser.add_argument("--inputs", default=",".join(INPUTS), help=f"of {', '.join(INPUTS)}")
    parser.add_argument("--seed", type=int, default=2, help="of people, cameras and weights")
    parser.add_argument("--identities", type=int, nargs=2, default=(300, 50), help="train, test")
    parser.add_argument("--shots", type=int, default=4, help="images per identity and camera")
    parser.add_argument("--epochs", type=int, default=28)
    parser.add_argument("--width", type=int, default=32, help="channels of the net's first level")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    inputs = options.inputs.split(",")
    unknown = sorted(set(inputs) - set(INPUTS))
    if unknown:
        parser.error(f"no input {unknown[0]!r}; there are {', '.join(INPUTS)}")
    torch.set_num_threads(1)
    train_ids, test_ids = options.identities
    budget = Budget(train_ids, test_ids, options.shots, options.epochs, options.width)
    results: dict[str, Any] = {}
    facts = {
        "seed": options.seed,
        "budget": asdict(budget),
        "chance_rank1": 100 / test_ids,
        "results": results,
        "torch": torch.__version__,
        "machine": platform.machine(),
    }
    for name, result in measure(inputs, budget, options.seed):
        results[name] = result
        if options.json:  # after every input: a run takes long
            options.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    print(f"synthetic people; chance: rank-1 {100 / test_ids:.1f}")
    print(f"{'input':<12}{'same: R1':>10}{'mAP':>7}{'R1 single':>11}", end="")
    print(f"{'cross: R1':>12}{'mAP':>7}{'R1 single':>11}")
    for name, result in results.items():
        cells = [result[query][figure] for query in ("same", "cross") for figure in FIGURES]
        print(f"{name:<12}" + "".join(f"{v:>{w}.1f}" for v, w in zip(cells, WIDTHS, strict=True)))


FIGURES = ("rank1", "mAP", "single_shot")
WIDTHS = (10, 7, 11, 12, 7, 11)


if __name__ == "__main__":
    main()

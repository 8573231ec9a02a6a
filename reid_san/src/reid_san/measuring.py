"""Measure regressed images against the truth: errors, colour, and channels that say nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from reid_core import FieldSpec, Sample, Source, evenly
from reid_core.data.decoding import read_field
from reid_san.decoder import Decoder
from reid_san.regressing import Pixels, mean_of, to_pixels, truth


@dataclass
class Agreement:
    """How two series of numbers go together, by their moments; they may come in pieces."""

    moments: Tensor = field(default_factory=lambda: torch.zeros(6, dtype=torch.float64))

    def add(self, found: Tensor, wanted: Tensor) -> None:
        """Take in more numbers, of one shape."""
        x, y = found.double().flatten(), wanted.double().flatten()
        sums = [x.new_tensor(len(x)), x.sum(), y.sum(), x @ x, y @ y, x @ y]
        self.moments += torch.stack(sums)

    def _spreads(self) -> tuple[float, float, float]:
        """Return both variances and the covariance."""
        count, x, y, xx, yy, xy = (float(value) for value in self.moments)
        count = max(1.0, count)
        found, wanted = xx / count - (x / count) ** 2, yy / count - (y / count) ** 2
        # What is left of a constant by rounding is no spread.
        least = 1e-12
        return max(0.0, found - least), max(0.0, wanted - least), xy / count - x * y / count**2

    @property
    def correlation(self) -> float:
        """Pearson's; 0 where one of the series is constant."""
        found, wanted, both = self._spreads()
        return both / (found * wanted) ** 0.5 if found and wanted else 0.0

    @property
    def spread(self) -> float:
        """Standard deviation of what is found, as a share of what is wanted; 0 for a constant."""
        found, wanted, _ = self._spreads()
        return (found / wanted) ** 0.5 if wanted else 0.0


class Distances:
    """Regressed images against the truth, in -1 .. 1: errors and colour.

    Colour is that of the deviations from the mean texture, in which all people agree already:
    correlations of red minus green and of blue minus green, and the spread of the deviations as a
    share of the true ones' (1 is right; 0 is the mean itself).

    Args:
        spec: the field that holds the truth.
        guess: the best guess without looking: the mean of the field over a training set.
    """

    def __init__(self, spec: FieldSpec, guess: Tensor) -> None:
        self.spec, self.guess = spec, guess
        self.images = 0
        self._errors = [0.0, 0.0]
        self._colour = {"red_green": Agreement(), "blue_green": Agreement(), "spread": Agreement()}

    def add(self, sample: Sample, found: Tensor) -> None:
        """Compare one more image, float ``3 h w``."""
        wanted = truth(sample, self.spec, (found.shape[1], found.shape[2]))
        self.images += 1
        for place, guess in enumerate((found, self.guess)):
            self._errors[place] += float((guess - wanted).abs().mean())
        ours, theirs = found - self.guess, wanted - self.guess
        for name, channel in (("red_green", 0), ("blue_green", 2)):
            self._colour[name].add(ours[channel] - ours[1], theirs[channel] - theirs[1])
        self._colour["spread"].add(ours, theirs)

    def to_json(self) -> Mapping[str, float]:
        """Return plain numbers: errors are means over images, colour is over all texels."""
        count = max(1, self.images)
        regressed, mean = (error / count for error in self._errors)
        return {
            "images": self.images,
            "l1": round(regressed, 5),
            "l1_of_mean": round(mean, 5),
            "red_green": round(self._colour["red_green"].correlation, 4),
            "blue_green": round(self._colour["blue_green"].correlation, 4),
            "spread": round(self._colour["spread"].spread, 4),
        }

    def line(self) -> str:
        """Return it in one line for the user."""
        found = self.to_json()
        return (
            f"{self.spec.name} of {found['images']} images against the truth: L1 "
            f"{found['l1']:.3f} (the mean of the pairs: {found['l1_of_mean']:.3f}); colour: R-G "
            f"{found['red_green']:.2f}, B-G {found['blue_green']:.2f}, spread {found['spread']:.2f}"
        )


class Comparison:
    """Regressed images beside their inputs and, where it is known, the truth, which measures them.

    Args:
        spec: the field that is regressed, in the layout of what the decoder has learnt from; None
            where it is none.
        known: fields of the samples: without that one, in the same layout, nothing is measured.
        trained: what the decoder has learnt from, whose mean is the guess to beat.
        samples: all that will be compared.
        shown: how many of them a picture shows, evenly spread.
    """

    def __init__(
        self,
        spec: FieldSpec | None,
        known: Mapping[str, FieldSpec],
        trained: Source,
        samples: Sequence[Sample],
        shown: int,
    ) -> None:
        same = spec is not None and spec.name in known and known[spec.name].layout == spec.layout
        self._spec, self._trained = spec if same else None, trained
        self._drawn = {id(sample) for sample in evenly(samples, shown)}
        self.columns: list[list[Pixels]] = []
        """What `draw_regressed` shows."""
        self.distances: Distances | None = None
        """None where the truth is not known."""

    def add(self, sample: Sample, image: Pixels, found: Tensor) -> None:
        """Compare one more sample: its image, uint8 ``3 H W``, and what is regressed of it."""
        spec = self._spec
        if spec is not None:
            if self.distances is None:
                size = (found.shape[1], found.shape[2])
                self.distances = Distances(spec, mean_of(self._trained, spec, size))
            self.distances.add(sample, found.clamp(-1, 1))
        if id(sample) in self._drawn:
            truths = [] if spec is None else [read_field(sample.fields[spec.name], spec)]
            self.columns.append([image, to_pixels(found), *truths])


@dataclass
class Channels:
    """Which channels behind a decoder's activations have ever been above zero.

    Args:
        alive: bool by layer, one value per channel.
    """

    alive: dict[str, Tensor] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(len(seen) for seen in self.alive.values())

    @property
    def dead(self) -> int:
        """How many have said nothing: whatever is shown, they are zero."""
        return sum(int((~seen).sum()) for seen in self.alive.values())


@contextmanager
def watched(decoder: Decoder) -> Iterator[Channels]:
    """Note, while a decoder runs, which of its channels are ever above zero.

    These are the outputs of all its ReLUs: behind the first layer and those of skips, within every
    residual unit, and behind it.
    """
    channels = Channels()

    def note(name: str, value: Tensor) -> None:
        seen = (value > 0).any(dim=3).any(dim=2).any(dim=0)
        channels.alive[name] = channels.alive.get(name, torch.zeros_like(seen)) | seen

    hooks = [
        module.register_forward_hook(lambda _, inputs, out, name=name: note(name, out))
        for name, module in decoder.named_modules()
        if isinstance(module, nn.ReLU)
    ]
    try:
        yield channels
    finally:
        for hook in hooks:
            hook.remove()

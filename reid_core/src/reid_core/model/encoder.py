"""Encoders: any timm model with named, verified taps and a last-stride setting."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_core.contract.batches import IMAGENET_MEAN, IMAGENET_STD
from reid_core.contract.encoder import Encoder
from reid_core.contract.model import CLASS_TOKEN, ENCODER_MAP, Tap
from reid_core.contract.words import check_names
from reid_core.errors import ConfigError, PluginError, did_you_mean, reason_of, typed_reason
from reid_core.model.frames import fitted
from reid_core.model.modes import evaluating
from reid_core.model.pretrained import Filled, fill_weights, read_weights
from reid_core.model.trunks import (
    adapted,
    as_map,
    blank_image,
    class_of,
    covers,
    dry_maps,
    has_class_token,
    remove_last_stride,
    strides_of,
)

_BEHIND_THE_MAP = ("attn_pool", "fc_norm", "head")
"""Parts of timm's trunks that only their classification runs."""

EARLIER: Mapping[str, Any] = {
    "final_norm": False,
    "mean": list(IMAGENET_MEAN),
    "std": list(IMAGENET_STD),
}
"""What timm's models were given and gave before files said so."""


class NoEncoder(Encoder):
    """Stand in for an encoder where nothing is embedded: the image in small, nothing to train.

    Stages that train a network of their own give it as their backbone.
    """

    taps = (Tap(ENCODER_MAP, 3, 16),)

    def __init__(self) -> None:
        super().__init__()
        # Type and place of the input are read from an encoder's parameters.
        self.place = nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return the image's mean colours in squares of 16 pixels."""
        return {ENCODER_MAP: F.avg_pool2d(image, 16, ceil_mode=True)}

    def deploy_spec(self) -> dict[str, Any]:
        """See `Encoder.deploy_spec`."""
        return {"factory": "reid_core.model.encoder:NoEncoder", "kwargs": {}}


class Renormalise(nn.Module):
    """Turn ImageNet-normalised images into what an encoder's weights were trained with.

    More than a third of timm's weights had another mean and standard deviation than ImageNet's,
    which all images of a run have, whoever looks at them.

    Args:
        mean, std: of the weights' RGB channels, of pixels in 0..1.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
    ) -> None:
        super().__init__()
        for name in ("scale", "shift"):
            self.register_buffer(name, torch.zeros(1, 3, 1, 1), persistent=False)
        self.set(mean, std)

    def set(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Take another mean and standard deviation."""
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        self.needed = (self.mean, self.std) != (IMAGENET_MEAN, IMAGENET_STD)
        for channel, (ours, theirs) in enumerate(zip(self.mean, IMAGENET_MEAN, strict=True)):
            self.scale[:, channel] = IMAGENET_STD[channel] / self.std[channel]
            self.shift[:, channel] = (theirs - ours) / self.std[channel]

    def __str__(self) -> str:
        return (
            f"were trained with mean {self.mean} and standard deviation {self.std} of the pixels: "
            "the encoder sees its images so"
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return ``B 3 H W``; the image itself where nothing is to be done."""
        return image * self.scale + self.shift if self.needed else image


class TimmEncoder(Encoder):
    """A timm model as an encoder.

    Taps are ``encoder/stem`` (stride 2, where the network has one; ``encoder/pixels`` at stride 1,
    too, where it has that), ``encoder/stage1`` and so on (stride 4 and deeper), and
    ``encoder/map``, the output of the whole trunk, its final norm included. With ResNets the four
    stages are the paper's blocks conv2_x to conv5_x and the last stage is the map itself. With
    transformers every block is a stage. Where they have a class token, ``encoder/class`` is the
    token of the output, ``encoder/stage1_class`` and so on those of the stages: vectors.

    What a trunk has behind its map (``head``, ``fc_norm``, ``attn_pool``) is not run, and not
    trained.

    Args:
        name: timm's name, with or without a tag (``resnet50``, ``resnet50.tv_in1k``).
        size: height and width of the input.
        last_stride: 1 removes the last reduction of the network's stride, 2 leaves it; ``auto``
            removes it where that is possible.
        pretrained: True downloads timm's weights; a path is a file, a run's folder or the name of
            shipped weights, see `load_weights`.
        final_norm: whether the map of a network of tokens has the trunk's final norm.
        mean, std: what the weights were trained with; None takes what their file says, or timm's
            configuration of the weights, ImageNet's for random ones.
        importer: layout of the file, for `load_weights`.

    Attributes:
        renormalise: what an image goes through first.
        filled: what became of the file, or None.

    Raises:
        ConfigError: timm has no such model, its weights cannot be had, it does not take images of
            the size, or its last stride cannot be changed.
    """

    def __init__(
        self,
        name: str,
        size: tuple[int, int],
        last_stride: int | str = "auto",
        pretrained: bool | Path = False,
        final_norm: bool = True,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        importer: str = "auto",
    ) -> None:
        super().__init__()
        size = (size[0], size[1])
        self.final_norm = final_norm
        self.trunk = _create(name, size, pretrained)
        for part, module in self.trunk.named_children():
            if part in _BEHIND_THE_MAP:
                module.requires_grad_(False)
        self._token = has_class_token(self.trunk)
        self.filled: Filled | None = None
        if isinstance(pretrained, Path):
            self.filled = load_weights(self.trunk, name, pretrained, importer)
        theirs = _trained_with(name) if pretrained else (IMAGENET_MEAN, IMAGENET_STD)
        self.renormalise = Renormalise(mean or theirs[0], std or theirs[1])
        if self.filled is not None and self.filled.weights.conventions:
            self.follow(self.filled.weights.conventions)
        found = before = dry_maps(self.trunk, size, name)
        if last_stride == 1:
            found = remove_last_stride(self.trunk, name, size)
        elif last_stride == "auto":
            last_stride = 2
            with suppress(ConfigError):
                found = remove_last_stride(self.trunk, name, size)
                last_stride = 1
        self.spec = {"name": name, "size": list(size), "last_stride": last_stride}
        self.taps = self._declare_taps(size, before[1], *found)

    def _declare_taps(
        self, size: tuple[int, int], before: Sequence[Tensor], last: Tensor, maps: Sequence[Tensor]
    ) -> tuple[Tap, ...]:
        strides = strides_of(self.trunk, size, before, maps)
        shallow = [number for number, stride in enumerate(strides) if stride < 4]
        names = ["encoder/stem" if number == max(shallow) else "" for number in shallow]
        for number in shallow[:-1]:
            names[number] = "encoder/pixels" if number == 0 else f"encoder/pixels{number + 1}"
        names += [f"encoder/stage{n + 1}" for n in range(len(maps) - len(shallow))]
        self._names = names
        shaped = [*zip(names, maps, strides, strict=True), (ENCODER_MAP, last, strides[-1])]
        taps = [Tap(tap, feature.shape[1], stride) for tap, feature, stride in shaped]
        if self._token:
            tokens = [Tap(class_of(tap.name), tap.channels, 0) for tap in taps]
            taps = [*tokens, *taps]
        return tuple(taps)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return stem, stages and map, and class tokens; see `Encoder.forward`."""
        image, found = self.renormalise(image), dict[str, Tensor]()
        trunk: Any = self.trunk
        if self._token:
            last, both = trunk.forward_intermediates(image, return_prefix_tokens=True)
            maps = [one for one, _ in both]
            found = {
                class_of(name): prefix[:, 0]
                for name, (_, prefix) in zip(self._names, both, strict=True)
            }
            found[CLASS_TOKEN] = last[:, 0] if self.final_norm else both[-1][1][:, 0]
        else:
            last, maps = trunk.forward_intermediates(image)
        final = as_map(last, maps[-1], self.final_norm)
        return {**found, **dict(zip(self._names, maps, strict=True)), ENCODER_MAP: final}

    def deploy_spec(self) -> dict[str, Any]:
        """See `Encoder.deploy_spec`."""
        kwargs = {**self.spec, **self.conventions}
        return {"factory": "reid_core.model.encoder:TimmEncoder", "kwargs": kwargs}

    @property
    def conventions(self) -> dict[str, Any]:
        """See `Encoder.conventions`: whether the map has the final norm; mean and deviation."""
        mean, std = list(self.renormalise.mean), list(self.renormalise.std)
        return {"final_norm": self.final_norm, "mean": mean, "std": std}

    def follow(self, conventions: Mapping[str, Any]) -> None:
        """See `Encoder.follow`; weights that come without any are of an earlier version."""
        found = {**EARLIER, **conventions}
        self.final_norm = found["final_norm"]
        self.renormalise.set(found["mean"], found["std"])

    @staticmethod
    def stored_kwargs(kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments that a stored description means, also one of an earlier version."""
        return {**EARLIER, **kwargs}


def _trained_with(name: str) -> tuple[Sequence[float], Sequence[float]]:
    """Return the mean and the standard deviation of timm's weights of a name."""
    import timm

    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return (config.mean, config.std) if config is not None else (IMAGENET_MEAN, IMAGENET_STD)


def _create(name: str, size: tuple[int, int], pretrained: bool | Path) -> nn.Module:
    import timm

    if not timm.is_model(name.partition(".")[0]):
        hint = did_you_mean(name, timm.list_models())
        raise ConfigError(f"there is no encoder '{name}' among plugins or timm's models{hint}")
    options: dict[str, Any] = {"num_classes": 0}
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if config is not None and config.fixed_input_size:
        options["img_size"] = size
    # Its retries while offline are told in one line below, not in one each.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        model: nn.Module = timm.create_model(name, **options)
    except Exception as error:
        reason = reason_of(error, 120)
        raise ConfigError(
            f"timm's '{name}' cannot be built for images of {size[0]} x {size[1]} pixels "
            f"({reason}); choose other ones with data.height and data.width, or another encoder"
        ) from error
    if not hasattr(model, "forward_intermediates"):
        raise ConfigError(
            f"timm's '{name}' has no feature maps and cannot be an encoder; choose another one, "
            "such as resnet50, convnext_tiny or vit_small_patch16_224"
        )
    if pretrained is True:
        try:
            model = timm.create_model(name, pretrained=True, **options)
        except Exception as error:
            from huggingface_hub.constants import HF_HUB_CACHE as home

            reason = typed_reason(error, 160)
            raise ConfigError(
                f"pretrained weights of '{name}' are neither in {home} nor reachable: copy them "
                "there, give a file with -s model.pretrained=FILE, or train from random weights "
                f"with -s model.pretrained=false ({reason})"
            ) from error
    return model


def load_weights(trunk: nn.Module, name: str, path: Path, importer: str = "auto") -> Filled:
    """Fill a trunk of timm from a file; classifiers are left aside, grids resampled.

    Args:
        trunk: without classifier.
        name: the encoder's, for messages.
        path: a file, a run's folder, or the name of shipped weights; see `read_weights`.
        importer: layout in which the file was published; ``auto`` recognises it.

    Raises:
        ConfigError: the file is missing or refused, or its weights are of another network.
    """
    weights = read_weights(path, name, importer)
    if weights.own:
        state = {k.removeprefix("trunk."): v for k, v in weights.state.items()}
        weights = replace(weights, state=state)
    classifier = getattr(trunk, "default_cfg", {}).get("classifier", "fc")
    heads = tuple(f"{h}." for h in ([classifier] if isinstance(classifier, str) else classifier))
    return fill_weights(trunk, weights, name, heads=heads, adapt=partial(adapted, trunk))


def verify_taps(
    encoder: Encoder,
    size: tuple[int, int],
    owner: str,
    values: Mapping[str, Tensor] | None = None,
    of_frames: Collection[str] = (),
) -> None:
    """Run a dry forward and compare what comes out with what the encoder declares.

    Args:
        encoder: the encoder.
        size: height and width of the input.
        owner: the plugin that built it.
        values: of real images, by name, of what the data offer beside the image.
        of_frames: names of those that a tracklet has for every frame.

    Raises:
        PluginError: naming the owner, the tap, and both shapes.
    """
    where = f"encoder of plugin '{owner}'"
    if not encoder.taps or encoder.taps[-1].name != ENCODER_MAP:
        raise PluginError(f"{where}: its last tap must be '{ENCODER_MAP}'")
    check_names(encoder, "reads")
    for name in encoder.reads:
        if name not in (values or {}):
            raise PluginError(
                f"{where} reads '{name}', which nobody provides{did_you_mean(name, values or {})}; "
                f"declare Need('{name}') so that a labeler or the user can provide it"
            )
    names = ("image", *encoder.reads)
    read = [blank_image(encoder, size), *((values or {})[name][:1] for name in encoder.reads)]
    with evaluating(encoder):
        found: Mapping[str, Tensor] = encoder(
            *fitted(read, names, 1, encoder.clips, {"image", *of_frames})
        )
    declared = {tap.name: tap for tap in encoder.taps}
    if set(found) != set(declared):
        odd = sorted(set(found) ^ set(declared))
        raise PluginError(f"{where}: declared and returned taps differ: {', '.join(odd)}")
    for name, feature in found.items():
        tap = declared[name]
        if not name.startswith("encoder/"):
            raise PluginError(f"{where}: tap '{name}' must be named 'encoder/...'")
        if feature.dim() == 2:
            shape, fits = (feature.shape[1], 0), tap.stride == 0
        elif feature.dim() == 4:
            shape = (feature.shape[1], round(size[0] / feature.shape[2]))
            fits = tap.stride > 0 and (shape[1] == tap.stride or covers(feature, tap.stride, size))
        else:
            raise PluginError(
                f"{where}: tap '{name}' has the shape {tuple(feature.shape)}; a map is B C H W, a "
                "vector B D"
            )
        if shape[0] != tap.channels or not fits:
            raise PluginError(
                f"{where}: tap '{name}' declares {tap.channels} channels at stride {tap.stride}, "
                f"but has {shape[0]} at stride {shape[1]}"
            )

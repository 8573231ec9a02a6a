"""Build a parsing network by name."""

from __future__ import annotations

from pathlib import Path

from reid_core.errors import ConfigError, did_you_mean
from reid_parsing.networks.danet import DaNet
from reid_parsing.networks.light import LightParser
from reid_parsing.networks.parser import Parser
from reid_parsing.networks.schp import Schp

NETWORKS: dict[str, type[Parser]] = {"light": LightParser, "danet": DaNet, "schp": Schp}
"""Networks by name."""


def build_parser(
    network: str = "light", classes: int = 8, pretrained: bool | Path = False
) -> Parser:
    """Return a parsing network with random weights, or with a pretrained trunk.

    Args:
        network: ``light``, ``danet`` or ``schp``.
        classes: number of classes.
        pretrained: ImageNet weights of DANet's trunk: True takes timm's, a path reads a file.

    Raises:
        ConfigError: there is no such network, or it has no pretrained trunk.
    """
    if network not in NETWORKS:
        raise ConfigError(
            f"there is no parsing network '{network}'{did_you_mean(network, NETWORKS)} "
            f"(there are: {', '.join(NETWORKS)})"
        )
    if network == "danet":
        return DaNet(classes, pretrained)
    if pretrained:
        raise ConfigError(f"only 'danet' starts from a pretrained trunk, not '{network}'")
    return NETWORKS[network](classes)

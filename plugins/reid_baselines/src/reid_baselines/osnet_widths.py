"""The four widths of OSNet and OSNet-AIN, for whoever lists, builds or recognises them."""

WIDTHS = {
    "osnet_x1_0": (64, 256, 384, 512),
    "osnet_x0_75": (48, 192, 288, 384),
    "osnet_x0_5": (32, 128, 192, 256),
    "osnet_x0_25": (16, 64, 96, 128),
}
"""Channels of the stem and of the three stages, by name."""

AIN = {name.replace("osnet_", "osnet_ain_"): channels for name, channels in WIDTHS.items()}
"""The same of OSNet-AIN (Zhou et al., TPAMI 2021)."""

ENCODERS = {**WIDTHS, **AIN}
"""All of them."""

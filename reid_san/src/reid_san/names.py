"""Names of the model's parts and outputs, the same in SAN-PG and in SAN. Free of torch."""

from __future__ import annotations

PLUGIN = "san"
"""Name under which the stage runs its plugin, so that parameters have the names that SAN's have."""

DECODER = f"{PLUGIN}/decoder"
"""Name of the branch that holds the decoder."""

REGRESSED = f"{PLUGIN}/regressed"
"""Output: the regressed image."""

MAPS = tuple(f"{PLUGIN}/block{number}" for number in (1, 2, 3, 4))
"""Outputs: the maps of the decoder's blocks."""

SHALLOWER = ("encoder/stage3", "encoder/stage2", "encoder/stage1")
"""What a decoder with skips reads beside the encoder's last map."""

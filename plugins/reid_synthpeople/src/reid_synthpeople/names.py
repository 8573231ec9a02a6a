"""Names of what there is, for those who list and those who make; nothing heavy is imported."""

VARIANTS = ("mixed", "market", "prcc", "ltcc", "vcclothes")
"""Variants of the data set; the first one is the default."""

SIZES = ("quick", "tiny", "full")
"""Sizes of every variant and source; the first one is the default."""

PAIRS, CROPS = "pairs", "crops"
"""The training sources; their people, clothes and cameras are in no variant of the data set."""

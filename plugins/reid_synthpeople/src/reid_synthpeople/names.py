"""Names of what there is, for those who list and those who make; nothing heavy is imported."""

VARIANTS = ("mixed", "market", "prcc", "ltcc", "vcclothes", "tracks", "street", "tracklets")
"""Variants of the data set; the first one is the default."""

SIZES = ("quick", "tiny", "full")
"""Sizes of every variant and source; the first one is the default."""

PAIRS, CROPS, REDRESSED = "pairs", "crops", "redressed"
"""The training sources; their people, clothes and cameras are in no variant of the data set."""

GARMENTS = "synthpeople/garments"
"""The source's garment map. It has a name of its own, as have the four below, so that whoever looks
for labelled images for a parser finds those alone that are made for it."""

TEMPLATE, TEMPLATE_GARMENTS = "synthpeople/template", "synthpeople/template_garments"
"""Somebody else's image, and its garment map."""

DRESSED, DRESSED_GARMENTS = "synthpeople/redressed", "synthpeople/redressed_garments"
"""The image taken again in the outfit that the template shows, and its garment map."""

FACTORS = (
    "viewpoint",
    "colour",
    "light",
    "lens",
    "sensor",
    "crops",
    "cloth",
    "prints",
    "layers",
    "bags",
    "hair",
    "ground",
    "wardrobe",
)
"""What photographs of a street have and plain pictures lack; `reid_synthpeople.street` says what
each does. Their order is part of the data: it names their streams."""

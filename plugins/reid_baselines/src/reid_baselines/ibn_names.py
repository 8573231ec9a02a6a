"""Names of the ResNets with instance norms, for whoever lists, builds or loads them."""

PLAIN = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "test_resnet")
"""ResNets of timm; the last one is its small one for tests."""

NAMES = {f"{plain}_ibn_{kind}": (plain, kind) for plain in PLAIN for kind in "ab"}
"""By encoder: timm's network, and the kind of its instance normalisation."""

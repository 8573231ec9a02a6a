"""The folder layouts that the providers read, each in one line. Free of NumPy."""

FOLDER = (
    "ROOT/images/NAME.jpg or .png with ROOT/labels/NAME.png, and the same under ROOT/held_out; "
    "the variant says which classes the labels have"
)
"""Of ``parsing-folder``."""

DENSEPOSE = (
    "ROOT/annotations/densepose_coco_2014_{train,valminusminival,minival}.json, ROOT/train2014 and "
    "ROOT/val2014 (densepose.org, cocodataset.org)"
)
"""Of ``parsing-densepose``."""

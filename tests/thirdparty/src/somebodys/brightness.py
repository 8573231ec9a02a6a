"""An attribute, told from whatever describes a person, with a measure of its own."""

from reid_core import (
    Branch,
    FieldKind,
    FieldSpec,
    Labeler,
    LossTerm,
    Metric,
    Need,
    Plugin,
    Settings,
    hookimpl,
)

VALUE = "brightness/value"


class BrightnessSettings(Settings):
    weight: float = 1.0


class Brightness(Plugin):
    """Tell how bright an image is from the deployed vectors."""

    Settings = BrightnessSettings
    needs = (Need(VALUE),)
    takes_frames = True

    @hookimpl
    def reid_pseudo_labels(self, ctx):
        spec = FieldSpec(VALUE, FieldKind.SCALAR)
        return [Labeler(spec, lambda labels: [bright(s) for s in labels.samples], key="1")]

    @hookimpl
    def reid_auxiliary_branches(self, ctx, taps):
        from torch import nn

        def head(known):
            return nn.Linear(known["deployed:neck"].channels, 1)

        return [Branch(self.own("head"), head, ("deployed:neck",), (self.own("guess"),))]

    @hookimpl
    def reid_losses(self, ctx, step):
        from torch import stack

        gaps = [
            view.output(self.own("guess")).float()[:, 0] - view.batch.fields[VALUE]
            for view in step.passes_with(self.own("guess"), VALUE)
        ]
        if not gaps:
            return []
        value = stack([gap.square().mean() for gap in gaps]).mean()
        return [LossTerm(self.own("gap"), value, self.settings.weight)]

    @hookimpl
    def reid_metrics(self, ctx, evaluation):
        import numpy as np

        truth = np.array([bright(sample) for sample in evaluation.dataset.gallery])
        guess = evaluation.outputs("gallery", self.own("guess"))[:, 0]
        return [Metric(self.own("error"), np.abs(guess - truth).mean(), smaller_is_better=True)]


def bright(sample):
    import numpy as np
    from PIL import Image

    with Image.open(sample.path) as image:
        return float(np.asarray(image.convert("L")).mean() / 255)

"""An adversary of outfits at hardly any cost."""

from reid_core import Branch, LossTerm, Pass, Plugin, Schedule, Settings, Update, hookimpl


class CheapAdversarySettings(Settings):
    begin: int = 1  # epoch from which the features work against the classifier
    weight: float = 0.1


class CheapAdversary(Plugin):
    """Features from which the outfit cannot be told, at hardly any cost."""

    Settings = CheapAdversarySettings
    takes_frames = True

    @hookimpl
    def reid_auxiliary_branches(self, ctx, taps):
        from torch import nn

        outfits = 1 + max(sample.clothes for sample in ctx.main.samples)

        def head(known):
            return nn.Linear(known["deployed:neck"].channels, outfits)

        return [Branch(self.own("head"), head, reads=(), sizes=("deployed:neck",))]

    @hookimpl
    def reid_schedule(self, ctx, params):
        again = Pass(self.own("again"), of="main", detached=True)
        learn = Update(self.own("learn"), groups=(self.own("head"),), passes=(again,))
        return Schedule(updates=(learn,))

    @hookimpl
    def reid_losses(self, ctx, step):
        from torch.nn import functional as F

        head = ctx.module(self.own("head"))
        if step.update == self.own("learn"):
            view = step.passes[self.own("again")]
            guess = head(view.output("deployed:neck")).float()
            return [LossTerm(self.own("learn"), F.cross_entropy(guess, view.batch.clothes))]
        if step.update != "main" or step.epoch < self.settings.begin:
            return []
        guess = head(step.main.output("deployed:neck")).float()
        even = -guess.log_softmax(1).mean()
        return [LossTerm(self.own("hide"), even, self.settings.weight)]

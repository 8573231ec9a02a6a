"""All loss terms of a step: equation 10, and what only the authors' code has."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reid_core import (
    ENCODER_MAP,
    Batch,
    LinearRamp,
    LossTerm,
    PassView,
    Plugin,
    RunContext,
    StepView,
    full_precision,
    identity_cross_entropy,
)
from reid_core.contract.step import weight_at
from reid_core.machine.randomness import scope_seed
from reid_dgnet.composing import (
    Generator,
    anchor_rows,
    called_frozen,
    partner_rows,
    positive_rows,
)
from reid_dgnet.labels import primary_targets
from reid_dgnet.losses import (
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    reconstruction,
    soft_label_divergence,
)
from reid_dgnet.networks.appearance import appearance_code
from reid_dgnet.settings import BY_TEACHER

DIRECTIONS = 2
"""A loss is the sum over both directions, of which means over all anchors are the mean."""


@dataclass(frozen=True)
class Scene:
    """Who is composed with whom.

    Args:
        images: clean images of the anchors, ``N 3 H W``.
        pid: their identities.
        anchors: their rows in the batch.
        partners: of every anchor, as its number among the anchors: the other half.
        appearance, positive: appearance codes of the anchors and of another image of each person,
            ``N 4C``, with their graph.
    """

    images: Tensor
    pid: Tensor
    anchors: Tensor
    partners: Tensor
    appearance: Tensor
    positive: Tensor

    @classmethod
    def of(cls, batch: Batch, real: int, count: int, maps: Tensor) -> Scene:
        """Choose the anchors of a batch.

        Args:
            batch: the rows.
            real: how many of them, from the first on, are of the data set.
            count: how many anchors at most.
            maps: of the rows' clean images, ``B C h w``.
        """
        pid = batch.pid[:real]
        anchors = anchor_rows(pid, count)
        partners = partner_rows(torch.arange(len(anchors), device=pid.device))
        codes = appearance_code(maps)
        others = positive_rows(pid, anchors)
        images = batch.image[anchors]
        return cls(images, pid[anchors], anchors, partners, codes[anchors], codes[others])

    def composed(self, generator: Generator, through_appearance: bool = False) -> Tensor:
        """Return every anchor's appearance in its partner's structure, ``N 3 H W``."""
        structure = generator.encode(self.images)[self.partners]
        appearance = self.appearance if through_appearance else self.appearance.detach()
        return generator.compose(structure, appearance)


def discriminator_terms(
    plugin: Plugin, scene: Scene, generator: Generator, discriminator: nn.Module
) -> list[LossTerm]:
    """Return the discriminator's side of equation 7, and its gradient penalty, in float32."""
    settings, own = plugin.settings, plugin.own
    with torch.no_grad():
        fake = scene.composed(generator)
    with full_precision(fake):
        real = scene.images.detach().float().requires_grad_(bool(settings.r1))
        scores = discriminator(real)
        judged = discriminator_loss(scores, discriminator(fake.float()), settings.gan)
        terms = [LossTerm(own("judge"), DIRECTIONS * judged)]
        if settings.r1:
            penalty = DIRECTIONS * gradient_penalty(scores, real)
            terms.append(LossTerm(own("r1"), penalty, settings.r1))
    return terms


def generator_terms(
    plugin: Plugin,
    ctx: RunContext,
    step: StepView,
    scene: Scene,
    generator: Generator,
    discriminator: nn.Module,
) -> list[LossTerm]:
    """Return what trains the generative module (equations 1, 2, 4, 5, 7 and the cycle).

    Equation 6 is the identity criterion's, on the pass of the imitated images.
    """
    settings, own = plugin.settings, plugin.own
    seen = step.passes[own("imitated")]
    through = settings.appearance_grad != "none"
    codes = [c if through else c.detach() for c in (scene.appearance, scene.positive)]
    structure = generator.encode(scene.images)
    both = generator.compose(structure.repeat(2, 1, 1, 1), torch.cat(codes)).chunk(2)
    errors = [DIRECTIONS * reconstruction(found, scene.images) for found in both]  # eq. 1, 2
    with full_precision(seen.batch.image):
        scores = called_frozen(discriminator, seen.batch.image.float())
    fooled = DIRECTIONS * generator_loss(scores, settings.gan)  # eq. 7
    return [
        LossTerm(own("image1"), errors[0], settings.image1),
        LossTerm(own("image2"), errors[1], settings.image2),
        LossTerm(own("adversarial"), fooled, settings.adversarial),
        *_codes_again(plugin, ctx, scene, generator, structure, seen),
    ]


def _codes_again(
    plugin: Plugin,
    ctx: RunContext,
    scene: Scene,
    generator: Generator,
    structure: Tensor,
    seen: PassView,
) -> list[LossTerm]:
    """Return what compares the codes of composed images with those they were composed of."""
    settings, own = plugin.settings, plugin.own
    weights = {
        own("code1"): settings.ramp(settings.code1),
        own("code2"): settings.ramp(settings.code2),
        own("cycle"): settings.ramp(settings.cycle),
    }
    wanted = {name for name, weight in weights.items() if _counts(ctx, name, weight)}
    terms, composed = [], seen.batch.image
    appearance = appearance_code(seen.output(ENCODER_MAP))
    if own("code1") in wanted:
        trains = settings.code1_grad == "through_generator"
        again = appearance if trains else appearance.detach()
        error = reconstruction(again, scene.appearance)  # eq. 4
        terms.append(LossTerm(own("code1"), DIRECTIONS * error, weights[own("code1")]))
    if wanted - {own("code1")}:
        found = _structure_again(ctx, generator, composed, settings.again)
        if own("code2") in wanted:
            error = reconstruction(found, structure[scene.partners])  # eq. 5
            terms.append(LossTerm(own("code2"), DIRECTIONS * error, weights[own("code2")]))
        if own("cycle") in wanted:
            # An anchor's structure is in the image that its partner's appearance was put into.
            image = generator.compose(found[scene.partners], appearance.detach())
            error = reconstruction(image, scene.images)
            terms.append(LossTerm(own("cycle"), DIRECTIONS * error, weights[own("cycle")]))
    return terms


def _counts(ctx: RunContext, name: str, weight: float | LinearRamp) -> bool:
    """Return whether a term has weight in this iteration: those of the warm-up cost a decoding."""
    return bool(ctx.config.loss_weights.get(name, weight_at(weight, ctx.progress.iteration)))


def _structure_again(
    ctx: RunContext, generator: Generator, composed: Tensor, share: float
) -> Tensor:
    """Return the structure codes of composed images.

    Either the encoder learns from images that are fixed, or the generator from an encoder that is.
    """
    toss = scope_seed(ctx.config.run.seed, "dgnet again", ctx.progress.iteration) / 2**63
    if toss < share:
        return generator.encode(composed.detach())
    return generator.encode_frozen(composed)


def embedding_terms(
    plugin: Plugin, ctx: RunContext, step: StepView, scene: Scene
) -> list[LossTerm]:
    """Return what trains the encoder beside identity on real images (equations 8 and 9).

    Equation 3 is the identity criterion's of the primary embedding.
    """
    settings, own = plugin.settings, plugin.own
    weight = settings.ramp(settings.primary, settings.alpha)
    terms = []
    if settings.fine_on_real:
        logits = step.main.logits[own("fine")][scene.anchors]
        value = identity_cross_entropy(logits, scene.pid)
        terms.append(LossTerm(own("fine_on_real"), DIRECTIONS * value, weight))
    made = next((own(n) for n in ("composed", "offline") if own(n) in step.passes), None)
    if made is None:
        return terms
    seen, structure_pid = step.passes[made], scene.pid[scene.partners]
    if settings.offline is not None:
        structure_pid = seen.batch.pid
    logits = ctx.criterion(own("fine")).logits(seen.embedding(own("fine")))
    value = identity_cross_entropy(logits, structure_pid)  # eq. 9
    terms.append(LossTerm(own("fine_grained"), DIRECTIONS * value, weight))
    teacher = ctx.module(own("teacher")) if settings.asks_teacher else None
    if teacher is None and settings.labels in BY_TEACHER:
        return terms
    logits = ctx.criterion(own("prim")).logits(seen.embedding(own("prim")))
    with torch.no_grad():
        soft = teacher(seen.image) if teacher is not None else None
        classes = logits.shape[1]
        # Styles that ask for the appearance's person are refused offline.
        appearance_pid = structure_pid if settings.offline is not None else scene.pid
        targets = primary_targets(settings.labels, soft, appearance_pid, structure_pid, classes)
    value = soft_label_divergence(logits, targets)  # eq. 8
    terms.append(LossTerm(own("primary"), DIRECTIONS * value, settings.ramp(settings.primary)))
    return terms

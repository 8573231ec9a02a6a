"""How each network is trained where nothing else is said. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TrainingRecipe:
    """Input, augmentation and optimisation of one network's training.

    Args:
        size: height and width to which images are resized, in training and at labelling.
        canvas: height and width of the training images cut out after scaling and rotation.
        scale: smallest and largest factor on ``size``.
        rotation: largest angle either way, in degrees.
        batch_size: images of a batch.
        epochs: length.
        colours: the core's photometric augmentation, keys of its section ``augment``.
        optim, schedule: keys of the core's sections of these names.
    """

    size: tuple[int, int]
    canvas: tuple[int, int]
    scale: tuple[float, float]
    rotation: float
    batch_size: int
    epochs: int
    colours: Mapping[str, float] = field(default_factory=dict)
    optim: Mapping[str, Any] = field(default_factory=dict)
    schedule: Mapping[str, Any] = field(default_factory=dict)


RECIPES: Mapping[str, TrainingRecipe] = {
    "light": TrainingRecipe(
        size=(128, 64),
        canvas=(128, 64),
        scale=(0.8, 1.25),
        rotation=10.0,
        batch_size=32,
        epochs=20,
        colours={"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.05},
        optim={"name": "adamw", "lr": 2e-3, "weight_decay": 1e-2},
        schedule={
            "warmup_epochs": 1,
            "decay": "cosine",
            "per_iteration": True,
        },
    ),
    # The author's: short side 144 to 240 about 192, crops of 256, learning rate x 0.6 per epoch.
    "danet": TrainingRecipe(
        size=(384, 192),
        canvas=(256, 256),
        scale=(0.75, 1.25),
        rotation=10.0,
        batch_size=16,
        epochs=5,
        optim={"name": "sgd", "lr": 3e-3, "weight_decay": 1e-4},
        schedule={
            "warmup_epochs": 0,
            "decay": "step",
            "milestones": [1, 2, 3, 4],
            "gamma": 0.6,
        },
    ),
    "schp": TrainingRecipe(
        size=(512, 256),
        canvas=(512, 256),
        scale=(0.75, 1.25),
        rotation=30.0,
        batch_size=16,
        epochs=100,
        optim={"name": "sgd", "lr": 7e-3, "weight_decay": 5e-4},
        schedule={
            "warmup_epochs": 10,
            "decay": "cosine",
            "per_iteration": True,
        },
    ),
}
"""Recipes by network."""

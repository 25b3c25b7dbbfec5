# SPDX-License-Identifier: Apache-2.0
"""What a training is told: its length, learning rate and regularisation."""
import dataclasses
from typing import Optional

from paddle.optimizer import lr

from paddle_mrecg.errors import ConfigError


@dataclasses.dataclass
class Recipe:
    """Settings of a training; a checkpoint belongs to one recipe.

    Args:
        epochs(int): how often ``epoch_images`` are gone through.
        batch_size(int): images per step and process.
        lr(float): peak learning rate, for the sum of all processes' batches.
        weight_decay(float): L2, of the network's parameters.
        momentum(float): of plain SGD with momentum.
        warmup_epochs(float): the learning rate rises from 0 that long, then falls as a cosine.
        label_smoothing(float): share of the label that is spread over all classes.
        ema_decay(float): of the moving average of weights that is scored and saved; 0 is off.
        epoch_images(int): images that make an epoch, drawn anew for each; None means all.
        epoch_test_images(int): test images that are scored after each epoch but the last,
            which has all; None means all.
        seed(int): of the start, the shuffle, the cuts and dropout.
    """

    epochs: int = 20
    batch_size: int = 64
    lr: float = 0.1
    weight_decay: float = 1e-4
    momentum: float = 0.9
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    ema_decay: float = 0.0
    epoch_images: Optional[int] = None
    epoch_test_images: Optional[int] = None
    seed: int = 0

    def __post_init__(self):
        problems = [f"{name} {getattr(self, name)}: must be {wanted}" for name, good, wanted in (
            ("epochs", self.epochs >= 1, "at least 1"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("lr", self.lr > 0, "above 0"),
            ("weight_decay", self.weight_decay >= 0, "0 or more"),
            ("momentum", 0 <= self.momentum < 1, "in [0, 1)"),
            ("warmup_epochs", 0 <= self.warmup_epochs < max(1, self.epochs),
             "0 or more and less than epochs"),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "in [0, 1)"),
            ("ema_decay", 0 <= self.ema_decay < 1, "in [0, 1)"),
            ("epoch_images", self.epoch_images is None or self.epoch_images >= 1, "at least 1"),
            ("epoch_test_images", self.epoch_test_images is None or self.epoch_test_images >= 1,
             "at least 1"),
            ("seed", self.seed >= 0, "0 or more"),
        ) if not good]
        if problems:
            raise ConfigError(problems)


def learning_rate(recipe: Recipe, epoch_steps: int) -> lr.LRScheduler:
    """Linear warm-up, then a cosine to 0; to be stepped after every batch."""
    warmup = round(recipe.warmup_epochs * epoch_steps)
    cosine = lr.CosineAnnealingDecay(recipe.lr, T_max=recipe.epochs * epoch_steps - warmup)
    if not warmup:
        return cosine
    return lr.LinearWarmup(cosine, warmup_steps=warmup, start_lr=0.0, end_lr=recipe.lr)

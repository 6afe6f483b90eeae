"""A callback for Hugging Face's Trainer: Trainer(callbacks=[mma.transformers.MMA(coefficient=0.07)])."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback
from typing_extensions import Unpack

from .attachment import attach
from .objectives import MinimalAngle, Objective
from .regularizer import Options


class MMA(TrainerCallback):  # type: ignore[misc]
    """Attaches MMA to the Trainer's optimizer for the length of a training, after clipping and unscaling. The options
    are those of mma.Regularizer."""

    def __init__(self, objective: Objective = MinimalAngle(), **options: Unpack[Options]) -> None:
        self.objective, self.options = objective, options

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        optimizer = kwargs["optimizer"]
        while hasattr(optimizer, "optimizer"):  # accelerate's wrapper has no hooks
            optimizer = optimizer.optimizer
        self.attachment = attach(kwargs["model"], optimizer, self.objective, **self.options)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.attachment.detach()

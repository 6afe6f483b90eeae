"""A callback for Lightning: Trainer(callbacks=[mma.lightning.MMA(coefficient=0.07)]). Needs the package lightning."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import Unpack

from .objectives import MinimalAngle, Objective
from .regularizer import Options, Regularizer


class MMA(Callback):  # type: ignore[misc]
    """Adds MMA's gradient before each step of automatic optimization, after unscaling and before Lightning clips, and
    logs the loss as "mma". The options are those of mma.Regularizer."""

    def __init__(self, objective: Objective = MinimalAngle(), **options: Unpack[Options]) -> None:
        self.objective, self.options = objective, options

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.regularizer = Regularizer(pl_module, self.objective, **self.options)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        pl_module.log("mma", self.regularizer.accumulate_gradient())

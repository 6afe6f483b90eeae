"""attach: every step of an optimizer first adds MMA's gradient."""

from __future__ import annotations

from typing import Any, Optional, Union

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import Unpack

from .objectives import MinimalAngle, Objective
from .regularizer import Options, Regularizer


class Attachment:
    """What attach() gives. regularizer: the Regularizer. loss: its value at the last step, None before the first."""

    def __init__(self, regularizer: Regularizer, optimizer: Optimizer) -> None:
        self.regularizer = regularizer
        self.loss: Optional[Tensor] = None
        self._hook = optimizer.register_step_pre_hook(self._before_step)

    def detach(self) -> None:
        """The optimizer steps as before attach()."""
        self._hook.remove()

    def _before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if closure is not None:
            raise ValueError(
                "mma: the optimizer's step got a closure, which computes the gradients after MMA's was added; expected "
                "step() without one, or regularizer() as a term of the closure's loss."
            )
        # A GradScaler hands its scale to a fused optimizer, which divides by it; for others it has done so already.
        scale = getattr(optimizer, "grad_scale", None)
        self.loss = self.regularizer.accumulate_gradient(1.0 if scale is None else float(scale))


def attach(
    model: Union[nn.Module, Regularizer],
    optimizer: Optimizer,
    objective: Objective = MinimalAngle(),
    **options: Unpack[Options],
) -> Attachment:
    """From now on every optimizer.step() first adds the gradient of Regularizer(model, objective, **options).

        attachment = mma.attach(model, optimizer, coefficient=0.07)     # once; .detach() undoes it

    The options are those of Regularizer; a Regularizer may be given in the model's place. The gradient is added once a
    step, whatever the number of backward passes, and after all that comes before step(): clipping does not see it.
    Under DistributedDataParallel each process adds the whole, no share. For another order, or for a step with a
    closure, use Regularizer.accumulate_gradient() or regularizer() as a term of the loss.

    Raises ValueError for a weight that is not the optimizer's, for LBFGS, and for share.
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"mma: the optimizer is of type {type(optimizer).__name__}; expected a torch.optim.Optimizer.")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ValueError("mma: LBFGS steps by a closure; expected regularizer() as a term of the closure's loss.")
    if isinstance(model, Regularizer):
        if options:
            raise ValueError(f"mma: attach got a Regularizer and {sorted(options)}; expected options of its own alone.")
        regularizer = model
    else:
        regularizer = Regularizer(model, objective, **options)
    _check(regularizer, optimizer)
    return Attachment(regularizer, optimizer)


def _check(regularizer: Regularizer, optimizer: Optimizer) -> None:
    if regularizer._arguments["share"] is not None:
        raise ValueError(
            "mma: attach got a share, but its gradient comes after the processes have averaged theirs, so each adds the "
            "whole; expected no share, or regularizer() as a term of the loss."
        )
    stepped = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for layer in regularizer._chosen:
        weight = layer.read(layer.source)
        if weight.is_leaf and weight.requires_grad and id(weight) not in stepped:
            raise ValueError(
                f"mma: the weight of layer '{layer.name}' is not among the optimizer's parameters; expected it there, or "
                f"exclude='{layer.name}'."
            )


__all__ = ["Attachment", "attach"]

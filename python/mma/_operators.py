"""What torch needs to know of torch.ops.mma.* (src/operators.cpp): shapes without data, and the formulas of autograd.

Each operator gives a loss and its gradient at once, so backward is a multiplication; the derivative of the gradient is
an operator of its own. Third derivatives are not there.
"""

from __future__ import annotations

from typing import Any, NoReturn, Optional, Sequence

import torch
from torch import Tensor

from . import _C as _C  # registers the operators


def objective(weight: Tensor, name: str, numbers: Sequence[float], gradient: bool) -> tuple[Tensor, Tensor]:
    """The values of matrices [n, d] or [b, n, d], and the gradient of their sum."""
    call: Any = _ObjectiveUnderFunc.apply if _under_func() else torch.ops.mma.objective
    result: tuple[Tensor, Tensor] = call(weight, name, numbers, gradient)
    return result


def objective_hessian_product(weight: Tensor, direction: Tensor, name: str, numbers: Sequence[float]) -> Tensor:
    call: Any = _ProductUnderFunc.apply if _under_func() else torch.ops.mma.objective_hessian_product
    result: Tensor = call(weight, direction, name, numbers)
    return result


def regularizer(weights: list[Tensor], trained: list[bool], key: str, gradient: bool) -> tuple[Tensor, Sequence[Tensor]]:
    """The loss of a Regularizer's layers, and the gradient of each trained weight."""
    if _under_func():
        call: Any = _RegularizerUnderFunc.apply
        loss, *gradients = call(trained, key, *weights)
        return loss, gradients
    result: tuple[Tensor, Sequence[Tensor]] = torch.ops.mma.regularizer(weights, trained, key, gradient)
    return result


def _computed_in(weight: Tensor) -> torch.dtype:
    return torch.float64 if weight.dtype == torch.float64 else torch.float32


# --- one tensor ------------------------------------------------------------------------------------------------------


_fake: Any = torch.library.register_fake


@_fake("mma::objective")
def _(weight: Tensor, name: str, numbers: Sequence[float], gradient: bool) -> tuple[Tensor, Tensor]:
    computed = _computed_in(weight)
    slope = weight.new_empty(weight.shape, dtype=computed) if gradient else weight.new_empty(0)
    return weight.new_empty(weight.shape[:-2], dtype=computed), slope


@_fake("mma::objective_hessian_product")
def _(weight: Tensor, direction: Tensor, name: str, numbers: Sequence[float]) -> Tensor:
    return weight.new_empty(weight.shape)


def _objective_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    weight, ctx.name, ctx.numbers, _ = inputs
    ctx.save_for_backward(weight, output[1])
    ctx.set_materialize_grads(False)


def _objective_backward(ctx: Any, by_loss: Optional[Tensor], by_gradient: Optional[Tensor]) -> tuple[Any, ...]:
    weight, gradient = ctx.saved_tensors
    result = None
    if by_loss is not None:
        result = (gradient * (by_loss if weight.dim() == 2 else by_loss[:, None, None])).to(weight.dtype)
    if by_gradient is not None:
        second = objective_hessian_product(weight, by_gradient, ctx.name, ctx.numbers)
        result = second if result is None else result + second
    return result, None, None, None


torch.library.register_autograd("mma::objective", _objective_backward, setup_context=_objective_context)


# --- the layers of a Regularizer -------------------------------------------------------------------------------------


@_fake("mma::regularizer")
def _(weights: Sequence[Tensor], trained: Sequence[bool], key: str, gradient: bool) -> tuple[Tensor, list[Tensor]]:
    wide = any(weight.dtype == torch.float64 for weight in weights)
    loss = weights[0].new_empty((), dtype=torch.float64 if wide else torch.float32)
    return loss, _like(weights, trained) if gradient else []


@_fake("mma::regularizer_hessian_product")
def _(weights: Sequence[Tensor], trained: Sequence[bool], directions: Sequence[Tensor], key: str) -> list[Tensor]:
    return _like(weights, trained)


def _like(weights: Sequence[Tensor], trained: Sequence[bool]) -> list[Tensor]:
    """A gradient for each trained weight; an empty tensor stands for none."""
    return [torch.empty_like(w) if needed else w.new_empty(0) for w, needed in zip(weights, trained)]


def _regularizer_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, list[Tensor]]) -> None:
    weights, ctx.trained, ctx.key, _ = inputs
    ctx.engine = _C.regularizer_of(ctx.key)  # as long as the graph
    ctx.save_for_backward(*weights, *output[1])
    ctx.set_materialize_grads(False)


def _regularizer_backward(ctx: Any, by_loss: Optional[Tensor], by_gradients: Sequence[Optional[Tensor]]) -> tuple[Any, ...]:
    count = len(ctx.trained)
    weights, gradients = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
    results: list[Optional[Tensor]] = [None] * count
    if by_loss is not None and _is_one(by_loss):
        # Held, lest autograd makes one a .grad: a second backward needs it again.
        results = ctx.held = [gradient.detach() for gradient in gradients]
    elif by_loss is not None:
        results = [gradient * by_loss.to(gradient.device) for gradient in gradients]
    if any(direction is not None for direction in by_gradients):
        directions = [torch.zeros_like(g) if d is None else d for g, d in zip(gradients, by_gradients)]
        second = torch.ops.mma.regularizer_hessian_product(list(weights), ctx.trained, directions, ctx.key)
        results = [s if r is None else r + s for r, s in zip(results, second)]
    return [r if needed else None for r, needed in zip(results, ctx.trained)], None, None, None


def _is_one(by_loss: Tensor) -> bool:
    """Saves a multiplication of all gradients where that can be seen at no cost."""
    plain = type(by_loss) is Tensor and by_loss.device.type == "cpu" and not torch.is_grad_enabled()
    return plain and not torch.compiler.is_compiling() and float(by_loss) == 1


torch.library.register_autograd("mma::regularizer", _regularizer_backward, setup_context=_regularizer_context)


def _no_third_derivative(ctx: Any, *grads: Any) -> NoReturn:
    raise NotImplementedError("mma: a third derivative was asked for; expected at most two.")


for _name in ("objective_hessian_product", "regularizer_hessian_product"):
    torch.library.register_autograd("mma::" + _name, _no_third_derivative)


# --- torch.func ------------------------------------------------------------------------------------------------------
# Its transforms do not take the formulas registered above, only a torch.autograd.Function with a setup_context.


def _under_func() -> bool:
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


class _ObjectiveUnderFunc(torch.autograd.Function):
    @staticmethod
    def forward(*inputs: Any) -> Any:
        return torch.ops.mma.objective(*inputs)

    setup_context = staticmethod(_objective_context)
    backward = staticmethod(_objective_backward)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], weight: Tensor, *rest: Any) -> Any:
        """Matrices of a batch do not see each other."""
        weight = weight.movedim(in_dims[0], 0)
        call: Any = _ObjectiveUnderFunc.apply
        loss, gradient = call(weight.flatten(0, -3), *rest)
        if not rest[-1]:
            return (loss.view(weight.shape[:-2]), gradient), (0, None)
        return (loss.view(weight.shape[:-2]), gradient.view(weight.shape)), (0, 0)


class _ProductUnderFunc(torch.autograd.Function):
    @staticmethod
    def forward(*inputs: Any) -> Any:
        return torch.ops.mma.objective_hessian_product(*inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    backward = staticmethod(_no_third_derivative)


class _RegularizerUnderFunc(torch.autograd.Function):
    @staticmethod
    def forward(trained: list[bool], key: str, *weights: Tensor) -> Any:
        loss, gradients = torch.ops.mma.regularizer(weights, trained, key, True)
        return loss, *gradients

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _regularizer_context(ctx, (inputs[2:], inputs[0], inputs[1], True), (output[0], list(output[1:])))

    @staticmethod
    def backward(ctx: Any, by_loss: Optional[Tensor], *by_gradients: Optional[Tensor]) -> Any:
        return None, None, *_regularizer_backward(ctx, by_loss, by_gradients)[0]

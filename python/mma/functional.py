"""The objectives as functions of a tensor [rows, dimension] (a scalar) or [batch, rows, dimension] (a vector [batch]).

float16 and bfloat16 are computed in, and give, float32; float64 stays float64. All are differentiable twice, and work
under torch.compile, torch.export, torch.func and autocast. For a convolution's weight pass weight_rows(weight), or
weight.flatten(1). ValueError for a tensor of another shape or type.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import _operators
from .objectives import (
    DoubleSoftOrthogonality,
    Logarithmic,
    MaximalCosine,
    MinimalAngle,
    MutualCoherence,
    Objective,
    Orthogonal,
    RieszFisher,
    SimplexTarget,
    SpectralIsometry,
)

__all__ = [
    "double_soft_orthogonality_loss",
    "get_mma_loss",
    "logarithmic_loss",
    "loss",
    "maximal_cosine_loss",
    "minimal_angle_loss",
    "mutual_coherence_loss",
    "orthogonal_loss",
    "riesz_fisher_loss",
    "simplex_target_loss",
    "spectral_isometry_loss",
    "weight_rows",
]


def loss(weight: Tensor, objective: Objective) -> Tensor:
    """Any objective of the rows: loss(weight, Centred(MinimalAngle())). One that draws makes the same draw each time."""
    if not isinstance(weight, Tensor):
        raise TypeError(f"mma: the weight is of type {type(weight).__name__}; expected a torch.Tensor.")
    if not isinstance(objective, Objective):
        raise TypeError(f"mma: the objective is {objective!r}; expected one of mma.objectives, such as MinimalAngle().")
    name, numbers = objective._spec()
    gradient = torch.is_grad_enabled() and weight.requires_grad
    result: Tensor = _operators.objective(weight, name, [float(number) for number in numbers], gradient)[0]
    return result


def minimal_angle_loss(weight: Tensor, half_space: bool = False) -> Tensor:
    """-(1/n) sum_i min_{j != i} theta_ij in radians (Eq 6): [n, d] -> scalar, [b, n, d] -> [b]."""
    return loss(weight, MinimalAngle(half_space))


def maximal_cosine_loss(weight: Tensor, closest_only: bool = False) -> Tensor:
    """(1/n) sum_i max_{j != i} cos theta_ij (Eq 5); closest_only: of the closest pair (Eq 2)."""
    return loss(weight, MaximalCosine(closest_only))


def riesz_fisher_loss(weight: Tensor, s: float = 2, half_space: bool = False) -> Tensor:
    """The mean over pairs of |u_i - u_j|^-s (Eq 9)."""
    return loss(weight, RieszFisher(s, half_space))


def logarithmic_loss(weight: Tensor, half_space: bool = False) -> Tensor:
    """The mean over pairs of -log |u_i - u_j| (Eq 11)."""
    return loss(weight, Logarithmic(0, half_space))


def orthogonal_loss(weight: Tensor) -> Tensor:
    """1/2 |U U^T - I|_F^2 (Eq 14)."""
    return loss(weight, Orthogonal())


def simplex_target_loss(weight: Tensor) -> Tensor:
    """|U U^T - C|_F^2, cosines towards -1/(n-1) (Eq 4)."""
    return loss(weight, SimplexTarget())


def spectral_isometry_loss(weight: Tensor, iterations: int = 2) -> Tensor:
    """SRIP: the spectral norm of W W^T - I by power iteration."""
    return loss(weight, SpectralIsometry(iterations))


def double_soft_orthogonality_loss(weight: Tensor) -> Tensor:
    """DSO: |W W^T - I|_F^2 + |W^T W - I|_F^2."""
    return loss(weight, DoubleSoftOrthogonality())


def mutual_coherence_loss(weight: Tensor) -> Tensor:
    """max_{i != j} |cos theta_ij|."""
    return loss(weight, MutualCoherence())


def get_mma_loss(weight: Tensor) -> Tensor:
    """The paper's authors' function: weight [out, in, kh, kw] or [n, d] -> scalar, with their sign and scale.

    Theirs clamps cosines to +-0.99999, 0.26 degrees from a duplicate or an antipode; this one is exact there.
    """
    if not isinstance(weight, Tensor):
        raise TypeError(f"mma: the weight is of type {type(weight).__name__}; expected a torch.Tensor.")
    return minimal_angle_loss(weight.flatten(1) if weight.dim() > 2 else weight)


def weight_rows(weight: Tensor, transposed: bool = False, groups: int = 1) -> Tensor:
    """A layer's weight as [groups, rows, dimension], as a view where possible.

    transposed: a ConvTranspose's [in, out / groups, ...], of which a row is one output channel.
    """
    if weight.dim() < 2 or groups < 1 or weight.shape[0] % groups:
        raise ValueError(
            f"mma: the weight has the shape {list(weight.shape)}; expected at least two dimensions, the first one "
            f"divisible by the {groups} groups."
        )
    blocks = weight.reshape(groups, weight.shape[0] // groups, -1)
    if not transposed:
        return blocks
    return blocks.reshape(*blocks.shape[:2], weight.shape[1], -1).transpose(1, 2).flatten(2)

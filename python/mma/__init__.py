"""MMA regularization: the weight vectors of each layer as far apart as possible.

    import mma
    mma.attach(model, optimizer, coefficient=0.07)      # every optimizer.step() first adds MMA's gradient

    regularizer = mma.Regularizer(model, coefficient=0.07)
    loss = cross_entropy(model(x), y) + regularizer()   # or as a term of the loss
    print(regularizer.report())                         # the angles of every layer, in degrees

    mma.functional.minimal_angle_loss(weight)           # of a tensor [rows, dimension] or [batch, rows, dimension]

The loss is coefficient * sum over layers of -(1/n) sum_i min_{j != i} angle(w_i, w_j), in radians, over the n rows w_i
of a layer's weight: one row for each neuron or filter. Wang, Xiang, Zou, Xu: MMA Regularization, NeurIPS 2020.
"""

import torch

try:
    from ._C import version as __version__
except ImportError as error:
    raise ImportError(
        f"mma: the extension cannot be loaded with torch {torch.__version__} ({error}); expected one that was built against "
        "it: pip install --no-build-isolation --force-reinstall --no-deps ./python"
    ) from error

from . import functional
from ._walk import register_layer
from .attachment import Attachment, attach
from .functional import get_mma_loss
from .objectives import (
    Centred,
    DoubleSoftOrthogonality,
    HypersphericalEnergy,
    Logarithmic,
    MaximalCosine,
    MinimalAngle,
    MutualCoherence,
    Objective,
    Orthogonal,
    RieszFisher,
    Sampled,
    SimplexTarget,
    SpectralIsometry,
)
from .regularizer import Options, Regularizer
from .report import Report

__all__ = [
    "Attachment",
    "Centred",
    "DoubleSoftOrthogonality",
    "HypersphericalEnergy",
    "Logarithmic",
    "MaximalCosine",
    "MinimalAngle",
    "MutualCoherence",
    "Objective",
    "Options",
    "Orthogonal",
    "Regularizer",
    "Report",
    "RieszFisher",
    "Sampled",
    "SimplexTarget",
    "SpectralIsometry",
    "__version__",
    "attach",
    "functional",
    "get_mma_loss",
    "register_layer",
]

"""The paper's formulas written out in float64, and the authors' function: what the package is held against."""

import torch
from torch import Tensor


def angle(a: Tensor, b: Tensor) -> Tensor:
    return torch.acos((a @ b) / (a.norm() * b.norm()))


def minimal_angle(weight: Tensor) -> Tensor:
    """Eq 6 by two loops, of rows [n, d]."""
    rows = weight.double()
    n = len(rows)
    nearest = [min((angle(rows[i], rows[j]) for j in range(n) if j != i), key=torch.Tensor.item) for i in range(n)]
    return -torch.stack(nearest).mean()


def of_groups(groups: Tensor) -> Tensor:
    """[groups, n, d]: groups of equal size, so the mean over all rows is the mean of the groups' means."""
    return torch.stack([minimal_angle(rows) for rows in groups]).mean()


def authors_mma_loss(weight: Tensor) -> Tensor:
    """The computation of the paper's authors' get_mma_loss: the largest cosine of each row, without itself."""
    unit = torch.nn.functional.normalize(weight.flatten(1), p=2, dim=1)
    cosine = unit @ unit.t()
    cosine = cosine - 2.0 * torch.diag(torch.diag(cosine))
    return -torch.acos(cosine.max(dim=1)[0].clamp(-0.99999, 0.99999)).mean()


def pairs(weight: Tensor) -> Tensor:
    """Unit rows' cosines of all pairs i < j."""
    unit = weight.double() / weight.double().norm(dim=1, keepdim=True)
    first, second = torch.triu_indices(len(unit), len(unit), 1)
    return (unit[first] * unit[second]).sum(1)

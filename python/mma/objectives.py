"""What is minimised for each layer. w_i are the n rows of its weight, u_i their unit vectors, theta_ij angles in radians.

Zero rows are left out; a layer with fewer than two others counts 0. Each is a value: compared, hashed and pickled by
its numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field


class Objective:
    """One of this module's classes. The extension knows it by a name and numbers."""

    def _spec(self) -> tuple[str, list[float]]:
        raise NotImplementedError


def _draws(seed: int) -> float:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**53:
        raise ValueError(f"mma: an objective's seed is {seed!r}; expected a whole number from 0 to 2**53 - 1.")
    return float(seed)


@dataclass(frozen=True)
class MinimalAngle(Objective):
    """-(1/n) sum_i min_{j != i} theta_ij (Eq 6 of the paper), in [-pi, 0].

    half_space: angles between lines; a row and the negative of another count as near.
    """

    half_space: bool = False

    def _spec(self) -> tuple[str, list[float]]:
        return "minimal_angle", [self.half_space]


@dataclass(frozen=True)
class MaximalCosine(Objective):
    """(1/n) sum_i max_{j != i} cos theta_ij (Eq 5), in [-1, 1]. Its gradient fades where rows are near.

    closest_only: the cosine of the one closest pair (Eq 2).
    """

    closest_only: bool = False

    def _spec(self) -> tuple[str, list[float]]:
        return "maximal_cosine", [self.closest_only]


@dataclass(frozen=True)
class HypersphericalEnergy(Objective):
    """MHE: the mean over pairs of |u_i - u_j|^-s, of -log |u_i - u_j| for s = 0 (Eq 9, Eq 11).

    s: the power. half_space: the rows and their negatives. share: of the rows, drawn anew at each step (the functional
    form draws the same each time). closest: the distance below which the energy goes on along its tangent.
    """

    s: float = 2
    half_space: bool = False
    share: float = 1
    closest: float = 1e-2
    seed: int = 1

    def _spec(self) -> tuple[str, list[float]]:
        return "energy", [self.s, self.half_space, self.share, self.closest, _draws(self.seed)]


@dataclass(frozen=True)
class RieszFisher(HypersphericalEnergy):
    """HypersphericalEnergy with s = 2 (Eq 9)."""


@dataclass(frozen=True)
class Logarithmic(HypersphericalEnergy):
    """HypersphericalEnergy with s = 0 (Eq 11)."""

    s: float = 0


@dataclass(frozen=True)
class Orthogonal(Objective):
    """1/2 |U U^T - I|_F^2, cosines towards 0 (Eq 14)."""

    def _spec(self) -> tuple[str, list[float]]:
        return "orthogonal", []


@dataclass(frozen=True)
class SimplexTarget(Objective):
    """|U U^T - C|_F^2, cosines towards -1/(n-1) (Eq 4)."""

    def _spec(self) -> tuple[str, list[float]]:
        return "simplex_target", []


@dataclass(frozen=True)
class SpectralIsometry(Objective):
    """SRIP: the spectral norm of W W^T - I, of W^T W - I for n > d, by power iteration from a random vector.

    Rows as they are, not normalised. Bansal, Chen, Wang, NeurIPS 2018.
    """

    iterations: int = 2
    seed: int = 1

    def _spec(self) -> tuple[str, list[float]]:
        return "spectral_isometry", [self.iterations, _draws(self.seed)]


@dataclass(frozen=True)
class DoubleSoftOrthogonality(Objective):
    """DSO: |W W^T - I|_F^2 + |W^T W - I|_F^2, rows as they are. Bansal, Chen, Wang, NeurIPS 2018."""

    def _spec(self) -> tuple[str, list[float]]:
        return "double_soft_orthogonality", []


@dataclass(frozen=True)
class MutualCoherence(Objective):
    """max_{i != j} |cos theta_ij|, in [0, 1]."""

    def _spec(self) -> tuple[str, list[float]]:
        return "mutual_coherence", []


@dataclass(frozen=True)
class Centred(Objective):
    """Any objective of the rows minus their mean."""

    objective: Objective = field(default_factory=MinimalAngle)

    def _spec(self) -> tuple[str, list[float]]:
        name, numbers = self.objective._spec()
        return "centred/" + name, numbers


@dataclass(frozen=True)
class Sampled(Objective):
    """Any objective of a random share of the rows, drawn anew at each step, for a head of very many classes."""

    objective: Objective = field(default_factory=MinimalAngle)
    share: float = 0.1
    seed: int = 1

    def _spec(self) -> tuple[str, list[float]]:
        name, numbers = self.objective._spec()
        return "sampled/" + name, [self.share, _draws(self.seed), *numbers]

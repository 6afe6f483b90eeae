"""The functional forms: values and gradients against the formulas, shapes, types, edges."""

import math

import mma
import pytest
import torch
from mma import functional as F
from reference import authors_mma_loss, minimal_angle, pairs


def weights(n=12, d=7, seed=1, dtype=torch.float64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype).requires_grad_()


@pytest.mark.parametrize("shape", [(2, 1), (2, 5), (12, 7), (5, 40), (150, 3)])
def test_minimal_angle_is_eq_6_with_its_gradient(shape):
    weight = weights(*shape)
    if shape[1] == 1:  # two numbers are at 0 or at pi
        weight = torch.tensor([[2.0], [-3.0]], dtype=torch.float64, requires_grad=True)
        assert F.minimal_angle_loss(weight).item() == pytest.approx(-math.pi)
        return
    value = F.minimal_angle_loss(weight)
    expected = minimal_angle(weight)
    assert value.item() == pytest.approx(expected.item(), abs=1e-9)
    (gradient,) = torch.autograd.grad(value, weight)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, weight)[0], rtol=0, atol=1e-9)


def test_a_batch_gives_a_value_a_matrix():
    batch = torch.stack([weights(seed=s).detach() for s in (1, 2, 3)]).requires_grad_()
    values = F.minimal_angle_loss(batch)
    assert values.shape == (3,)
    factors = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    expected = torch.stack([minimal_angle(matrix) for matrix in batch])
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-9)
    (gradient,) = torch.autograd.grad((values * factors).sum(), batch)
    torch.testing.assert_close(gradient, torch.autograd.grad((expected * factors).sum(), batch)[0], rtol=0, atol=1e-9)


def by_formula(weight):
    """Every objective of one matrix, by its formula."""
    n, d = weight.shape
    wide = weight.double()
    c = pairs(weight)
    distance = (2 - 2 * c).sqrt()
    all_cosines = torch.full((n, n), -2.0, dtype=torch.float64)
    first, second = torch.triu_indices(n, n, 1)
    all_cosines[first, second] = c
    all_cosines[second, first] = c
    gram, other = wide @ wide.T, wide.T @ wide
    centred = wide - wide.mean(0)
    return {
        "maximal_cosine": (F.maximal_cosine_loss(weight), all_cosines.max(1).values.mean()),
        "closest": (F.maximal_cosine_loss(weight, closest_only=True), c.max()),
        "half_space": (F.minimal_angle_loss(weight, half_space=True), -torch.acos(all_cosines.fill_diagonal_(0).abs().max(1).values).mean()),
        "riesz_fisher": (F.riesz_fisher_loss(weight), (distance**-2).mean()),
        "riesz_fisher s = 1": (F.riesz_fisher_loss(weight, 1), (distance**-1).mean()),
        "logarithmic": (F.logarithmic_loss(weight), -distance.log().mean()),
        "orthogonal": (F.orthogonal_loss(weight), (c**2).sum()),
        "simplex_target": (F.simplex_target_loss(weight), 2 * ((c + 1 / (n - 1)) ** 2).sum()),
        "double_soft_orthogonality": (
            F.double_soft_orthogonality_loss(weight),
            (gram - torch.eye(n)).square().sum() + (other - torch.eye(d)).square().sum(),
        ),
        "mutual_coherence": (F.mutual_coherence_loss(weight), c.abs().max()),
        "spectral_isometry": (
            F.spectral_isometry_loss(weight, iterations=2000),
            torch.linalg.matrix_norm((gram if n <= d else other) - torch.eye(min(n, d)), 2),
        ),
        "centred": (F.loss(weight, mma.Centred()), minimal_angle(centred)),
        "sampled, all": (F.loss(weight, mma.Sampled(mma.MaximalCosine(closest_only=True), share=1)), c.max()),
        "energy": (F.loss(weight, mma.HypersphericalEnergy(s=2, seed=5)), (distance**-2).mean()),
    }


@pytest.mark.parametrize("shape", [(9, 4), (5, 11)])
@pytest.mark.parametrize("name", list(by_formula(weights(3, 2))))
def test_every_objective_is_its_formula_with_its_gradient(name, shape):
    weight = weights(*shape)
    value, expected = by_formula(weight)[name]
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(value, weight)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, weight)[0], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shape", [(16, 3, 3, 3), (10, 24)])
def test_get_mma_loss_has_the_authors_sign_and_scale(shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(2)).requires_grad_()
    ours, theirs = mma.get_mma_loss(weight), authors_mma_loss(weight)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    torch.testing.assert_close(*(torch.autograd.grad(loss, weight)[0] for loss in (ours, theirs)), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_is_computed_in_float32(dtype):
    weight = weights(dtype=torch.float32).detach().to(dtype).requires_grad_()
    value = F.minimal_angle_loss(weight)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(minimal_angle(weight.detach()).item(), abs=1e-5)
    value.backward()
    assert weight.grad.dtype == dtype


def test_rows_that_lie_otherwise_in_memory_are_the_same_rows():
    wide = torch.randn(7, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    weight = wide.t()[::2].requires_grad_()  # [12, 7], no row is a block
    value, expected = F.minimal_angle_loss(weight), minimal_angle(weight)
    assert value.item() == pytest.approx(expected.item(), abs=1e-9)
    torch.testing.assert_close(*(torch.autograd.grad(loss, weight)[0] for loss in (value, expected)), rtol=0, atol=1e-9)


def test_edges():
    duplicates = torch.tensor([[1.0, 0.0], [3.0, 0.0]], requires_grad=True)
    value = F.minimal_angle_loss(duplicates)
    (gradient,) = torch.autograd.grad(value, duplicates)
    assert value.item() == 0
    assert gradient.isfinite().all() and gradient[0].norm() > 0  # they part
    assert F.minimal_angle_loss(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])).item() == pytest.approx(-math.pi)
    assert F.minimal_angle_loss(torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]])).item() == pytest.approx(-math.pi / 2)
    assert F.minimal_angle_loss(torch.ones(1, 4)).item() == 0
    assert F.minimal_angle_loss(torch.tensor([[1.0, math.nan], [0.0, 1.0]])).isnan()
    assert F.minimal_angle_loss(torch.full((2, 3), 1e-30)).item() == pytest.approx(0, abs=1e-3)


def test_weight_rows_are_the_filters_of_each_group():
    plain, transposed = torch.randn(6, 2, 3, 3), torch.randn(4, 5, 3, 3)
    rows = F.weight_rows(plain, groups=3)
    assert rows.shape == (3, 2, 18)
    torch.testing.assert_close(rows[1, 1], plain[3].flatten())
    rows = F.weight_rows(transposed, transposed=True, groups=2)
    assert rows.shape == (2, 5, 18)
    torch.testing.assert_close(rows[1, 3], transposed[2:, 3].flatten())


@pytest.mark.parametrize(
    "weight, error, words",
    [
        (torch.ones(3), ValueError, r"^mma: layer 'weight' has a weight of shape \[3\]; expected at least two dimensions"),
        (torch.ones(2, 3, 4, 5), ValueError, r"^mma: the weight has the shape \[2, 3, 4, 5\]; expected \[rows, dimension\]"),
        (torch.ones(2, 3, dtype=torch.int64), ValueError, "^mma: layer 'weight' has a weight of type Long; expected float16"),
        (torch.ones(2, 3).to_sparse(), ValueError, "^mma: layer 'weight' has a sparse or quantized weight"),
        ([[1.0, 2.0]], TypeError, "^mma: the weight is of type list; expected a torch.Tensor"),
    ],
)
def test_wrong_weights_are_told(weight, error, words):
    with pytest.raises(error, match=words) as told:
        F.minimal_angle_loss(weight)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "objective, error, words",
    [
        ("mma", TypeError, r"the objective is 'mma'; expected one of mma.objectives, such as MinimalAngle\(\)"),
        (mma.RieszFisher(s=-1), ValueError, "an energy's power s is -1; expected 0 or more"),
        (mma.Sampled(share=2), ValueError, "share of the rows is 2; expected more than 0, at most 1"),
        (mma.Sampled(seed=-1), ValueError, "seed is -1; expected a whole number"),
        (mma.SpectralIsometry(iterations=0), ValueError, "has 0 iterations; expected 1 or more"),
    ],
)
def test_wrong_objectives_are_told(objective, error, words):
    with pytest.raises(error, match="^mma: .*" + words):
        F.loss(torch.ones(3, 2), objective)

"""What torch asks of an operator: fake tensors, autograd twice, compile, export, func, autocast, checkpoints, threads."""

import copy
import pickle
import threading

import mma
import pytest
import torch
from mma import functional as F
from reference import minimal_angle
from torch import nn
from torch.library import opcheck

OBJECTIVES = [
    mma.MinimalAngle(),
    mma.MinimalAngle(half_space=True),
    mma.MaximalCosine(),
    mma.RieszFisher(),
    mma.Logarithmic(),
    mma.Orthogonal(),
    mma.SimplexTarget(),
    mma.SpectralIsometry(),
    mma.DoubleSoftOrthogonality(),
    mma.MutualCoherence(),
    mma.Centred(mma.MinimalAngle()),
    mma.Sampled(mma.MinimalAngle(), share=0.7),
]


def weights(*shape, seed=1, dtype=torch.float64):
    shape = shape or (6, 4)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).requires_grad_()


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).double()


def eq_13(model, coefficient=0.07):
    return coefficient * (minimal_angle(model[0].weight.flatten(1)) + minimal_angle(model[4].weight))


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
@pytest.mark.parametrize("shape", [(6, 4), (3, 5, 4)], ids=str)
def test_gradients_of_both_orders_agree_with_differences(objective, shape):
    weight = weights(*shape)
    assert torch.autograd.gradcheck(lambda w: F.loss(w, objective), (weight,))
    assert torch.autograd.gradgradcheck(lambda w: F.loss(w, objective), (weight,))


@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_opcheck_of_the_objectives(dtype, gradient):
    for shape in ((6, 4), (2, 6, 4)):
        weight = weights(*shape, dtype=torch.float32).detach().to(dtype).requires_grad_(gradient)
        opcheck(torch.ops.mma.objective.default, (weight, "minimal_angle", [0.0], gradient))
        opcheck(torch.ops.mma.objective_hessian_product.default, (weight.detach(), weight.detach() + 1, "minimal_angle", [0.0]))


def test_opcheck_of_the_regularizer():
    model = network()
    model[0].weight.data = model[0].weight.data.to(memory_format=torch.channels_last)
    regularizer = mma.Regularizer(model)
    ws = [model[0].weight, model[4].weight]
    opcheck(torch.ops.mma.regularizer.default, (ws, [True, True], regularizer._key, True))
    model[4].weight.requires_grad_(False)
    opcheck(torch.ops.mma.regularizer.default, (ws, [True, False], regularizer._key, True))
    ws = [w.detach() for w in ws]
    opcheck(torch.ops.mma.regularizer.default, (ws, [True, False], regularizer._key, False))
    opcheck(torch.ops.mma.regularizer_hessian_product.default, (ws, [True, False], [w + 1 for w in ws], regularizer._key))


def test_the_regularizers_second_derivatives_are_those_of_the_formula():
    model = network()
    ws = [model[0].weight, model[4].weight]
    sums = []
    for loss in (mma.Regularizer(model)(), eq_13(model)):
        gradients = torch.autograd.grad(loss, ws, create_graph=True)
        sums.append(torch.autograd.grad(sum((g**2).sum() for g in gradients), ws))
    for ours, formula in zip(*sums):
        torch.testing.assert_close(ours, formula, rtol=1e-7, atol=1e-10)


def test_a_third_derivative_is_refused():
    weight = weights()
    (first,) = torch.autograd.grad(F.minimal_angle_loss(weight), weight, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), weight, create_graph=True)
    with pytest.raises(NotImplementedError, match="mma: a third derivative"):
        second.sum().backward()


def test_a_graph_that_is_kept_gives_the_same_gradients_again():
    model = network()
    ws = [model[0].weight, model[4].weight]
    loss = mma.Regularizer(model)()
    loss.backward(retain_graph=True)
    first = [w.grad.clone() for w in ws]
    for w in ws:
        w.grad.zero_()
    loss.backward()
    for w, before in zip(ws, first):
        torch.testing.assert_close(w.grad, before, rtol=0, atol=0)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compile_without_graph_breaks(backend):
    torch.compiler.reset()
    model, x = network(), torch.randn(2, 3, 6, 6, dtype=torch.float64)
    regularizer = mma.Regularizer(model)

    def step(x):
        return model(x).square().mean() + regularizer() + F.minimal_angle_loss(model[4].weight)

    torch.compile(step, fullgraph=True, backend=backend)(x).backward()
    compiled = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    (model(x).square().mean() + eq_13(model) + minimal_angle(model[4].weight)).backward()
    for p, gradient in zip(model.parameters(), compiled):
        torch.testing.assert_close(gradient, p.grad, rtol=1e-7, atol=1e-9)


def test_compile_with_shapes_that_change():
    torch.compiler.reset()
    compiled = torch.compile(F.minimal_angle_loss, fullgraph=True, backend="aot_eager", dynamic=True)
    for n in (4, 5, 9):
        weight = weights(n, 6)
        assert compiled(weight).item() == pytest.approx(minimal_angle(weight).item(), abs=1e-9)


def test_export():
    class Model(nn.Module):
        def forward(self, w):
            return F.minimal_angle_loss(w) + F.riesz_fisher_loss(w)

    weight = weights().detach()
    program = torch.export.export(Model(), (weight,))
    assert "mma.objective" in str(program.graph)
    torch.testing.assert_close(program.module()(weight), Model()(weight))


def test_func_grad_vmap_and_a_network_of_other_weights():
    weight = weights()
    expected = torch.autograd.grad(minimal_angle(weight), weight)[0]
    torch.testing.assert_close(torch.func.grad(F.minimal_angle_loss)(weight.detach()), expected, rtol=0, atol=1e-9)
    several = torch.stack([weight.detach(), 2 * weight.detach()])
    torch.testing.assert_close(
        torch.func.vmap(torch.func.grad(F.minimal_angle_loss))(several), torch.stack([expected, expected / 2]), rtol=0, atol=1e-9
    )

    class Loss(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network()
            self.regularizer = mma.Regularizer(self.network)

        def forward(self):
            return self.regularizer()

    loss = Loss()
    others = {name: p.detach() + 1 for name, p in loss.named_parameters()}
    gradients = torch.func.grad(lambda p: torch.func.functional_call(loss, p, ()))(others)
    moved = others["network.0.weight"].clone().requires_grad_()
    expected = torch.autograd.grad(0.07 * minimal_angle(moved.flatten(1)), moved)[0]
    torch.testing.assert_close(gradients["network.0.weight"], expected, rtol=0, atol=1e-9)


def test_autocast_changes_nothing():
    weight = weights(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = F.minimal_angle_loss(weight)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(minimal_angle(weight).item(), abs=1e-5)


def test_checkpoint_and_saved_tensors_elsewhere():
    weight = weights()
    expected = torch.autograd.grad(minimal_angle(weight), weight)[0]
    loss = torch.utils.checkpoint.checkpoint(F.minimal_angle_loss, weight, use_reentrant=False)
    torch.testing.assert_close(torch.autograd.grad(loss, weight)[0], expected, rtol=0, atol=1e-9)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t):
        loss = F.minimal_angle_loss(weight)
    torch.testing.assert_close(torch.autograd.grad(loss, weight)[0], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))], ids=["deepcopy", "pickle"])
def test_a_copy_goes_on_as_the_original_does(duplicate):
    # Random draws: the third call's differ from the first's, unless the state is carried.
    model = network()
    regularizer = mma.Regularizer(model, mma.Sampled(share=0.5), scope="hidden").add("rows", weights(), coefficient=0.5)
    first = [regularizer().item() for _ in range(2)]
    copied = duplicate(regularizer)
    third = regularizer().item()
    assert copied().item() == third
    assert third not in first
    assert copied.layers == ["0", "rows"]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_a_module_that_holds_its_own_regularizer_is_copied(duplicate):
    model = network()
    model.regularizer = mma.Regularizer(model)
    other = duplicate(model)
    with torch.no_grad():
        other[0].weight.add_(torch.randn_like(other[0].weight))
    assert model.regularizer().item() == pytest.approx(eq_13(model).item(), abs=1e-9)
    assert other.regularizer().item() == pytest.approx(eq_13(other).item(), abs=1e-9)


def test_threads_run_while_a_loss_is_computed():
    counted = [0]
    done = threading.Event()

    def count():
        while not done.is_set():
            counted[0] += 1

    def counted_during(call):
        before = counted[0]
        call()
        return counted[0] - before

    weight = torch.randn(16000, 64)
    regularizer = mma.Regularizer().add("rows", weight.requires_grad_())
    thread = threading.Thread(target=count)
    thread.start()
    try:
        operator = counted_during(lambda: torch.ops.mma.objective(weight, "minimal_angle", [0.0], False))
        method = counted_during(regularizer.accumulate_gradient)
    finally:
        done.set()
        thread.join()
    # While the lock is held only the moments around the call are counted, some 100,000 rounds; released, many millions.
    assert operator > 1_000_000 and method > 1_000_000


def test_a_regularizer_that_is_gone_is_told():
    regularizer = mma.Regularizer(network())
    key = regularizer._key
    del regularizer
    with pytest.raises(RuntimeError, match="mma: the Regularizer of this graph is gone"):
        torch.ops.mma.regularizer([weights()], [True], key, True)


def test_nothing_stays_alive():
    import gc
    import weakref

    model = network()
    regularizer = mma.Regularizer(model)
    regularizer().backward()
    ends = [weakref.ref(model), weakref.ref(regularizer)]
    del model, regularizer
    gc.collect()
    assert [end() for end in ends] == [None, None]

"""attach: every kind of step gets MMA's gradient once, at the place that docs/python.md states.

The reference is a training with the paper's formula as a term of the loss, without the package.
"""

import gc
import weakref

import mma
import pytest
import torch
from reference import minimal_angle
from torch import nn


def network(dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 4)).to(dtype)


def batches(count, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(5, 6, generator=generator, dtype=torch.float64).to(dtype) for _ in range(count)]


def data_loss(model, x):
    return model(x).square().mean()


def mma_loss(model, coefficient):
    return coefficient * (minimal_angle(model[0].weight) + minimal_angle(model[2].weight))


def train_by_formula(model, optimizer, coefficient, steps=3, dtype=torch.float64):
    for x in batches(steps, dtype):
        optimizer.zero_grad()
        (data_loss(model, x) + mma_loss(model, coefficient)).backward()
        optimizer.step()


def train(model, optimizer, steps=3, dtype=torch.float64):
    for x in batches(steps, dtype):
        optimizer.zero_grad()
        data_loss(model, x).backward()
        optimizer.step()


def assert_same_weights(model, other, atol=1e-9):
    for p, q in zip(model.parameters(), other.parameters()):
        torch.testing.assert_close(p, q, rtol=0, atol=atol)


OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3, foreach=False),
    "SGD, foreach": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, foreach=True),
    "SGD, fused": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=True),
    "Adam, foreach": lambda p: torch.optim.Adam(p, lr=0.01, foreach=True),
    "AdamW, fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
}


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_a_step_is_that_of_the_formula_in_the_loss(name):
    model, other = network(), network()
    optimizer = OPTIMIZERS[name](model.parameters())
    attachment = mma.attach(model, optimizer, coefficient=0.5)
    train(model, optimizer)
    train_by_formula(other, OPTIMIZERS[name](other.parameters()), 0.5)
    assert_same_weights(model, other)
    assert attachment.loss.item() < 0 and not attachment.loss.requires_grad


def test_detach_undoes_it():
    model, other = network(), network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    mma.attach(model, optimizer, coefficient=0.5).detach()
    train(model, optimizer)
    train_by_formula(other, torch.optim.SGD(other.parameters(), lr=0.1), 0.0)
    assert_same_weights(model, other)


def test_several_backward_passes_before_a_step_add_it_once():
    model, other = network(), network()
    optimizer, its = (torch.optim.SGD(m.parameters(), lr=0.1) for m in (model, other))
    mma.attach(model, optimizer, coefficient=0.5)
    for x in batches(3):
        data_loss(model, x).backward()
        data_loss(other, x).backward()
    mma_loss(other, 0.5).backward()
    optimizer.step()
    its.step()
    assert_same_weights(model, other)


def test_clipping_before_the_step_does_not_see_it():
    model, other = network(), network()
    optimizer, its = (torch.optim.SGD(m.parameters(), lr=0.1) for m in (model, other))
    mma.attach(model, optimizer, coefficient=5.0)
    (x,) = batches(1)
    data_loss(model, x).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    optimizer.step()
    data_loss(other, x).backward()
    nn.utils.clip_grad_norm_(other.parameters(), 1e-3)
    mma_loss(other, 5.0).backward()
    its.step()
    assert_same_weights(model, other)


def test_by_hand_it_is_clipped_with_the_rest():
    model, other = network(), network()
    optimizer, its = (torch.optim.SGD(m.parameters(), lr=0.1) for m in (model, other))
    (x,) = batches(1)
    data_loss(model, x).backward()
    mma.Regularizer(model, coefficient=5.0).accumulate_gradient()
    nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    optimizer.step()
    (data_loss(other, x) + mma_loss(other, 5.0)).backward()
    nn.utils.clip_grad_norm_(other.parameters(), 1e-3)
    its.step()
    assert_same_weights(model, other)


@pytest.mark.parametrize("unscaled_before", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_under_a_grad_scaler_the_step_is_the_same(fused, unscaled_before):
    model, other = network(torch.float32), network(torch.float32)
    make = lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, fused=fused)  # noqa: E731
    optimizer = make(model)
    mma.attach(model, optimizer, coefficient=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for x in batches(3, torch.float32):
        optimizer.zero_grad()
        scaler.scale(data_loss(model, x)).backward()
        if unscaled_before:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
    train_by_formula(other, make(other), 0.5, dtype=torch.float32)
    assert_same_weights(model, other, atol=2e-6)


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_the_scaler_skips_changes_nothing(fused):
    model, other = network(torch.float32), network(torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
    mma.attach(model, optimizer)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(data_loss(model, batches(1, torch.float32)[0]) * float("inf")).backward()
    scaler.step(optimizer)
    assert_same_weights(model, other, atol=0)


def test_only_what_the_optimizer_steps_may_be_regularized():
    model = network()
    optimizer = torch.optim.SGD(model[0].parameters(), lr=0.1)
    with pytest.raises(ValueError, match="^mma: the weight of layer '2' is not among the optimizer's parameters; .*exclude='2'"):
        mma.attach(model, optimizer)
    before = model[2].weight.clone()
    mma.attach(model, optimizer, exclude="2")
    optimizer.step()
    assert torch.equal(model[2].weight, before) and model[2].weight.grad is None


def test_a_regularizer_of_ones_own_and_a_parametrized_layer():
    model = network()
    nn.utils.parametrizations.weight_norm(model[0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    regularizer = mma.Regularizer(model, coefficient=0.5)
    originals = list(model[0].parametrizations.parameters())
    expected = [p - 0.1 * g for p, g in zip(originals, torch.autograd.grad(mma_loss(model, 0.5), originals))]
    assert mma.attach(regularizer, optimizer).regularizer is regularizer
    with torch.no_grad():
        optimizer.step()
    for p, q in zip(originals, expected):
        torch.testing.assert_close(p.detach(), q.detach(), rtol=0, atol=1e-9)


def test_what_cannot_be_is_told():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(TypeError, match="^mma: the optimizer is of type list; expected a torch.optim.Optimizer"):
        mma.attach(model, list(model.parameters()))
    with pytest.raises(ValueError, match="^mma: LBFGS steps by a closure; expected regularizer"):
        mma.attach(model, torch.optim.LBFGS(model.parameters()))
    with pytest.raises(ValueError, match="^mma: attach got a share"):
        mma.attach(model, optimizer, share=(0, 2))
    with pytest.raises(ValueError, match="^mma: attach got a Regularizer and"):
        mma.attach(mma.Regularizer(model), optimizer, coefficient=1.0)
    attachment = mma.attach(model, optimizer)
    for call in (lambda: optimizer.step(lambda: 0.0), lambda: optimizer.step(closure=lambda: 0.0)):
        with pytest.raises(ValueError, match="^mma: the optimizer's step got a closure"):
            call()
    attachment.detach()
    optimizer.step(lambda: 0.0)


def test_nothing_outlives_the_optimizer():
    model = network()
    attachment = mma.attach(model, torch.optim.SGD(model.parameters(), lr=0.1))
    end = weakref.ref(attachment.regularizer)
    del attachment
    gc.collect()
    assert end() is None

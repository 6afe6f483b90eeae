"""Regularizer: which layers count and with what, in step with the module; its report and its state."""

import json
import math

import mma
import pytest
import torch
from mma.functional import weight_rows
from reference import minimal_angle, of_groups
from torch import nn
from torch.nn.utils import parametrizations


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def loss_and_gradients(loss, parameters):
    return loss.detach(), torch.autograd.grad(loss, parameters, allow_unused=True)


def assert_same(ours, expected, parameters):
    (value, gradients), (formula, theirs) = (loss_and_gradients(loss, parameters) for loss in (ours, expected))
    torch.testing.assert_close(value, formula, rtol=0, atol=1e-9)
    for gradient, other in zip(gradients, theirs):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient) if other is None else other, rtol=0, atol=1e-9)


LAYERS = {
    "Linear": (nn.Linear(6, 9), dict()),
    "Conv1d": (nn.Conv1d(4, 6, 3, groups=2), dict(groups=2)),
    "Conv2d": (nn.Conv2d(3, 8, 3), dict()),
    "Conv2d, channels_last": (nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last), dict()),
    "Conv3d": (nn.Conv3d(2, 5, 2), dict()),
    "ConvTranspose1d": (nn.ConvTranspose1d(4, 6, 3), dict(transposed=True)),
    "ConvTranspose2d": (nn.ConvTranspose2d(4, 6, 3, groups=2), dict(transposed=True, groups=2)),
    "ConvTranspose3d": (nn.ConvTranspose3d(3, 5, 2), dict(transposed=True)),
}


@pytest.mark.parametrize("way", ["loss", "accumulate_gradient"])
@pytest.mark.parametrize("name", list(LAYERS))
def test_each_layer_is_eq_6_of_its_rows(name, way):
    layer, layout = LAYERS[name]
    layer = layer.double()
    expected = 0.03 * of_groups(weight_rows(layer.weight, **layout))
    gradient = torch.autograd.grad(expected, layer.weight)[0]
    regularizer = mma.Regularizer(nn.Sequential(nn.ReLU(), layer), coefficient=0.03)
    layer.weight.grad = torch.ones_like(layer.weight)
    value = regularizer()
    if way == "loss":
        value.backward()
    else:
        value = regularizer.accumulate_gradient()
    assert value.item() == pytest.approx(expected.item(), abs=1e-9)
    torch.testing.assert_close(layer.weight.grad, gradient + 1, rtol=0, atol=1e-9)
    assert regularizer.layers == ["1"]


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.block = nn.Sequential(nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4))
        self.lstm = nn.LSTM(4, 5)
        self.fc = nn.Linear(4, 7)
        self.prototypes = nn.Parameter(torch.randn(3, 4))
        self.double()


def rows(module):
    return minimal_angle(module.weight.flatten(1))


def test_scope_patterns_and_coefficients():
    model = Network()
    conv, block, fc = rows(model.conv), rows(model.block[0]), rows(model.fc)
    for options, expected in [
        (dict(), 0.07 * (conv + block + fc)),
        (dict(scope="hidden"), 0.07 * (conv + block)),
        (dict(scope="output"), 0.07 * fc),
        (dict(scope="output", output_layer="block.0"), 0.07 * block),
        (dict(include="block*"), 0.07 * block),
        (dict(exclude=["conv", "f?"]), 0.07 * block),
        (dict(coefficient=1.0, coefficients={"block.*": 0.1, "fc": 0}), conv + 0.1 * block),
        (dict(coefficient=1, minimum_rows=5), conv + fc),
        (dict(share=(0, 1)), 0.07 * (conv + block + fc)),
    ]:
        assert mma.Regularizer(model, **options)().item() == pytest.approx(expected.item(), abs=1e-9), options


def test_shares_of_all_processes_are_the_whole():
    model = Network()
    shares = [mma.Regularizer(model, share=(rank, 3))().item() for rank in range(3)]
    assert sum(shares) / 3 == pytest.approx(0.07 * sum(rows(m).item() for m in (model.conv, model.block[0], model.fc)), abs=1e-9)
    assert len(set(shares)) == 3


def test_ties_freezing_replacing_and_moving_are_seen():
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(4, 5)).double()
    regularizer = mma.Regularizer(model, coefficient=1.0)
    regularizer()
    model[1].weight = model[0].weight
    assert regularizer().item() == pytest.approx((rows(model[0]) + rows(model[2])).item(), abs=1e-9)
    model[2].weight.requires_grad_(False)
    assert regularizer().item() == pytest.approx(rows(model[0]).item(), abs=1e-9)
    model[2] = nn.Linear(4, 3).double()
    model.append(nn.Linear(4, 8).double())
    assert regularizer().item() == pytest.approx((rows(model[0]) + rows(model[2]) + rows(model[3])).item(), abs=1e-9)
    assert regularizer.layers == ["0", "1", "2", "3"]
    model.float()
    assert regularizer().dtype == torch.float32
    model.load_state_dict({name: tensor * 0 + torch.randn_like(tensor) for name, tensor in model.state_dict().items()})
    expected = rows(model[0]) + rows(model[2]) + rows(model[3])
    assert regularizer().item() == pytest.approx(expected.item(), abs=1e-5)


def test_a_shared_module_counts_once():
    layer = nn.Linear(4, 6).double()
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert mma.Regularizer(model, coefficient=1.0)().item() == pytest.approx(rows(layer).item(), abs=1e-9)


def test_the_model_itself_may_be_a_layer_or_wrapped():
    layer = nn.Linear(4, 6).double()
    assert mma.Regularizer(layer, coefficient=1.0)().item() == pytest.approx(rows(layer).item(), abs=1e-9)
    assert mma.Regularizer(layer).layers == ["(module)"]
    model = Network()
    for wrapped in (torch.compile(model), nn.DataParallel(model)):
        assert mma.Regularizer(wrapped).layers == ["conv", "block.0", "fc"]


def test_tensors_by_hand():
    model, prototypes = Network(), nn.Parameter(torch.randn(5, 3, dtype=torch.float64))
    regularizer = mma.Regularizer(model, coefficient=1.0, include="fc")
    regularizer.add("lstm", lambda: model.lstm.weight_hh_l0).add("prototypes", prototypes, coefficient=0.25)
    expected = rows(model.fc) + minimal_angle(model.lstm.weight_hh_l0) + 0.25 * minimal_angle(prototypes)
    assert_same(regularizer(), expected, [model.fc.weight, model.lstm.weight_hh_l0, prototypes])
    alone = mma.Regularizer(coefficient=2.0).add("t", prototypes)
    assert alone().item() == pytest.approx(2 * minimal_angle(prototypes).item(), abs=1e-9)
    transposed = mma.Regularizer(coefficient=1.0).add("t", prototypes, transposed=True)
    assert transposed().item() == pytest.approx(minimal_angle(prototypes.T).item(), abs=1e-9)


def test_a_module_type_of_ones_own():
    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            self.kernel = nn.Parameter(torch.randn(4, 6, dtype=torch.float64))

    model = nn.Sequential(Dense())
    assert [m["name"] for m in mma.Regularizer(model).report().left_out] == ["0.kernel"]
    mma.register_layer(Dense, lambda layer: layer.kernel, transposed=True)
    regularizer = mma.Regularizer(model, coefficient=1.0)
    assert regularizer().item() == pytest.approx(minimal_angle(model[0].kernel.T).item(), abs=1e-9)
    assert regularizer.report().left_out == []


@pytest.mark.parametrize("parametrization", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_computed_weights_give_their_gradient_to_what_they_are_computed_from(parametrization):
    layer = nn.Linear(4, 6).double().eval()
    parametrization(layer)
    parameters = list(layer.parametrizations.parameters())
    regularizer = mma.Regularizer(nn.Sequential(layer), coefficient=1.0)
    expected = torch.autograd.grad(rows(layer), parameters, allow_unused=True)
    regularizer.accumulate_gradient(scale=2)
    for parameter, gradient in zip(parameters, expected):
        torch.testing.assert_close(parameter.grad, 2 * gradient, rtol=0, atol=1e-9)
    with torch.no_grad():
        assert regularizer().item() == pytest.approx(rows(layer).item(), abs=1e-9)
    assert regularizer.report().left_out == []


@pytest.mark.parametrize("objective", [mma.RieszFisher(s=1), mma.Orthogonal(), mma.DoubleSoftOrthogonality()], ids=str)
def test_the_objective_that_is_given_is_taken(objective):
    model = Network()
    expected = sum(mma.functional.loss(m.weight.flatten(1), objective) for m in (model.conv, model.block[0], model.fc))
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients):
            assert mma.Regularizer(model, objective, coefficient=1)().item() == pytest.approx(expected.item(), rel=1e-9)
    assert mma.Regularizer(model, objective, coefficient=1).accumulate_gradient().item() == pytest.approx(expected.item(), rel=1e-9)


def test_refresh_every_keeps_neighbours_until_the_next_search():
    # Three rows: the second is the first one's nearest, until the third comes nearer.
    weight = nn.Parameter(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], dtype=torch.float64))
    regularizer = mma.Regularizer(coefficient=1.0, refresh_every=2).add("rows", weight)
    regularizer()
    weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1]], dtype=torch.float64)
    kept, near = math.pi / 2, math.atan2(0.1, 0.9)
    # Neighbours kept: of the first the second, of the second the first, of the third the second.
    assert regularizer().item() == pytest.approx(-(kept + kept + (kept - near)) / 3, abs=1e-9)
    assert regularizer().item() == pytest.approx(minimal_angle(weight).item(), abs=1e-9)


def test_state_goes_on_where_it_was():
    model = Network()
    regularizer = mma.Regularizer(model, mma.Sampled(share=0.5))
    for _ in range(3):
        regularizer()
    state = regularizer.state_dict()
    other = mma.Regularizer(model, mma.Sampled(share=0.5))
    other.load_state_dict(state)
    assert other().item() == regularizer().item()
    with pytest.raises(ValueError, match="mma: the regularizer's state has no 'step'"):
        other.load_state_dict({})


def test_report():
    model = Network()
    model.block[0].weight.requires_grad_(False)
    report = mma.Regularizer(model, include=["conv", "block.*"]).report(histogram_bins=4)
    assert report.layers == json.loads(report.json())["layers"]
    by_name = {layer["name"]: layer for layer in report.layers}
    assert list(by_name) == ["conv", "block.0"]
    assert by_name["conv"]["mean_nearest_angle_degrees"] == pytest.approx(-math.degrees(rows(model.conv).item()), abs=1e-6)
    assert by_name["conv"]["simplex_bound_degrees"] == pytest.approx(math.degrees(math.acos(-1 / 5)))
    assert sum(by_name["conv"]["cosine_histogram"]) == 15
    assert by_name["block.0"]["note"] == "frozen"
    left_out = {matrix["name"]: matrix["module"] for matrix in report.left_out}
    assert left_out["prototypes"] == "Network" and left_out["lstm.weight_ih_l0"] == "LSTM" and "fc.weight" not in left_out
    assert "frozen" in str(report) and "angles in degrees" in str(report) and "::" not in str(report)


def test_parameters_beside_a_layers_weight_are_left_out_by_the_layers_name():
    class WithAdapter(nn.Linear):
        def __init__(self):
            super().__init__(4, 6)
            self.adapter = nn.Parameter(torch.randn(2, 4))

    report = mma.Regularizer(nn.Sequential(WithAdapter())).report()
    assert [(m["name"], m["module"]) for m in report.left_out] == [("0.adapter", "WithAdapter")]


def test_report_as_a_data_frame():
    pandas = pytest.importorskip("pandas")
    frame = mma.Regularizer(Network()).report().to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.index) == ["conv", "block.0", "fc"] and frame.loc["fc", "rows"] == 7


def test_layer_losses():
    model = Network()
    losses = mma.Regularizer(model, coefficient=5.0).layer_losses()
    assert losses["block.0"].item() == pytest.approx(rows(model.block[0]).item(), abs=1e-9)


def test_inference_mode_leaves_no_trace():
    model = Network()
    regularizer = mma.Regularizer(model)
    with torch.inference_mode():
        before = regularizer().item()
        regularizer.report()
    loss = regularizer()
    loss.backward()
    assert loss.item() == before and model.fc.weight.grad is not None


def test_a_model_without_layers_warns_in_pythons_way():
    with pytest.warns(UserWarning, match="mma: the module has no layer of a known type"):
        assert mma.Regularizer(nn.BatchNorm1d(3))().item() == 0
    with pytest.warns(UserWarning, match="mma: the options choose none"):
        mma.Regularizer(Network(), exclude="*")()


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        (dict(include="blok.*"), ValueError, "the pattern 'blok.*' of include matches no layer; expected one that matches a name such as 'conv'"),
        (dict(coefficients={"x": 1.0}), ValueError, "the pattern 'x' of coefficient matches no layer"),
        (dict(coefficient=float("nan")), ValueError, "the coefficient is NaN; expected a finite number"),
        (dict(scope="hiden"), ValueError, "the scope is 'hiden'; expected 'all', 'hidden' or 'output'"),
        (dict(output_layer="head"), ValueError, "the output layer 'head' is not among the module's 3 layers"),
        (dict(minimum_rows=0), ValueError, "minimum_rows is 0; expected 1 or more"),
        (dict(refresh_every=0), ValueError, "refresh_every is 0; expected 1 or more"),
        (dict(share=(2, 2)), ValueError, r"share is \(2, 2\); expected a rank from 0 to world_size - 1"),
        (dict(objective="mma"), TypeError, "the objective is 'mma'; expected one of mma.objectives"),
        (dict(model=[1]), TypeError, "the model is of type list; expected a torch.nn.Module"),
    ],
)
def test_wrong_arguments_are_told(arguments, error, words):
    with pytest.raises(error, match="^mma: .*" + words.replace("*", r"\*") if "*" in words else "^mma: .*" + words) as told:
        mma.Regularizer(**{"model": Network(), **arguments})
    assert "\n" not in str(told.value)


def test_wrong_layers_are_told():
    with pytest.raises(ValueError, match="^mma: layer '0' has no weight yet; expected one forward pass"):
        mma.Regularizer(nn.Sequential(nn.LazyLinear(3)))
    with pytest.raises(ValueError, match=r"^mma: layer 'b' has a weight of shape \[4\]"):
        mma.Regularizer().add("b", torch.ones(4))
    with pytest.raises(TypeError, match="^mma: layer 'b' has a weight of type int; expected a torch.Tensor"):
        mma.Regularizer().add("b", lambda: 3)
    with pytest.raises(TypeError, match="^mma: register_layer got 3; expected a class that derives from torch.nn.Module"):
        mma.register_layer(3, lambda layer: layer.weight)

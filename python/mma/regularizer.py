"""Regularizer: MMA over the layers of a module, as a term of the loss or as a gradient that is added."""

from __future__ import annotations

from typing import Any, Callable, Mapping, Optional, Sequence, TypedDict, Union

import torch
from torch import Tensor, nn

from . import _C, _operators, _walk
from .objectives import MinimalAngle, Objective
from .report import Report

Patterns = Union[str, Sequence[str]]
_SCOPES = ("all", "hidden", "output")


class Options(TypedDict, total=False):
    """The keyword arguments of Regularizer and attach."""

    coefficient: float
    coefficients: Mapping[str, float]
    scope: str
    output_layer: str
    include: Patterns
    exclude: Patterns
    minimum_rows: int
    across_groups: bool
    refresh_every: int
    concurrent: bool
    share: Optional[tuple[int, int]]


class Regularizer:
    """The sum over a module's layers of coefficient * objective(rows of the layer) (Eq 13 of the paper).

    Layers are Linear, Conv1d/2d/3d, ConvTranspose1d/2d/3d, types that derive from them, and those of register_layer();
    a row is a neuron or filter, of a ConvTranspose an output channel. Grouped filters are compared within their group.
    Tied weights count once; frozen ones, and layers with fewer than two rows, are in the report but not in the loss.
    Layers that are replaced, frozen, tied or moved are seen at the next call.

    model         a torch.nn.Module, compiled or data-parallel too; None for tensors given to add() alone
    objective     MinimalAngle() or another of mma.objectives
    coefficient   lambda of every layer; the paper's 0.07 for VGG, 0.03 with skip connections
    coefficients  others by shell pattern on a layer's dotted name: {"layer1.*": 0.1}; the last that matches counts
    scope         "all", "hidden" (all but the output layer) or "output" (the last Linear, or output_layer)
    include, exclude  patterns; a pattern that matches no layer is a ValueError
    minimum_rows  layers with fewer rows are left out of the loss
    across_groups compares all filters of a grouped convolution
    refresh_every searches the nearest rows every so many calls and keeps them in between
    concurrent    on a GPU, start() before the forward pass searches on a stream of its own
    share         (rank, world_size): this process takes its share of the layers, times world_size, so that the mean of
                  the processes' gradients is the whole one; for a term of the loss under DistributedDataParallel
    """

    def __init__(
        self,
        model: Optional[nn.Module] = None,
        objective: Objective = MinimalAngle(),
        *,
        coefficient: float = 0.07,
        coefficients: Optional[Mapping[str, float]] = None,
        scope: str = "all",
        output_layer: str = "",
        include: Patterns = (),
        exclude: Patterns = (),
        minimum_rows: int = 2,
        across_groups: bool = False,
        refresh_every: int = 1,
        concurrent: bool = False,
        share: Optional[tuple[int, int]] = None,
    ) -> None:
        if model is not None and not isinstance(model, nn.Module):
            raise TypeError(f"mma: the model is of type {type(model).__name__}; expected a torch.nn.Module.")
        if not isinstance(objective, Objective):
            raise TypeError(f"mma: the objective is {objective!r}; expected one of mma.objectives, such as MinimalAngle().")
        if scope not in _SCOPES:
            raise ValueError(f"mma: the scope is {scope!r}; expected 'all', 'hidden' or 'output'.")
        self._arguments: dict[str, Any] = dict(
            coefficient=coefficient,
            coefficients=dict(coefficients or {}),
            scope=scope,
            output_layer=output_layer,
            include=_listed(include),
            exclude=_listed(exclude),
            minimum_rows=minimum_rows,
            across_groups=across_groups,
            refresh_every=refresh_every,
            concurrent=concurrent,
            share=share,
        )
        self.objective = objective
        self._model = None if model is None else _walk.unwrapped(model)
        self._added: list[_walk.LayerWeight] = []
        self._add_arguments: list[tuple[Any, ...]] = []
        self._look_at_module()
        name, numbers = objective._spec()
        numbers = [float(number) for number in numbers]
        self._engine = _C.Regularizer(self._nodes, self._shapes(), self._options(), name, numbers)
        self._key = self._engine.key
        self._choose()

    # --- what a training calls ---------------------------------------------------------------------------------------

    def __call__(self) -> Tensor:
        """The loss, a scalar in radians times coefficients, differentiable twice. After model(x), not before, where the
        forward pass computes a weight."""
        weights = self._weights()
        if not weights:
            return self._engine.accumulate_gradient([], 1.0)  # warns
        trained = [weight.requires_grad for weight in weights]
        gradient = torch.is_grad_enabled() and any(trained)
        loss: Tensor = _operators.regularizer(weights, trained, self._key, gradient)[0]
        return loss

    def accumulate_gradient(self, scale: float = 1.0) -> Tensor:
        """Adds scale * gradient to each weight's .grad, as (scale * regularizer()).backward() would, without a graph
        and without copies; returns the loss. After the main loss's backward(), before the optimizer's step."""
        weights = self._weights()
        if all(weight.is_leaf for weight in weights):
            return self._engine.accumulate_gradient(weights, scale)
        with torch.enable_grad():  # a parametrization, or shards that were gathered
            loss = self()
            (loss * scale).backward()  # type: ignore[no-untyped-call,unused-ignore]
        return loss.detach()

    def start(self) -> None:
        """Before the forward pass, with concurrent=True on a GPU: the search of the next call begins beside it."""
        self._engine.start(self._weights())

    def add(
        self,
        name: str,
        weight: Union[Tensor, Callable[[], Tensor]],
        *,
        transposed: bool = False,
        groups: int = 1,
        coefficient: Optional[float] = None,
    ) -> Regularizer:
        """Adds a tensor whose rows are to be kept apart, or a function that gives it at each call: an RNN's weight, an
        embedding, prototypes. Scope and patterns do not apply; coefficient defaults to the Regularizer's."""
        layer = _walk.LayerWeight(name, weight, _called if callable(weight) else _itself)
        self._engine.add(name, layer.now(), transposed, groups, coefficient)
        self._added.append(layer)
        self._add_arguments.append((name, weight, transposed, groups, coefficient))
        self._choose()
        return self

    # --- what a person asks ------------------------------------------------------------------------------------------

    @property
    def layers(self) -> list[str]:
        """The names of the layers that the options choose, then of what was added."""
        self._follow_module()
        return self._engine.names()

    def report(self, cosine_threshold: float = 0.2, histogram_bins: int = 0) -> Report:
        """The angles of every layer, why one is not in the loss, and the matrices that no rule takes. Pairs of rows
        whose cosine is above the threshold are counted; histogram_bins > 0 adds a histogram of all cosines."""
        self._follow_module()
        with torch.enable_grad():
            weights = [layer.now() for layer in self._found + self._added]
        parameters = [
            (number, name, parameter)
            for number, (_, module) in enumerate(self._tree)
            for name, parameter in _walk.parameters_of(module)
        ]
        return Report(*self._engine.report(weights, parameters, cosine_threshold, histogram_bins))

    def layer_losses(self) -> dict[str, Tensor]:
        """The objective of each layer without its coefficient and without a graph; 0 for one that does not count."""
        return dict(self._engine.layer_losses(self._weights()))

    def state_dict(self) -> dict[str, Tensor]:
        """What a resumed training needs to go on bit for bit: the step, neighbours that are kept, random draws."""
        return self._engine.state()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from state_dict(), for the same layers."""
        self._engine.load_state(dict(state))

    def __repr__(self) -> str:
        return f"Regularizer({self.objective}, coefficient={self._arguments['coefficient']}, layers={len(self.layers)})"

    # --- in step with the module -------------------------------------------------------------------------------------

    def _weights(self) -> list[Tensor]:
        """Those of the layers that are chosen. A compiled step keeps the layers that it was compiled with."""
        if not torch.compiler.is_compiling():
            self._follow_module()
        if self._arguments["share"] is not None and any(layer.is_sharded() for layer in self._chosen):
            raise ValueError(
                "mma: share was given for weights that FSDP shards, whose gradients are not averaged over the processes; "
                "expected no share, each process computes the whole."
            )
        with torch.enable_grad():  # a computed weight is not frozen because the caller needs no graph
            return [layer.now() for layer in self._chosen]

    def _follow_module(self) -> None:
        if self._model is None:
            return
        now = list(self._model.named_modules(remove_duplicate=False))
        same = len(now) == len(self._tree) and all(
            a[1] is b[1] and a[0] == b[0] for a, b in zip(now, self._tree, strict=True)
        )
        if not same:
            self._look_at_module()
            self._engine.set_modules(self._nodes, self._shapes())
            self._choose()

    def _look_at_module(self) -> None:
        self._tree = [] if self._model is None else list(self._model.named_modules(remove_duplicate=False))
        self._nodes: list[tuple[str, str, str, bool, int]] = []
        self._found: list[_walk.LayerWeight] = []
        for name, module in self._tree:
            rule = _walk.rule_of(module)
            kind, transposed, groups = ("", False, 1)
            if rule is not None:
                kind, transposed, groups = rule.kind, rule.transposed(module), rule.groups(module)
                self._found.append(_walk.LayerWeight(name or "(module)", module, rule.read))
            self._nodes.append((name, type(module).__name__, kind, transposed, groups))

    def _choose(self) -> None:
        layers = self._found + self._added
        self._chosen = [layers[number] for number in self._engine.chosen()]

    def _shapes(self) -> list[Tensor]:
        with torch.enable_grad():
            return [layer.shape() for layer in self._found + self._added]

    def _options(self) -> _C.Options:
        arguments = self._arguments
        options = _C.Options()
        for name in ("coefficient", "scope", "output_layer", "minimum_rows", "across_groups", "refresh_every", "concurrent"):
            getattr(options, name)(arguments[name])
        for pattern, value in arguments["coefficients"].items():
            options.coefficient_of(pattern, value)
        for pattern in arguments["include"]:
            options.include(pattern)
        for pattern in arguments["exclude"]:
            options.exclude(pattern)
        if arguments["share"] is not None:
            options.share(*arguments["share"])
        return options

    # --- pickle and copy ---------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return dict(
            model=self._model,
            objective=self.objective,
            arguments=self._arguments,
            added=self._add_arguments,
            state=self.state_dict(),
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__["_saved"] = state

    def __getattr__(self, name: str) -> Any:
        """Made at the first use: a module that holds its own Regularizer is not whole before."""
        state = self.__dict__.pop("_saved", None)
        if state is None:
            raise AttributeError(f"'Regularizer' object has no attribute '{name}'")
        Regularizer.__init__(self, state["model"], state["objective"], **state["arguments"])
        for added, weight, transposed, groups, coefficient in state["added"]:
            self.add(added, weight, transposed=transposed, groups=groups, coefficient=coefficient)
        self.load_state_dict(state["state"])
        return getattr(self, name)


def _listed(patterns: Patterns) -> list[str]:
    return [patterns] if isinstance(patterns, str) else list(patterns)


def _itself(weight: Tensor) -> Tensor:
    return weight


def _called(weight: Callable[[], Tensor]) -> Tensor:
    return weight()

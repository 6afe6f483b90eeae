"""From a torch.nn.Module to what the extension is told of it: its modules, and how the weight of a layer is read.

Which layers count, ties, scopes, patterns and shares are the library's to decide, not this file's.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, TypeVar, Union

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

Read = Callable[[Any], Tensor]
M = TypeVar("M", bound=nn.Module)


class Rule(NamedTuple):
    """How a module type is a layer."""

    read: Read
    kind: str
    transposed: Callable[[Any], bool]
    groups: Callable[[Any], int]


def _weight(module: Any) -> Tensor:
    weight: Tensor = module.weight
    return weight


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_built_in: list[tuple[Any, Rule]] = [
    (nn.Linear, Rule(_weight, "linear", lambda module: False, lambda module: 1)),
    (_CONVOLUTIONS, Rule(_weight, "layer", lambda module: module.transposed, lambda module: module.groups)),
]
_registered: list[tuple[Any, Rule]] = []


def register_layer(
    module_type: type[M],
    read: Callable[[M], Tensor],
    *,
    transposed: bool = False,
    groups: Union[int, Callable[[M], int]] = 1,
) -> None:
    """From now on a module of this type, or of one that derives from it, is a layer of every Regularizer that is made.

    read gives its weight, of two or more dimensions: mma.register_layer(MyDense, lambda layer: layer.kernel). A row is
    weight[i], with transposed=True weight[:, i]; rows of different groups are not compared. Goes before the rules of
    torch's own layers and those registered earlier; a second rule for a type takes the place of the first.
    """
    if not (isinstance(module_type, type) and issubclass(module_type, nn.Module)):
        raise TypeError(f"mma: register_layer got {module_type!r}; expected a class that derives from torch.nn.Module.")
    count = groups if callable(groups) else (lambda module: groups)
    _registered[:] = [entry for entry in _registered if entry[0] is not module_type]
    _registered.insert(0, (module_type, Rule(read, "layer", lambda module: transposed, count)))


def rule_of(module: nn.Module) -> Union[Rule, None]:
    for types, rule in _registered + _built_in:
        if isinstance(module, types):
            return rule
    return None


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself below torch.compile and data parallelism, so that its layers keep their names."""
    while True:
        if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod  # type: ignore[assignment]
        else:
            return model


def parameters_of(module: nn.Module) -> list[tuple[str, Tensor]]:
    """The module's own parameters of two or more dimensions; not those that a parametrization computes a weight from."""
    if isinstance(module, ParametrizationList):
        return []
    own = module.named_parameters(recurse=False)
    return [(name, _told(p)) for name, p in own if not isinstance(p, _NOT_READY) and p.dim() >= 2]


_NOT_READY = (nn.parameter.UninitializedParameter,)


def _told(tensor: Tensor) -> Tensor:
    """For the extension, which has no use for the rows of a sharded tensor: one of the same shape without memory."""
    plain = type(tensor) in (Tensor, nn.Parameter)
    if plain:
        return tensor
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta", requires_grad=tensor.requires_grad)


class LayerWeight(NamedTuple):
    """A layer, or a tensor added by hand."""

    name: str
    source: Any
    read: Read

    def now(self) -> Tensor:
        """The weight of this moment; all rows of one that FSDP shards, gathered, with a graph to the shards."""
        weight = self.read(self.source)
        if isinstance(weight, _NOT_READY):
            raise ValueError(f"mma: layer '{self.name}' has no weight yet; expected one forward pass of a lazy layer before.")
        if not isinstance(weight, Tensor):
            kind = type(weight).__name__
            raise TypeError(f"mma: layer '{self.name}' has a weight of type {kind}; expected a torch.Tensor.")
        gather: Any = getattr(weight, "full_tensor", None)  # of a DTensor
        whole: Tensor = weight if gather is None else gather()
        return whole

    def is_sharded(self) -> bool:
        return hasattr(self.read(self.source), "full_tensor")

    def shape(self) -> Tensor:
        """Enough for the walk: the weight, where it is sharded one without memory."""
        weight = self.read(self.source)
        if isinstance(weight, _NOT_READY) or not isinstance(weight, Tensor):
            return self.now()
        return _told(weight)


"""What a model has that can be swapped: activation and norm modules, functions kept as attributes, and functional calls."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU, "relu6": nn.ReLU6, "gelu": nn.GELU, "silu": nn.SiLU, "mish": nn.Mish, "elu": nn.ELU, "selu": nn.SELU, "celu": nn.CELU,
    "leaky_relu": nn.LeakyReLU, "prelu": nn.PReLU, "rrelu": nn.RReLU, "hardswish": nn.Hardswish, "hardsigmoid": nn.Hardsigmoid,
    "hardtanh": nn.Hardtanh, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "softplus": nn.Softplus, "softsign": nn.Softsign, "logsigmoid": nn.LogSigmoid,
    "tanhshrink": nn.Tanhshrink, "softshrink": nn.Softshrink, "hardshrink": nn.Hardshrink, "threshold": nn.Threshold,
}  # fmt: skip
OVER_AN_AXIS: dict[str, type[nn.Module]] = {"softmax": nn.Softmax, "log_softmax": nn.LogSoftmax, "softmin": nn.Softmin, "glu": nn.GLU}
NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_LOOKS_LIKE_ACTIVATION = re.compile(r"(relu\d?|[gs]elu\w*|silu|swish|mish|sigmoid|tanh|elu|softplus|activation)(me|act)?$", re.IGNORECASE)


def _functions() -> dict[Callable[..., Any], type[nn.Module]]:
    found: dict[Callable[..., Any], type[nn.Module]] = {}
    for name, kind in {**ACTIVATIONS, **OVER_AN_AXIS}.items():
        for home in (F, torch, Tensor):
            for text in (name, f"{name}_"):
                if hasattr(home, text) and text not in ("prelu", "rrelu"):
                    found.setdefault(getattr(home, text), kind)
    return found


FUNCTIONS = _functions()  # F.relu, torch.relu, torch.relu_, Tensor.relu, ...: the module that does the same
METHODS = {name: kind for base, kind in {**ACTIVATIONS, **OVER_AN_AXIS}.items() for name in (base, f"{base}_") if hasattr(Tensor, name)}


class Function(nn.Module):
    """A functional call as a module, so that it can be watched and replaced: `f(x, *args, **kwargs)`."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.function, self.args, self.kwargs = function, args, kwargs or {}

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.function(x, *self.args, **self.kwargs)
        return y


@dataclass(eq=False)
class Slot:
    """A place for a layer, or several places of one module. `why` says why nothing can be put there, empty where it can."""

    names: list[str]
    kind: str  # activation | norm | norm_act | axis | other
    how: str  # module | attribute | call
    old: nn.Module  # the module; of an attribute or call the function as a module
    type: type  # the module's, or the type of module that does what the function does
    label: str  # `nn.ReLU`, `F.relu`
    channels: int | None = None
    dim: int = 1  # where the channels are
    where: str = ""  # file:line of a call
    owner: str = ""  # the module whose forward makes the call
    index: int = 0  # of a call, its number in that forward
    sites: int = 1  # how often the model calls it, where that can be seen
    aliased: bool = False  # it writes into its input, which is read again afterwards
    why: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its name in tables: the first of `names`."""
        return self.names[0]

    def note(self, text: str) -> None:
        """Adds a remark once."""
        if text and text not in self.notes:
            self.notes.append(text)


def label(kind: type) -> str:
    """`nn.ReLU` for a layer of torch, `timm...LayerNorm2d` for another as its class and module say."""
    if getattr(nn, kind.__name__, None) is kind:
        return f"nn.{kind.__name__}"
    return kind.__name__


def modules(model: nn.Module) -> list[Slot]:
    """The slots that are modules or functions kept as attributes, in the model's order; one module at several places is one slot."""
    found: dict[int, Slot] = {}
    inside: set[str] = set()  # of a norm with its own activation, its parts
    for name, module in model.named_modules(remove_duplicate=False):
        for key, value in list(vars(module).items()):
            kind = FUNCTIONS.get(value) if callable(value) and not key.startswith("_") and _hashable(value) else None
            if kind is not None:
                path = f"{name}.{key}" if name else key
                text = f"F.{getattr(value, '__name__', '?')}"
                group = "activation" if kind in ACTIVATIONS.values() else "axis"
                found[id(value), path] = Slot([path], group, "attribute", Function(value), kind, text, owner=name)  # type: ignore[index]
        group = kind_of(module)
        if not name or not group or any(name.startswith(f"{outer}.") for outer in inside):
            continue
        if group == "norm_act":
            inside.add(name)
        if id(module) in found:
            found[id(module)].names.append(name)
            continue
        kind = type_before_parametrizations(module)
        slot = Slot([name], group, "module", module, kind, label(kind))
        _describe(slot)
        found[id(module)] = slot
    return list(found.values())


def _hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def kind_of(module: nn.Module) -> str:
    """`activation`, `norm`, `norm_act`, `axis` (softmax, glu), or nothing. Classes that are not torch's are known by base or name."""
    kind = type_before_parametrizations(module)
    if isinstance(module, NORMS) or "Norm" in kind.__name__:
        act = getattr(module, "act", None)
        if isinstance(act, nn.Module) and not isinstance(act, nn.Identity):
            return "norm_act"  # timm's BatchNormAct2d
        tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        return "norm" if isinstance(module, NORMS) or (tensors and not list(module.children())) else ""
    if isinstance(module, (*OVER_AN_AXIS.values(), nn.Softmax2d)):
        return "axis"
    if isinstance(module, tuple(ACTIVATIONS.values())):
        return "activation"
    few = not list(module.children()) and sum(1 for _ in module.parameters()) <= 2
    return "activation" if few and not kind.__module__.startswith("torch.") and _LOOKS_LIKE_ACTIVATION.search(kind.__name__) else ""


def _describe(slot: Slot) -> None:
    """Its channels, where the module says them, and what makes it impossible to replace."""
    module = slot.old
    shape = getattr(module, "normalized_shape", None)
    if isinstance(shape, (tuple, list, torch.Size)):
        slot.channels, slot.dim = int(shape[0]), 1 if "2d" in type(module).__name__ else -1
        if len(shape) > 1:
            slot.why = f"it normalizes over {tuple(shape)} with a weight for each element; only one axis of channels can be carried over"
    else:
        count = next((n for key in ("num_features", "num_channels") if isinstance(n := getattr(module, key, None), int)), None)
        weight = getattr(module, "weight", None)
        if isinstance(module, nn.modules.lazy.LazyModuleMixin) and count == 0:
            slot.why = "it does not know its channels yet; run one batch through the model first"
        elif count is None and slot.kind in ("norm", "norm_act") and isinstance(weight, Tensor) and weight.dim() == 1:
            count, slot.dim = len(weight), 1 if "2d" in type(module).__name__ else -1
        slot.channels = count
    if isinstance(module, nn.PReLU) and module.num_parameters > 1:
        slot.channels = module.num_parameters


def state_of(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The module's own parameters and buffers."""
    yield from module.named_parameters(recurse=False)
    yield from module.named_buffers(recurse=False)

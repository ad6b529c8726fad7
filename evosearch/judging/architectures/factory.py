"""A model of the user's, which a pair names as `module:function`: an installed module's, or a plug-in file's.

    def net(make_layer, inputs, outputs, width=32):     # my_models.py: textures/my_models:net, with --plugin my_models.py
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(inputs), width), make_layer(width), nn.Linear(width, outputs))

The module is imported where models are built and tried, and nowhere else.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from torch import Tensor, nn

from evosearch.judging.architectures.slots import Filler
from evosearch.plugin import loaded

RATE = 3e-3  # with the usual multiples 1/3, 1 and 3: Adam's own 1e-3 up to 1e-2, where small networks of few steps are best


class ModelError(ValueError):
    """A model of the user's cannot be used; one line with the rule, what was received and the likely fix."""


def find(name: str) -> Callable[..., object]:
    """The function that `module:function` names, of a plug-in before an installed module, which is imported. Raises ModelError."""
    module, function = _module(name), name.partition(":")[2]
    found: Callable[..., object] | None = getattr(module, function, None)
    if not callable(found):
        there = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        close = difflib.get_close_matches(function, there, n=1)
        raise ModelError(f"`{name.partition(':')[0]}` has no function `{function}`; " + (f"did you mean `{close[0]}`?" if close else "define it there"))
    return found


def build(name: str, fill: Filler, width: int | None, depth: int | None, sample: Tensor, outputs: int) -> nn.Module:
    """What `function(make_layer, inputs, outputs)` returns; `inputs` is the shape of one input, e.g. `(1, 16, 16)`.

    `width` and `depth` are passed where the pair states them or a network chooses them, as are its other choices; `slot` where the
    function takes it or it is another than `act`. Raises ModelError for a function that cannot be called so, or that returns no module.
    """
    function, inputs, make_layer = find(name), tuple(sample.shape[1:]), fill.make
    options: dict[str, object] = {key: value for key, value in (("width", width), ("depth", depth)) if value is not None}
    twice = [key for key in options if key in fill.choices]
    if twice:
        raise ModelError(f"the model `{name}` is given its {twice[0]} by the pair, and the network chooses it too; leave it out of one of the two")
    options |= fill.choices
    try:
        signature = inspect.signature(function)
        if fill.slot != "act" or "slot" in signature.parameters:
            options["slot"] = fill.slot
        signature.bind(make_layer, inputs, outputs, **options)
    except (TypeError, ValueError) as error:  # ValueError: a function of C without a signature
        call = ", ".join(["make_layer", "inputs", "outputs", *(f"{key}={value!r}" for key, value in options.items())])
        fix = f"; only a model with an argument `slot` is for the slot {fill.slot}" if fill.slot != "act" else ""
        raise ModelError(f"the model `{name}` is called with ({call}), which it does not take: {error}{fix}") from None
    model = function(make_layer, inputs, outputs, **options)
    if not isinstance(model, nn.Module):
        raise ModelError(f"the model `{name}` must return a torch.nn.Module; it returned {type(model).__name__}")
    return model


def base_rate(name: str) -> float:
    """Its learning rate, which a stage's `rates` multiply: what the user has set as `function.rate`, else `RATE`. Raises ModelError."""
    rate = getattr(find(name), "rate", RATE)
    if not isinstance(rate, (int, float)) or not 0 < rate < math.inf:
        raise ModelError(f"the base learning rate of the model `{name}`, its attribute `rate`, is a number above 0; received {rate!r:.40}")
    return float(rate)


def source(name: str) -> bytes:
    """The file of the model's module: what scores depend on. Nothing for a module without a file."""
    file = getattr(_module(name), "__file__", None)
    return Path(file).read_bytes() if file else b""


def _module(name: str) -> ModuleType:
    module = name.partition(":")[0]
    try:
        return loaded(module) or importlib.import_module(module)
    except (Exception, SystemExit) as error:  # whatever a user's module may raise
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
            raise ModelError(f"there is no module `{error.name}` for the model `{name}`; install it, or give its file: --plugin {module}.py") from None
        raise ModelError(f"`{module}`, the module of the model `{name}`, does not import: {type(error).__name__}: {error}") from error

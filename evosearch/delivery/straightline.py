"""A live network as the text of one class: what it was built by is gone, and every layer that is there has its line.

The network is traced symbolically (torch.fx). Modules of torch are written as they print themselves, compiled layers by the class
that the caller names, and everything between them as one statement an operation.
"""

from __future__ import annotations

import ast
import inspect
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import EllipsisType

import torch
from torch import Tensor, fx, nn
from torch.fx.graph import magic_methods
from torch.fx.node import Argument

from evosearch.delivery.place import ExportError

VARIABLES = ("x", "y", "z", "u", "v", "w")


@dataclass(frozen=True)
class Straight:
    """The text of the class, and where in its state each tensor of the network's own state is."""

    text: str
    state: Mapping[str, str]  # the network's name to the class's


class _Tracer(fx.Tracer):
    """Stops at modules of torch and at compiled layers."""

    def __init__(self, layers: Mapping[nn.Module, str]) -> None:
        super().__init__()
        self._layers = layers

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m in self._layers or super().is_leaf_module(m, module_qualified_name)


def straight(model: nn.Module, kind: str, layers: Mapping[nn.Module, str], about: str) -> Straight:
    """The class `kind` that computes what `model` does; `layers` says how each compiled layer is made, e.g. `Act0(16)`.

    Raises ExportError for a network that is no straight line, or that holds what cannot be written down.
    """
    try:
        graph = _Tracer(layers).trace(model)
    except (Exception, RecursionError) as error:  # whatever a user's forward does with a tensor that has no values
        raise ExportError(f"the network is no straight line, its forward depends on values ({str(error)[:160]}); nothing was written") from error
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise ExportError(f"a network of one input is exported; this one takes {len(inputs)}; nothing was written")
    writer = _Writer(model, graph, layers)
    body = writer.body()
    lines = [f"class {kind}(nn.Module):", f'    """{about}"""', "", "    def __init__(self) -> None:", "        super().__init__()"]
    lines += [f"        {line}" for line in writer.made]
    lines += ["", "    def forward(self, x: Tensor) -> Tensor:", *(f"        {line}" for line in body)]
    return Straight("\n".join(lines), writer.state)


class _Writer:
    """Statements of the forward, and the lines that make what they use."""

    def __init__(self, model: nn.Module, graph: fx.Graph, layers: Mapping[nn.Module, str]) -> None:
        self.model, self.graph, self.layers = model, graph, layers
        self.made: list[str] = []
        self.state: dict[str, str] = {}
        self._names: dict[str, str] = {}  # of a module or tensor of the network, the attribute
        self._variables: dict[fx.Node, str] = {}

    def body(self) -> list[str]:
        """The statements. A variable is used again once nothing needs its value."""
        last: dict[fx.Node, fx.Node] = {}
        for node in self.graph.nodes:
            for used in node.all_input_nodes:
                last[used] = node
        lines = []
        for node in self.graph.nodes:
            if node.op == "placeholder":
                self._variables[node] = "x"
            elif node.op == "get_attr":
                self._variables[node] = f"self.{self._tensor(str(node.target))}"
            elif node.op == "output":
                lines.append(f"return {self._text(node.args[0])}")
            elif node in last:
                value = self._value(node)
                self._variables[node] = self._free(node, last)
                lines.append(f"{self._variables[node]} = {value}")
        return lines

    def _free(self, node: fx.Node, last: Mapping[fx.Node, fx.Node]) -> str:
        """The variable of the first input that is needed no more, else a new one."""
        for used in node.all_input_nodes:
            if last[used] is node and not self._variables[used].startswith("self."):
                return self._variables[used]
        held = {self._variables[other] for other in self._variables if other in last and self._is_before(node, last[other])}
        return next(name for name in self._candidates() if name not in held)

    def _is_before(self, node: fx.Node, other: fx.Node) -> bool:
        return node < other

    @staticmethod
    def _candidates() -> Iterator[str]:
        yield from VARIABLES
        number = 0
        while True:
            yield f"t{number}"
            number += 1

    def _value(self, node: fx.Node) -> str:
        if node.op == "call_module":
            return f"self.{self._module(str(node.target))}({self._arguments(node)})"
        if node.op == "call_method":
            first, *rest = node.args
            called = [self._text(a) for a in rest] + [f"{key}={self._text(a)}" for key, a in node.kwargs.items()]
            return f"{self._text(first)}.{node.target}({', '.join(called)})"
        function, module = node.target, getattr(node.target, "__module__", "")
        name = str(getattr(function, "__name__", function))
        if module == "_operator" and name == "getitem":
            return f"{self._text(node.args[0])}[{self._index(node.args[1])}]"
        if module == "_operator" and name in magic_methods and not node.kwargs:
            return str(magic_methods[name].format(*map(self._text, node.args)))
        if function is getattr and isinstance(node.args[1], str) and node.args[1].isidentifier():
            return f"{self._text(node.args[0])}.{node.args[1]}"
        for prefix, home in (("F", nn.functional), ("torch", torch)):
            if getattr(home, name, None) is function:
                return f"{prefix}.{name}({self._arguments(node)})"
        raise ExportError(f"the network calls `{module}.{name}`, which export does not write; nothing was written")

    def _arguments(self, node: fx.Node) -> str:
        return ", ".join([*map(self._text, node.args), *(f"{key}={self._text(value)}" for key, value in node.kwargs.items())])

    def _index(self, value: Argument) -> str:
        return ", ".join(map(self._text, value)) if isinstance(value, tuple) and value else self._text(value)

    def _text(self, value: Argument | EllipsisType) -> str:
        """An argument as Python: variables, numbers, and tuples, lists, slices and types of them."""
        if isinstance(value, fx.Node):
            return self._variables[value]
        if isinstance(value, slice):
            return ":".join("" if part is None else self._text(part) for part in (value.start, value.stop, *((value.step,) if value.step else ())))
        if isinstance(value, tuple):
            return f"({', '.join(map(self._text, value))}{',' * (len(value) == 1)})"
        if isinstance(value, list):
            return f"[{', '.join(map(self._text, value))}]"
        if isinstance(value, EllipsisType):
            return "..."
        if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
            return repr(value)
        if isinstance(value, (torch.dtype, torch.memory_format)):
            return str(value)
        raise ExportError(f"the network passes a {type(value).__name__} along, which export does not write; nothing was written")

    def _module(self, path: str) -> str:
        """The attribute of a module, which is made when it is first used."""
        if path not in self._names:
            module = self.model.get_submodule(path)
            name = self._name(path)
            self.made.append(f"self.{name} = {self.layers.get(module) or _constructor(module)}")
            self.state |= {f"{path}.{key}": f"{name}.{key}" for key in module.state_dict()}
        return self._names[path]

    def _tensor(self, path: str) -> str:
        """The attribute of a parameter or buffer that stands in no module of torch's."""
        if path not in self._names:
            owner, _, key = path.rpartition(".")
            value: object = getattr(self.model.get_submodule(owner), key)
            if not isinstance(value, Tensor):
                raise ExportError(f"the network uses `{path[:60]}`, a {type(value).__name__}, which export does not write; nothing was written")
            name, empty = self._name(path), f"torch.empty({tuple(value.shape)})" if value.dtype == torch.float32 else ""
            empty = empty or f"torch.empty({tuple(value.shape)}, dtype={value.dtype})"
            self.made.append(f"self.{name} = nn.Parameter({empty})" if isinstance(value, nn.Parameter) else f'self.register_buffer("{name}", {empty})')
            self.state[path] = name
        return self._names[path]

    def _name(self, path: str) -> str:
        """`stage1.block2.body.conv1` as `stage1_block2_body_conv1`; what begins with a digit is a layer."""
        name = re.sub(r"\W", "_", path)
        name = f"layer{name}" if name[0].isdigit() else name
        while name in self._names.values() or hasattr(nn.Module, name):
            name += "_"
        self._names[path] = name
        return name


def _constructor(module: nn.Module) -> str:
    """`nn.Conv2d(16, 32, ...)` as torch prints it. Raises ExportError where that is not how it is made."""
    name = type(module).__name__
    text = f"nn.{module!r}"
    try:
        call = ast.parse(text, mode="eval").body
        plain = isinstance(call, ast.Call) and all(_is_literal(part) for part in (*call.args, *(k.value for k in call.keywords)))
    except SyntaxError:
        plain = False
    if getattr(nn, name, None) is not type(module) or not plain or next(module.children(), None) is not None:
        raise ExportError(f"the network holds a {name[:60]}, which export does not write; nothing was written")
    assert isinstance(call, ast.Call)
    usual = {key: parameter.default for key, parameter in inspect.signature(type(module)).parameters.items()}
    call.keywords = [k for k in call.keywords if k.arg not in usual or ast.literal_eval(k.value) != usual[k.arg]]  # another torch may have others
    return ast.unparse(call)


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except ValueError:
        return False
    return True

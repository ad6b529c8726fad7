"""What a forward does, as far as torch.fx can follow it: whole models where possible, else the largest parts that can be traced."""

from __future__ import annotations

import ast
import inspect
import operator
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from evosearch.delivery.swap.slots import ACTIVATIONS, FUNCTIONS, METHODS, Function, Slot, kind_of

_TORCH = str(Path(torch.__file__).parent)
_KEEPS_CHANNELS = (nn.Dropout, nn.Dropout2d, nn.Dropout3d, nn.Identity, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.Upsample)
_SUMS = (operator.add, operator.iadd, torch.add, operator.sub, torch.sub)
_PRODUCTS = (operator.mul, operator.imul, torch.mul)


class Tracer(fx.Tracer):
    """Stops at modules of torch and at slots; with `shallow`, at every module. Notes the user's line of each call."""

    def __init__(self, shallow: bool) -> None:
        super().__init__()
        self.shallow = shallow

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return self.shallow or bool(kind_of(m)) or isinstance(m, Function) or super().is_leaf_module(m, module_qualified_name)

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, name: str | None = None, type_expr: Any = None) -> fx.Node:
        node = super().create_node(kind, target, args, kwargs, name, type_expr)
        if kind in ("call_function", "call_method"):
            node.meta["line"] = _line()
        return node


def _line() -> str:
    """`file:line` of the first frame that is neither torch's nor ours."""
    frame = sys._getframe(1)
    while frame and (frame.f_code.co_filename.startswith(_TORCH) or frame.f_code.co_filename == __file__):
        frame = frame.f_back  # type: ignore[assignment]
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}" if frame else ""


@dataclass(frozen=True)
class View:
    """A traced part of the model: its name and graph."""

    prefix: str
    graph: fx.Graph

    def path(self, target: object) -> str:
        """The name in the model of a module that a node calls."""
        return f"{self.prefix}.{target}" if self.prefix else str(target)

    def owner(self, node: fx.Node) -> str:
        """The module whose forward makes the call."""
        stack = node.meta.get("nn_module_stack")
        inner = list(stack.values())[-1][0] if stack else ""
        return self.path(inner) if inner else self.prefix

    def caller(self, node: fx.Node) -> str:
        """The module whose forward calls the module that the node calls."""
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        return self.path(stack[-2][0]) if len(stack) > 1 and stack[-2][0] else self.prefix


def views(model: nn.Module, prefix: str = "") -> tuple[list[View], dict[str, str]]:
    """Views that cover the model, and the modules that could not be traced whole, with the reason."""
    found: list[View] = []
    failed: dict[str, str] = {}
    if not _is_torchs(model):
        try:
            return [View(prefix, Tracer(shallow=False).trace(model))], {}
        except (Exception, RecursionError) as error:  # whatever a user's forward does with a tensor that has no values
            failed[prefix] = f"{type(error).__name__}: {' '.join(str(error).split())[:140]}"
        try:
            found.append(View(prefix, Tracer(shallow=True).trace(model)))
            del failed[prefix]
        except (Exception, RecursionError) as error:
            failed[prefix] = f"{type(error).__name__}: {' '.join(str(error).split())[:140]}"
    for name, child in model.named_children():
        if next(child.children(), None) is not None or not _is_torchs(child):
            more, less = views(child, f"{prefix}.{name}" if prefix else name)
            found, failed = found + more, failed | less
    return found, failed


def _is_torchs(module: nn.Module) -> bool:
    """Whether its forward is torch's own, with no call of the user's in it. A GraphModule is the user's."""
    home = type(module).__module__
    containers = (nn.ModuleList, nn.ModuleDict)
    return isinstance(module, containers) or (home.startswith("torch.nn") and not isinstance(module, nn.Sequential)) or isinstance(module, Function)


def called(node: fx.Node) -> type[nn.Module] | None:
    """The type of module that does what a functional call does; None for another node."""
    if node.op == "call_function":
        return FUNCTIONS.get(node.target)  # type: ignore[arg-type]
    return METHODS.get(str(node.target)) if node.op == "call_method" else None


def function_label(node: fx.Node) -> str:
    """`F.relu`, `torch.relu` or `x.relu()`."""
    if node.op == "call_method":
        return f"x.{node.target}()"
    name = getattr(node.target, "__name__", str(node.target))
    return f"{'F' if getattr(nn.functional, name, None) is node.target else 'torch'}.{name}"


def producer(node: object, view: View, model: nn.Module) -> tuple[int, int] | None:
    """The channels of a node's value and where they are, by the nearest layer before it that says so."""
    for _ in range(200):
        if not isinstance(node, fx.Node):
            return None
        if node.op == "call_module":
            module = model.get_submodule(view.path(node.target))
            for key, dim in (("out_channels", 1), ("out_features", -1), ("num_features", 1), ("num_channels", 1)):
                if isinstance(count := getattr(module, key, None), int):
                    return count, dim
            shape = getattr(module, "normalized_shape", None)
            if shape is not None:
                return int(shape[-1]), 1 if "2d" in type(module).__name__ else -1
            if not isinstance(module, _KEEPS_CHANNELS) and not kind_of(module) and not isinstance(module, Function):
                return None
        elif node.op == "call_function" and node.target in _SUMS:
            return producer(node.args[0], view, model) or producer(node.args[1], view, model)
        elif called(node) is None:
            return None
        node = node.args[0] if node.args else None
    return None


def read(node: fx.Node, is_identity: Callable[[str], bool]) -> fx.Node | None:
    """The node whose value this one alone reads, behind any `nn.Identity` (timm has one between norm and activation)."""
    source = node.args[0] if node.args else None
    while isinstance(source, fx.Node) and len(source.users) == 1:
        if source.op != "call_module" or not is_identity(str(source.target)):
            return source
        source = source.args[0] if source.args else None
    return None


def is_gate(node: fx.Node) -> bool:
    """Whether the value multiplies another tensor, as in squeeze-and-excitation or a gated unit."""
    times = [u for u in node.users if (u.op == "call_function" and u.target in _PRODUCTS) or (u.op == "call_method" and u.target in ("mul", "mul_"))]
    return any(all(isinstance(a, fx.Node) for a in u.args[:2]) and len(u.args) > 1 for u in times)


def later_users(node: fx.Node) -> list[fx.Node]:
    """Who reads the node's input after the node: what an in-place layer changes for them."""
    source = node.args[0] if node.args else None
    return [u for u in source.users if u is not node and node < u] if isinstance(source, fx.Node) else []


def scan(module: nn.Module) -> Iterator[tuple[str, str, type[nn.Module]]]:
    """Functional calls in the source of a module that cannot be traced: label, `file:line` and the module that does the same."""
    seen = set()
    for kind in type(module).__mro__:
        if kind.__module__.startswith("torch."):
            break
        for name, function in vars(kind).items():
            if inspect.isfunction(function) and name != "__init__" and name not in seen:
                seen.add(name)
                yield from _calls(function)


def freezes(module: nn.Module) -> str:
    """What the module's forward asks that a trace would answer once and for all; empty for nothing."""
    tree = _tree(type(module).forward)
    asked = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & {"isinstance", "random"} if tree else set()
    return f"its forward uses `{min(asked)}`, which a trace would freeze" if asked else ""


def _tree(function: Any) -> ast.Module | None:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):  # no file, or not Python
        return None


def _calls(function: Any) -> Iterator[tuple[str, str, type[nn.Module]]]:
    tree = _tree(function)
    if tree is None:
        return
    file, first = Path(inspect.getsourcefile(function) or "?").name, inspect.getsourcelines(function)[1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr.rstrip("_") in METHODS_AND_FUNCTIONS:
            home = ast.unparse(node.func.value)
            if home == "self":  # a module of its own, which is a slot
                continue
            text = f"{home}.{node.func.attr}" if home in ("F", "torch", "nn.functional", "torch.nn.functional") else f"x.{node.func.attr}()"
            yield text, f"{file}:{first + node.lineno - 1}", METHODS_AND_FUNCTIONS[node.func.attr.rstrip("_")]


METHODS_AND_FUNCTIONS = {getattr(f, "__name__", ""): kind for f, kind in FUNCTIONS.items()} | METHODS


@dataclass
class Seen:
    """What the views say: calls of functions as slots, and which activation stands right behind a norm."""

    calls: list[Slot]
    behind: list[tuple[Slot, Slot, bool]]  # a norm, the activation that alone reads it, and whether one forward calls both


def look(model: nn.Module, slots: list[Slot]) -> Seen:
    """Follows the model; its module slots learn their channels and get their warnings."""
    seen, failed = views(model)
    by_name = {name: slot for slot in slots for name in slot.names}
    calls: dict[tuple[str, int], Slot] = {}
    told: dict[int, set[tuple[int, int] | None]] = {}
    behind: dict[tuple[int, int], tuple[Slot, Slot, bool]] = {}
    sites: dict[int, set[tuple[str, str]]] = {}
    for view in seen:
        counts: dict[str, int] = {}
        at: dict[fx.Node, Slot] = {}
        for node in view.graph.nodes:
            kind = called(node)
            slot = _call_slot(node, kind, view, counts, calls) if kind else by_name.get(view.path(node.target)) if node.op == "call_module" else None
            if slot is None:
                continue
            at[node] = slot
            told.setdefault(id(slot), set()).add(producer(node.args[0] if node.args else None, view, model))
            sites.setdefault(id(slot), set()).add((view.prefix, node.name))
            _warn(slot, node)
            source = read(node, lambda target: isinstance(model.get_submodule(view.path(target)), nn.Identity))
            before = at.get(source) if source is not None else None
            caller = view.caller(node) if node.op == "call_module" else view.owner(node)
            if before is not None and before.kind == "norm":
                behind[id(before), id(slot)] = (before, slot, caller == before.owner)
            if node.op == "call_module" and not slot.owner:
                slot.owner = caller
    for slot in (*slots, *calls.values()):
        slot.sites = max(1, len(sites.get(id(slot), ())))
        _settle(slot, told.get(id(slot), set()))
    for name, module in model.named_modules():
        if not _is_torchs(module) and name not in {owner for owner, _ in calls} and (reason := freezes(module)):
            failed.setdefault(name, reason)
    return Seen([*calls.values(), *_untraced(model, failed)], list(behind.values()))


def _untraced(model: nn.Module, failed: dict[str, str]) -> Iterator[Slot]:
    for name, reason in failed.items():
        for number, (text, line, kind) in enumerate(scan(model.get_submodule(name))):
            yield _slot(f"{name}.{_plain(text)}_{number}".lstrip("."), kind, text, line, name, number, f"fx cannot trace it ({reason})")


def _plain(text: str) -> str:
    return text.removesuffix("()").rpartition(".")[2].rstrip("_")


def _slot(name: str, kind: type[nn.Module], text: str, line: str, owner: str, index: int, why: str = "") -> Slot:
    group = "activation" if kind in ACTIVATIONS.values() else "axis"
    return Slot([name], group, "call", nn.Identity(), kind, text, where=line, owner=owner, index=index, why=why)


def _call_slot(node: fx.Node, kind: type[nn.Module], view: View, counts: dict[str, int], calls: dict[tuple[str, int], Slot]) -> Slot:
    """The slot of a call; a module that is called twice makes its calls twice, and they are the same slots."""
    owner, once = view.owner(node), "".join(list(node.meta.get("nn_module_stack") or {})[-1:])
    index = counts.get(once, 0)
    counts[once] = index + 1
    text = function_label(node)
    if (owner, index) not in calls:
        calls[owner, index] = _slot(f"{owner}.{_plain(text)}_{index}".lstrip("."), kind, text, node.meta.get("line", ""), owner, index)
    return calls[owner, index]


def in_place(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether the call writes into its input."""
    name = str(getattr(node.target, "__name__", node.target))
    return bool(getattr(module, "inplace", False) or node.kwargs.get("inplace") or (node.op != "call_module" and name.endswith("_")))


def _warn(slot: Slot, node: fx.Node) -> None:
    if slot.kind == "activation" and is_gate(node):
        slot.note("a gate: its output multiplies another tensor")
    if in_place(node, slot.old if slot.how == "module" else None) and later_users(node):
        slot.aliased = True


def _settle(slot: Slot, told: set[tuple[int, int] | None]) -> None:
    """Its channels, where every caller agrees."""
    known = {t for t in told if t is not None}
    if slot.channels is None and len(known) == 1 and None not in told:
        slot.channels, slot.dim = next(iter(known))
    elif slot.channels is None and len(known) > 1:
        slot.note("called with " + " and ".join(str(c) for c, _ in sorted(known)) + " channels")

"""Functional calls made into modules: the block whose forward makes them becomes a torch.fx.GraphModule of the same name and state."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from evosearch.delivery.swap.slots import Function, Slot
from evosearch.delivery.swap.trace import Tracer, called, freezes, in_place, later_users, read


class CannotRewrite(Exception):
    """A forward that a trace would not repeat in every case; says why."""


def rewritten(block: nn.Module, calls: Sequence[Slot], dropped: Collection[str] = ()) -> fx.GraphModule:
    """The block with its functional calls as modules, named as their slots are.

    `dropped` names norms in the block whose activation, the call right behind them, falls away. In-place layers keep what the
    readers of their input saw: those read the output. Raises CannotRewrite.
    """
    graph = _trace(block)
    wanted = {slot.index: slot for slot in calls}
    made: dict[str, nn.Module] = {}
    fused = set(dropped)
    number = 0
    for node in list(graph.nodes):
        slot = None
        if called(node) is not None:
            slot, number = wanted.get(number), number + 1
        module = block.get_submodule(str(node.target)) if node.op == "call_module" else None
        _keep_alias(node, module, slot is not None)
        source = node.args[0] if node.args else None
        norm = read(node, lambda name: name not in made and isinstance(block.get_submodule(name), nn.Identity)) if fused else None
        if norm is not None and norm.op == "call_module" and norm.target in fused and not isinstance(module, nn.Identity):
            fused.remove(str(norm.target))  # only the one behind it
            node.replace_all_uses_with(source)  # type: ignore[arg-type]
            graph.erase_node(node)
        elif slot is not None:
            name = slot.name.rpartition(".")[2]
            made[name] = slot.old = _function(node)
            with graph.inserting_after(node):
                new = graph.call_module(name, (source,))  # type: ignore[arg-type]
            node.replace_all_uses_with(new)
            new.args = (source,)  # type: ignore[assignment]
            graph.erase_node(node)
    return _module(block, graph, made)


def _keep_alias(node: fx.Node, module: nn.Module | None, replaced: bool) -> None:
    if (replaced or module is not None) and in_place(node, module):
        source = node.args[0]
        for user in later_users(node):
            user.replace_input_with(source, node)  # type: ignore[arg-type]


def _function(node: fx.Node) -> Function:
    """The call without its input, and not in place."""
    name = str(getattr(node.target, "__name__", node.target))
    function: Any = getattr(Tensor, name) if node.op == "call_method" else node.target
    if name.endswith("_"):
        homes = (Tensor,) if node.op == "call_method" else (F, torch)
        function = next(getattr(home, name[:-1]) for home in homes if hasattr(home, name[:-1]))
    rest = {key: value for key, value in node.kwargs.items() if key != "inplace"}
    if len(node.all_input_nodes) != 1 or not isinstance(node.args[:1], tuple) or not node.args:
        raise CannotRewrite(f"`{name}` is called with more than one tensor")
    return Function(function, node.args[1:], rest)


def _trace(block: nn.Module) -> fx.Graph:
    """The graph of the block's own forward, right in training and in evaluation."""
    _check(block)
    mode = block.training
    graphs = []
    try:
        for training in (True, False):
            block.training = training  # the block's own forward; what it calls is not run
            graphs.append(Tracer(shallow=True).trace(block))
    except (Exception, RecursionError) as error:  # whatever a user's forward does with a tensor that has no values
        raise CannotRewrite(f"fx cannot trace it ({type(error).__name__}: {' '.join(str(error).split())[:140]})") from error
    finally:
        block.training = mode
    graph, other = graphs
    if any(node.op == "get_attr" and str(node.target).startswith("_tensor_constant") for node in graph.nodes):
        raise CannotRewrite("its forward makes a tensor, which a trace would freeze")
    _join(graph, other)
    return graph


def _join(graph: fx.Graph, other: fx.Graph) -> None:
    """Where training and evaluation differ by a flag alone, as in `F.dropout(x, training=self.training)`, the flag is read when it runs."""
    first, second = list(graph.nodes), list(other.nodes)
    places = {node: index for index, node in enumerate(first)} | {node: index for index, node in enumerate(second)}

    def plain(value: Any) -> Any:
        return fx.node.map_arg(value, lambda node: ("node", places[node]))

    if len(first) != len(second):
        raise CannotRewrite("its forward takes another way in training than in evaluation")
    for a, b in zip(first, second, strict=True):
        if (a.op, a.target) != (b.op, b.target) or len(a.args) != len(b.args) or a.kwargs.keys() != b.kwargs.keys():
            raise CannotRewrite("its forward takes another way in training than in evaluation")
        for key, x, y in [*((i, *pair) for i, pair in enumerate(zip(a.args, b.args, strict=True))), *((k, a.kwargs[k], b.kwargs[k]) for k in a.kwargs)]:
            if x is True and y is False:
                with graph.inserting_before(a):
                    flag = graph.create_node("get_attr", "training")
                a.update_arg(key, flag) if isinstance(key, int) else a.update_kwarg(key, flag)
            elif plain(x) != plain(y):
                raise CannotRewrite("its forward computes with other values in training than in evaluation")


def _check(block: nn.Module) -> None:
    """Raises CannotRewrite for what a trace takes one way and a call may take another."""
    for parameter in inspect.signature(block.forward).parameters.values():
        if parameter.default is not parameter.empty or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise CannotRewrite(f"its forward has the optional argument `{parameter.name}`, and a trace would freeze what it is")
    reason = freezes(block)
    if reason:
        raise CannotRewrite(reason)


def _module(block: nn.Module, graph: fx.Graph, made: dict[str, nn.Module]) -> fx.GraphModule:
    """The graph as a module that has all that the block has: children, state, attributes, hooks and mode."""
    taken = [name for name in made if hasattr(block, name)]
    if taken:
        raise CannotRewrite(f"it has an attribute `{taken[0]}` already")
    owner = nn.Module()
    owner._modules = {**block._modules, **made}
    owner._parameters, owner._buffers = dict(block._parameters), dict(block._buffers)
    owner.training = block.training
    found = fx.GraphModule(owner, graph, type(block).__name__)
    found._modules, found._parameters, found._buffers = {**block._modules, **made}, dict(block._parameters), dict(block._buffers)
    for key, value in vars(block).items():
        if key not in vars(found) or "hooks" in key or key == "_non_persistent_buffers_set":
            vars(found)[key] = value
    found.training = block.training
    return found

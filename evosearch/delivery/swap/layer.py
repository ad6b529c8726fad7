"""A new layer in the place of an old one: made, and given what means the same in both."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from evosearch.compiler.module import compile_graph
from evosearch.delivery.formats.format import needs_features
from evosearch.delivery.swap.rules import UNKNOWN, Rule, make_from
from evosearch.delivery.swap.slots import Function, Slot, state_of
from evosearch.language.graph import Axes, Graph, parameters, variable, walk, without_affine

CARRIED = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def obstacle(rule: Rule, slot: Slot) -> str:
    """Why the rule's layer cannot stand in the slot; empty where it can."""
    if slot.why:
        return slot.why
    if slot.type is nn.GLU:
        return "GLU halves its input's channels, and a layer of one input keeps them"
    graph = rule.layer.graph
    if graph is not None and needs_features(graph) and slot.channels is None:
        told = next((note for note in slot.notes if note.startswith("called with")), "")
        return f"the formula keeps a value per channel, and {told + ', so one module cannot' if told else f'how many there are is not known; {UNKNOWN}'}"
    return ""


def make(rule: Rule, graph: Graph | None, slot: Slot, home: nn.Module) -> nn.Module:
    """The new layer, with the device, dtype, mode and the state of the old one; `home` is the module it stands in."""
    old = slot.old
    if graph is None:
        assert rule.layer.factory is not None
        new = make_from(rule.layer.factory, slot, rule.text)
    else:
        momentum = getattr(old, "momentum", None)
        channels = slot.channels if needs_features(graph) else None
        new = compile_graph(graph, channels, slot.dim, momentum=0.1 if momentum is None else momentum, tracked_variance=rule.layer.tracked_variance)
    near = next((t for module in (old, home) for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()), None)
    if near is not None:
        new.to(device=near.device, dtype=near.dtype)
    new.train(home.training if isinstance(old, Function) else old.training)
    _remarks(slot, graph)
    return new


def carry(slot: Slot, new: nn.Module, graph: Graph | None, paired: bool) -> bool:
    """Copies what means the same, with `requires_grad`, and notes it; returns whether running statistics are among it.

    A weight and a bias before the activation do not mean what they would behind it; running statistics of something else than the
    input do not mean what a BatchNorm's do.
    """
    fused = paired or slot.kind == "norm_act"
    names = list(CARRIED)
    if fused and graph is not None and not affine_before_activation(graph):
        names = names[2:]
    if graph is not None and not statistics_of_input(graph):
        names = [name for name in names if not name.startswith("running")]
    ours = dict(new.named_parameters()) | dict(new.named_buffers())
    carried = []
    for name in names:
        old, target = getattr(slot.old, name, None), ours.get(name)
        if not isinstance(old, Tensor) or target is None or old.shape != target.shape:
            continue
        with torch.no_grad():
            target.copy_(old)
        if isinstance(target, nn.Parameter):
            target.requires_grad_(old.requires_grad)
        carried.append(name)
    lost = [name for name, _ in state_of(slot.old) if name not in carried and name != "num_batches_tracked"]
    if carried:
        slot.note(f"carried over: {', '.join(carried)}")
    if lost:
        slot.note(f"not carried over: {', '.join(lost)}")
    return "running_mean" in carried or "running_var" in carried


def statistics_of_input(graph: Graph) -> bool:
    """Whether the running statistics are those of the input itself, as a BatchNorm's are."""
    averaged = [node for node in walk(graph) if isinstance(node.value, Axes) and node.value.axes == "batch"]
    return bool(averaged) and all(node.args[0] is variable("x") and node.op in ("mean", "var", "std") for node in averaged)


def affine_before_activation(graph: Graph) -> bool:
    """Whether `weight` and `bias` stand inside, before a nonlinearity, and not at the end."""
    return any(p.name == "weight" for p in parameters(graph)) and not ends_affine(graph)


def ends_affine(graph: Graph) -> bool:
    """Whether the formula ends with `weight * . + bias`, one value a channel."""
    return without_affine(graph) is not None and {"weight", "bias"} <= {p.name for p in parameters(graph)}


def _remarks(slot: Slot, graph: Graph | None) -> None:
    """What the user should know of this place."""
    old = slot.old
    hooks = sum(len(getattr(old, key, ()) or ()) for key in _HOOKS)
    if hooks and slot.how == "module":
        slot.note(f"hooks of the old module, not carried over: {hooks}; undo brings them back")
    if is_parametrized(old):
        slot.note("the old module is parametrized: its present values are carried over, the parametrization is not")
    if slot.kind == "axis":
        slot.note(f"{slot.label} works over an axis; what stands there now should too")
    if isinstance(old, nn.SyncBatchNorm):
        slot.note("statistics are now of each device's own batch")
    if graph is None:
        return
    eps = {value.eps for value in graph.holds if isinstance(value, Axes) and value.eps is not None}
    mine = getattr(old, "eps", None)
    if slot.kind in ("norm", "norm_act") and eps and mine is not None and mine not in eps:
        slot.note(f"eps was {mine:g}, is {', '.join(f'{e:g}' for e in sorted(eps))}")
    groups = {value.groups for value in graph.holds if isinstance(value, Axes) and value.groups}
    if isinstance(old, nn.GroupNorm) and groups and old.num_groups not in groups:
        slot.note(f"groups were {old.num_groups}, are {min(groups)} or the next fewer that divide the channels")
    if any(isinstance(value, Axes) and value.axes == "batch" for value in graph.holds):
        if getattr(old, "momentum", 0.1) is None:
            slot.note("momentum was None (a plain average), is 0.1")
        if getattr(old, "running_mean", None) is None:
            slot.note("running statistics are new; pass calibrate= to estimate them before evaluation")

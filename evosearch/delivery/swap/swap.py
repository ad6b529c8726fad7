"""`evosearch.swap`: layers of a model replaced by formulas, known layers or modules of one's own."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from evosearch.delivery.swap.calibrate import batches_of, estimate, measured, watch
from evosearch.delivery.swap.fit import can_fit, fit, gaussian_inputs, quantiles, scaled
from evosearch.delivery.swap.layer import carry, ends_affine, make, obstacle
from evosearch.delivery.swap.plan import Change, Plan, put
from evosearch.delivery.swap.report import Edits, Swapped
from evosearch.delivery.swap.rules import SwapError, read_rules
from evosearch.delivery.swap.slots import Slot, kind_of
from evosearch.language.graph import Graph


def swap(
    model: nn.Module, rules: Mapping[Any, Any] | Sequence[tuple[Any, Any]], *, match: bool = False, calibrate: Any = None,
    functional: str = "report", dry_run: bool = False, inplace: bool = False,
) -> Swapped:  # fmt: skip
    """Replaces activations, norms and norm-activation pairs of a model: `swap(model, {nn.ReLU: "x * sigmoid(x)"}).model`.

    - `rules`: what is replaced to what comes in its place; the first rule that fits a place counts. A key is a type (meant exactly; it
      takes functions that do the same, such as `F.relu`, too), a qualified name, `re.compile(...)` (searched in the name; only places
      of the kind of the replacement), a function (`F.relu`: calls and attributes alone), a predicate `(name, module) -> bool`, or a
      pair `(nn.BatchNorm2d, nn.ReLU)`. A replacement is a formula, a known layer's name, a Graph, or a factory of modules.
    - `match`: fits `a * f(b * x) + c`, and the formula's own parameters, to each activation that goes, by least squares under N(0, 1),
      or under what the place sees of `calibrate`. b is 1/3 to 3.
    - `calibrate`: batches (a loader; its first 16): every new layer, in order of depth, is scaled and shifted so that its output has the
      mean and deviation of the old one. Per channel where the layer ends with a weight and a bias, else per layer. Nothing is trained.
    - `functional`: `report` says which functional calls (`F.relu(x)`) a rule is about; `fx` rewrites them where their module can be traced.
    - `dry_run`: the report alone. `inplace`: changes the model itself, in place of a copy.

    Raises SwapError, with the model as it was, for a rule that matches nothing or nothing that can be replaced, and for arguments that
    do not fit.
    """
    if not isinstance(model, nn.Module):
        raise SwapError(f"swap takes a torch.nn.Module; received {type(model).__name__}")
    if functional not in ("report", "fx"):
        raise SwapError(f"functional is `report` or `fx`; received {functional!r:.40}")
    lines = read_rules(rules)
    if kind_of(model):
        raise SwapError(f"the model itself is a {type(model).__name__}, and swap replaces what stands in a model: put it into nn.Sequential(...)")
    work = model if inplace and not dry_run else _copied(model)
    edits, keys = Edits(), set(model.state_dict())
    try:
        plan = Plan(work, lines, functional == "fx", inplace)
        now = plan.expose(edits)
        _replace(plan, now, edits, match, None if calibrate is None else batches_of(calibrate, work))
    except BaseException:
        edits.undo()
        raise
    there, rows = set(now.state_dict()), plan.rows()
    shown = (model, Edits(), model) if dry_run else (now, edits, work)
    return Swapped(shown[0], rows, sorted(there - keys), sorted(keys - there), dry_run, shown[1], shown[2])


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(model)
    except Exception as error:  # whatever a user's module may raise
        raise SwapError(f"the model cannot be copied ({type(error).__name__}: {str(error)[:120]}); pass inplace=True") from error


def _replace(plan: Plan, model: nn.Module, edits: Edits, match: bool, batches: list[Any] | None) -> None:
    """Puts the new layers in, fitted and scaled if asked for."""
    if batches is not None:
        _watch(model, plan.going(), batches)
    for change in plan.going():
        change.why = obstacle(change.rule, change.slot)
    plan.check()
    made = []
    for change in plan.going():
        graph = change.rule.layer.graph
        if match and graph is not None and change.slot.kind == "activation":
            graph = _matched(change, graph)
        layer = make(change.rule, graph, change.slot, _home(model, change.slot))
        counted = carry(change.slot, layer, graph, change.behind is not None)
        change.becomes = str(graph) if graph is not None else type(layer).__name__
        _put_everywhere(model, change.slot, layer, edits)
        made.append((change, graph, layer, counted))
    _leave_fast_path(model, plan.going(), edits)
    reached = [(change.seen.order, index) for index, (change, *_) in enumerate(made) if change.seen and change.seen.order >= 0]
    for _, index in sorted(reached):
        change, graph, layer, counted = made[index]
        if batches is not None and not counted and any(name.startswith("running_") for name, _ in layer.named_buffers()):
            estimate(model, layer, batches)
        _rescale(model, change, graph, layer, edits, batches or [])


def _home(model: nn.Module, slot: Slot) -> nn.Module:
    return model.get_submodule(slot.name.rpartition(".")[0])


def _put_everywhere(model: nn.Module, slot: Slot, layer: nn.Module, edits: Edits) -> None:
    for name in slot.names:
        put(model, name, layer, edits)


def _watch(model: nn.Module, going: list[Change], batches: list[Any]) -> None:
    """What the places see and give before anything is replaced; channels that no layer told are seen here."""
    places = [(c.slot.old, c.behind.old if c.behind else None, c.slot.dim if c.slot.channels else 1) for c in going]
    for change, seen in zip(going, watch(model, places, batches), strict=True):
        change.seen, slot = seen, change.slot
        if seen.order < 0:
            slot.note("not rescaled: the batches did not reach it")
        elif slot.channels is None:
            slot.dim = -1 if all(len(shape) == 3 for shape in seen.shapes) else 1
            counts = {shape[slot.dim] for shape in seen.shapes if len(shape) > 1}
            if len(counts) == 1:
                slot.channels = counts.pop()
            elif counts:
                slot.note("called with " + " and ".join(map(str, sorted(counts))) + " channels")


def _matched(change: Change, graph: Graph) -> Graph:
    """The graph with its constants fitted to the old activation."""
    slot = change.slot
    if not can_fit(graph):
        slot.note("not matched: the formula has statistics")
        return graph
    inputs = quantiles(torch.cat(change.seen.inputs)) if change.seen and change.seen.inputs else gaussian_inputs()
    channels = slot.channels if isinstance(slot.old, nn.PReLU) and slot.old.num_parameters > 1 else None
    near = next(slot.old.parameters(), inputs)

    def old(x: Tensor) -> Tensor:
        rows = x.to(near)[:, None].expand(-1, channels or 1).clone()
        y: Tensor = slot.old(rows)
        return y.float().cpu().mean(1)

    found = fit(graph, old, inputs)
    if found is None:
        slot.note("not matched: no finite fit")
        return graph
    change.unexplained = found.unexplained
    return found.graph


def _rescale(model: nn.Module, change: Change, graph: Graph | None, layer: nn.Module, edits: Edits, batches: list[Any]) -> None:
    """Gives the new layer's output the mean and deviation of the old one's."""
    slot, seen = change.slot, change.seen
    assert seen is not None
    weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
    per_channel = isinstance(weight, Tensor) and isinstance(bias, Tensor) and (ends_affine(graph) if graph is not None else slot.kind != "activation")
    if graph is None and not per_channel:
        slot.note("not rescaled: a module of your own without a weight and a bias")
        return
    (mean, deviation), (target, wanted) = measured(model, layer, seen.moments.dim, batches).of(per_channel), seen.moments.of(per_channel)
    factor = torch.where(deviation.isfinite() & (deviation > 1e-9), wanted / deviation.clamp(min=1e-12), 1.0)
    shift = target - factor * mean
    if not (shift.isfinite() & factor.isfinite()).all():
        slot.note("not rescaled: its output is not finite")
        return
    change.scale = float(factor.mean())
    if per_channel:
        assert isinstance(weight, Tensor)
        assert isinstance(bias, Tensor)
        with torch.no_grad():
            weight.mul_(factor.to(weight))
            bias.mul_(factor.to(bias)).add_(shift.to(bias))
        return
    assert graph is not None
    graph = scaled(graph, float(factor), float(shift))
    fresh = make(change.rule, graph, slot, _home(model, slot))
    fresh.load_state_dict(layer.state_dict())
    for parameter, old in zip(fresh.parameters(), layer.parameters(), strict=True):
        parameter.requires_grad_(old.requires_grad)
    change.becomes = str(graph)
    _put_everywhere(model, slot, fresh, edits)


def _leave_fast_path(model: nn.Module, going: list[Change], edits: Edits) -> None:
    """torch's encoder layer computes its activation and norms itself, in evaluation, unless it is told that they are others."""
    homes = {id(_home(model, change.slot)): change for change in going}
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer) and id(module) in homes and module.activation_relu_or_gelu:
            edits.set(module, "activation_relu_or_gelu", 0)
            homes[id(module)].slot.note("the encoder layer's fast path in evaluation is off: it knows ReLU and GELU and torch's norms alone")
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder) and getattr(module, "use_nested_tensor", False) and any(id(layer) in homes for layer in module.layers):
            edits.set(module, "use_nested_tensor", False)

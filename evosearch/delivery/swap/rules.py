"""Rules of a swap: what to replace, and by what."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from evosearch.delivery.swap.slots import FUNCTIONS, Slot, kind_of, label
from evosearch.language.formula import FormulaError, parse
from evosearch.language.graph import Graph, canonical, depends_on, parameter, parameters, replace, walk, with_affine, without_affine
from evosearch.language.library import known, library
from evosearch.meaning.derive import has_statistics


class SwapError(ValueError):
    """A swap that cannot be done; one line with the rule, what was received and the likely fix."""


@dataclass(frozen=True)
class Layer:
    """What is put in: a graph (with torch's parameter names) or a factory of modules."""

    text: str
    graph: Graph | None = None
    factory: Callable[..., nn.Module] | None = None
    kind: str = ""  # activation | norm | norm_act, for graphs
    tracked_variance: str = "unbiased"


@dataclass(frozen=True)
class Rule:
    """One line of the rules: `text` says it in errors and in the table."""

    key: Any
    layer: Layer
    text: str

    @property
    def is_pair(self) -> bool:
        """Whether it is of a norm and the activation behind it."""
        return isinstance(self.key, tuple)


def read_rules(rules: Mapping[Any, Any] | Sequence[tuple[Any, Any]]) -> list[Rule]:
    """The rules in order. Raises SwapError for a key or a replacement that is none of those `swap` takes."""
    pairs = list(rules.items()) if isinstance(rules, Mapping) else list(rules) if isinstance(rules, (list, tuple)) else None
    if not pairs or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs):
        raise SwapError(f"rules map what is replaced to what comes in its place, as in {{nn.ReLU: 'gelu'}}; received {rules!r:.80}")
    return [_rule(key, value) for key, value in pairs]


def _rule(key: Any, value: Any) -> Rule:
    text = f"{key_text(key)}={value if isinstance(value, (str, Graph)) else getattr(value, '__name__', repr(value))}"[:100]
    parts = key if isinstance(key, tuple) else (key,)
    if len(parts) > 2 or not all(isinstance(part, (str, re.Pattern)) or callable(part) for part in parts):
        raise SwapError(
            f"rule `{text}`: a key is a type of module, a name, re.compile(...), a function such as F.relu, a predicate (name, module) -> bool, "
            f"or a pair (norm, activation) of them; received {key!r:.60}"
        )
    for part in parts:
        if isinstance(part, type) and not issubclass(part, nn.Module):
            raise SwapError(f"rule `{text}`: the type must be one of torch.nn.Module; received {part.__name__}")
    return Rule(key, read_layer(value, text), text)


def key_text(key: Any) -> str:
    """A key as the user would write it."""
    if isinstance(key, tuple):
        return f"({', '.join(map(key_text, key))})"
    if isinstance(key, type):
        return label(key)
    if isinstance(key, re.Pattern):
        return f"/{key.pattern}/"
    return key if isinstance(key, str) else f"F.{key.__name__}" if key in FUNCTIONS else getattr(key, "__name__", repr(key))


def read_layer(value: Any, text: str) -> Layer:
    """What a rule puts in. Raises SwapError for a formula that does not parse, takes two inputs, or a module in place of a factory."""
    if isinstance(value, nn.Module):
        raise SwapError(f"rule `{text}`: each place gets a module of its own, so give a factory, e.g. lambda: {type(value).__name__}(); received a module")
    if not isinstance(value, (str, Graph)):
        if not callable(value):
            raise SwapError(f"rule `{text}`: a replacement is a formula, a known layer's name, a Graph or a factory of modules; received {value!r:.60}")
        return Layer(getattr(value, "__name__", "factory"), factory=value)
    tracked, kind = "unbiased", ""
    if isinstance(value, str) and value.isidentifier() and value not in ("x", "y"):
        try:
            found = known(value)
        except ValueError as error:
            raise SwapError(f"rule `{text}`: {error}") from None
        graph, tracked = with_affine(found.graph) if found.affine else found.graph, found.tracked_variance
        kind = found.kind
    else:
        try:
            graph = value if isinstance(value, Graph) else parse(value)
        except FormulaError as error:
            raise SwapError(f"rule `{text}`: {error}") from None
        kind = next((layer.kind for layer in library().values() if layer.graph is canonical(graph)), "")
    if depends_on(graph, "y"):
        raise SwapError(f"rule `{text}`: the layer takes two inputs, x and y, and what it would replace has one; give a formula of x alone")
    kind = {"normalization": "norm", "norm_activation": "norm_act", "attention": "axis"}.get(kind, kind) or ("norm" if has_statistics(graph) else "activation")
    return Layer(str(value), torch_names(graph), kind=kind, tracked_variance=tracked)


def torch_names(graph: Graph) -> Graph:
    """The graph with the scale and shift of its normalized part called `weight` and `bias`, as torch's norms call theirs."""
    if any(p.name in ("weight", "bias") for p in parameters(graph)):
        return graph
    for node in reversed(list(walk(graph))):
        inner = without_affine(node)
        if inner is not None and not any(p.name in ("weight", "bias") for p in parameters(inner)):
            return _renamed(graph, node)
    scales = [p for p in parameters(graph) if p.kind == "channel" and p.init == 1.0]
    if graph.op == "mul" and len(scales) == 1 and any(arg.value is scales[0] for arg in graph.args):  # RMSNorm: a scale alone
        return replace(graph, {parameter(*scales[0]): parameter("weight", "channel", 1.0)})
    return graph


def _renamed(graph: Graph, node: Graph) -> Graph:
    pair = [arg for arg in node.args if arg.op == "parameter"], [arg for arg in node.args if arg.op == "mul"]
    bias = pair[0][0]
    weight = next(arg for product in pair[1] for arg in product.args if arg.op == "parameter" and arg.value[1:] == ("channel", 1.0))  # type: ignore[index]
    return replace(graph, {bias: parameter("bias", "channel", 0.0), weight: parameter("weight", "channel", 1.0)})


def matches(key: Any, slot: Slot, layer: Layer) -> bool:
    """Whether a rule's key (or a pair's half) is about the slot. A type also takes the functions that do the same."""
    if isinstance(key, type):
        return slot.type is key
    if isinstance(key, str):
        return key in slot.names
    if isinstance(key, re.Pattern):
        return any(key.search(name) for name in slot.names) and layer.kind in ("", slot.kind)
    if key in FUNCTIONS:
        return slot.how != "module" and slot.type is FUNCTIONS[key]
    return slot.how == "module" and any(bool(key(name, slot.old)) for name in slot.names)


def others(rules: Sequence[Rule], model: nn.Module, slots: Sequence[Slot]) -> list[Slot]:
    """Modules that a rule names by type, name or predicate and that are no slots by themselves: classes of the user's own."""
    there = {id(slot.old) for slot in slots}
    found: dict[int, Slot] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if not name or id(module) in there or kind_of(module):
            continue
        for rule in rules:
            key = rule.key
            if isinstance(key, (tuple, re.Pattern)) or (not isinstance(key, (type, str)) and key in FUNCTIONS):
                continue
            if type(module) is key or key == name or (not isinstance(key, (type, str)) and key(name, module)):
                if id(module) in found:
                    found[id(module)].names.append(name)
                    break
                found[id(module)] = slot = Slot([name], "other", "module", module, type(module), label(type(module)))
                slot.why = _foreign(module)
                break
    return list(found.values())


def _foreign(module: nn.Module) -> str:
    if next(module.children(), None) is not None:
        return f"it is a {type(module).__name__} with modules of its own, not an activation or a norm; name one inside it"
    if type(module).__module__.startswith("torch.nn"):
        return f"swap replaces activations and norms; {label(type(module))} is neither"
    return ""


def nothing(rule: Rule, model: nn.Module, slots: Sequence[Slot]) -> SwapError:
    """The error for a rule that matches nothing, with the nearest thing that is there."""
    key, there = rule.key, f"rule `{rule.text}` matches nothing in the model"
    if rule.is_pair:
        norms, acts = key
        return SwapError(f"{there}: no {key_text(norms)} has a {key_text(acts)} right behind it (in a Sequential, or where torch.fx can follow the forward)")
    if isinstance(key, str):
        names = [name for name, _ in model.named_modules(remove_duplicate=False) if name] + [slot.name for slot in slots]
        close = difflib.get_close_matches(key, names, n=1) or [name for name in names if name.endswith(key) or name.startswith(key)][:1]
        return SwapError(f"{there}; " + (f"did you mean `{close[0]}`?" if close else f"its slots are {_some([s.name for s in slots])}"))
    kinds = sorted({slot.label for slot in slots if slot.kind != "axis"})
    if isinstance(key, type):
        below = sorted({slot.label for slot in slots if slot.how == "module" and isinstance(slot.old, key)})
        if below:
            return SwapError(f"{there}: a type is meant exactly, and there are only {_some(below)}, which derive from it; name those")
    names = [slot.name for slot in slots]
    return SwapError(f"{there}; there are {_some(kinds)}" + (f", named {_some(names)}" if isinstance(key, re.Pattern) else ""))


def _some(items: Sequence[str]) -> str:
    return ", ".join(items[:6]) + (f" and {len(items) - 6} more" if len(items) > 6 else "") if items else "no activations and norms that swap knows"


def make_from(factory: Callable[..., nn.Module], slot: Slot, text: str) -> nn.Module:
    """A module of a factory, which is given the channels if it takes them. Raises SwapError for one that cannot be called so."""
    try:
        found = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # a class of C without a signature
        found = {}.values()  # type: ignore[assignment]
    names = [p.name for p in found]
    needed = [p.name for p in found if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    features = "num_features" in names
    if (needed or features) and slot.channels is None:
        if needed:
            raise SwapError(f"rule `{text}`: the factory takes {needed[0]}, and how many channels `{slot.name}` has is not known; {UNKNOWN}")
        features = False
    options = {"channel_dim": slot.dim} if "channel_dim" in names else {}
    made = factory(num_features=slot.channels, **options) if features else factory(slot.channels, **options) if needed else factory(**options)
    if not isinstance(made, nn.Module):
        raise SwapError(f"rule `{text}`: the factory must return a torch.nn.Module; it returned {type(made).__name__}")
    return made


UNKNOWN = "pass a batch, calibrate=[x], to see it, or a formula that keeps no value per channel"

"""Formulas of a grammar: forms with holes, as a YAML states them. The schemas of published searches are such grammars."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from evosearch.language.candidate import Candidate, inputs_of
from evosearch.language.formula import FormulaError, parse
from evosearch.language.graph import Graph, Parameter, canonical, constant, make, parameter, parameters, reaches, replace, variable, walk
from evosearch.language.operators import OPERATORS
from evosearch.space import Production, Tree
from evosearch.space.trees import grow, heights

NUMBER = "number"  # the hole for a number of its own, without a rule
NUMBERS = (-2.0, -1.0, -0.5, -0.1, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0)
_HOLE = re.compile(r"\{([a-z_]\w*)(:\d+)?\}")
_LEVELS = 6
LARGEST = 64  # nodes, where a grammar states no limit


@dataclass(frozen=True)
class Form:
    """One form: its text, its graph with `hole0`, `hole1`, ... as inputs, and the rule of each hole."""

    text: str
    graph: Graph
    holes: tuple[str, ...]


@dataclass(frozen=True)
class GrammarSpace:
    """`rules` of forms such as `{unary} * {unary}`; a form is a formula whose holes name rules, the first rule makes the candidate.

    A parameter that a form declares is its own wherever the form stands. `{number}` is a number that may be tuned, and `{score:1}` the
    same part wherever it stands in a form. Raises ValueError for a form that is no formula, a hole without a rule, a rule that never ends.
    """

    rules: Mapping[str, Sequence[str]]
    max_nodes: int = LARGEST
    slot: str = "act"

    numeric = frozenset((NUMBER,))

    def __post_init__(self) -> None:
        if not self.rules or not all(self.rules.values()):
            raise ValueError("a grammar has at least one rule, and every rule at least one form")
        for name, forms in self.forms.items():
            for form in forms:
                for hole in form.holes:
                    if hole not in self.productions:
                        raise ValueError(f"the rule `{name}` has the form `{form.text}`, but there is no rule `{hole}`; there are {', '.join(self.rules)}")
        heights(self.productions)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Those of a layer in the slot; a formula has to reach all of them."""
        return inputs_of(self.slot)

    @property
    def root(self) -> str:
        return next(iter(self.rules))

    @cached_property
    def forms(self) -> Mapping[str, tuple[Form, ...]]:
        """Each rule's forms, read."""
        return {name: tuple(_form(name, text, self.inputs) for text in texts) for name, texts in self.rules.items()}

    @cached_property
    def productions(self) -> Mapping[str, tuple[Production, ...]]:
        """One production a form."""
        found = {name: tuple(Production(form.text, form.holes) for form in forms) for name, forms in self.forms.items()}
        uses_numbers = any(NUMBER in form.holes for forms in self.forms.values() for form in forms)
        return found | ({NUMBER: tuple(Production(repr(value)) for value in NUMBERS)} if uses_numbers else {})

    @cached_property
    def heights(self) -> Mapping[str, int]:
        """The levels of each rule's flattest tree. Raises ValueError for a rule that never ends."""
        return heights(self.productions)

    @cached_property
    def max_parameters(self) -> int:
        """As many as a formula of this size can hold."""
        return self.max_nodes if any(parameters(form.graph) for forms in self.forms.values() for form in forms) else 0

    @cached_property
    def per_channel(self) -> bool:
        return any(p.kind == "channel" for forms in self.forms.values() for form in forms for p in parameters(form.graph))

    def build(self, tree: Tree) -> Candidate | None:
        """The candidate of a tree; None for one that is too large, or that an input does not reach."""
        try:
            graph = canonical(self._graph(self.root, tree, "v"))
        except ValueError:  # a number that is not finite, a statistic of what it must not be
            return None
        if graph.size > self.max_nodes or not all(reaches(graph, name) for name in self.inputs) or not _can_be_said(graph):
            return None
        return Candidate({"act": graph})

    def _graph(self, rule: str, tree: Tree, place: str) -> Graph:
        name, inputs = tree
        if rule == NUMBER:
            return constant(float(name))
        form = next(form for form in self.forms[rule] if form.text == name)
        swap = {variable(f"hole{i}"): self._graph(hole, part, f"{place}{i}") for i, (hole, part) in enumerate(zip(form.holes, inputs, strict=True))}
        own = {parameter(p.name, p.kind, p.init): parameter(f"{place}_{p.name}", p.kind, p.init) for p in parameters(form.graph)}
        return replace(form.graph, swap | own)

    def derive(self, candidate: Candidate) -> Tree | None:
        """A tree that builds the candidate; None for one that is not in the space."""
        if set(candidate.slots) != {"act"} or candidate.choices:
            return None
        for tree in _Match(self).trees(self.root, candidate.graph):
            built = self.build(tree)
            if built is not None and str(built) == str(candidate):
                return tree
        return None

    def contains(self, candidate: Candidate) -> bool:
        """Whether some tree builds it."""
        return self.derive(candidate) is not None

    def sample(self, rng: random.Random) -> Candidate:
        """A random formula: every form of a rule is equally likely. Raises ValueError when 1,000 walks find none that fits."""
        for _ in range(1000):
            candidate = self.build(grow(self.productions, self.root, rng, _LEVELS, self.heights))
            if candidate is not None:
                return candidate
        raise ValueError(f"no formula of at most {self.max_nodes} nodes was found in 1,000 samples; raise max_nodes or mend the grammar")


def _form(rule: str, text: str, inputs: tuple[str, ...]) -> Form:
    holes: list[str] = []
    numbered: dict[str, str] = {}

    def name(match: re.Match[str]) -> str:
        if match[0] in numbered:
            return numbered[match[0]]
        holes.append(match[1])
        found = f"hole{len(holes) - 1}"
        if match[2]:
            numbered[match[0]] = found
        return found

    filled = _HOLE.sub(name, text)
    try:
        graph = parse(filled, (*inputs, *(f"hole{i}" for i in range(len(holes)))), keep_names=True)
    except FormulaError as error:
        raise ValueError(f"the rule `{rule}` has the form `{text}`: {error}") from None
    return Form(text, graph, tuple(holes))


def _can_be_said(graph: Graph) -> bool:
    """Whether the language takes the text: it has no power of a number by a number, nor so large a one."""
    try:
        return parse(str(graph)) is graph
    except FormulaError:
        return False


class _Match:
    """The trees of a rule that may build a graph, found from the root down: a form fits where its operators are the graph's."""

    def __init__(self, space: GrammarSpace) -> None:
        self.space = space
        self._found: dict[tuple[str, Graph], tuple[Tree, ...]] = {}

    def trees(self, rule: str, graph: Graph) -> tuple[Tree, ...]:
        """Those that were found; at most one a form, so that the search is short."""
        key = (rule, graph)
        if key not in self._found:
            self._found[key] = ()  # a rule within itself over the same graph adds nothing
            self._found[key] = tuple(self._fits(rule, graph))
        return self._found[key]

    def _fits(self, rule: str, graph: Graph) -> Iterator[Tree]:
        if rule == NUMBER:
            if graph.op == "constant":
                yield repr(graph.value), ()
            return
        for form in self.space.forms[rule]:
            for holes in _unify(form.graph, graph, {}):
                parts = [self.trees(hole, holes[f"hole{i}"]) for i, hole in enumerate(form.holes)]
                if all(parts):
                    yield form.text, tuple(part[0] for part in parts)
                    break


def _unify(form: Graph, graph: Graph, holes: dict[str, Graph]) -> Iterator[dict[str, Graph]]:
    """The graphs that stand in the form's holes; a commutative operator is tried both ways."""
    if isinstance(form.value, str):  # an input or a hole
        if form.value.startswith("hole"):
            if holes.get(form.value, graph) is graph:  # one part, wherever it stands
                yield {**holes, form.value: graph}
        elif form is graph:
            yield holes
    elif isinstance(form.value, Parameter):
        if isinstance(graph.value, Parameter) and (graph.value.kind, graph.value.init) == (form.value.kind, form.value.init):
            yield holes
    elif form is graph and not any(isinstance(node.value, str) for node in walk(form)):
        yield holes
    elif form.op == "neg" and graph.op == "constant":
        yield from _unify(form.args[0], make("neg", graph), holes)
    elif form.op == graph.op and form.args and form.value == graph.value:
        yield from _unify_inputs(form.args, graph.args, holes)
        if len(form.args) == 2 and form.op in OPERATORS and OPERATORS[form.op].commutative:
            yield from _unify_inputs(form.args, graph.args[::-1], holes)


def _unify_inputs(forms: Sequence[Graph], graphs: Sequence[Graph], holes: dict[str, Graph]) -> Iterator[dict[str, Graph]]:
    if not forms:
        yield holes
        return
    for found in _unify(forms[0], graphs[0], holes):
        yield from _unify_inputs(forms[1:], graphs[1:], found)

"""The section `space`: what may be built."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from evosearch.judging.baselines import baseline, check_inputs
from evosearch.judging.objectives import nearest
from evosearch.language.formula import parse
from evosearch.language.operators import OPERATORS, STATISTICS
from evosearch.sections.values import Baseline, Distinct, Limit, Section
from evosearch.space import SearchSpace
from evosearch.space.grammar import LARGEST, GrammarSpace
from evosearch.space.network import NetworkSpace
from evosearch.space.operators import OperatorSpace


def _operator(name: str) -> str:
    searchable = [row.name for row in OPERATORS.values() if row.searchable]
    if name in searchable:
        return name
    if name in STATISTICS:
        raise ValueError(f"`{name}` is a statistic of a whole tensor; spaces of this version search elementwise functions of x")
    if name in OPERATORS:
        raise ValueError(f"`{name}` serves derivatives and is not searched; `evosearch operators` lists what is")
    raise ValueError(f"unknown operator `{name[:40]}`; {nearest(name, searchable)}")


class RequireSection(Section):
    """What every candidate must be (meaning.require.Requirements)."""

    smooth: Literal["", "C0", "C1", "C2"] = ""
    monotone: bool = False
    lipschitz: Limit = None
    bounded: bool = False
    invertible: bool = False
    batch_independent: bool = False


class FormulaSection(Section):
    """What a formula may be: of `operators` (space.operators), of the forms of a `grammar` (space.grammar), or one of some `layers`."""

    operators: Distinct[Annotated[str, AfterValidator(_operator)]] = []
    grammar: dict[Annotated[str, Field(pattern="^[a-z_][a-z0-9_]*$")], Annotated[Distinct[str], Field(min_length=1)]] = {}
    layers: Distinct[Baseline] = []
    max_nodes: Annotated[int, Field(ge=2, le=64)] | None = None
    extra_operators: Annotated[int, Field(ge=0, le=8)] = 1
    constants: bool = True
    layer_parameters: Annotated[int, Field(ge=0, le=4)] = 0
    channel_parameters: Annotated[int, Field(ge=0, le=4)] = 0
    graph_nodes: Annotated[int, Field(ge=0, le=30)] = 0
    statistics: Distinct[Literal["mean", "var", "std", "rms", "sum", "max"]] = []
    axes: Distinct[Literal["batch", "layer", "instance", "group", "channel", "row"]] = []
    groups: Annotated[int, Field(ge=1, le=1024)] = 32
    affine: bool = False

    @property
    def kinds(self) -> list[str]:
        """Those of the three that are given."""
        return [kind for kind in ("operators", "grammar", "layers") if getattr(self, kind)]

    @model_validator(mode="after")
    def _one_kind(self) -> FormulaSection:
        if len(self.kinds) > 1:
            raise ValueError(f"a formula is made of operators, of the forms of a grammar, or is one of some layers; received {' and '.join(self.kinds)}")
        if self.operators and self.max_nodes is None:
            raise ValueError("`max_nodes` is missing: the size of the largest formula of operators")
        if self.kinds and "operators" not in self.kinds:
            others = {name: field for name, field in FormulaSection.model_fields.items() if name not in ("grammar", "layers", "max_nodes")}
            useless = sorted(name for name, field in others.items() if getattr(self, name) != field.get_default(call_default_factory=True))
            if useless:  # a run's own file holds every key
                raise ValueError(f"`{useless[0]}` goes with operators; a grammar says the same in its forms")
        return self

    def formulas(self, slot: str) -> SearchSpace:
        """The space of them. Raises ValueError."""
        if self.operators:
            fields: dict[str, Any] = self.model_dump(include=set(FormulaSection.model_fields) - {"grammar", "layers"})
            frozen: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
            return OperatorSpace(**frozen | {"slot": slot})
        layers = {name: parse(baseline(name)) for name in self.layers}
        for name, graph in layers.items():
            check_inputs(name, graph, slot)
        rules = self.grammar or {"layer": [str(graph) for graph in layers.values()]}
        return GrammarSpace(rules, self.max_nodes or LARGEST, slot)


class SpaceSection(FormulaSection):
    """What may be built (space.SearchSpace): a formula, or a network of several `slots` and `choices`."""

    slot: Literal["act", "norm_act", "gate", "attention"] = "act"
    slots: Annotated[int, Field(ge=1, le=64)] | dict[Annotated[str, Field(pattern="^[a-z_][a-z0-9_]*$")], FormulaSection] = {}
    formula: FormulaSection | None = None  # of every slot, where `slots` is their number
    choices: dict[Annotated[str, Field(pattern="^[a-z_][a-z0-9_]*$")], Annotated[list[int | float | str], Field(min_length=1)]] = {}
    require: RequireSection = Field(default_factory=lambda: RequireSection())

    @model_validator(mode="after")
    def _formula_or_network(self) -> SpaceSection:
        network = bool(self.slots or self.choices)
        if network == bool(self.kinds):
            raise ValueError("a space has operators, a grammar or layers, or else slots and choices of a network; see search_spaces/")
        if isinstance(self.slots, int) != (self.formula is not None and bool(self.formula.kinds)):
            raise ValueError("`slots: 3` goes with `formula:`, what each of them may be; named slots have a formula each")
        if isinstance(self.slots, dict) and not all(part.kinds for part in self.slots.values()):
            raise ValueError("every slot has operators, a grammar or layers")
        self.space()
        return self

    def space(self) -> SearchSpace:
        """The space that the section states. Raises ValueError."""
        if self.kinds:
            return self.formulas(self.slot)
        choices = {name: tuple(values) for name, values in self.choices.items()}
        if isinstance(self.slots, dict):
            return NetworkSpace({name: part.formulas(self.slot) for name, part in self.slots.items()}, choices, self.slot)
        shared = self.formula.formulas(self.slot) if self.formula else None
        return NetworkSpace({f"{self.slot}{i}": shared for i in range(self.slots) if shared}, choices, self.slot)

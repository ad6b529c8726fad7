"""What a configuration may say: one model a section, each field with its type, range and default. What the YAML keys are."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from evosearch.judging.baselines import QUALITY_BAR, baseline, check_inputs
from evosearch.judging.networks import check_choices, network_of
from evosearch.judging.objectives import OBJECTIVES, applies, check_applies, check_goal, check_objective, check_slot, nearest, parse_pair, register_file
from evosearch.language.candidate import slot_names
from evosearch.language.formula import parse
from evosearch.language.operators import OPERATORS, STATISTICS
from evosearch.proposers.registry import CONTROLS, PROPOSERS
from evosearch.search.scale import GOALS, Goal
from evosearch.space import SearchSpace
from evosearch.space.grammar import LARGEST, GrammarSpace
from evosearch.space.network import NetworkSpace
from evosearch.space.operators import OperatorSpace


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _operator(name: str) -> str:
    searchable = [row.name for row in OPERATORS.values() if row.searchable]
    if name in searchable:
        return name
    if name in STATISTICS:
        raise ValueError(f"`{name}` is a statistic of a whole tensor; spaces of this version search elementwise functions of x")
    if name in OPERATORS:
        raise ValueError(f"`{name}` serves derivatives and is not searched; `evosearch operators` lists what is")
    raise ValueError(f"unknown operator `{name[:40]}`; {nearest(name, searchable)}")


def _pair(text: str) -> str:
    parse_pair(text)
    return text


def _objective(name: str) -> str:
    return check_objective(name)


def _baseline(name: str) -> str:
    baseline(name)
    return name


def _distinct(names: list[T]) -> list[T]:
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise ValueError(f"`{twice}` stands here twice; leave one out")
    return names


def _proposer(name: str) -> str:
    if name not in PROPOSERS:
        raise ValueError(f"unknown proposer `{name[:40]}`; {nearest(name, PROPOSERS)}")
    return name


def _control(name: str) -> str:
    if name not in CONTROLS:
        raise ValueError(f"unknown control `{name[:40]}`; {nearest(name, CONTROLS)}")
    return name


Factor = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
T = TypeVar("T")
Distinct = Annotated[list[T], AfterValidator(_distinct)]
Limit = Annotated[float, Field(gt=0, allow_inf_nan=False)] | None


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
    layers: Distinct[Annotated[str, AfterValidator(_baseline)]] = []
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


class DataSection(Section):
    """A data file of the user's: in a YAML its path alone, the rest is read from it (dataset.source.DataFile)."""

    path: Annotated[str, Field(min_length=1)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    targets: Literal["classes", "numbers"]
    inputs: Literal["rows", "images"]


def _registered(data: dict[str, DataSection]) -> dict[str, DataSection]:
    for name, file in data.items():
        register_file(name, file.targets, file.inputs)
    return data


class StageSection(Section):
    """Where and how long to train."""

    pairs: Annotated[Distinct[Annotated[str, AfterValidator(_pair)]], Field(min_length=1)]
    steps: Annotated[int, Field(ge=1, le=1_000_000)]
    rates: Annotated[Distinct[Factor], Field(min_length=1)]
    seeds: Annotated[int, Field(ge=1, le=100)] = 1
    optimizer: Literal["adam", "sgd"] = "adam"


class QuickSection(StageSection):
    """A short test before the quality test, which the best `keep` share of the functions passes."""

    keep: Annotated[float, Field(gt=0, le=1)] = 0.5


class FullSection(StageSection):
    """Every pair at every rate and on every seed; with the two shares only the best of all functions go on after one rate, and after one seed."""

    keep_first_rate: Annotated[float, Field(gt=0, le=1)] = 1.0  # after the first seed at the tuned rate
    keep_first_seed: Annotated[float, Field(gt=0, le=1)] = 1.0  # after the first seed at every rate


class FiltersSection(Section):
    """What is tested before any training, cheap to dear; null switches a filter off (judging.filters.Limits)."""

    cost: Annotated[int, Field(ge=1)] | None = None
    dtypes: Distinct[Literal["float32", "bfloat16", "float16"]] = ["float32", "bfloat16"]
    saved_per_element: Limit = None
    dead_units: Annotated[float, Field(ge=0, lt=1)] | None = None
    propagation: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None = None
    stability: Limit = None


class JudgingSection(Section):
    """The funnel: the filters, the quick test, the quality test, longer training for the best `promote` share, the final check."""

    filters: FiltersSection = Field(default_factory=FiltersSection)
    quick: QuickSection | None = None
    quality: StageSection
    full: FullSection
    final: StageSection
    promote: Annotated[float, Field(gt=0, le=1)] = 0.1
    initialization: Literal["lecun", "gain"] = "lecun"  # gain: weights scaled by each function's own 1 / sqrt(E f^2)
    objectives: Distinct[Annotated[str, AfterValidator(_objective)]] = []  # measured in `full` besides what always is
    goals: Annotated[Distinct[str], Field(min_length=1)] | None = None  # beside the mean; null: worst and complexity, and saved tensors on the front

    @model_validator(mode="after")
    def _objectives_apply(self) -> JudgingSection:
        check_applies(self.objectives, self.full.pairs)
        for name in self.goals or ():
            check_goal(name, self.objectives)
        check_applies(self.goals or (), self.quality.pairs)
        return self

    @property
    def shares(self) -> dict[str, tuple[float, list[str]]]:
        """The stages after which only a share of all functions goes on: the share, and the pairs that it is judged on."""
        rungs = {"first_rate": self.full.keep_first_rate, "first_seed": self.full.keep_first_seed}
        found = {"quick": (self.quick.keep, self.quick.pairs)} if self.quick else {}
        return found | {"quality": (self.promote, self.quality.pairs)} | {rung: (share, self.full.pairs) for rung, share in rungs.items() if share < 1}

    def selection(self) -> tuple[Goal, ...]:
        """What selection optimizes beside the mean."""
        if self.goals is None:
            return GOALS
        stages = {"quality": self.quality.pairs, "full": self.full.pairs}
        return tuple(
            Goal(
                name, OBJECTIVES[name].direction, OBJECTIVES[name].of != "formula",
                {stage: tuple(pair for pair in pairs if applies(name, pair)) for stage, pairs in stages.items()},
            ) for name in self.goals
        )  # fmt: skip

    @model_validator(mode="after")
    def _one_seed_before_full(self) -> JudgingSection:
        for name in ("quick", "quality"):
            if getattr(self, name) is not None and getattr(self, name).seeds != 1:
                raise ValueError(f"the {name} test has one seed; put more seeds in `full`")
        if self.quick is not None and self.quick.steps >= self.quality.steps:
            raise ValueError(f"the quick test is shorter than the quality test of {self.quality.steps} steps; received {self.quick.steps}")
        return self

    @property
    def pairs(self) -> list[str]:
        """Every pair of every stage once, sorted."""
        stages = (self.quick, self.quality, self.full, self.final)
        return sorted({pair for stage in stages if stage is not None for pair in stage.pairs})


class BudgetSection(Section):
    """Totals over the whole run, restarts included: dispatched functions with the baselines; minutes of search, the final check comes on top."""

    evaluations: Annotated[int, Field(ge=3, le=10_000_000)]
    minutes: Annotated[float, Field(gt=0, le=1e6)] | None = None


class ExecutionSection(Section):
    """Where jobs run. None of these changes what is found."""

    executor: Literal["serial", "local", "ray"] = "local"
    workers: Annotated[int, Field(ge=0, le=10_000)] = 0  # 0: as many as cores
    address: str | None = None
    device: str = "cpu"
    time_limit: Annotated[float, Field(gt=0, le=1e6)] = 300.0
    memory_limit_gb: Annotated[float, Field(ge=0, le=10_000)] = 4.0  # 0: none
    save_states_after: Annotated[float, Field(ge=0, le=1e6)] = 300.0  # seconds of one evaluation, whose trainings are then kept on disk; 0: never

    @model_validator(mode="after")
    def _address_goes_with_ray(self) -> ExecutionSection:
        if self.address and self.executor != "ray":
            raise ValueError(f"an address goes with the executor ray; received it with `{self.executor}`: add --executor ray")
        return self


class Config(Section):
    """One search, from space to budget."""

    space: SpaceSection
    data: Annotated[dict[str, DataSection], AfterValidator(_registered)] = {}  # before the pairs, which may name them
    judging: JudgingSection
    baselines: Distinct[Annotated[str, AfterValidator(_baseline)]]
    proposers: dict[Annotated[str, AfterValidator(_proposer)], Annotated[float, Field(ge=0, le=1000)]]
    sharing: Literal["earned", "fixed"] = "earned"  # of the asks among the proposers: by their shares times what they earned, or by their shares alone
    controls: dict[Annotated[str, AfterValidator(_control)], Annotated[float, Field(ge=0, le=1000)]] = {}  # 1: as many functions as all proposers together
    budget: BudgetSection
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    window: Annotated[int, Field(ge=1, le=1_000_000)] = 16
    execution: ExecutionSection = ExecutionSection()

    @model_validator(mode="after")
    def _baselines_make_the_bar(self) -> Config:
        formulas: dict[str, str] = {}
        for name in self.baselines:
            graph = parse(baseline(name))
            check_inputs(name, graph, self.space.slot)
            twin = formulas.setdefault(str(graph), name)
            if twin != name:
                raise ValueError(f"baselines: `{twin}` and `{name}` are the same function; leave one out")
        bar = QUALITY_BAR[self.space.slot]
        missing = [name for name in bar if name not in self.baselines]
        if missing:
            raise ValueError(f"baselines must hold {' and '.join(bar)}, from which the quality bar follows; `{missing[0]}` is missing")
        for pair in self.judging.pairs:
            check_slot(pair, self.space.slot)
        if self.judging.initialization == "gain" and self.space.slot != "act":
            raise ValueError(f"judging.initialization gain is of activations, which keep the variance by it; received the slot {self.space.slot}: leave it out")
        required = self.space.require.model_dump(exclude={"batch_independent"}, exclude_defaults=True)
        if required and self.space.slot in ("gate", "attention"):
            why = {"gate": "a gate has two inputs", "attention": "the weight of a key depends on the others"}[self.space.slot]
            raise ValueError(f"space.require.{min(required)} is of functions of x alone, and {why}: leave it out")
        useless = [name for name in ("dead_units", "propagation", "stability") if getattr(self.judging.filters, name) is not None]
        if useless and self.space.slot == "attention":
            raise ValueError(f"judging.filters.{useless[0]} is of layers between linear maps, and attention makes weights of scores: leave it out")
        self._check_networks()
        unused = set(self.data) - {parse_pair(pair).task for pair in self.judging.pairs}
        if unused:
            raise ValueError(f"data: `{min(unused)}` is in no pair; name it in one, as in {min(unused)}/mlp, or leave it out")
        if self.budget.evaluations <= len(self.baselines):
            raise ValueError(f"budget.evaluations counts the {len(self.baselines)} baselines too; received {self.budget.evaluations}: raise it")
        if not any(share > 0 for share in self.proposers.values()):
            raise ValueError("proposers: at least one needs a share above 0")
        return self

    @property
    def network(self) -> NetworkSpace | None:
        """The space of a search for networks; None where one layer for every place is searched."""
        space = self.space.space()
        return space if isinstance(space, NetworkSpace) else None

    def baseline_texts(self) -> dict[str, str]:
        """The candidate of each baseline by its name; in a search for networks the one that has it in every slot and chooses what is usual."""
        found = {name: baseline(name) for name in self.baselines}
        if self.network is None:
            return found
        slots, choices = tuple(self.network.slots), self.network.choices
        return {name: network_of(formula, slots, choices, self.judging.pairs) for name, formula in found.items()}

    def _check_networks(self) -> None:
        """Raises ValueError for a search of networks that asks for what is of single layers, or for choices that a pair does not have."""
        space = self.network
        if space is None:
            return
        if space.slot != "act":
            raise ValueError(f"the slots of a network are activations; `slot: {space.slot}` is of one layer for every place: leave it out")
        names = slot_names(len(space.slots))
        if not space.slots or (set(space.slots) != {"act"} and list(space.slots) != list(names)):
            raise ValueError(f"the slots of a network are `act`, for every place, or act0, act1 and so on; received {', '.join(space.slots) or 'none'}")
        if self.judging.initialization == "gain":
            raise ValueError("judging.initialization gain is of one activation, and a network has several: leave it out")
        if "tuned" in self.controls:
            raise ValueError("the control `tuned` scales one activation, and a network has several: leave it out of controls")
        for pair in self.judging.pairs:
            check_choices(pair, {})
            for name, values in space.choices.items():
                for value in values:
                    check_choices(pair, {name: value})

"""What a configuration may say: one model a section, each field with its type, range and default. What the YAML keys are."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from evosearch.judging.baselines import QUALITY_BAR, baseline, check_inputs
from evosearch.judging.networks import check_choices, network_of
from evosearch.judging.objectives import check_slot, nearest, parse_pair, register_file
from evosearch.language.candidate import slot_names
from evosearch.language.formula import parse
from evosearch.meaning.require import Requirements
from evosearch.meaning.screen import Screen
from evosearch.proposers.registry import CONTROLS, PROPOSERS
from evosearch.sections.judging import JudgingSection
from evosearch.sections.space import SpaceSection
from evosearch.sections.values import Baseline, Distinct, Section
from evosearch.seeding import Asked, Seed
from evosearch.space import SearchSpace
from evosearch.space.network import NetworkSpace


def _proposer(name: str) -> str:
    if name not in PROPOSERS:
        raise ValueError(f"unknown proposer `{name[:40]}`; {nearest(name, PROPOSERS)}")
    return name


def _control(name: str) -> str:
    if name not in CONTROLS:
        raise ValueError(f"unknown control `{name[:40]}`; {nearest(name, CONTROLS)}")
    return name


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


class TuningSection(Section):
    """The second level: of the budget the last `evaluations` tune the numbers of the `survivors`, the structures that did best."""

    evaluations: Annotated[int, Field(ge=1, le=10_000_000)]
    survivors: Annotated[int, Field(ge=1, le=1000)] = 3
    sampler: Literal["tpe", "gp", "cma-es"] = "tpe"


class BudgetSection(Section):
    """Totals over the whole run, restarts included: dispatched functions with the baselines; minutes of search, the final check comes on top."""

    evaluations: Annotated[int, Field(ge=3, le=10_000_000)]
    minutes: Annotated[float, Field(gt=0, le=1e6)] | None = None


class ExecutionSection(Section):
    """Where jobs run. None of these changes what is found."""

    executor: Literal["serial", "local", "ray"] = "local"
    workers: Annotated[int, Field(ge=0, le=10_000)] = 0  # 0: as many as cores
    address: str | None = None
    insecure_cluster: bool = False  # join a cluster that takes commands without a token
    gpus_per_worker: Annotated[float, Field(gt=0, le=64)] | None = None  # with ray; a fraction shares a GPU; none: 1 where the device is cuda
    device: str = "cpu"
    time_limit: Annotated[float, Field(ge=1e-3, le=1e6)] = 300.0  # seconds
    memory_limit_gb: Annotated[float, Field(ge=0, le=10_000)] = 4.0  # 0: none
    save_states_after: Annotated[float, Field(ge=0, le=1e6)] = 300.0  # seconds of one evaluation, whose trainings are then kept on disk; 0: never
    segment_rows: Annotated[int, Field(ge=1, le=20_000)] = 2000  # rows of the journal that make a Parquet part

    @model_validator(mode="after")
    def _address_goes_with_ray(self) -> ExecutionSection:
        if self.address and self.executor != "ray":
            raise ValueError(f"an address goes with the executor ray; received it with `{self.executor}`: add --executor ray")
        if self.insecure_cluster and not self.address:
            raise ValueError("insecure_cluster is of a cluster that is joined by its address; add --address, or leave it out")
        if self.gpus_per_worker is not None and self.executor != "ray":
            raise ValueError(f"gpus_per_worker goes with the executor ray; received it with `{self.executor}`: leave it out")
        if self.executor == "ray" and self.device.startswith("cuda:"):
            raise ValueError(f"with the executor ray each worker sees its own GPUs alone; received the device {self.device}: use cuda")
        return self

    @property
    def gpus(self) -> float:
        """Of each worker of Ray."""
        return (self.gpus_per_worker or float(self.device == "cuda")) if self.executor == "ray" else 0.0


class Config(Section):
    """One search, from space to budget."""

    space: SpaceSection
    data: Annotated[dict[str, DataSection], AfterValidator(_registered)] = {}  # before the pairs, which may name them
    judging: JudgingSection
    baselines: Distinct[Baseline]
    proposers: dict[Annotated[str, AfterValidator(_proposer)], Annotated[float, Field(ge=0, le=1000)]]
    sharing: Literal["earned", "fixed"] = "earned"  # of the asks among the proposers: by their shares times what they earned, or by their shares alone
    controls: dict[Annotated[str, AfterValidator(_control)], Annotated[float, Field(ge=0, le=1000)]] = {}  # 1: as many functions as all proposers together
    seeds: Annotated[list[Seed], Field(max_length=500)] = []  # in a YAML the name of a layer, a formula, or `{run: FOLDER, top: 5}` (config.load)
    budget: BudgetSection
    tuning: TuningSection | None = None
    retrain_after: Annotated[int, Field(ge=1, le=1_000_000)] | None = None  # proposals of a known find, which is then trained once more on fresh seeds
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
        if not any(share > 0 for share in self.proposers.values()):
            raise ValueError("proposers: at least one needs a share above 0")
        first = f"the {len(self.baselines)} baselines" + f" and {len(self.asked_first)} seeds" * bool(self.asked_first)
        if self.budget.evaluations <= len(self.baselines) + len(self.asked_first):
            raise ValueError(f"budget.evaluations counts {first} too; received {self.budget.evaluations}: raise it")
        if self.tuning and self.budget.evaluations <= len(self.baselines) + len(self.asked_first) + self.tuning.evaluations:
            raise ValueError(f"tuning.evaluations are the last of budget.evaluations; received {self.tuning.evaluations} of {self.budget.evaluations}")
        if self.seeds:
            asked = self.asked()
            for seed in self.asked_first:
                asked.take(seed.candidate, f"the seed `{seed.title[:80]}`")
        return self

    @property
    def asked_first(self) -> list[Seed]:
        """The seeds that are not left out."""
        return [seed for seed in self.seeds if not seed.left_out]

    def asked(self) -> Asked:
        """The baselines, as what is asked before the seeds."""
        space = self.space.space()
        return Asked(space, self.screen(space), self.baseline_texts())

    def screen(self, space: SearchSpace) -> Screen:
        """The driver's own checks."""
        required = Requirements(**self.space.require.model_dump())
        return Screen(space.max_nodes, max(space.max_parameters, 2 * ("tuned" in self.controls)), self.judging.filters.cost, required)

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

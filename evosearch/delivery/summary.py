"""A run as it stands, and the end of a search in one record: pick, verdict, novelty, simplified forms, times. Kept as summary.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from evosearch.delivery.funnel import funnel
from evosearch.judging.baselines import QUALITY_BAR
from evosearch.judging.objectives import direction, parse_pair
from evosearch.language.candidate import Candidate, inputs_of, parse_candidate
from evosearch.language.graph import Graph
from evosearch.meaning.facts import Novelty, novelty
from evosearch.meaning.symbolic import simplify
from evosearch.search.files import sealed
from evosearch.search.pick import CONTROLS, Pick, best_controls, contestants, count_tried, front, fully_trained, is_seed, may_be_picked, pick
from evosearch.search.scale import Goal, Scale, standardize
from evosearch.search.store import LogError, Row, read_bytes, read_run, write_atomically
from evosearch.search.study import FINAL_INDEX
from evosearch.search.verdict import Comparison, compare
from evosearch.sections import Config

SHOWN = 8
TIMED_INPUTS = 16  # at once, to a network


@dataclass(frozen=True)
class Reading:
    """A run as it stands: every row, the dispatched ones of the search in index order, the pick, the rows of its final check.

    `ended` says whether the search proposes nothing more, `notices` what a reader should know of the files.
    """

    directory: Path
    config: Config
    rows: Sequence[Row]
    scale: Scale | None
    searched: Sequence[Row]
    pick: Pick | None
    finals: Sequence[Row]
    ended: bool = False
    notices: Sequence[str] = ()

    @property
    def contestants(self) -> list[str]:
        """The candidates of the final check; none where there is no pick."""
        return contestants(self.searched, self.pick, usual_baseline(self.config), controls=self.config.network is not None)

    @property
    def finished(self) -> bool:
        """Whether the final check of this length of search is complete; without a pick there is none, and the search's own end counts."""
        done = self.ended if self.pick is None else len(self.finals) == len(self.contestants) * len(self.config.judging.final.pairs)
        return self.scale is not None and done


@dataclass(frozen=True)
class Verdict:
    """The final check: the pick against every other contestant, after `tried` functions were fully trained; and that in one line."""

    line: str
    tried: int
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class Form:
    """What sympy made of a formula; `formula` is the original where its form was not accepted."""

    formula: str
    accepted: bool
    note: str


@dataclass(frozen=True)
class Summary:
    """The record of summary.json; it fits the run whose search had `search_end` functions and this pick."""

    search_end: int
    pick: Pick | None
    verdict: Verdict | None
    novelty: Mapping[str, Novelty]  # by formula, as are the simplified forms: of a network those of its slots
    simplified: Mapping[str, Form]
    relative_time: Mapping[str, float]
    counts: Mapping[str, int]
    inference_time: Mapping[str, float] = field(default_factory=dict)  # where it was asked for


def read(directory: Path, config: Config) -> Reading:
    """The run as it stands; safe while it goes on. Raises LogError."""
    notices: list[str] = []
    rows, records = read_run(directory, notices)
    scale, directions = _scale(records), directions_of(config)
    goals = config.judging.selection()
    searched = _search_rows(rows, scale, directions, goals)
    check = FINAL_INDEX // 1000 + len(searched)  # final jobs are numbered after the length of the search
    finals = [r for r in rows if r["index"] is not None and r["index"] // 1000 == check]
    chosen = pick(searched, scale, goals) if scale else None
    return Reading(directory, config, rows, scale, searched, chosen, finals, _ended(directory, config, len(searched)), notices)


def _ended(directory: Path, config: Config, told: int) -> bool:
    """Whether every function of the budget is told, or its time is over: that only status.json says, and one that is not readable does not."""
    if told >= config.budget.evaluations:
        return True
    file = directory / "status.json"
    if config.budget.minutes is None or not file.exists():
        return False
    try:
        status = json.loads(read_bytes(file))
    except LogError:
        raise
    except (ValueError, RecursionError):
        return False
    return isinstance(status, dict) and status.get("finished") is True and status.get("told") == told


def _scale(records: Sequence[Mapping[str, Any]]) -> Scale | None:
    """The run's frozen scale, if its baselines are done."""
    marks = [r for r in records if r["type"] == "scale"]
    return Scale(marks[-1]["center"], marks[-1]["spread"], marks[-1]["quality"]) if marks else None


def _search_rows(rows: Sequence[Row], scale: Scale | None, directions: Mapping[str, int], goals: Sequence[Goal]) -> list[Row]:
    """The dispatched rows of the search in index order, objectives filled in."""
    dispatched = sorted((r for r in rows if r["index"] is not None and r["index"] < FINAL_INDEX), key=lambda r: r["index"])
    if scale is None:
        return dispatched
    return [{**r, "objectives": {**r["objectives"], **standardize(r, scale, directions, goals)}} for r in dispatched]


def directions_of(config: Config) -> dict[str, int]:
    """The direction of every pair that the configuration names."""
    return {pair: direction(pair) for pair in config.judging.pairs}


def baseline_names(config: Config) -> dict[str, str]:
    """Canonical text of each baseline to its name."""
    return {str(parse_candidate(text)): name for name, text in config.baseline_texts().items()}


def usual_baseline(config: Config) -> str:
    """The text of the baseline that is what one would take without a search."""
    return next(text for text, name in baseline_names(config).items() if name == QUALITY_BAR[config.space.slot][1])


def leaders(reading: Reading, top: int) -> list[str]:
    """The pick, then the functions with the best mean among all that may be picked. Raises ValueError when there is none."""
    if reading.pick is None:
        again = f"run SPACE.yaml --out {reading.directory} --set budget.evaluations=N" if reading.finished else f"resume {reading.directory}"
        more = f"`evosearch {again}`" + ", N a larger total" * reading.finished
        raise ValueError(f"{reading.directory} has no fully trained function; let it run on with {more}")
    found = [r for r in fully_trained(reading.searched) if may_be_picked(r)]
    found.sort(key=lambda r: (-r["objectives"]["mean"], r["index"]))
    return list(dict.fromkeys([reading.pick.candidate, *(str(r["candidate"]) for r in found)]))[:top]


def shown_rows(rows: Sequence[Row], goals: Sequence[Goal]) -> list[Row]:
    """The rows of the final table: the front's finds and seeds by mean, filled up with the next best, the best of each control, every baseline."""
    full = fully_trained(rows)
    found = [r for r in full if may_be_picked(r)]
    on_front = {r["index"] for r in front(full, goals)}
    found.sort(key=lambda r: (r["index"] not in on_front, -r["objectives"]["mean"]))
    chosen = found[:SHOWN] + list(best_controls(full).values()) + [r for r in full if r["proposer"] == "baseline"]
    return sorted(chosen, key=lambda r: (-r["objectives"]["mean"], r["index"]))


def summarize(reading: Reading) -> Summary:
    """Computes the summary of a finished run and writes it as summary.json. Measured times are of this machine, now."""
    table = shown_rows(reading.searched, reading.config.judging.selection())
    times, inference = _times(reading, {r["candidate"]: parse_candidate(r["candidate"]) for r in table})
    graphs = {str(graph): graph for r in table if may_be_picked(r) for graph in parse_candidate(r["candidate"]).sites}
    summary = Summary(
        search_end=len(reading.searched),
        pick=reading.pick,
        verdict=judge(reading, times),
        novelty={text: novelty(graph) for text, graph in graphs.items()},
        simplified=_simplified(graphs),
        relative_time=times,
        counts=funnel(reading.rows),
        inference_time=inference,
    )
    write_atomically(reading.directory / "summary.json", sealed(asdict(summary)))
    return summary


def _times(reading: Reading, candidates: Mapping[str, Candidate]) -> tuple[dict[str, float], dict[str, float]]:
    """Of training and, where it was asked for, of inference: of a layer over ReLU's, of a network over the usual one's on the first pair."""
    asked = "inference_time" in reading.config.judging.objectives
    if all(candidate.is_layer for candidate in candidates.values()):
        from evosearch.compiler.module import compile_graph
        from evosearch.judging.timing import SHAPE, inference_times, relative_times

        layers = {text: compile_graph(candidate.graph, SHAPE[1]) for text, candidate in candidates.items()}
        inputs = len(inputs_of(reading.config.space.slot))
        return relative_times(layers, inputs), inference_times(layers, inputs) if asked else {}
    from evosearch.judging.tasks import task
    from evosearch.judging.timing import network_inference_times, network_times
    from evosearch.judging.train import untrained

    pair = reading.config.judging.full.pairs[0]
    networks = {text: untrained(pair, candidate) for text, candidate in candidates.items()}
    usual = untrained(pair, parse_candidate(usual_baseline(reading.config)))
    x = task(parse_pair(pair).task).load(parse_pair(pair).variant).validation[0][:TIMED_INPUTS]
    return network_times(networks, usual, x), network_inference_times(networks, usual, x) if asked else {}


def stored_summary(reading: Reading) -> tuple[Summary | None, str]:
    """The run's summary if it fits the run as it stands; else None and, where there is a file, why it was not used."""
    file = reading.directory / "summary.json"
    if not file.exists():
        return None, ""
    advice = f"`evosearch resume {reading.directory}` measures again"
    try:
        summary = TypeAdapter(Summary).validate_json(read_bytes(file))
    except ValidationError:
        return None, f"{file} is not what this evosearch writes and was ignored; {advice}"
    if summary.search_end != len(reading.searched):
        return None, f"{file} is of the first {summary.search_end} of {len(reading.searched)} functions and was ignored; {advice}"
    if summary.pick != reading.pick:
        return None, f"{file} has another pick than the run's rows and was ignored; {advice}"
    return summary, ""


def judge(reading: Reading, times: Mapping[str, float]) -> Verdict | None:
    """The pick on the final check, `times` being relative to ReLU where they were measured; None before the check is complete."""
    if reading.pick is None or not reading.finished:
        return None
    names = {str(r["candidate"]): CONTROLS[who] for who, r in best_controls(reading.searched).items()} | baseline_names(reading.config)
    tried = count_tried(reading.searched)
    against = {str(r["candidate"]): names.get(r["candidate"], str(r["candidate"])) for r in reading.finals}
    comparisons = compare(reading.finals, reading.pick.candidate, against, directions_of(reading.config), tried)
    whose = "ReLU" if parse_candidate(reading.pick.candidate).is_layer else "the usual network"
    return Verdict(conclusion(comparisons, times.get(reading.pick.candidate), whose), tried, tuple(comparisons))


def conclusion(comparisons: Sequence[Comparison], slowness: float | None, whose: str = "ReLU") -> str:
    """The verdict in one line; `slowness` is the pick's time over that of ReLU, or of the usual network."""
    time = f"; takes {slowness:.1f} times as long as {whose}" if slowness else ""
    if not comparisons:
        return f"none, the final check has no scores to compare (see the rows of stage final){time}"
    better = [c.against for c in comparisons if c.verdict == "better"]
    others = [c.against for c in comparisons if c.verdict != "better"]
    worse = [c.against for c in comparisons if c.verdict == "worse"]
    rivals = "baselines and controls" if any(c.against in CONTROLS.values() for c in comparisons) else "baselines" if len(comparisons) > 1 else "baseline"
    count = f"{len(comparisons)} {rivals} on unseen pairs"
    if not others:
        return f"better than {'all ' * (len(better) > 1)}{count} ({', '.join(better)}){time}"
    short = f", WORSE than {', '.join(worse)}" if worse else ""
    if better:
        return f"better than {len(better)} of {count} ({', '.join(better)}), NOT than {', '.join(others)}{short}{time}; a candidate only"
    return f"NOT better than any of {count} ({', '.join(others)}){short}{time}"


def verdict_line(reading: Reading, summary: Summary | None, candidate: str) -> str:
    """What is known of a candidate of the run on pairs that the search did not see, in one line."""
    if not reading.finished:
        return f"none yet, the run is unfinished ({len(reading.searched)} functions told, no final check; `evosearch resume {reading.directory}` goes on)"
    if reading.pick is None or candidate != reading.pick.candidate:
        return "none, only the pick of a run is checked on unseen pairs; a candidate only"
    verdict = summary.verdict if summary else judge(reading, {})
    if verdict is None:
        return "none, the final check has no rows"
    given = any(is_seed(row) for row in reading.searched if row["index"] == reading.pick.index)
    return f"{verdict.line}; no find of this search, which was given it as a seed" if given else verdict.line


def _simplified(graphs: Mapping[str, Graph]) -> dict[str, Form]:
    """sympy's form of each found function; an accepted one is compiled, and its TorchScript compared with the original's values."""
    found: dict[str, Form] = {}
    for (text, graph), simple in zip(graphs.items(), simplify(list(graphs.values())), strict=True):
        accepted, note = simple.accepted, simple.note
        if accepted and not _same_values(graph, simple.graph):
            accepted, note = False, "its TorchScript differs from the original"
        found[text] = Form(str(simple.graph) if accepted else text, accepted, note)
    return found


def _same_values(graph: Graph, simple: Graph) -> bool:
    import torch

    from evosearch.compiler.emit import emit
    from evosearch.compiler.module import compile_graph, load
    from evosearch.delivery.export import probes
    from evosearch.delivery.formats.format import PROBE_FEATURES
    from evosearch.delivery.formats.torchscript import scripted

    if graph.holds & {"x", "y"} != simple.holds & {"x", "y"}:
        return False  # it takes other inputs, and could not stand where the original does
    inputs = probes(graph)
    with torch.no_grad():
        expected = compile_graph(graph, PROBE_FEATURES)(*inputs)
        return bool(torch.allclose(scripted(load(emit(simple)).Layer(PROBE_FEATURES))(*inputs), expected, rtol=1e-4, atol=1e-5, equal_nan=True))

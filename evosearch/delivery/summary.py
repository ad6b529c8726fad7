"""The end of a search in one record: pick, verdict, novelty, simplified forms, measured time. Kept as summary.json in the run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from evosearch.compiler.emit import emit
from evosearch.compiler.module import compile_graph, load
from evosearch.config import Config
from evosearch.delivery.export import probe, scripted
from evosearch.judging.baselines import baseline
from evosearch.judging.objectives import direction
from evosearch.judging.timing import relative_times
from evosearch.language.formula import parse
from evosearch.language.graph import Graph
from evosearch.meaning.facts import novelty
from evosearch.meaning.symbolic import simplify
from evosearch.search.pick import Pick, front, pick
from evosearch.search.scale import Scale, standardize
from evosearch.search.store import Row, read_run, write_atomically
from evosearch.search.study import FINAL_INDEX
from evosearch.search.verdict import compare

SHOWN = 8


def read_scale(records: Sequence[Mapping[str, Any]]) -> Scale | None:
    """The run's frozen scale, if its baselines are done."""
    marks = [r for r in records if r["type"] == "scale"]
    return Scale(marks[-1]["center"], marks[-1]["spread"], marks[-1]["quality"]) if marks else None


def search_rows(rows: Sequence[Row], scale: Scale | None, directions: Mapping[str, int]) -> list[Row]:
    """The dispatched rows of the search in index order, objectives filled in."""
    dispatched = sorted((r for r in rows if r["index"] is not None and r["index"] < FINAL_INDEX), key=lambda r: r["index"])
    if scale is None:
        return dispatched
    return [{**r, "objectives": {**r["objectives"], **standardize(r, scale, directions)}} for r in dispatched]


def directions_of(config: Config) -> dict[str, int]:
    """The direction of every pair that the configuration names."""
    pairs = {*config.judging.quality.pairs, *config.judging.full.pairs, *config.judging.final.pairs}
    return {pair: direction(pair) for pair in sorted(pairs)}


def baseline_names(config: Config) -> dict[str, str]:
    """Canonical text of each baseline to its name."""
    return {str(parse(baseline(name))): name for name in config.baselines}


def shown_rows(rows: Sequence[Row]) -> list[Row]:
    """The rows of the final table: the front's found functions by mean, filled up with the next best, and every baseline."""
    full = [r for r in rows if r["status"] == "ok" and r["stage"] == "full" and "mean" in r["objectives"]]
    found = [r for r in full if r["proposer"] != "baseline"]
    on_front = {r["index"] for r in front(full)}
    found.sort(key=lambda r: (r["index"] not in on_front, -r["objectives"]["mean"]))
    chosen = found[:SHOWN] + [r for r in full if r["proposer"] == "baseline"]
    return sorted(chosen, key=lambda r: (-r["objectives"]["mean"], r["index"]))


def summarize(directory: Path, config: Config) -> dict[str, Any]:
    """Computes the summary of a finished run and writes it as summary.json. Measured times are of this machine, now."""
    rows, records = read_run(directory)
    scale, directions = read_scale(records), directions_of(config)
    searched = search_rows(rows, scale, directions)
    chosen = pick(searched, scale) if scale else None
    table = shown_rows(searched)
    graphs = {r["candidate"]: parse(r["candidate"]) for r in table}
    times = relative_times({text: compile_graph(graph, 64) for text, graph in graphs.items()})
    found = [r["candidate"] for r in table if r["proposer"] != "baseline"]
    summary = {
        "pick": asdict(chosen) if chosen else None,
        "verdict": _verdict(rows, searched, chosen, config, directions),
        "novelty": {text: asdict(novelty(graphs[text])) for text in found},
        "simplified": _simplified({text: graphs[text] for text in found}),
        "relative_time": times,
        "counts": funnel(rows),
    }
    write_atomically(directory / "summary.json", (json.dumps(summary, indent=1, sort_keys=True) + "\n").encode())
    return summary


def _verdict(
    rows: Sequence[Row], searched: Sequence[Row], chosen: Pick | None, config: Config, directions: Mapping[str, int]
) -> dict[str, Any] | None:
    if chosen is None:
        return None
    names = baseline_names(config)
    finals = [r for r in rows if r["index"] is not None and r["index"] >= FINAL_INDEX]
    latest = max((r["index"] // 1000 for r in finals), default=0)
    finals = [r for r in finals if r["index"] // 1000 == latest]
    tried = sum(1 for r in searched if r["proposer"] != "baseline" and r["stage"] == "full")
    contestants = {str(r["candidate"]): names.get(r["candidate"], str(r["candidate"])) for r in finals}
    comparisons = compare(finals, chosen.candidate, contestants, directions, tried)
    return {"tried": tried, "comparisons": [asdict(c) for c in comparisons]}


def _simplified(graphs: Mapping[str, Graph]) -> dict[str, dict[str, Any]]:
    """sympy's form of each found function; an accepted one is compiled, and its TorchScript compared with the original's values."""
    found: dict[str, dict[str, Any]] = {}
    for (text, graph), simple in zip(graphs.items(), simplify(list(graphs.values())), strict=True):
        accepted, note = simple.accepted, simple.note
        if accepted and not _same_values(graph, simple.graph):
            accepted, note = False, "its TorchScript differs from the original"
        found[text] = {"formula": str(simple.graph) if accepted else text, "accepted": accepted, "note": note}
    return found


def _same_values(graph: Graph, simple: Graph) -> bool:
    x = probe()
    with torch.no_grad():
        expected = compile_graph(graph, x.shape[1])(x)
        return bool(torch.allclose(scripted(load(emit(simple)), "Layer")(x), expected, rtol=1e-4, atol=1e-5, equal_nan=True))


def funnel(rows: Sequence[Row]) -> dict[str, int]:
    """How many were proposed, and where each ended: reason codes counted."""
    counts = {"proposed": 0, "dispatched": 0, "trained": 0, "full": 0}
    for row in rows:
        if row["proposer"] in ("baseline", "final"):
            continue
        counts["proposed"] += 1
        counts["dispatched"] += row["index"] is not None
        counts["trained"] += any(key.startswith("quality:") for key in row["scores"])
        counts["full"] += row["stage"] == "full" and row["status"] == "ok"
        if row["reason"]:
            counts[row["reason"]] = counts.get(row["reason"], 0) + 1
    return counts

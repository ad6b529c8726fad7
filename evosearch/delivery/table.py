"""What a person reads of a run: the Pareto table and its legend, the funnel, the final check, the verdict in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

from evosearch.delivery.funnel import funnel, passed_filters
from evosearch.delivery.layout import Column, grid, prose
from evosearch.delivery.summary import SHOWN, Reading, Summary, Verdict, baseline_names, shown_rows, verdict_line
from evosearch.delivery.verified import verified_lines
from evosearch.job import STAGES
from evosearch.judging.objectives import OBJECTIVES, TASKS, applies, parse_pair, unit
from evosearch.language.candidate import parse_candidate
from evosearch.meaning.facts import Novelty
from evosearch.search.pick import front, fully_trained, is_found, is_seed, may_be_picked, volumes
from evosearch.search.scale import pair_scores
from evosearch.search.store import Row
from evosearch.seeding import Seed

NO_BREAK = "\u00a0"
SCALE = "mean, worst: validation scores over the pairs in spreads of the baselines: their median is 0, their interquartile range 1, clipped at +-3"
LEGEND = (
    SCALE,
    "cost: of the operators; saved: tensors the size of the input that the exported plain form keeps for backward (eager training keeps 1, of a gate 2); "
    "time: forward + backward over nn.ReLU's, measured on the machine that ended the run, when it did; all of the formula as shown, which was judged",
)
NETWORK_LEGEND = (
    SCALE,
    "cost: of the operators of all slots, and where a network is chosen one for a thousand of its parameters; saved: tensors the size of the input that "
    "the exported plain form of a layer keeps for backward, mean over slots; time: forward + backward of the network over those of the usual one, measured "
    "on the machine that ended the run, when it did",
)
TITLES = {"complexity": "cost", "saved_per_element": "saved"}  # of their columns
LEADS = "ahead of every baseline's mean, the best worst pair; within seed noise the simpler one"
TRAILS = "none is ahead of every baseline's mean, so the best mean; within seed noise the simpler one"


def page(reading: Reading, summary: Summary | None, note: str, width: int | None) -> list[str]:
    """The whole page, for a terminal of `width` columns or, without, for a pipe."""
    say = partial(prose, width=width)
    lines = [str(reading.directory), ""]
    rows = shown_rows(reading.searched, reading.config.judging.selection())
    lines += _table(reading, summary, rows, width) if rows else ["No function has been fully trained yet."]
    if rows and reading.config.judging.objectives:
        lines += ["", *_measured(reading, summary, rows, width), ""]
    for text in [*_counts(reading), *([seed_line(reading.config.seeds, reading.searched)] if reading.config.seeds else [])]:
        lines += say(text)
    if reading.config.judging.initialization == "gain":
        lines += say("weights behind the first layer were scaled by each function's own 1 / sqrt(E f^2): judging.initialization is gain")
    if summary:
        lines += _equal_forms(summary, rows, width)
    for text in [*reading.notices, *([note] if note else [])]:
        lines += say(f"note: {text}")
    if reading.pick is None:
        nothing = "no function was found that could be fully trained; nothing to recommend"
        return [*lines, *say(f"verdict: {nothing if reading.finished else verdict_line(reading, summary, '')}")]
    lines += ["", *say(f"pick: {reading.pick.candidate}{_novelty(summary, reading.pick.candidate)}")]
    if summary and summary.verdict and summary.verdict.comparisons:
        lines += _final_check(summary.verdict, _numbered(reading), width)
    lines += say(f"verdict: {verdict_line(reading, summary, reading.pick.candidate)}")
    return lines + [line for text in verified_lines(reading.directory) for line in say(text)]


def _numbered(reading: Reading) -> dict[str, str]:
    """`[1]`, `[2]`, ... for the pairs of the table and the final check: short column titles, explained in the legend."""
    judging = reading.config.judging
    return {pair: f"[{i}]" for i, pair in enumerate(dict.fromkeys([*judging.full.pairs, *judging.final.pairs]), 1)}


def _meaning(pairs: Sequence[str], numbers: dict[str, str], directions: bool) -> str:
    """The legend of numbered pairs; with `directions`, says where less is better."""
    tasks = {pair: TASKS[parse_pair(pair).task] for pair in pairs}
    named = [f"{numbers[p]} {p} {t.name} [{t.unit}{', less is better' * (directions and t.direction < 0)}]" for p, t in tasks.items()]
    return "; ".join(text.replace(" ", NO_BREAK) for text in named)


def _number(value: float, pair: str, sign: str = "") -> str:
    """A score with the digits that its unit deserves."""
    return f"{value:{sign}.{3 if unit(pair) == 'nats' else 1}f}"


def _table(reading: Reading, summary: Summary | None, rows: Sequence[Row], width: int | None) -> list[str]:
    pairs, numbers, names = reading.config.judging.full.pairs, _numbered(reading), baseline_names(reading.config)
    goals, objectives = reading.config.judging.selection(), [r["objectives"] for r in rows]
    scores = [pair_scores(r["scores"], "full") for r in rows]
    on_front = {r["index"] for r in front(reading.searched, goals)}
    chosen = reading.pick.index if reading.pick else None
    found = [_slots(summary, r["candidate"]) if may_be_picked(r) else {} for r in rows]
    times = [summary.relative_time.get(r["candidate"]) if summary else None for r in rows]
    columns = [
        Column("", [("*" if r["index"] in on_front else " ") + ">>>>" * (r["index"] == chosen) for r in rows], right=False),
        Column("formula" if _are_layers(rows) else "network", [r["candidate"] for r in rows], right=False, flexible=True),
        Column("kind", [_shown_kind(r, _label(n)) for r, n in zip(rows, found, strict=True)], 3, False),
        Column("mean", [f"{round(o['mean'], 2) + 0.0:+.2f}" for o in objectives]),
        Column("worst", [f"{round(o['worst'], 2) + 0.0:+.2f}" for o in objectives], 1),
        *(Column(numbers[p], [_number(s[p], p) for s in scores], 2) for p in pairs),
        Column("cost", [f"{o['complexity']:.0f}" for o in objectives], 5),
        Column("saved", [f"{o['saved_per_element']:.1f}" for o in objectives], 8),
        *([Column("time", [f"{t:.1f}" if t else "-" for t in times], 7)] if summary else []),
        Column("id", [r["canonical_id"][:6] for r in rows], 4),
        Column("nearest", [names.get(r["candidate"], "") if r["proposer"] == "baseline" else _nearest(n) for r, n in zip(rows, found, strict=True)], 6, False),
    ]  # fmt: skip
    lines, left_out = grid(columns, width)
    why = f"; >>>> the pick: {LEADS if reading.pick.leads else TRAILS}" if reading.pick else ""
    legend = list(LEGEND if _are_layers(rows) else NETWORK_LEGEND)
    legend += [f"*: on the Pareto front of mean, {', '.join(TITLES.get(g.name, g.name) for g in goals)}{why}", _meaning(pairs, numbers, True)]
    legend += [f"left out at {width} columns: {', '.join(left_out)}"] if left_out else []
    return [*lines, "", *(line for text in legend for line in prose(text, width))]


def _measured(reading: Reading, summary: Summary | None, rows: Sequence[Row], width: int | None) -> list[str]:
    """The objectives that were asked for, a column each, or one a pair; and what they are."""
    judging, numbers = reading.config.judging, _numbered(reading)
    columns = [Column("formula" if _are_layers(rows) else "network", [r["candidate"] for r in rows], right=False, flexible=True)]
    for name in judging.objectives:
        if OBJECTIVES[name].of == "network":
            by_pair = [pair_scores(r["objectives"], name) for r in rows]
            columns += [Column(f"{name}{numbers[p]}", [_figure(found.get(p), name, p) for found in by_pair], 1) for p in judging.full.pairs if applies(name, p)]
        elif OBJECTIVES[name].of == "formula":
            columns.append(Column(name, [_figure(r["objectives"].get(name)) for r in rows], 1))
        elif summary:
            columns.append(Column(name, [_figure(summary.inference_time.get(r["candidate"])) for r in rows], 1))
    lines, left_out = grid(columns, width)
    legend = ["validation split, mean over seeds; in brackets the pair of the table above; -: not finite"]
    legend += [f"{name}: {_described(name)}" for name in judging.objectives]
    legend += [f"left out at {width} columns: {', '.join(left_out)}"] if left_out else []
    return [*lines, "", *(line for text in legend for line in prose(text, width))]


def _figure(value: float | None, name: str = "", pair: str = "") -> str:
    """An objective with the digits that it deserves: a score's own, else three."""
    if value is None:
        return "-"
    return f"{value:.3g}" if not name or OBJECTIVES[name].direction else _number(value, pair)


def _described(name: str) -> str:
    objective = OBJECTIVES[name]
    unit = objective.unit or ("" if objective.direction else "the score's unit")
    better = {0: "as the score", -1: "less is better", +1: "more is better"}[objective.direction]
    return f"{objective.what} [{', '.join(filter(None, (unit, better)))}]"


def _are_layers(rows: Sequence[Row]) -> bool:
    return all(parse_candidate(r["candidate"]).is_layer for r in rows)


def _slots(summary: Summary | None, text: str) -> dict[str, Novelty]:
    """What is known of the layers of a candidate, by slot."""
    known = summary.novelty if summary else {}
    return {name: known[str(graph)] for name, graph in sorted(parse_candidate(text).slots.items()) if str(graph) in known}


def _label(found: Mapping[str, Novelty]) -> str:
    """The label of a layer; of a network that of its newest one."""
    return next((label for label in ("new", "rescaled", "known") if any(n.label == label for n in found.values())), "")


def _nearest(found: Mapping[str, Novelty]) -> str:
    said = {name: f"{n.nearest} {n.distance:.2f}" if n.label == "new" and n.nearest else n.nearest for name, n in found.items()}
    return ", ".join(f"{name}: {text}" if name != "act" else text for name, text in said.items())


def _novelty(summary: Summary | None, text: str) -> str:
    """How new the pick is, in brackets; of a network, slot by slot."""
    found = _slots(summary, text)
    if not found:
        return ""
    if parse_candidate(text).is_layer:
        return f"  ({_newness(found['act'], 'no discovery: ')})"
    return f"  ({'; '.join(f'{name}: {_newness(n)}' for name, n in found.items())})"


def _newness(found: Novelty, plain: str = "") -> str:
    if found.label == "new":
        return f"new, {found.distance:.2f} from {found.nearest}" if found.nearest else "new"
    return f"{plain}{found.nearest} rescaled" if found.label == "rescaled" else f"{plain}{'this is ' * bool(plain)}{found.nearest}"


def _shown_kind(row: Row, label: str) -> str:
    """Of a find how new it is; a seed is one whatever it is."""
    return f"seed, {label}" if is_seed(row) and label else label or _kind(row)


def seed_line(seeds: Sequence[Seed], rows: Sequence[Row]) -> str:
    """The functions that the search was given, what became of those that were asked, and which of an earlier run's were left out."""
    fates = {str(row["candidate"]): _fate(row) for row in rows if is_seed(row)}
    said = [f"{seed.title}{f' of {seed.name}' * (seed.source == 'run')}{fates.get(seed.candidate, '')}" for seed in seeds if not seed.left_out]
    return "; ".join([f"seeds: {', '.join(said)}", *(f"left out of {seed.name}: {seed.candidate} {seed.left_out}" for seed in seeds if seed.left_out)])


def _fate(row: Row) -> str:
    """Its mean, or where it stopped and why."""
    if fully_trained([row]):
        return f" {row['objectives']['mean']:+.2f}"
    return f" ({row['reason'] or row['status']})" if row["status"] != "ok" else f" (stopped after {row['stage']})"


def _kind(row: Row) -> str:
    return "found" if is_found(row) else str(row["proposer"]).partition(":")[0]


def _counts(reading: Reading) -> list[str]:
    counts = funnel(reading.rows)
    proposed, dispatched, trained, full = (counts.pop(name) for name in ("proposed", "dispatched", "trained", "full"))
    others = Counter(_kind(r) for r in reading.searched if not is_found(r))
    beside = "".join(f" + {count} {kind}s" for kind, count in sorted(others.items()))
    lines = [f"functions: {dispatched} found{beside}; of {proposed} proposed {trained} were trained, {full} fully"]
    reasons = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    more = sum(1 for r in fully_trained(reading.searched) if may_be_picked(r)) - SHOWN
    if more > 0:
        lines.append(f"{more} more fully trained in {reading.directory}/results")
    if reasons:
        lines.append(f"rejected: {', '.join(f'{reason}{NO_BREAK}{count}' for reason, count in reasons)}")
    passed = [f"{name} {count}" for name, count in passed_filters(reading.rows).items()]
    lines += [f"proposals that pass the static and numeric filters: {'; '.join(passed)}"] if passed else []
    gained = volumes(reading.searched, reading.config.judging.selection())
    said = [f"with {who} {volume:.2f}" for who, volume in gained.items()]
    lines += [f"hypervolume of the front over that of the baselines alone: {', '.join(said)}"] if said else []
    spent = {stage: sum(row["seconds"].get(stage, 0.0) for row in reading.rows) for stage in STAGES[1:]}
    spent = {stage: seconds for stage, seconds in spent.items() if seconds or stage not in ("quick", "first_rate", "first_seed")}
    return [*lines, f"seconds of workers: {', '.join(f'{stage}{NO_BREAK}{seconds:.0f}' for stage, seconds in spent.items())}"]


def _equal_forms(summary: Summary, rows: Sequence[Row], width: int | None) -> list[str]:
    """The smaller equal forms that sympy found, for reading; what was judged and is exported is the formula of the table."""
    texts = dict.fromkeys(str(graph) for r in rows for graph in parse_candidate(r["candidate"]).sites)
    forms = [(text, summary.simplified[text]) for text in texts if text in summary.simplified]
    return [line for text, form in forms if form.accepted for line in prose(f"equal and smaller, by sympy: {text} = {form.formula}", width)]


def _final_check(verdict: Verdict, numbers: dict[str, str], width: int | None) -> list[str]:
    comparisons = verdict.comparisons
    pairs = [p for p in numbers if any(p in c.per_pair or p in c.missing for c in comparisons)]
    columns = [
        Column("the pick is", [c.verdict for c in comparisons], right=False),
        Column("than", [c.against for c in comparisons], right=False),
        Column("gap", [f"{c.difference:+.2f}" for c in comparisons]),
        Column("interval", [f"[{c.low:+.2f}, {c.high:+.2f}]" for c in comparisons], 2),
        Column("over pairs", ["" if c.pairs_low is None else f"[{c.pairs_low:+.2f}, {c.pairs_high:+.2f}]" for c in comparisons], 3),
        *(Column(numbers[p], [_number(c.per_pair[p], p, "+") if p in c.per_pair else "failed" for c in comparisons], 1) for p in pairs),
    ]
    lines, left_out = grid(columns, width)
    first = comparisons[0]
    legend = [
        f"final check: fresh seeds on pairs that the search never saw; gap: mean of {max(c.samples for c in comparisons)} paired differences (fewer where "
        f"a training failed) in spreads of each pair, more is better; its interval at {100 * first.level:.2f} %, corrected for {verdict.tried} fully "
        f"trained x {len(comparisons)} comparisons",
        "over pairs: the interval of the pairs' mean gaps, for other pairs like these; better is what is above 0 by both intervals",
        f"mean differences, more is better: {_meaning(pairs, numbers, False)}" if pairs else "",
        f"left out at {width} columns: {', '.join(left_out)}" if left_out else "",
    ]
    return [*lines, *(line for text in legend if text for line in prose(text, width))]

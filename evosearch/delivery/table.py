"""What a person reads: the Pareto table, the verdict in words, one progress line, `explain`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evosearch.config import Config
from evosearch.delivery.summary import baseline_names, directions_of, funnel, read_scale, search_rows, shown_rows
from evosearch.judging.objectives import unit
from evosearch.search.pick import pick
from evosearch.search.scale import pair_scores
from evosearch.search.store import Row, read_run


def print_table(console: Console, directory: Path, config: Config) -> None:
    """The final table of a run, or of what there is of it: baselines marked, `>>>>` on the pick."""
    rows, records = read_run(directory)
    scale = read_scale(records)
    searched = search_rows(rows, scale, directions_of(config))
    summary = _summary(directory)
    chosen = pick(searched, scale) if scale else None
    table = Table(box=None, pad_edge=False, header_style="bold", title=f"{directory}", title_justify="left")
    pairs = config.judging.full.pairs
    for title in ("", "mean [spreads]", "worst [spreads]", *(f"{p} [{unit(p)}]" for p in pairs), "cost", "saved [tensors]", "time [x ReLU]"):
        table.add_column(title, justify="right" if title else "left", overflow="fold")
    table.add_column("formula", overflow="fold")
    table.add_column("label", overflow="fold")
    names = baseline_names(config)
    for row in shown_rows(searched):
        table.add_row(*_cells(row, pairs, summary, names, chosen.index if chosen else None))
    console.print(table if table.row_count else "No function has been fully trained yet.")
    _print_counts(console, rows)
    if summary:
        _print_verdict(console, summary)


def _cells(row: Row, pairs: Sequence[str], summary: Mapping[str, Any], names: Mapping[str, str], chosen: int | None) -> list[str | Text]:
    o, text = row["objectives"], row["candidate"]
    scores = pair_scores(row["scores"], "full")
    is_baseline = row["proposer"] == "baseline"
    simple = summary.get("simplified", {}).get(text, {"formula": text, "accepted": False})
    label = f"baseline {names.get(text, '')}" if is_baseline else _label(summary, text)
    when = summary.get("relative_time", {}).get(text)
    return [
        ">>>>" if row["index"] == chosen else "", f"{o['mean']:+.2f}", f"{o['worst']:+.2f}", *(f"{scores[p]:.1f}" for p in pairs),
        f"{o['complexity']:.0f}", f"{o['saved_per_element']:.1f}", f"{when:.1f}" if when else "-", Text(simple["formula"]),
        Text(label + (", simplified" if simple["accepted"] else "")),
    ]  # fmt: skip


def _label(summary: Mapping[str, Any], text: str) -> str:
    found = summary.get("novelty", {}).get(text)
    if found is None:
        return "found"
    return {"known": f"known: {found['nearest']}", "rescaled": f"rescaled {found['nearest']}"}.get(
        found["label"], f"new, {found['distance']:.2f} from {found['nearest']}"
    )


def _print_counts(console: Console, rows: Sequence[Row]) -> None:
    counts = funnel(rows)
    steps = [f"{counts.pop(name)} {name}" for name in ("proposed", "dispatched", "trained")] + [f"{counts.pop('full')} fully trained"]
    console.print(f"funnel: {', '.join(steps)}", highlight=False)
    if counts:
        reasons = sorted(counts.items(), key=lambda item: -item[1])
        console.print("rejected: " + ", ".join(f"{reason} {count}" for reason, count in reasons), highlight=False)


def _print_verdict(console: Console, summary: Mapping[str, Any]) -> None:
    accepted = sum(1 for s in summary["simplified"].values() if s["accepted"])
    console.print(f"simplified by sympy, equal, compiled and scripted: {accepted} of {len(summary['simplified'])}", highlight=False)
    chosen, verdict = summary["pick"], summary["verdict"]
    if not chosen or not verdict:
        console.print("No function was found that could be fully trained: nothing to recommend.")
        return
    leads = "ahead of every baseline" if chosen["leads"] else "NOT ahead of every baseline"
    console.print(f"\npick: {chosen['candidate']}  ({_label(summary, chosen['candidate'])}; {leads} on the search pairs)", highlight=False)
    if not verdict["comparisons"]:
        console.print("the final check has no scores to compare (see the rows of stage final)")
        return
    first = verdict["comparisons"][0]
    console.print(
        f"final check: fresh seeds on pairs that the search never saw; {first['samples']} paired differences, in units of each pair's spread;\n"
        f"intervals at {100 * first['level']:.2f} %, corrected for {verdict['tried']} functions fully trained and {len(verdict['comparisons'])} comparisons",
        highlight=False,
    )
    for c in verdict["comparisons"]:
        gaps = [f"{pair} {gap:+.2f} {unit(pair)}" for pair, gap in c["per_pair"].items()]
        per_pair = ", ".join([*gaps, *(f"no score of the pick on {pair}" for pair in c["missing"])])
        console.print(f"  {c['verdict']:>10} than {c['against']}: {c['difference']:+.2f} [{c['low']:+.2f}, {c['high']:+.2f}]  ({per_pair})", highlight=False)
    if _label(summary, chosen["candidate"]).startswith(("known", "rescaled")):
        console.print("It is no discovery: a known function, or a rescaled one.")


def _summary(directory: Path) -> dict[str, Any]:
    file = directory / "summary.json"
    loaded: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return loaded


class Progress:
    """Progress of a run: one living line on a terminal, a plain line every 30 seconds elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._start = time.monotonic()
        self._printed = self._start if not console.is_terminal else 0.0
        self._first: int | None = None

    def __call__(self, study: Any, executor: Any) -> None:
        now = time.monotonic()
        if now - self._printed < (0.5 if self.console.is_terminal else 30.0):
            return
        self._printed = now
        line = self._line(study, now - self._start)
        if self.console.is_terminal:
            width = max(20, self.console.width - 1)
            self.console.file.write("\r" + line[:width].ljust(width))
            self.console.file.flush()
        else:
            self.console.print(line, highlight=False)

    def _line(self, study: Any, elapsed: float) -> str:
        p = study.progress()
        rows = study.rows()
        if self._first is None:
            self._first = study.replayed
        full = [r for r in rows if r["stage"] == "full" and "mean" in r["objectives"] and r["proposer"] != "baseline"]
        rejected = sum(1 for r in rows if r["status"] == "rejected")
        best = max(full, key=lambda r: r["objectives"]["mean"], default=None)
        done = p["told"] - self._first
        left = (p["evaluations"] - p["told"]) * elapsed / done if done > 0 else 0.0
        text = f"{p['told']}/{p['evaluations']} functions, {rejected} rejected, {len(full)} fully trained"
        if p["final"]:
            text += f", final check {p['final_told']}/{p['final']}"
        elif done > 0:
            text += f", about {left / 60:.1f} min and the final check left"
        return text + (f"; best {best['objectives']['mean']:+.2f} {best['candidate']}" if best else "")

    def end(self) -> None:
        """Ends the living line."""
        if self.console.is_terminal:
            self.console.file.write("\n")

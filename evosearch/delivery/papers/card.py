"""MODEL_CARD.md: what a layer is, whether it is better, what it costs, where it ends, and how to use it. Plain words, nothing claimed that was not measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evosearch.delivery.papers.benchmark import shown
from evosearch.delivery.papers.origin import Origin
from evosearch.delivery.papers.provenance import layer_of
from evosearch.delivery.place import TEMPORARY
from evosearch.language.graph import Graph, canonical, depends_on, parameters
from evosearch.meaning.derive import has_statistics
from evosearch.meaning.explain import described
from evosearch.meaning.facts import Facts
from evosearch.meaning.symbolic import latex
from evosearch.search.verdict import Comparison

_FILES = {
    ".py": "the layer; `python {file}` tests it", ".ts.pt": "TorchScript, trainable", ".pt2": "`torch.export`", ".onnx": "ONNX, for inference",
    "formula.json": "the formula with all its digits, read without running code", "formula.tex": "LaTeX",
    "verify.json": "how far each file is from what was evaluated", "benchmark.json": "the times and the memory above", "provenance.json": "where it is from", "CITATION.cff": "how to cite it",
    "pyproject.toml": "makes `pip install` work", "plot.svg": "the plot above",
}  # fmt: skip
_FACTS = {
    "range": "Range", "at -inf": "Far left", "at +inf": "Far right", "Lipschitz": "Steepest slope", "kinks": "Kinks", "saturates": "Saturates",
    "not finite": "Not a finite number", "statistics": "Statistics", "buffers": "Buffers", "scaling": "Scaled input", "shifting": "Shifted input",
}  # fmt: skip


def card(
    graph: Graph, name: str, kind: str, features: int | None, facts: Facts, caption: str, measured: Mapping[str, Any], origin: Origin | None,
    files: Sequence[str],
) -> str:  # fmt: skip
    """The text of the card; `measured` is the record of benchmark.json, `files` the names that lie beside it."""
    parts = [
        f"# {kind}", f"`{graph}`", f"$${latex(canonical(graph))}$$", what_it_is(graph, facts),
        f"![{caption}](plot.svg)", f"*{caption}*",
        "## Is it better?", *verdict(facts, origin),
        "## What it costs", _costs(measured, facts),
        "## Limits", "\n".join(f"- {line}" for line in _limits(graph, facts, origin)),
        "## Where it is from", *found_where(facts, origin),
        "## How to use it", _usage(graph, name, kind, features),
        "## How it was checked", _checked(name, files),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def what_it_is(graph: Graph, facts: Facts) -> str:
    """One sentence: what kind of layer, how new, what it learns."""
    what = {"elementwise": "An activation function", "gated": "A gate of two inputs", "statistics": "A layer with statistics of its input"}[facts.kind]
    learned = [f"{count} learnable number{'s' * (count > 1)} a {where}" for where, count in facts.parameters]
    found, keeps = facts.novelty, f", with {' and '.join(learned)}" if learned else ", with nothing to learn"
    if found.label == "known":
        return f"{what}{keeps}. It is known: {found.nearest}."
    if found.label == "rescaled":
        return f"{what}{keeps}. Not new: it is {found.nearest} with input and output scaled."
    near = f" The nearest is {found.nearest}, at a relative distance of {found.distance:.2f} (0 is equal)." if found.nearest else ""
    return f"{what}{keeps}. No layer of evosearch's library is equal to it.{near}"


def verdict(facts: Facts, origin: Origin | None) -> list[str]:
    """What is known of its worth: the words of the run's final check, or that there was none."""
    if origin is None:
        known = layer_of(facts.novelty)
        return [f"Not judged here. The formula was given, no run found it; read its source: {known.source}." if known else
                "Not judged here. The formula was given, no run found it, and nothing is claimed of it."]  # fmt: skip
    if not origin.comparisons:
        return [f"Not known. {_sentence(origin.verdict)}"]
    by_word: dict[str, list[str]] = {}
    for one in origin.comparisons:
        by_word.setdefault(one.verdict, []).append(_escaped(one.against))
    words = {"worse": "Worse than", "not better": "Not better than", "better": "Better than"}
    said = [f"**{words[word]} {_listed(by_word[word], 'or' if word == 'not better' else 'and')} here.**" for word in words if word in by_word]
    pairs = ", ".join(origin.final_pairs)
    note = (
        f"On pairs of task and network that the search did not see ({pairs}), with fresh seeds; below 0 the other was better. "
        f"The intervals allow for a choice among the {origin.corrected_for} that were trained in full. \"Not better\" is no proof of equal."
    )
    titles = ("against", "difference, in spreads of the baselines", "interval", "verdict")
    return [" ".join(said), _table(titles, [_row(one) for one in origin.comparisons]), note]


def _row(one: Comparison) -> tuple[str, ...]:
    return _escaped(one.against), f"{one.difference:+.2f}", f"{one.low:+.2f} to {one.high:+.2f}", one.verdict


def _costs(measured: Mapping[str, Any], facts: Facts) -> str:
    n, c, *places = measured["shape"]
    where = measured["machine"]
    note = (
        f"Forward and backward in eager mode, float32, input {n} x {c} x {' x '.join(map(str, places))}, one thread of {where['cpu']}, torch {where['torch']}: "
        f"medians with 95 % intervals, measured in turn. Another machine has other figures. Operator cost: {facts.cost} (ReLU 1, an exponential 5)."
    )
    return f"{_table(('', 'training step', 'kept for the backward'), shown(measured))}\n\n{note}"


def _limits(graph: Graph, facts: Facts, origin: Origin | None) -> list[str]:
    lines = [f"{_FACTS[label]}: {_escaped(text)}." for label, text in described(facts) if label in _FACTS]
    if facts.statistics and facts.statistics.batch_dependent:
        lines.append("Depends on the batch in training, and on running statistics in evaluation: small batches change what it does.")
    if not has_statistics(graph) and not parameters(graph):
        lines.append("Second derivatives in float32 need `layer.differentiable_twice = True`.")
    lines.append(f"Trained on {', '.join(origin.search_pairs)} and nothing larger." if origin else "Its values are checked; how it trains was not tried here.")
    return lines


def found_where(facts: Facts, origin: Origin | None) -> list[str]:
    """The run and its numbers, in words."""
    if origin is None:
        known = layer_of(facts.novelty)
        return [f"Written down, not found by a search{f'; published as {known.name} ({known.source})' if known else ''}. No candidates were tried."]
    tried = origin.tried
    went = f"Candidates tried: {tried.get('proposed', 0)}, of which {tried.get('trained', 0)} were trained, {tried.get('full', 0)} in full."
    parents = f", from {len(origin.parents)} earlier one{'s' * (len(origin.parents) > 1)}" if origin.parents else ""
    luck = "The best of many is partly luck; the check above allows for that."
    return [f"Run `{origin.run}`, seed {origin.seed}, proposed by `{origin.proposer}`{parents}. {went} {luck}"]


def _usage(graph: Graph, name: str, kind: str, features: int | None) -> str:
    channels = any(p.kind == "channel" for p in parameters(graph)) or has_statistics(graph, "batch")
    made = f"{kind}({features or 64})" if channels else f"{kind}()"
    size = features or 64
    given = f"torch.randn(8, {size}, 16, 16)"
    call = f"layer({given}, {given})" if depends_on(graph, "y") and depends_on(graph, "x") else f"layer({given})"
    lines = ["```python", "import torch", f"from {name} import {kind}  # after: pip install THIS_FOLDER", f"layer = {made}", f"out = {call}", "```"]
    return "\n".join(lines)


def _checked(name: str, files: Sequence[str]) -> str:
    there = [(file, _FILES.get(file) or next((text for end, text in _FILES.items() if file.endswith(end)), "")) for file in sorted(files)]
    listed = "\n".join(f"- `{file}`: {text.format(file=file)}" if text else f"- `{file}`" for file, text in there if not file.startswith(TEMPORARY))
    return (
        "Before this folder was written, every file of the layer was loaded again in a fresh process without evosearch and gave the values and the gradients "
        f"of the layer that was evaluated, in training and in evaluation mode. `python {name}.py` repeats a part of it anywhere.\n\n{listed}"
    )


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _escaped(text: str) -> str:
    """As Markdown shows it: names and formulas may hold `*`, `|` and `<`, and may be a stranger's."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#$~" else c if c.isprintable() else "?" for c in text)


def _sentence(text: str) -> str:
    whole = _escaped(text)
    return f"{whole[:1].upper()}{whole[1:]}."


def _listed(names: Sequence[str], last: str) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"

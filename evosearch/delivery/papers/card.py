"""MODEL_CARD.md: what a layer is, whether it is better, what it costs, where it ends, and how to use it. Plain words, nothing claimed that was not measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evosearch.delivery.formats.format import Layer, needs_features
from evosearch.delivery.papers.benchmark import shown
from evosearch.delivery.papers.origin import Origin
from evosearch.delivery.papers.provenance import layer_of
from evosearch.language.graph import Graph, canonical, parameters
from evosearch.meaning.derive import has_statistics
from evosearch.meaning.explain import described
from evosearch.meaning.facts import Facts
from evosearch.meaning.symbolic import latex
from evosearch.search.verdict import Comparison

_FILES = {
    "_numpy.py": "a reference in NumPy", "_jax.py": "a function of JAX", ".py": "the layer; `python {file}` tests it",
    ".ts.pt": "TorchScript, trainable; loading it runs code", ".pt2": "`torch.export`; loading it runs code", ".onnx": "ONNX, for inference",
    "formula.json": "the formula with all its digits, read without running code", "formula.tex": "LaTeX", ".txt": "as sympy says it",
    "verify.json": "how far each file is from what was evaluated", "benchmark.json": "the times and the memory above",
    "provenance.json": "where it is from", "CITATION.cff": "how to cite it", "pyproject.toml": "makes `pip install` work", "plot.svg": "the plot above",
}  # fmt: skip
_FACTS = {
    "range": "Range", "at -inf": "Far left", "at +inf": "Far right", "Lipschitz": "Steepest slope", "kinks": "Kinks", "saturates": "Saturates",
    "not finite": "Not a finite number", "statistics": "Statistics", "buffers": "Buffers", "scaling": "Scaled input", "shifting": "Shifted input",
}  # fmt: skip


def card(
    layer: Layer, facts: Facts, caption: str, measured: Mapping[str, Any], verified: Mapping[str, Any], origin: Origin | None, files: Sequence[str]
) -> str:
    """The text of the card; `measured` is the record of benchmark.json, `verified` that of verify.json, `files` the names that lie beside it."""
    graph = layer.graph
    parts = [
        f"# {layer.kind}", f"`{graph}`", f"$${latex(canonical(graph))}$$", what_it_is(facts),
        f"![{caption}](plot.svg)", f"*{caption}*",
        "## Is it better?", *verdict(facts, origin),
        "## What it costs", _costs(measured, facts),
        "## Limits", _bullets(_limits(graph, facts, origin)),
        "## Where it is from", *found_where(facts, origin),
        "## How to use it", _usage(layer),
        "## How it was checked", *_checked(layer, verified), _bullets(map(_file, sorted(files))),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def what_it_is(facts: Facts) -> str:
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


def _usage(layer: Layer) -> str:
    channels = layer.features or 64
    made = f"{layer.kind}({channels})" if needs_features(layer.graph) else f"{layer.kind}()"
    given = ", ".join([f"torch.randn(8, {channels}, 16, 16)"] * len(layer.inputs))
    lines = ["import torch", f"from {layer.name} import {layer.kind}  # after: pip install THIS_FOLDER", f"layer = {made}", f"out = layer({given})"]
    return "\n".join(["```python", *lines, "```"])


def _checked(layer: Layer, verified: Mapping[str, Any]) -> list[str]:
    """How it was made sure that the files are the layer; what became of --simplify, and which format is not there."""
    said = [
        f"Before this folder was written, every file of the layer was loaded again in a fresh process without evosearch and compared with the layer that was "
        f"evaluated: values, gradients and running statistics as far as the format has them, on ordinary and extreme inputs. verify.json has every "
        f"figure; `python {layer.name}.py` repeats a part of it anywhere."
    ]
    if (simplified := verified.get("simplified")) is not None:
        kept = "and is what this folder holds" if simplified["accepted"] else "and the formula was exported as it was"
        said.append(f"A simplified form was asked for: {_escaped(simplified['note'])}, {kept}.")
    absent = [f"{format_} ({_escaped(reason)})" for format_, reason in verified.get("absent", {}).items()]
    return [*said, f"Not there: {'; '.join(absent)}."] if absent else said


def _file(name: str) -> str:
    """A line on a file: of the longest ending that is known."""
    text = next((text for end, text in _FILES.items() if name.endswith(end)), "")
    return f"`{name}`: {text.format(file=name)}" if text else f"`{name}`"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


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

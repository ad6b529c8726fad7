"""The whole library on one page that needs no network and no script: formula, plot, facts, cost and source of every known layer. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from evosearch import __version__
from evosearch.delivery.papers.curves import USUAL, Line, extent, response
from evosearch.delivery.place import check_place, unplaced
from evosearch.language.library import KnownLayer, library, unsayable
from evosearch.meaning.explain import described
from evosearch.meaning.facts import Facts, describe
from evosearch.search.files import write_atomically

PAGE = "index.html"
_KINDS = {
    "activation": ("Activations", "Curves of one number. Drawn from -5 to 5; dashed is ReLU."),
    "normalization": ("Normalizations", "Statistics without a curve of their own. Dots: what becomes of the numbers of one channel of a fixed input."),
    "norm_activation": ("Normalization and activation in one", "Dots: what becomes of the numbers of one channel of a fixed input."),
    "gated": ("Gates", "Two inputs, x and y. Drawn over x with y at 1; dashed is ReLU."),
    "attention": ("Attention", "Over the last axis. Dots: what becomes of the numbers of a fixed input."),
}
_FACTS = {
    "range": "range", "Lipschitz": "slope", "kinks": "kinks", "monotonic": "monotonic", "parity": "parity", "saturates": "saturates",
    "statistics": "statistics", "scaling": "scaling", "shifting": "shifting",
}  # fmt: skip
_WIDTH, _HEIGHT, _MARGIN = 240.0, 140.0, 8.0


class GalleryError(ValueError):
    """The gallery cannot be written there."""


def write_gallery(directory: Path) -> Path:
    """Writes the page into the folder and returns its path. Raises GalleryError for a folder that holds other things."""
    check_place(directory)
    if directory.exists() and {path.name for path in directory.iterdir()} - {PAGE}:
        raise GalleryError(f"{directory} holds other things than a gallery; pass another --to")
    text = page(library(), unsayable())
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_atomically(directory / PAGE, text.encode())
    except OSError as error:
        raise unplaced(directory, error) from error
    return directory / PAGE


def page(layers: Mapping[str, KnownLayer], without_formula: Mapping[str, str]) -> str:
    """The page as text. Whatever it shows is escaped."""
    groups = {kind: [layer for layer in layers.values() if layer.kind == kind] for kind in _KINDS}
    links = [f'<a href="#{kind}">{escape(_KINDS[kind][0])} ({len(members)})</a>' for kind, members in groups.items() if members]
    body = [_group(kind, members) for kind, members in groups.items() if members]
    missing = "".join(f"<dt><code>{escape(name)}</code></dt><dd>{escape(why)}</dd>" for name, why in without_formula.items())
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>evosearch: {len(layers)} known layers</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>{len(layers)} known layers</h1>
<p>The library of evosearch {escape(__version__)}: every layer as a formula, with what can be known of it without training.
Parameters are at their published start; cost in units of an addition; <i>gain</i> keeps the signal of a deep network at its start.
<code>evosearch explain NAME</code> says more, <code>evosearch export --formula NAME</code> writes the layer for torch.</p>
<nav>{" ".join(links)} <a href="#none">no formula ({len(without_formula)})</a></nav>
</header>
{"".join(body)}
<section id="none"><h2>Published, and no formula</h2><dl class="missing">{missing}</dl></section>
</body>
</html>
"""


def _group(kind: str, members: Iterable[KnownLayer]) -> str:
    title, note = _KINDS[kind]
    return f'<section id="{kind}"><h2>{escape(title)}</h2><p>{escape(note)}</p><div class="layers">{"".join(map(_entry, members))}</div></section>\n'


def _entry(layer: KnownLayer) -> str:
    facts = describe(layer.graph, brief=True)
    named = dict(described(facts))
    rows = [("cost", f"{facts.cost}"), *_learned(facts), *((_FACTS[label], named[label]) for label in _FACTS if label in named)]
    if facts.moments and 0 < facts.moments.gain < math.inf:
        rows.append(("gain", f"{facts.moments.gain:.4g}"))
    rows.append(("saved", f"{facts.saved.eager} tensors an element in eager torch, {facts.saved.lean} compiled by evosearch"))
    rows += [("also", ", ".join(layer.aliases))] * bool(layer.aliases) + [("note", layer.note)] * bool(layer.note)
    affine = "<p>A weight and a bias per channel follow.</p>" if layer.affine else ""
    listed = "".join(f"<dt>{escape(label)}</dt><dd>{escape(text)}</dd>" for label, text in rows)
    return (
        f'<article id="{escape(layer.name)}"><h3>{escape(layer.name)}</h3><p class="formula"><code>{escape(layer.formula)}</code></p>{affine}'
        f'{_plot(layer)}<dl>{listed}</dl><p class="source">{escape(layer.source)}</p></article>\n'
    )


def _learned(facts: Facts) -> list[tuple[str, str]]:
    learned = [f"{count} a {where}" for where, count in facts.parameters]
    return [("learns", ", ".join(learned))] if learned else []


def _plot(layer: KnownLayer) -> str:
    """The layer's curve, or the dots of its answer to a fixed input, as SVG whose colors are the page's."""
    own = response(layer.graph)
    frame = _Frame(float(own.x.min()), float(own.x.max()), *extent([own]))
    parts = [f'<path class="axis" d="{frame.axes()}"/>']
    if own.dots:
        parts.append(f'<path class="dots" d="{"".join(f"M{x:.1f} {y:.1f}h0" for x, y in frame.points(own))}"/>')
    else:
        parts.append(f'<path class="beside" d="{frame.curve(response(USUAL["ReLU"]))}"/><path class="own" d="{frame.curve(own)}"/>')
    for y, number in ((12, frame.high), (_HEIGHT - 2, frame.low)):
        parts.append(f'<text x="4" y="{y:g}" fill="currentColor" stroke="none">{number:.3g}</text>')
    said = f"{layer.name} from x = {frame.left:.3g} to {frame.right:.3g}, y from {frame.low:.3g} to {frame.high:.3g}"
    looks = 'fill="none" stroke="currentColor" font-size="10"'  # where the page's style does not reach, as in some printers
    return f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{escape(said)}" {looks}>{"".join(parts)}</svg>'


@dataclass(frozen=True)
class _Frame:
    """Where numbers are on the little drawing."""

    left: float
    right: float
    low: float
    high: float

    def _at(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.left) / (self.right - self.left)
        up = (min(max(y, self.low), self.high) - self.low) / (self.high - self.low)
        return _MARGIN + across * (_WIDTH - 2 * _MARGIN), _HEIGHT - _MARGIN - up * (_HEIGHT - 2 * _MARGIN)

    def axes(self) -> str:
        """Lines through 0, where it is in the frame."""
        x, y = self._at(0.0, 0.0)
        level = f"M{_MARGIN:g} {y:.1f}H{_WIDTH - _MARGIN:g}" if self.low < 0 < self.high else ""
        return level + (f"M{x:.1f} {_MARGIN:g}V{_HEIGHT - _MARGIN:g}" if self.left < 0 < self.right else "")

    def points(self, line: Line) -> list[tuple[float, float]]:
        """The finite points of a line."""
        return [self._at(float(x), float(y)) for x, y in zip(line.x, line.y, strict=True) if np.isfinite(y)]

    def curve(self, line: Line) -> str:
        """A curve at every fifth place, parted by what is no number or out of the frame."""
        pieces, pen = [], "M"
        for x, y in zip(line.x[::5], line.y[::5], strict=True):
            if not self.low <= y <= self.high:
                pen = "M"
                continue
            pieces.append("{}{:.1f} {:.1f}".format(pen, *self._at(float(x), float(y))))
            pen = "L"
        return "".join(pieces)


_STYLE = """
:root { color-scheme: light dark; --ink: #1e293b; --soft: #64748b; --page: #ffffff; --card: #f8fafc; --rule: #e2e8f0; --own: #c2410c; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e2e8f0; --soft: #94a3b8; --page: #0f172a; --card: #1e293b; --rule: #334155; --own: #fb923c; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 90rem; padding: 1rem; background: var(--page); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
h1 { margin: 0 0 .5rem; } h2 { margin: 2rem 0 .25rem; } h3 { margin: 0; font-size: 1.05rem; overflow-wrap: anywhere; }
a { color: var(--own); } nav a { display: inline-block; margin-right: .8rem; padding: .3rem 0; }
.layers { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); }
article { padding: .8rem; border: 1px solid var(--rule); border-radius: .4rem; background: var(--card); min-width: 0; }
code { font-family: ui-monospace, monospace; font-size: .86em; overflow-wrap: anywhere; } p { margin: .3rem 0; }
svg { display: block; width: 100%; height: auto; margin: .4rem 0; } svg path { fill: none; }
.axis { stroke: var(--rule); } .beside { stroke: var(--soft); stroke-dasharray: 4 3; } .own { stroke: var(--own); stroke-width: 2; }
.dots { stroke: var(--own); stroke-width: 3; stroke-linecap: round; } svg text { fill: var(--soft); stroke: none; font-size: 10px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .6rem; margin: .3rem 0; font-size: .86rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; } .source { color: var(--soft); font-size: .82rem; }
.missing { grid-template-columns: minmax(8rem, max-content) 1fr; }
@media print {
  :root { --ink: #000; --soft: #555; --page: #fff; --card: #fff; --rule: #ccc; }
  body { font-size: 9pt; max-width: none; } nav { display: none; } article { break-inside: avoid; } .layers { grid-template-columns: repeat(3, 1fr); }
}
"""

"""Every paper of an exported layer, into the folder where its other files are."""

from __future__ import annotations

import json
from pathlib import Path

from evosearch.delivery.formats.format import Layer
from evosearch.delivery.papers.benchmark import benchmark
from evosearch.delivery.papers.card import card
from evosearch.delivery.papers.citation import citation
from evosearch.delivery.papers.curves import drawing
from evosearch.delivery.papers.origin import Origin
from evosearch.delivery.papers.provenance import provenance
from evosearch.meaning.facts import describe

PAPERS = ("MODEL_CARD.md", "plot.svg", "benchmark.json", "provenance.json", "CITATION.cff")


def write_papers(layer: Layer, folder: Path, origin: Origin | None) -> None:
    """Writes `PAPERS` into the folder, whose other files are there: the card lists them, and says what verify.json says."""
    from evosearch.delivery.papers.plot import svg

    graph = layer.graph
    facts, drawn, measured = describe(graph, brief=True), drawing(graph, layer.kind), benchmark(graph, layer.kind, getattr(layer.module, layer.kind))
    (folder / "plot.svg").write_text(svg(drawn))
    (folder / "benchmark.json").write_text(_json(measured))
    (folder / "provenance.json").write_text(_json(provenance(graph, facts.novelty, origin)))
    (folder / "CITATION.cff").write_text(citation(graph, layer.name, facts.novelty, origin is not None))
    files = {path.name for path in folder.iterdir() if path.is_file()} - {"MODEL_CARD.md"}
    verified = json.loads((folder / "verify.json").read_text())
    (folder / "MODEL_CARD.md").write_text(card(layer, facts, drawn.caption, measured, verified, origin, sorted(files)))


def _json(record: object) -> str:
    return json.dumps(record, indent=1, allow_nan=False) + "\n"

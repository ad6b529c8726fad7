"""Every paper of an exported layer, into the folder where its other files are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from torch import nn

from evosearch.delivery.papers.benchmark import benchmark
from evosearch.delivery.papers.card import card
from evosearch.delivery.papers.citation import citation
from evosearch.delivery.papers.curves import drawing
from evosearch.delivery.papers.origin import Origin
from evosearch.delivery.papers.provenance import provenance
from evosearch.language.graph import Graph
from evosearch.meaning.facts import describe

PAPERS = ("MODEL_CARD.md", "plot.svg", "benchmark.json", "provenance.json", "CITATION.cff")


def write_papers(
    graph: Graph, folder: Path, name: str, kind: str, features: int | None, make: Callable[[int], nn.Module], origin: Origin | None
) -> None:  # fmt: skip
    """Writes `PAPERS` beside the layer's files, which are listed in the card. `make` gives the exported layer for a number of channels."""
    from evosearch.delivery.papers.plot import svg

    facts, drawn, measured = describe(graph), drawing(graph, kind), benchmark(graph, kind, make)
    (folder / "plot.svg").write_text(svg(drawn))
    (folder / "benchmark.json").write_text(json.dumps(measured, indent=1, allow_nan=False) + "\n")
    (folder / "provenance.json").write_text(json.dumps(provenance(graph, facts.novelty, origin), indent=1, allow_nan=False) + "\n")
    (folder / "CITATION.cff").write_text(citation(graph, name, facts.novelty, origin is not None))
    files = {path.name for path in folder.iterdir() if path.is_file()} - {"MODEL_CARD.md"}
    (folder / "MODEL_CARD.md").write_text(card(graph, name, kind, features, facts, drawn.caption, measured, origin, sorted(files)))

"""provenance.json: what an exported layer is and where it is from, so that it can be found and made again. Torch-free."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from evosearch import __version__
from evosearch.delivery.papers.origin import Origin
from evosearch.language.graph import Graph
from evosearch.language.library import KnownLayer, library
from evosearch.meaning.facts import Novelty

NO_RUN = "no run found it: it was given to `evosearch export --formula`"


def provenance(graph: Graph, found: Novelty, origin: Origin | None) -> dict[str, Any]:
    """The record of the file; `run` is None, and said to be, for a formula that was given."""
    published = layer_of(found)
    record: dict[str, Any] = {
        "formula": str(graph), "canonical_id": graph.canonical_id, "exported_by": f"evosearch {__version__}",
        "novelty": {"label": found.label, "nearest": found.nearest, "distance": round(found.distance, 6)},
        "published": {"name": published.name, "source": published.source} if published else None,
        "found": NO_RUN if origin is None else f"by the run {origin.run}", "run": None,
    }  # fmt: skip
    if origin is not None:
        record["run"] = {key: value for key, value in asdict(origin).items() if key not in ("verdict", "comparisons")}
        record |= {"verdict": origin.verdict, "comparisons": [_finite(asdict(c)) for c in origin.comparisons]}
    return record


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: an interval of a single sample has no end."""
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in record.items()}


def layer_of(found: Novelty) -> KnownLayer | None:
    """The layer of the library that a function is, if it is one."""
    return library()[found.nearest] if found.label == "known" else None

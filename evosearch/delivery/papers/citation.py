"""CITATION.cff of an exported layer, in the Citation File Format 1.2; a layer of the library refers to its publication. Torch-free."""

from __future__ import annotations

import io
import re
from typing import Any

from ruamel.yaml import YAML

from evosearch import __version__
from evosearch.delivery.papers.provenance import layer_of
from evosearch.language.graph import Graph
from evosearch.language.library import KnownLayer
from evosearch.meaning.facts import Novelty

_ARXIV = re.compile(r"arXiv (\d{4}\.\d{4,5})")
_GITHUB = re.compile(r"github\.com/[\w.-]+/[\w.-]+")
_AUTHORS = re.compile(r"([^\d,]+?) ((?:19|20)\d\d)\b")
_MOST = 400  # characters of a formula in the title's neighborhood


def citation(graph: Graph, name: str, found: Novelty, from_run: bool) -> str:
    """The text of the file. Who publishes the layer puts their own names in place of the author."""
    published = layer_of(found)
    formula = _shortened(str(graph))
    if published is not None:
        message = f"If you use this layer, cite the publication under references: {published.source}."
    else:
        message = "If you use this layer, cite it as below, with the names of those who found it in place of the author."
    record: dict[str, Any] = {
        "cff-version": "1.2.0",
        "message": message,
        "type": "software",
        "title": f"{name}: a layer for PyTorch",
        "version": "1.0.0",
        "authors": [{"name": "the authors of this layer"}],
        "abstract": f"The layer {formula}, {'found' if from_run else 'written out'} by evosearch {__version__}.",
        "keywords": ["PyTorch", "activation function" if published is None or published.kind == "activation" else published.kind.replace("_", " ")],
        "identifiers": [{"type": "other", "value": graph.canonical_id, "description": "evosearch's canonical id, SHA-256 of the formula"}],
        "references": [*(_references(published) if published else []), _EVOSEARCH],
    }
    yaml, stream = YAML(typ="rt"), io.StringIO()
    yaml.default_flow_style = False
    yaml.width = 4096
    yaml.dump(record, stream)
    return stream.getvalue()


_EVOSEARCH = {
    "type": "software", "title": "evosearch", "version": __version__, "authors": [{"name": "the authors of evosearch"}],
    "abstract": "A search engine for activation functions, normalization layers and small architectures",
}  # fmt: skip


def _references(layer: KnownLayer) -> list[dict[str, Any]]:
    """A reference for each publication that the library names: its authors and year as they are there, an address where there is one."""
    return [_reference(part.strip(), layer) for part in layer.source.split(";")]


def _reference(source: str, layer: KnownLayer) -> dict[str, Any]:
    arxiv, github, written = _ARXIV.search(source), _GITHUB.search(source), _AUTHORS.match(source)
    reference: dict[str, Any] = {
        "type": "article" if arxiv else "software" if github or source.startswith("torch.") else "generic",
        "title": f"The publication of {layer.name}",
        "authors": _people(written[1]) if written else [{"name": _publisher(source)}],
    }
    if written:
        reference["year"] = int(written[2])
    if arxiv:
        reference["identifiers"] = [{"type": "doi", "value": f"10.48550/arXiv.{arxiv[1]}"}]
        reference["url"] = f"https://arxiv.org/abs/{arxiv[1]}"
    elif github:
        reference["url"] = f"https://{github[0]}"
    return {**reference, "notes": source}


def _people(text: str) -> list[dict[str, str]]:
    """`Basirat & Roth` as two people, `Maas et al.` as one and others."""
    first, others, _ = text.partition(" et al.")
    people = [{"family-names": name.strip()} for name in first.split("&")]
    return [*people, {"name": "and others"}] if others else people


def _publisher(source: str) -> str:
    """Who is to be named where the library has no author."""
    if source.startswith("torch."):
        return "The PyTorch contributors"
    github = _GITHUB.search(source)
    return f"The contributors of {github[0]}" if github else f"The authors of {_ARXIV.search(source)[0]}" if _ARXIV.search(source) else source  # type: ignore[index]


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST else text[: _MOST - 4] + " ..."

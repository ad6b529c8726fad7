"""Kubernetes manifests as YAML text."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString


def documents(found: Sequence[Mapping[str, Any]]) -> str:
    """Several documents in one file, as kubectl reads them; texts of many lines stand as they are."""
    yaml, stream = YAML(typ="rt"), io.StringIO()
    yaml.default_flow_style = False
    yaml.width = 1000
    yaml.explicit_start = True  # type: ignore[assignment]
    for document in found:
        yaml.dump(_readable(document), stream)
    return stream.getvalue()


def _readable(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: _readable(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_readable(value) for value in node]
    return LiteralScalarString(node) if isinstance(node, str) and "\n" in node else node

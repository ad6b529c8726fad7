"""A hash of the data that a search's scores depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from evosearch.judging.objectives import parse_pair
from evosearch.judging.tasks import task


def data_hash(pairs: Iterable[str]) -> str:
    """sha256 over inputs and targets of every task that the pairs name, first 16 hex digits."""
    digest = hashlib.sha256()
    for name, variant in sorted({(parse_pair(pair).task, parse_pair(pair).variant) for pair in pairs}):
        data = task(name).load(variant)
        for tensor in (*data.train, *data.validation, *data.test):
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]

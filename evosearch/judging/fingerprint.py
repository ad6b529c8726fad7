"""Hashes of what a search's scores depend on besides its configuration: the data, and models of the user's."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterable, Mapping

from evosearch.judging.architectures import factory
from evosearch.judging.objectives import own_models, parse_pair
from evosearch.judging.tasks import task


def data_hash(pairs: Iterable[str]) -> str:
    """sha256 over inputs and targets of every task that the pairs name, first 16 hex digits."""
    digest = hashlib.sha256()
    for name, variant in sorted({(parse_pair(pair).task, parse_pair(pair).variant) for pair in pairs}):
        data = task(name).load(variant)
        for tensor in (*data.train, *data.validation, *data.test):
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def model_hashes(pairs: Iterable[str]) -> dict[str, str]:
    """By `module:function`, sha256 of the file of every model of the user's that the pairs name, first 16 hex digits."""
    return {name: _digest(name) for name in own_models(pairs)}


def check_models_same(recorded: Mapping[str, str]) -> None:
    """Raises ValueError unless the files of those models are here what they were where the digests come from: another node may have others."""
    for name, digest in recorded.items():
        here = _digest(name)
        if here != digest:
            where = f"on {socket.gethostname()} has the file with SHA-256 {here}..., the driver's is {digest}..."
            raise ValueError(f"the model `{name}` {where}: install the same one on every node, or give it as a plug-in, which travels")


def _digest(name: str) -> str:
    return hashlib.sha256(factory.source(name)).hexdigest()[:16]

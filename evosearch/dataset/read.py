"""From a path to a checked table: `read`. What is wrong with a file is one line, whoever noticed it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from evosearch.dataset.source import DataError, DataFile, contents, form, sha256
from evosearch.dataset.table import Table, checked


def read(path: Path, expected: str | None = None) -> Table:
    """The file's or folder's table; `expected` is the SHA-256 that its content must have. Raises DataError that names the path."""
    try:
        kind = form(path)
        content = contents(path)
        found = sha256(content, path.is_dir())
        if expected is not None:
            _same(found, expected)
        return replace(checked(_decoded(kind, content)), form=kind, sha256=found)
    except DataError as error:
        raise DataError(f"{str(path)[-160:]}: {error}") from error


def data_file(name: str, path: Path, table: Table) -> DataFile:
    """What travels of a table that was read from `path` as the task `name`."""
    return DataFile(name, os.path.abspath(path), table.sha256, table.kind, table.shape)


def check_unchanged(file: DataFile) -> None:
    """Raises DataError unless the path still holds what was described."""
    path = Path(file.path)
    try:
        _same(sha256(contents(path), path.is_dir()), file.sha256)
    except DataError as error:
        raise DataError(f"{file.path[-160:]}: {error}") from error


def _same(found: str, expected: str) -> None:
    if found != expected:
        raise DataError(f"its content has changed since the search or evaluation began (SHA-256 {expected[:12]}, now {found[:12]}); restore it, or begin anew")


def _decoded(kind: str, content: Mapping[str, bytes]) -> Table:
    """The table of the bytes. Whatever a decoder raises of bytes that are not what the name says is a DataError."""
    try:
        if kind == "images":
            from evosearch.dataset.images import read_folder

            return read_folder(content)
        if kind.startswith("cifar"):
            from evosearch.dataset.images import read_cifar

            return read_cifar(content, labels=1 if kind == "cifar-10" else 2)
        (data,) = content.values()
        if kind == "npz":
            from evosearch.dataset.arrays import read_npz

            return read_npz(data)
        from evosearch.dataset.tables import read_csv, read_parquet

        return read_csv(data) if kind == "csv" else read_parquet(data)
    except DataError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"it cannot be read as {kind}: {said.rstrip('.')}; is the file whole, and what its name says?") from error

"""A run's files: whole or as they were, sealed, never written or read through a link, and read within bounds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from evosearch.search import store
from evosearch.search.files import LogError, is_sealed, read_bytes, sealed, write_atomically
from tests.search.test_store import Killed


def test_a_file_is_whole_or_the_old_one(tmp_path, monkeypatch):
    file = tmp_path / "status.json"
    write_atomically(file, b"old")
    monkeypatch.setattr(store.os, "fsync", lambda _: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        write_atomically(file, b"new")
    monkeypatch.undo()
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]
    write_atomically(file, b"new")
    assert file.read_bytes() == b"new"


def test_a_seal_is_the_files_last_key(tmp_path):
    data = sealed({"a": [1, 2], "z": "crc32"})
    assert json.loads(data)["a"] == [1, 2]
    assert is_sealed(data)
    assert is_sealed(b'{\n "a": 1\n}\n') is None
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        assert not is_sealed(bytes(changed))


def test_a_link_in_place_of_a_temporary_file_is_not_written_through(tmp_path, monkeypatch):
    outside = tmp_path / "outside"
    outside.write_text("precious")
    target = tmp_path / "status.json"
    (tmp_path / f"_tmp.status.json.{os.getpid()}").symlink_to(outside)
    write_atomically(target, b"{}")
    assert (outside.read_text(), target.read_bytes(), target.is_symlink()) == ("precious", b"{}", False)
    (tmp_path / f"_tmp.status.json.{os.getpid()}").symlink_to(outside)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)  # it is put there again between the two
    with pytest.raises(LogError, match="cannot be written"):
        write_atomically(target, b"[]")
    assert (outside.read_text(), target.read_bytes()) == ("precious", b"{}")


def test_a_file_without_end_is_refused_unread(tmp_path, monkeypatch):
    (tmp_path / "long").touch()
    os.truncate(tmp_path / "long", 10 << 30)
    monkeypatch.setattr(os, "fdopen", None)
    with pytest.raises(LogError, match="is longer than"):
        read_bytes(tmp_path / "long")

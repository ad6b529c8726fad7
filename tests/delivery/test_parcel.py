"""A run that travels as lines: what comes home is the run, and what is no run writes nothing."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evosearch.delivery import parcel
from evosearch.delivery.parcel import MARK, PIECE, pack, unpack
from evosearch.search.store import LogError
from tests.search.test_store import write_a_run

PARTS = [f"part-00000{number}.parquet" for number in range(3)]


def a_run(directory: Path) -> Path:
    """Three closed segments and an open one."""
    write_a_run(directory, [])
    (directory / "run.yaml").write_text("config: {}\n")
    return directory


@pytest.fixture
def lines(tmp_path: Path) -> list[str]:
    return list(pack(a_run(tmp_path / "far")))


def test_what_comes_home_is_the_run(tmp_path: Path, lines: list[str]) -> None:
    noise = ["2026 INFO job started", "", "evosearch: a notice"]
    unpack([*noise, *lines, *noise], tmp_path / "home")
    for name in ("run.yaml", "journal.jsonl", *(f"results/{part}" for part in PARTS)):
        assert (tmp_path / "home" / name).read_bytes() == (tmp_path / "far" / name).read_bytes()
    assert not (tmp_path / "home" / "lock").exists()


def test_a_part_that_the_journal_does_not_count_yet_stays_behind(tmp_path: Path) -> None:
    run = a_run(tmp_path / "far")
    (run / "results" / "part-000003.parquet").write_bytes(b"being written")
    unpack(pack(run), tmp_path / "home")
    assert sorted(path.name for path in (tmp_path / "home" / "results").iterdir()) == PARTS


def test_a_file_of_several_pieces_is_whole(tmp_path: Path) -> None:
    run = a_run(tmp_path / "far")
    (run / "summary.json").write_bytes(bytes(range(256)) * (PIECE // 100))
    unpack(pack(run), tmp_path / "home")
    assert (tmp_path / "home" / "summary.json").read_bytes() == (run / "summary.json").read_bytes()


def edited(line: str, **change: Any) -> str:
    return MARK + json.dumps({**json.loads(line.removeprefix(MARK)), **change})


BAD: dict[str, Callable[[list[str]], list[str]]] = {
    "has a path that leads out": lambda lines: [edited(lines[0], name="../evil"), *lines],
    "has a path that leads out of a folder": lambda lines: [edited(lines[0], name="results/../../evil"), *lines],
    "has an absolute path": lambda lines: [edited(lines[0], name="/tmp/evosearch-evil"), *lines],
    "has a file that no run has": lambda lines: [edited(lines[0], name="evil.py"), *lines],
    "has a file that nothing writes": lambda lines: [edited(lines[0], name="report.html"), *lines],
    "has a size without end": lambda lines: [lines[0].replace('"size": ', '"size": 1e999, "x": '), *lines[1:]],
    "has a lock": lambda lines: [edited(lines[0], name="lock"), *lines],
    "has a newline in a name": lambda lines: [edited(lines[0], name="run.yaml\n"), *lines],
    "lacks its end": lambda lines: lines[:-1],
    "lacks a line": lambda lines: [line for line in lines if "journal.jsonl" not in line],
    "has a line twice": lambda lines: [lines[0], *lines],
    "has another digest": lambda lines: [edited(lines[0], sha256="0" * 64), *lines[1:]],
    "is larger than it says": lambda lines: [edited(lines[0], size=1), *lines[1:]],
    "has data that is no base64": lambda lines: [edited(lines[0], data="?"), *lines[1:]],
    "has data that is not compressed": lambda lines: [edited(lines[0], data="AAAA"), *lines[1:]],
    "has a bomb": lambda lines: [edited(lines[0], data=base64.b64encode(zlib.compress(bytes(100 << 20))).decode(), size=100 << 20), *lines[1:]],
    "is no JSON": lambda lines: [MARK + "{", *lines],
    "is a list": lambda lines: [MARK + "[]", *lines],
    "is deep": lambda lines: [MARK + "[" * 100_000, *lines],
    "has a start that is text": lambda lines: [edited(lines[0], start="x"), *lines[1:]],
    "is empty": lambda lines: [],
}


@pytest.mark.parametrize("what", BAD)
def test_a_parcel_that_is_not_sound_writes_nothing(tmp_path: Path, lines: list[str], what: str) -> None:
    (tmp_path / "to").mkdir()
    with pytest.raises(LogError, match="holds a file that no run has" if re.search("path|file|lock|newline", what) else None):
        unpack(BAD[what](lines), tmp_path / "to" / "home")
    assert list((tmp_path / "to").iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path, lines: list[str]) -> None:
    (tmp_path / "home").mkdir()
    with pytest.raises(LogError, match="is there already"):
        unpack(lines, tmp_path / "home")
    assert list((tmp_path / "home").iterdir()) == []


def test_what_is_too_large_is_said_on_both_sides(tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LogError, match="copy it with rsync"):
        list(pack(tmp_path / "far", largest=100))
    with pytest.raises(LogError, match="larger than it says"):
        unpack(lines, tmp_path / "home", largest=100)
    with pytest.raises(LogError, match="is not a run"):
        list(parcel.pack(tmp_path))

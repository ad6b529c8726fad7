"""Finished runs of every format of the log, as their programs left them: read and shown, or refused by number; never changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from evosearch.delivery.summary import read
from evosearch.delivery.table import page
from evosearch.run import stored
from evosearch.search.files import LogError
from evosearch.search.journal import frame, read_journal
from evosearch.search.repair import repair
from evosearch.search.soundness import examine
from evosearch.search.store import FORMAT, Log, read_run

RUNS = Path(__file__).parents[1] / "data" / "runs"


@pytest.fixture
def old(tmp_path):
    """The sample of a format, in a folder of its own."""
    return lambda number: shutil.copytree(RUNS / f"format-{number}", tmp_path / f"format-{number}")


def contents(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_there_is_a_run_of_every_format():
    assert sorted(path.name for path in RUNS.iterdir() if path.is_dir()) == [f"format-{number}" for number in range(1, FORMAT + 1)]


def test_the_first_run_of_this_format_is_read_shown_and_sound(old):
    directory = old(2)
    before = contents(directory)
    config = stored(directory)[0]
    found = read(directory, config)
    assert [len(found.searched), len(found.finals), found.finished] == [10, 8, True]
    assert found.pick is not None
    assert found.pick.candidate == "-x + sin(x)"
    assert any("-x + sin(x)" in line for line in page(found, None, "", None))
    assert {finding.sound for finding in examine(directory, config.window)} == {True, None}  # it had fewer checksums, which is said
    assert contents(directory) == before


def test_it_is_opened_by_a_driver_with_all_its_rows(old):
    directory = old(2)
    rows = read_run(directory)[0]
    with Log(directory) as log:
        assert log.rows() == rows
        assert len(log.marks("scale")) == 1
    assert read_run(directory)[0] == rows


@pytest.mark.parametrize("number", [1, 3, 99])
def test_another_format_is_refused_by_its_number_and_left_alone(old, number):
    directory = old(1 if number == 1 else 2)
    if number != 1:
        records, _, _ = read_journal(directory / "journal.jsonl")
        (directory / "journal.jsonl").write_bytes(b"".join(frame(record | ({"format": number} if record["type"] == "open" else {})) for record in records))
    before = contents(directory)
    for act in (Log, read_run, stored, examine, lambda place: repair(place, dry_run=False)):
        with pytest.raises((LogError, ValueError), match=f"is of another version than {FORMAT}: {number}; use the evosearch that wrote it"):
            act(directory)
    assert {path: data for path, data in contents(directory).items() if path.name != "lock"} == before

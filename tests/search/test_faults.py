"""A run's folder under damage: every prefix of its journal, flipped bits, a disk that refuses any one operation, a second driver, a stranger's files."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import zlib

import pytest

from evosearch import run as running
from evosearch.search import lock as lock_module
from evosearch.search.files import LogError, read_bytes, sealed, write_atomically
from evosearch.search.journal import frame, read_journal
from evosearch.search.lock import Lock, refuse_if_held
from evosearch.search.repair import flipped_bit, repair
from evosearch.search.soundness import examine
from evosearch.search.store import Log, read_run
from tests.search.test_store import SCALE, WINDOW, close, result, rewritten, unsound
from tests.test_run import Workers, config_of


def finish(directory, evaluations=14):
    """A run of simulated workers to its end, in segments of five rows."""
    config = config_of(evaluations, "execution.segment_rows=5")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "_executor", lambda *_: Workers())
        running.run(running.prepare(directory, config), directory, None, lambda _: None)
    write_atomically(directory / "summary.json", sealed({"pick": "sin(x)", "verdict": None}))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole") / "run"
    finish(directory)
    return directory


@pytest.fixture
def copied(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "run")


def kept(directory):
    """Every file that counts, byte for byte."""
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file() and p.name != "lock"}


def flip(file, bit):
    data = bytearray(file.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(data)


# -- prefixes and bits -------------------------------------------------------------------------------------------------


def test_every_prefix_of_a_journal_is_its_complete_records(tmp_path):
    with Log(tmp_path / "run") as log:
        for index in range(16):
            log.append([result(index, error="a" * (7 * index % 40))])
    journal, cut = tmp_path / "run" / "journal.jsonl", tmp_path / "cut" / "journal.jsonl"
    cut.parent.mkdir()
    data = journal.read_bytes()
    records, _, _ = read_journal(journal)
    assert len(data) > 4096
    for length in range(len(data) + 1):
        cut.write_bytes(data[:length])
        complete = data[:length].count(b"\n")
        sound = data[:length].rfind(b"\n") + 1
        assert read_journal(cut) == (records[:complete], sound, sound < length)
        if length % 61 == 0 and complete:
            with Log(cut.parent) as log:
                assert log.records == records[:complete]
                assert [f"of {length - sound} bytes" in notice for notice in log.notices] == [True] * (sound < length)
                log.append([result(99)])
            assert read_journal(cut)[0][:-1] == records[:complete]


def test_a_hole_of_zeros_at_the_end_is_what_power_loss_leaves_and_is_torn(tmp_path):
    with Log(tmp_path) as log:
        log.append([result(index) for index in range(5)])
    journal = tmp_path / "journal.jsonl"
    data = journal.read_bytes()
    starts = [0, *(place.end() for place in re.finditer(b"\n", data))]
    for hole in (data[: starts[5]] + b"\0" * 40 + data[starts[5] + 40 :], data + b"\0" * 4096, data[: starts[5]] + b"\0\0\0" + data[starts[5] + 3 :]):
        journal.write_bytes(hole)
        records, _, torn = read_journal(journal)
        assert torn
        assert len(records) in (5, 6)
    journal.write_bytes(data[: starts[3]] + b"\0" * 40 + data[starts[3] + 40 :])
    with pytest.raises(LogError, match=r"record 3 of .* is damaged"):
        read_journal(journal)


def test_no_flipped_bit_of_any_file_passes_and_each_is_repaired(whole, copied):
    """Random bits here; `scripts/chaos.py flips` takes thousands."""
    rng, rows = random.Random(0), read_run(whole)[0]
    files = [path for path in sorted(whole.rglob("*")) if path.is_file() and path.name != "lock"]
    assert {path.name for path in files} >= {"journal.jsonl", "run.yaml", "status.json", "summary.json", "part-000000.parquet"}
    assert not unsound(whole)
    assert all(finding.sound for finding in examine(whole, WINDOW))
    for number in range(120):
        file = copied / files[number % len(files)].relative_to(whole)
        before = file.read_bytes()
        flip(file, rng.randrange(8 * len(before)))
        assert unsound(copied), file
        if number < 60:
            state = kept(copied)
            planned, left = repair(copied, dry_run=True)
            assert kept(copied) == state
            assert (planned, left) == (*repair(copied, dry_run=False)[:1], [])
            assert not unsound(copied)
            assert read_run(copied)[0] == rows
            assert file.name in ("status.json", "summary.json") or file.read_bytes() == before
            (copy,) = (copied / "damaged").iterdir()
            assert copy.read_bytes() == state[str(file.relative_to(copied))]
            shutil.rmtree(copied / "damaged")
        file.write_bytes(before)


def test_a_bit_that_makes_or_takes_a_newline_is_turned_back(copied):
    journal = copied / "journal.jsonl"
    data = journal.read_bytes()
    newlines = [place.start() for place in re.finditer(b"\n", data)]
    made = [place.start() for place in re.finditer(b"J|\\*|\x0b|N", data)]  # one bit from a newline
    for position in (*newlines, *made[:5]):
        bit = next((b for b in range(8) if data[position] ^ 1 << b == 10 or data[position] == 10), 0)
        flip(journal, 8 * position + bit)
        assert unsound(copied)
        done, left = repair(copied, dry_run=False)
        assert (len(done), left) == (1, [])
        assert journal.read_bytes() == data


@pytest.mark.parametrize("length", [1, 5, 4096, 70_000])
def test_the_flipped_bit_is_where_the_checksum_says(length):
    rng = random.Random(length)
    data = rng.randbytes(length)
    for bit in {0, 8 * length - 1, rng.randrange(8 * length)}:
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        assert flipped_bit(bytes(changed), zlib.crc32(data)) == (bit // 8, bit % 8)
    assert length < 100 or flipped_bit(data[:-2] + b"??", zlib.crc32(data)) is None


# -- check and repair --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.append(dict(rows[-1])), "job 5 has 2 results; attempt 0 of ask 5 is there 2 times"),
        (lambda rows: rows.pop(0), "the result of job 0 is missing, although later ones follow from it"),
        (lambda rows: rows[3].update(status="fine"), "has the status 'fine'"),
        (lambda rows: rows[3].update(stage="\x1b[2J"), r"has the stage '\\x1b[2J'"),
        (lambda rows: rows[3].update(ask=4), "is numbered 3"),
        (lambda rows: rows[3].update(index=None, stage="numeric", reason="numeric:affine"), "was screened out as ok"),
        (lambda rows: rows[3].update(status="duplicate", reason="duplicate"), "is a duplicate of nothing"),
        (lambda rows: rows[3].update(duplicate_of=5), "is a duplicate of a later one"),
        (lambda rows: rows[3].update(status="timeout"), "has no reason"),
    ],
)
def test_rows_that_cannot_be_one_runs_are_named(tmp_path, change, said):
    rows = [{**result(index)["rows"][0], "stage": "full"} for index in range(6)]
    change(rows)
    with Log(tmp_path) as log:
        log.append([{"type": "result", "rows": [row]} for row in rows])
    (finding,) = [finding for finding in examine(tmp_path, WINDOW) if finding.name == "rows"]
    assert finding.sound is False
    assert said.replace("\\\\", "\\") in finding.text


def test_what_is_gone_foreign_or_old_is_named(copied):
    def said(name):
        return " ".join(finding.text for finding in unsound(copied) if finding.name == name)

    before = kept(copied)
    rewritten(copied, lambda records: records.append(SCALE))
    assert "frozen twice" in said("scale")
    (copied / "journal.jsonl").write_bytes(before["journal.jsonl"])
    rewritten(copied, lambda records: [r for r in records if r["type"] != "part" or r["segment"] != 1])
    assert "no checksum for a part between others" in said("results")
    (copied / "journal.jsonl").write_bytes(before["journal.jsonl"])
    (copied / "results" / "part-000001.parquet").unlink()
    assert "part-000001.parquet is missing" in said("results")
    done, left = repair(copied, dry_run=False)
    assert (done, len(left)) == ([], 1)
    assert "its rows are nowhere else; restore it from a copy" in left[0]
    (copied / "results" / "_tmp.part-000001.parquet.77").write_bytes(before["results/part-000001.parquet"])
    done, left = repair(copied, dry_run=False)
    assert (len(done), left, unsound(copied)) == (1, [], [])
    (copied / "results" / "part-000099.parquet").write_bytes(before["results/part-000001.parquet"])
    assert "belongs to no closed segment" in said("results")
    (copied / "run.yaml").write_bytes(before["run.yaml"].replace(b"evaluations: 14", b"evaluations: 19"))
    assert "not the bytes that were written" in said("run.yaml")
    assert any("run.yaml: not the bytes that were written, by more than a bit" in text for text in repair(copied, dry_run=True)[1])


@pytest.mark.parametrize("number", [3, 8, -1])
def test_a_record_that_is_beyond_repair_is_dropped_and_its_job_is_asked_again(whole, tmp_path, number):
    directory = tmp_path / "run"
    config = config_of(14)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "_executor", lambda *_: Workers(stop_after=9))
        patch.setattr(Log, "close_segment", lambda *_: None)
        running.run(running.prepare(directory, config), directory, None, lambda _: None)
    journal = directory / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    assert b'"result"' in lines[number]
    lines[number] = lines[number][:30] + b"##" + lines[number][32:]
    journal.write_bytes(b"".join(lines))
    with pytest.raises(LogError, match="is damaged"):
        Log(directory)
    done, left = repair(directory, dry_run=False)
    assert left == []
    assert "dropped 1 damaged lines" in done[0]
    finish(directory)
    same = ("index", "ask", "attempt", "candidate", "scores", "status")
    assert [[row[k] for k in same] for row in sorted(read_run(directory)[0], key=lambda r: (r["ask"], r["attempt"]))] == [
        [row[k] for k in same] for row in sorted(read_run(whole)[0], key=lambda r: (r["ask"], r["attempt"]))
    ]
    assert not unsound(directory)


def test_a_journal_that_was_cut_at_a_records_end_is_noticed_by_status(tmp_path):
    with Log(tmp_path) as log:
        log.append([result(0), result(1)])
        log.write_status({"told": 2, "final_told": 0})
    rewritten(tmp_path, lambda records: records[:-1])
    assert "holds 1 results, and status.json counted 2: it was cut off" in unsound(tmp_path)[-1].text


def test_a_torn_tail_is_cut_after_a_copy_and_a_lost_beginning_is_not_made_up(copied):
    journal = copied / "journal.jsonl"
    data = journal.read_bytes()
    journal.write_bytes(data + b"0123abcd {")
    (finding,) = unsound(copied)
    assert "10 bytes without an end" in finding.text
    done, left = repair(copied, dry_run=False)
    assert (len(done), left, journal.read_bytes()) == (1, [], data)
    assert [path.read_bytes() for path in (copied / "damaged").iterdir()] == [data + b"0123abcd {"]
    journal.write_bytes(b"#" * 60 + data[60:])
    state = kept(copied)
    done, left = repair(copied, dry_run=False)
    assert done == []
    assert "its first record" in left[0]
    assert kept(copied) == state


def test_nothing_is_repaired_while_a_driver_is_at_work(copied):
    with Log(copied):
        for dry_run in (True, False):
            with pytest.raises(LogError, match=f"in use by process {os.getpid()} on "):
                repair(copied, dry_run)


# -- a disk that refuses -----------------------------------------------------------------------------------------------


class Refusing:
    """The n-th of the operations by which files are written fails, and so does each one after it, as on a full disk, where it `persists`."""

    def __init__(self, patch, n, number, persists):
        self.left, self.number, self.persists = n, number, persists
        for name in ("open", "write", "pwrite", "fsync", "replace"):
            patch.setattr(os, name, self._wrapped(name, getattr(os, name)))

    def _wrapped(self, name, real):
        def call(*args, **more):
            is_read = name == "open" and not args[1] & (os.O_WRONLY | os.O_RDWR)
            if is_read:
                return real(*args, **more)
            self.left -= 1
            if self.left == 0 or (self.left < 0 and self.persists):
                if name == "write" and len(args[1]) > 20:
                    real(args[0], bytes(args[1])[:20])
                raise OSError(self.number, os.strerror(self.number), *([str(args[0])] if name == "open" else []))
            return real(*args, **more)

        return call


@pytest.mark.parametrize(("number", "persists"), [(errno.ENOSPC, True), (errno.EIO, False), (errno.EDQUOT, True)])
def test_whatever_write_is_refused_is_one_error_and_resume_gives_all(tmp_path, number, persists):
    n, refused = 0, True
    while refused:
        n, message, acknowledged, directory = n + 1, "", [], tmp_path / str(n + 1)
        with pytest.MonkeyPatch.context() as patch:
            Refusing(patch, n, number, persists)
            try:
                with Log(directory) as log:
                    for index in range(6):
                        log.append([result(index)])
                        acknowledged.append(index)
                        if index in (1, 3):
                            close(log)
                        log.write_status({"told": index + 1})
            except LogError as error:
                message = str(error)
        refused = bool(message)
        assert not refused or re.search(rf"^{directory}.* cannot be written \({os.strerror(number)}; \d+ bytes free\); .*run again to resume", message)
        before = (directory / "journal.jsonl").stat().st_ino if (directory / "journal.jsonl").exists() else None
        with Log(directory) as log:
            found = [row["index"] for row in log.rows()]
            assert found == sorted(set(found))
            assert set(acknowledged) <= set(found) <= {*acknowledged, len(acknowledged)}
            log.append([result(99)])
        assert (directory / "journal.jsonl").stat().st_ino != before  # never behind what failed
        assert not list(directory.rglob("_tmp.*"))
    assert n > 40


@pytest.mark.parametrize("n", range(3, 120, 9))
def test_a_driver_whose_disk_fills_stops_and_the_same_command_ends_with_the_same_table(whole, tmp_path, n):
    directory = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        Refusing(patch, n, errno.ENOSPC, persists=True)
        with pytest.raises(LogError, match=r"cannot be written \(No space left on device; \d+ bytes free\); make room there and run again"):
            finish(directory)
    finish(directory)
    same = ("index", "ask", "attempt", "candidate", "scores", "status", "objectives")
    assert [[row[k] for k in same] for row in read_run(directory)[0]] == [[row[k] for k in same] for row in read_run(whole)[0]]
    assert not unsound(directory)


# -- one driver --------------------------------------------------------------------------------------------------------


def test_a_driver_that_woke_up_after_another_took_over_writes_nothing(tmp_path):
    first = Log(tmp_path)
    first.append([result(0)])
    (tmp_path / "lock").unlink()  # by hand, or a file system that keeps no locks
    with Log(tmp_path) as second:
        handle = first._handle
        second.append([result(1)])
        os.write(handle, frame(result(7)))  # even in the middle of an append: its file is the journal no longer
        for act in (lambda: first.append([result(8)]), lambda: close(first)):
            with pytest.raises(LogError, match=r"another driver has opened|is closed"):
                act()
        second.append([result(2)])
    first.release()
    (tmp_path / "run.yaml").touch()
    assert [row["index"] for row in read_run(tmp_path)[0]] == [0, 1, 2]


def test_the_holder_is_named_only_if_it_is_the_one(tmp_path, monkeypatch):
    with Log(tmp_path):
        for act in (lambda: Lock(tmp_path), lambda: refuse_if_held(tmp_path)):
            with pytest.raises(LogError, match=rf"in use by process {os.getpid()} on .* \(since 20\d\d-.*wait for it or stop it"):
                act()
        with monkeypatch.context() as patch:
            patch.setattr(lock_module, "_boot", lambda: "another boot")
            with pytest.raises(LogError, match=r"another process than the one that took it .* has ended\); find it with `fuser"):
                Lock(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(lock_module, "_start", lambda pid: 1)  # its number is another process's
            with pytest.raises(LogError, match=r"has ended"):
                Lock(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(lock_module.socket, "gethostname", lambda: "elsewhere")
            with pytest.raises(LogError, match=r"stop it there. If that host is gone for good, delete .*lock and run again"):
                Lock(tmp_path)
        (tmp_path / "lock").write_bytes(b"[" * 900)
        with pytest.raises(LogError, match="in use by another process; one driver a run"):
            Lock(tmp_path)
    refuse_if_held(tmp_path)
    refuse_if_held(tmp_path / "none")
    Lock(tmp_path).release()


def test_reading_and_examining_change_nothing(copied):
    before, times = kept(copied), {p: p.stat().st_mtime_ns for p in copied.rglob("*")}
    read_run(copied)
    examine(copied, WINDOW)
    repair(copied, dry_run=True)
    assert kept(copied) == before
    assert {p: p.stat().st_mtime_ns for p in copied.rglob("*")} == times
    assert read_bytes(copied / "run.yaml") == before["run.yaml"]

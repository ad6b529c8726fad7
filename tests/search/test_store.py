"""The log under kill -9, power loss, a full disk, lost files and readers: what was acknowledged is there, once."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from evosearch.search import store
from evosearch.search.journal import frame
from evosearch.search.soundness import examine
from evosearch.search.store import Log, LogError, read_journal, read_run


def row(index, **more):
    number = index or 0
    empty = {"scores": {"full:textures/resnet:1": number / 7}, "rates": {}, "objectives": {"mean": 0.1 * number}, "seconds": {"full": 1.0}}
    return {"index": index, "ask": index, "attempt": 0, "candidate": f"{index} * x", "status": "ok", "proposer": "random"} | empty | more


WINDOW = 4
SCALE = {"type": "scale", "center": {"a": 1.5}, "spread": {"a": 0.1}, "quality": {}}


def result(index, **more):
    return {"type": "result", "rows": [row(index, **more)]}


def close(log):
    log.close_segment([r for record in log.records if record["type"] == "result" for r in record["rows"]])


def indices(directory):
    (directory / "run.yaml").touch()
    return [r["index"] for r in read_run(directory)[0]]


def rewritten(directory, change):
    """The journal with other records, and true checksums."""
    records = [dict(record) for record in read_journal(directory / "journal.jsonl")[0]]
    records = change(records) or records
    (directory / "journal.jsonl").write_bytes(b"".join(frame({**r, "n": n}) for n, r in enumerate(records)))


def unsound(directory):
    return [finding for finding in examine(directory, WINDOW) if finding.sound is False]


def write_a_run(directory, acknowledged):
    """Three segments and an open one; `acknowledged` hears each index as soon as its append has returned."""
    with Log(directory) as log:
        for index in range(8):
            log.append([SCALE, result(index)] if index == 1 else [result(index)])
            acknowledged.append(index)
            if index in {2, 4, 5}:
                close(log)


class Killed(BaseException):
    """Not an OSError: no handler of the store may see it, as none sees kill -9."""


class Disk:
    """What a disk holds after each system call of the store: `durable` names and contents got there by fsync alone."""

    CALLS = ("open", "write", "fsync", "replace", "ftruncate")

    def __init__(self, monkeypatch, root, after, before=lambda: None):
        self.root, self.paths, self.contents, self.names = root, {}, {}, {}
        for name in self.CALLS:
            monkeypatch.setattr(store.os, name, self._wrapped(name, getattr(os, name), before, after))

    def _wrapped(self, name, real, before, after):
        def call(*args):
            before()
            answer = real(*args)
            if name == "open":
                self.paths[answer] = Path(args[0])
            elif name == "fsync":
                self._persist(self.paths[args[0]])
            after()
            return answer

        return call

    def _persist(self, path):
        if path.is_dir():
            self.names[path] = {child.name: child.stat().st_ino for child in path.iterdir()}
        else:
            self.contents[path.stat().st_ino] = path.read_bytes()

    def after_power_loss(self, names_survive, contents_survive):
        """Relative path -> bytes, where un-fsynced names and contents each survived or not."""
        found = {}
        for folder in filter(Path.is_dir, (self.root, self.root / "results")):
            current = {child.name: child for child in folder.iterdir() if child.is_file()}
            inodes = {child.stat().st_ino: child for child in current.values()}
            entries = {n: c.stat().st_ino for n, c in current.items()} if names_survive else self.names.get(folder, {})
            for name, inode in entries.items():
                data = inodes[inode].read_bytes() if contents_survive and inode in inodes else self.contents.get(inode, b"")
                found[folder.relative_to(self.root) / name] = data
        return {path: data for path, data in found.items() if str(path) not in {"lock", "results"}}


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    """Every (files, acknowledged) that a crash may leave behind while a run is written, in four kinds of crash."""
    root, acknowledged, seen = tmp_path_factory.mktemp("disk"), [], []

    def after():
        for kind in ((True, True), (True, False), (False, True), (False, False)):
            seen.append((disk.after_power_loss(*kind), list(acknowledged)))

    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, root, after)
        write_a_run(root, acknowledged)
    assert acknowledged == list(range(8))
    return seen


def test_power_loss_at_any_system_call_loses_and_doubles_nothing_acknowledged(states, tmp_path):
    unlike = {repr((sorted(files.items()), acked)): (files, acked) for files, acked in states}
    assert len(unlike) >= 35
    for number, (files, acknowledged) in enumerate(unlike.values()):
        directory = tmp_path / str(number)
        (directory / "results").mkdir(parents=True)
        for path, data in files.items():
            (directory / path).write_bytes(data)
        if acknowledged or "journal.jsonl" in {str(p) for p in files}:
            found = indices(directory)  # a reader first: it repairs nothing
            assert found == sorted(set(found))
            assert set(acknowledged) <= set(found) <= {*acknowledged, len(acknowledged)}
        with Log(directory) as log:
            assert set(acknowledged) <= {r["index"] for r in log.rows()} <= {*acknowledged, len(acknowledged)}
            assert len(log.marks("scale")) == 1 or len(acknowledged) < 2
            log.append([result(99)])
            close(log)
        assert indices(directory)[-1] == 99
        assert len(indices(directory)) == len(set(indices(directory)))


def test_killed_before_any_system_call_the_next_driver_goes_on(tmp_path, monkeypatch):
    step, survived = 0, False
    while not survived:
        step += 1
        directory, acknowledged, left = tmp_path / str(step), [], iter(range(step))

        def before(left=left):
            if next(left, None) is None:
                raise Killed

        with monkeypatch.context() as patch:
            (directory / "results").mkdir(parents=True)
            Disk(patch, directory, lambda: None, before)
            with suppress(Killed):
                write_a_run(directory, acknowledged)
                survived = True
        with Log(directory) as log:
            found = [r["index"] for r in log.rows()]
            assert len(found) == len(set(found))
            assert set(acknowledged) <= set(found) <= {*acknowledged, len(acknowledged)}
    assert step > 40


DRIVER = """
import sys
from pathlib import Path
from evosearch.search.store import Log
from tests.search.test_store import close, result
with Log(Path(sys.argv[1])) as log:
    for index in range(10**6):
        log.append([result(index)])
        print(index, flush=True)
        if index % 3 == 2:
            close(log)
"""


@pytest.mark.parametrize("kill_after", [0, 8, 41])
def test_kill_9_of_a_real_driver(tmp_path, kill_after):
    root = Path(__file__).parents[2]
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=root)
    assert driver.stdout is not None
    while int(driver.stdout.readline()) < kill_after:
        pass
    driver.send_signal(signal.SIGKILL)
    printed = driver.stdout.read().split()
    driver.wait()
    driver.stdout.close()
    last = int(printed[-1]) if printed else kill_after
    with Log(tmp_path) as log:  # the lock of a dead driver is free
        found = [r["index"] for r in log.rows()]
    assert found in (list(range(last + 1)), list(range(last + 2)))


# -- a disk that refuses -----------------------------------------------------------------------------------------------


def test_a_short_write_is_carried_on(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(store.os, "write", lambda handle, data: real(handle, data[:11]))
    with Log(tmp_path) as log:
        log.append([result(0)])
        close(log)
        log.append([result(1)])
    assert indices(tmp_path) == [0, 1]


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk_stops_the_driver_and_loses_nothing_acknowledged(tmp_path, monkeypatch, call):
    with Log(tmp_path) as log:
        log.append([result(0)])
        real = os.write

        def full(handle, data=b""):
            if call == "write":
                monkeypatch.setattr(store.os, "write", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
                return real(handle, data[:20])
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(store.os, call, full)
        with pytest.raises(LogError, match=r"bytes free.*run again to resume"):
            log.append([result(1)])
        monkeypatch.undo()
        with pytest.raises(LogError, match="closed"):  # never behind a tail that may be torn
            log.append([result(2)])
    with Log(tmp_path) as log:
        assert bool(log.notices) == (call == "write")
        log.append([result(3)])
    assert indices(tmp_path) == ([0, 3] if call == "write" else [0, 1, 3])


def test_what_is_not_finite_is_refused_before_a_byte_is_written(tmp_path):
    with Log(tmp_path) as log:
        log.append([result(0)])
        before = (tmp_path / "journal.jsonl").read_bytes()
        with pytest.raises(ValueError, match="JSON"):
            log.append([result(1), result(2, scores={"a": float("nan")})])
        assert (tmp_path / "journal.jsonl").read_bytes() == before
        log.append([result(3)])
    assert indices(tmp_path) == [0, 3]


# -- damage ------------------------------------------------------------------------------------------------------------


def test_any_flipped_bit_of_any_byte_is_noticed(tmp_path):
    with Log(tmp_path) as log:
        log.append([result(0), result(1), result(2)])
    file, flipped = tmp_path / "journal.jsonl", tmp_path / "flipped"
    data = file.read_bytes()
    starts = [0, *(i + 1 for i, byte in enumerate(data) if byte == 10)]
    for position in range(len(data)):
        flipped.write_bytes(data[:position] + bytes([data[position] ^ (1 << position % 8)]) + data[position + 1 :])
        number = sum(1 for start in starts[1:] if start <= position)
        with pytest.raises(LogError, match=f"record {number} of .* is damaged"):
            read_journal(flipped)


@pytest.mark.parametrize(
    "change",
    [lambda lines: [lines[0], *lines[2:]], lambda lines: [*lines[:2], *lines[1:]],
     lambda lines: [lines[0], lines[2], lines[1], lines[3]]],
)  # fmt: skip
def test_a_line_gone_doubled_or_moved_is_noticed(tmp_path, change):
    with Log(tmp_path) as log:
        log.append([result(0), result(1), result(2)])
    file = tmp_path / "journal.jsonl"
    file.write_bytes(b"".join(change(file.read_bytes().splitlines(keepends=True))))
    with pytest.raises(LogError, match=r"record [12] of"):
        read_journal(file)


def test_a_lost_part_a_lost_journal_and_an_old_journal_are_refused(tmp_path):
    with Log(tmp_path) as log:
        log.append([result(0)])
        old = (tmp_path / "journal.jsonl").read_bytes()
        close(log)
        log.append([result(1)])
        close(log)
        log.append([result(2)])
    journal, part = tmp_path / "journal.jsonl", tmp_path / "results" / "part-000000.parquet"
    now, kept = journal.read_bytes(), part.read_bytes()
    part.unlink()
    with pytest.raises(LogError, match=r"part-000000.parquet is missing"):
        indices(tmp_path)
    part.write_bytes(kept[:-9])
    with pytest.raises(LogError, match=r"part-000000.parquet is damaged"):
        indices(tmp_path)
    part.write_bytes(kept)
    journal.write_bytes(old)
    with pytest.raises(LogError, match="old copy"):
        Log(tmp_path)
    journal.unlink()
    with pytest.raises(LogError, match="missing or empty"):
        indices(tmp_path)
    with pytest.raises(LogError, match="missing or empty"):
        Log(tmp_path)
    assert not journal.exists()  # refused means untouched
    journal.write_bytes(now)
    assert indices(tmp_path) == [0, 1, 2]


@pytest.mark.parametrize("left", [None, b"", b"\0" * 40, b"rubbish", b"0123abcd {"])
def test_a_first_journal_that_is_gone_is_no_fresh_run(tmp_path, left):
    with Log(tmp_path) as log:
        (tmp_path / "run.yaml").touch()
        log.append([result(0)])
    journal = tmp_path / "journal.jsonl"
    journal.unlink() if left is None else journal.write_bytes(left)
    for opened in (Log, read_run, Log):
        with pytest.raises(LogError, match=r"journal.jsonl is (missing or empty|damaged)"):
            opened(tmp_path)
    assert (journal.read_bytes() if journal.exists() else None) == left


# -- segments, readers, drivers ----------------------------------------------------------------------------------------


def test_a_reader_sees_each_row_once_while_a_segment_is_closed(tmp_path, monkeypatch):
    with Log(tmp_path) as log:
        (tmp_path / "run.yaml").touch()
        log.append([result(0), result(1)])

        def read_then_close(path):
            records = read_journal(path)
            monkeypatch.undo()
            close(log)
            log.append([result(2)])
            close(log)
            return records

        monkeypatch.setattr(store, "read_journal", read_then_close)
        assert indices(tmp_path) == [0, 1]
        assert indices(tmp_path) == [0, 1, 2]


def test_records_that_are_not_results_survive_every_segment(tmp_path):
    with Log(tmp_path) as log:
        log.append([SCALE, {"type": "change", "workers": 4}, result(0)])
        for index in range(1, 4):
            close(log)
            log.append([result(index)])
    with Log(tmp_path) as log:
        assert [r["center"] for r in log.marks("scale")] == [SCALE["center"]]
        assert [r["workers"] for r in log.marks("change")] == [4]
        close(log)
        close(log)  # nothing to close: no empty part
    assert len(list((tmp_path / "results").iterdir())) == 4


def test_a_second_driver_in_another_process_is_refused_at_once(tmp_path):
    code = "import sys; from pathlib import Path; from evosearch.search.store import Log; Log(Path(sys.argv[1]))"
    with Log(tmp_path) as log:
        log.append([result(0)])
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False, cwd=Path(__file__).parents[2]
        )
        assert f"is in use by process {os.getpid()} on " in done.stderr.splitlines()[-1]
        log.append([result(1)])
    assert indices(tmp_path) == [0, 1]


def test_a_log_that_cannot_be_opened_lets_go_of_the_lock(tmp_path):
    Log(tmp_path).release()
    journal = tmp_path / "journal.jsonl"
    good = journal.read_bytes()
    record = json.loads(good.split(b" ", 1)[1]) | {"format": 99}
    journal.write_bytes(frame(record))
    for _ in range(2):
        with pytest.raises(LogError, match="another version"):
            Log(tmp_path)
    journal.write_bytes(good)
    Log(tmp_path).release()


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(LogError, match="is not a run"):
        read_run(tmp_path)

"""A run's folder from a stranger: links, pipes, devices, files without end, records that lie, and what is quadratic in none of them."""

from __future__ import annotations

import os
import zlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evosearch.job import Result
from evosearch.plugin import PluginError, check_given, load
from evosearch.search import journal as journal_module
from evosearch.search import repair as repair_module
from evosearch.search.clock import seconds_spent
from evosearch.search.files import LogError
from evosearch.search.journal import frame
from evosearch.search.lock import Lock, refuse_if_held
from evosearch.search.repair import repair
from evosearch.search.soundness import examine
from evosearch.search.store import Log, check_files, read_run
from tests.search.test_store import SCALE, WINDOW, close, result, rewritten, row, unsound, write_a_run


@pytest.fixture
def copied(tmp_path):
    """Three closed segments and an open one."""
    write_a_run(tmp_path / "run", [])
    (tmp_path / "run" / "run.yaml").touch()
    (tmp_path / "run" / "lock").unlink()
    return tmp_path / "run"


def framed(body):
    return b"%08x %s\n" % (zlib.crc32(body), body)


@pytest.mark.parametrize(
    "body",
    [b'{"n":1,"type":' + b"[" * 100_000, b'{"n":1,"type":"result","rows":[1]}', b'{"n":1,"type":"result","rows":[{"ask":1}]}', b'{"n":1}', b"[]", b"{",
     b'{"n":1,"type":"part","segment":-1,"crc32":1}', b'{"n":1,"type":"part","segment":"../x","crc32":1}', b'{"n":1,"type":"x","v":NaN}',
     b'{"n":1,"type":"x","v":' + b"9" * 5000 + b"}", b'{"n":true,"type":"x"}', b'{"n":1,"type":"config"}', b'{"n":1,"type":"open","segment":1000000}',
     b'{"n":1,"type":"result","rows":[{"ask":1,"attempt":0,"candidate":"x","status":"ok","scores":{"a":"b"}}]}',
     b'{"n":1,"type":"result","rows":[{"ask":99999999999999999999,"attempt":0,"candidate":"x","status":"ok"}]}'],
    ids=range(15),
)  # fmt: skip
def test_a_record_of_a_stranger_is_believed_only_as_far_as_its_types(tmp_path, body):
    (tmp_path / "journal.jsonl").write_bytes(framed(b'{"format":2,"n":0,"segment":0,"type":"open"}') + framed(body))
    (tmp_path / "run.yaml").touch()
    with pytest.raises(LogError, match=r"record 1 of .* is damaged"):
        read_run(tmp_path)
    assert unsound(tmp_path)
    repair(tmp_path, dry_run=True)


def test_links_devices_pipes_and_files_without_end_are_refused(copied):
    journal, aside = copied / "journal.jsonl", copied.parent / "aside"
    journal.rename(aside)
    for make, said in [
        (lambda: journal.symlink_to(aside), "symbolic link"),
        (lambda: journal.symlink_to("/dev/zero"), "symbolic link"),
        (lambda: os.mkfifo(journal), "device or pipe"),
        (lambda: (journal.touch(), os.truncate(journal, 2**40)), "longer than"),
    ]:
        make()
        with pytest.raises(LogError, match=said):
            read_run(copied)
        assert unsound(copied)
        assert repair(copied, dry_run=True)[1]
        journal.unlink()
    journal.write_bytes(framed(b'{"format":2,"n":0,"segment":0,"type":"open"}') + b"0" * 2**24 + b"\n")
    with pytest.raises(LogError, match="record 1 of"):
        read_run(copied)


def test_a_part_that_opens_into_gigabytes_is_refused(copied):
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 2500), ["x" * 1_000_000])
    part = copied / "results" / "part-000000.parquet"
    pq.write_table(pa.table({"candidate": text, "ask": pa.array([0] * 2500)}), part, compression="zstd", write_statistics=False, store_schema=False)
    data = part.read_bytes()
    assert len(data) < 1000

    def believed(records):
        next(r for r in records if r["type"] == "part" and r["segment"] == 0)["crc32"] = zlib.crc32(data)

    rewritten(copied, believed)
    with pytest.raises(LogError, match=r"part-000000.parquet is damaged \(opens into more than 512 MiB\)"):
        read_run(copied)
    assert "opens into more than" in " ".join(finding.text for finding in unsound(copied))
    pq.write_table(pa.table({"candidate": [1, 2], "ask": ["a", "b"]}), part)
    data = part.read_bytes()
    rewritten(copied, believed)
    with pytest.raises(LogError, match="is damaged"):
        read_run(copied)


# -- links and pipes: nothing is written, or waited for, outside the run -----------------------------------------------


@pytest.mark.parametrize("folder", ["results", "damaged", "states"])
def test_a_link_in_place_of_a_folder_is_refused_by_all_and_nothing_is_written(copied, tmp_path, folder):
    outside = tmp_path / "outside"
    if folder == "results":
        (copied / folder).rename(outside)
    else:
        outside.mkdir()
    (copied / folder).symlink_to(outside)
    with (copied / "journal.jsonl").open("ab") as file:
        file.write(b"torn")
    before = sorted(outside.iterdir())
    for act in (Log, check_files, read_run, lambda place: repair(place, dry_run=False), lambda place: repair(place, dry_run=True)):
        with pytest.raises(LogError, match=f"{folder} is a symbolic link, which is not followed"):
            act(copied)
    assert any(finding.name == folder for finding in unsound(copied))
    assert sorted(outside.iterdir()) == before
    assert not (copied / "lock").exists()


def test_a_pipe_in_place_of_the_lock_is_refused_and_not_waited_for(copied):
    os.mkfifo(copied / "lock")
    for act in (Lock, refuse_if_held, Log, lambda place: repair(place, dry_run=True), lambda place: repair(place, dry_run=False)):
        with pytest.raises(LogError, match="pipe or device where a file belongs"):
            act(copied)


# -- what it costs -----------------------------------------------------------------------------------------------------


@pytest.fixture
def work(monkeypatch):
    """The bytes that went through checksums and the lines that were read as records."""
    done = {"bytes": 0, "lines": 0}
    real, unframed = zlib.crc32, journal_module.unframed

    def counted(data, start=0):
        done["bytes"] += len(data)
        return real(data, start)

    def read(line, number=None):
        done["lines"] += 1
        return unframed(line, number)

    monkeypatch.setattr(zlib, "crc32", counted)
    monkeypatch.setattr(repair_module, "unframed", read)
    return done


@pytest.mark.parametrize("empty", [200, 2000])
def test_repair_reads_each_line_a_few_times_however_many_are_damaged(tmp_path, work, empty):
    with Log(tmp_path) as log:
        log.append([{"type": "config", "sha256": "0"}, result(0)])
    journal = tmp_path / "journal.jsonl"
    first, *rest = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(first + b"\n" * empty + b"".join(rest))
    work.update(bytes=0, lines=0)
    done, left = repair(tmp_path, dry_run=True)
    assert f"dropped {empty} damaged lines" in done[0]
    assert work["lines"] <= 3 * (empty + 3)
    assert work["bytes"] <= 100 * journal.stat().st_size
    assert len(left) == 1  # there is no run.yaml


@pytest.mark.parametrize("length", [2_000, 65_000, 200_000])
def test_repair_reads_a_damaged_line_a_few_times_however_long_it_is(tmp_path, work, length):
    with Log(tmp_path) as log:
        log.append([{"type": "config", "sha256": "0"}, {"type": "note", "x": "J*" * (length // 2)}, result(0)])
    journal = tmp_path / "journal.jsonl"
    whole = journal.read_bytes()
    places = [whole.index(b"J*") + length - 11, whole.index(b"J*") + 4]
    for flips in ([places[0]], places, [whole.index(b"\n", places[0])]):
        data = bytearray(whole)
        for place in flips:
            data[place] ^= 0x40 if data[place] == ord("J") else 0x20  # J becomes a newline
        journal.write_bytes(data)
        work.update(bytes=0, lines=0)
        done, _ = repair(tmp_path, dry_run=True)
        assert ("dropped" if len(flips) > 1 else "turned back one flipped bit") in done[0]
        assert work["bytes"] <= 20 * len(whole) + 2000
        assert work["lines"] <= 40


def test_a_journal_that_promises_a_million_parts_is_refused_after_a_few(copied):
    rewritten(copied, lambda records: [{**r, "segment": 999_999} if r["type"] == "open" else r for r in records])
    (finding,) = [finding for finding in unsound(copied) if "the journal counts are missing" in finding.text]
    assert "more than 3 of the 999999 parts" in finding.text
    left = repair(copied, dry_run=True)[1]
    assert "more than 3 of the 999999 parts" in left[-1]
    assert len(left) == 4


def test_an_index_of_a_billion_costs_nothing(tmp_path):
    with Log(tmp_path) as log:
        log.append([{"type": "result", "rows": [row(index, stage="full")]} for index in (0, 2, 999_999_998)])
    (finding,) = [finding for finding in unsound(tmp_path) if finding.name == "rows"]
    assert "the result of job 1 is missing, although later ones follow from it; the result of job 3 is missing" in finding.text
    assert "and 999999990 more" in finding.text


# -- numbers and types -------------------------------------------------------------------------------------------------

HUGE = 10**400
TABLES = {"center": {"full:a": 1.5}, "spread": {"full:a": 0.5}, "quality": {"a": 1.0}}


@pytest.mark.parametrize(
    "record",
    [
        {"type": "scale"}, {"type": "scale", **TABLES, "center": {"full:a": "x"}}, {"type": "scale", **TABLES, "center": [1, 2]},
        {"type": "scale", **TABLES, "center": {}, "spread": {}}, {"type": "scale", **TABLES, "spread": {"full:a": 0}},
        {"type": "scale", **TABLES, "spread": {"full:b": 0.5}}, {"type": "scale", **TABLES, "quality": {"a": HUGE}},
        {"type": "tuning"}, {"type": "tuning", "from": "a", "to": 3}, {"type": "tuning", "from": 5, "to": 3}, {"type": "change", "config": 5},
        {"type": "change", "config": [5]}, {"type": "config", "sha256": "x", "file": [1]}, result(0, figure=HUGE), result(0, scores={"full:a:1": HUGE}),
    ],
)  # fmt: skip
def test_a_record_whose_fields_cannot_be_is_not_sound(tmp_path, record):
    for known in (SCALE, {"type": "tuning", "from": 3, "to": 5}, {"type": "change", "config": ["a: 1 -> 2"]}, result(0)):
        assert journal_module.unframed(frame({"n": 0, **known})[:-1], 0) == {"n": 0, **known}
    (tmp_path / "journal.jsonl").write_bytes(frame({"n": 0, "type": "open", "segment": 0, "format": 2}) + frame({"n": 1, **record}))
    (tmp_path / "run.yaml").touch()
    with pytest.raises(LogError, match=r"record 1 of .* is damaged"):
        read_run(tmp_path)
    assert any(finding.name == "journal.jsonl" for finding in unsound(tmp_path))


def test_an_ask_below_zero_is_not_sound(tmp_path):
    with Log(tmp_path) as log:
        log.append([result(None, ask=-5, status="rejected", reason="numeric:affine", stage="numeric")])
    assert "the row of ask -5, attempt 0, is numbered below 0" in unsound(tmp_path)[-1].text


@pytest.mark.parametrize("number", ["Infinity", "1e999", "1" + "0" * 400, "NaN"])
def test_a_number_that_no_float_holds_is_said_of_every_reader(tmp_path, number):
    with Log(tmp_path) as log:
        log.append([result(0)])
    (tmp_path / "status.json").write_text(f'{{"told": 1, "final_told": {number}, "seconds": {number}}}')
    examine(tmp_path, WINDOW)
    notices: list[str] = []
    assert 0.0 <= seconds_spent(tmp_path, True, notices.append) <= 1e9
    sound = Result(0, "x", "ok", stage="full", scores={"full:a:1": 1.5})
    text = sound.to_text()
    assert Result.from_text(text) == sound
    with pytest.raises(ValueError, match="finite number"):
        Result.from_text(text.replace("1.5", number))


@pytest.mark.parametrize("recorded", [["x"], "abc", {"a.py": 5}, 7])
def test_plug_ins_of_a_run_file_that_are_none_are_one_error(tmp_path, recorded):
    with pytest.raises(ValueError, match=r"run.yaml is damaged: its plug-ins are"):
        check_given(recorded, (), tmp_path)


def test_two_plug_ins_of_one_name_are_refused(tmp_path):
    files = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        files.append(tmp_path / folder / "same.py")
        files[-1].write_text("OPERATORS = []\n")
    for given in (files, files[:1] * 2):
        with pytest.raises(PluginError, match=r"two plug-ins are called same\.py"):
            load(given)


def test_a_folder_that_is_moved_under_a_driver_is_told_from_another_driver(tmp_path):
    for act in (lambda log: log.append([result(1)]), close, lambda log: log.write_status({"told": 1})):
        with Log(tmp_path / "run") as log:
            log.append([result(0)])
            (tmp_path / "run").rename(tmp_path / "moved")
            with pytest.raises(LogError, match=r"moved or deleted.*resume (the run|it) where it is now"):
                act(log)
        (tmp_path / "moved").rename(tmp_path / "run")

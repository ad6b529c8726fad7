"""A second fetch takes the place of the first, and of nothing else."""

from __future__ import annotations

import shutil

import pytest

from evosearch import run as running
from evosearch.delivery import fetched
from evosearch.delivery.fetched import bring, refuse_unless_fetched
from evosearch.delivery.parcel import pack
from evosearch.search.soundness import examine
from evosearch.search.store import Log, LogError, read_run
from tests.search.test_faults import finish
from tests.test_run import Workers, config_of


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run as it is stopped, and as it is later."""
    folder = tmp_path_factory.mktemp("runs")
    finish(folder / "early", 8)
    shutil.copytree(folder / "early", folder / "late")
    finish(folder / "late", 12)
    return folder


def count(directory):
    return len(read_run(directory)[0])


def test_a_second_fetch_takes_the_place_of_the_first_and_keeps_what_was_put_there(runs, tmp_path):
    home = tmp_path / "runs" / "first"
    bring(pack(runs / "early"), home)
    assert count(home) == count(runs / "early")
    assert all(finding.sound is not False for finding in examine(home, 4))
    (home / "verify.json").write_text("{}")
    (home / "exports").mkdir()
    (home / "exports" / "layer.py").write_text("x = 1\n")
    (home / "results" / "part-000999.parquet").write_text("not of this run")
    bring(pack(runs / "late"), home)
    assert count(home) == count(runs / "late") > count(runs / "early")
    assert (home / "verify.json").read_text() == "{}"
    assert (home / "exports" / "layer.py").exists()
    assert not (home / "results" / "part-000999.parquet").exists()
    assert [file.name for file in home.parent.iterdir()] == ["first"]


@pytest.mark.parametrize("made", ["another", "driven", "a folder", "a file", "a link"])
def test_what_no_fetch_of_this_run_made_is_left_as_it_is(runs, tmp_path, monkeypatch, made):
    home = tmp_path / "first"
    if made == "another":
        with monkeypatch.context() as patch:
            patch.setattr(running, "_executor", lambda *_: Workers())
            running.run(running.prepare(tmp_path / "other", config_of(12, "seed=1")), tmp_path / "other", None, lambda _: None)
        bring(pack(tmp_path / "other"), home)
    elif made == "driven":
        bring(pack(runs / "early"), home)
        Log(home).release()  # as `evosearch run` on it, which may have told more
    elif made == "a folder":
        shutil.copytree(runs / "early", home)
    elif made == "a file":
        home.touch()
    else:
        bring(pack(runs / "early"), tmp_path / "there")
        home.symlink_to(tmp_path / "there")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(LogError, match="choose another folder"):
        bring(pack(runs / "late"), home)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_driver_that_begins_meanwhile_or_a_failure_finds_the_folder_as_it_was(runs, tmp_path, monkeypatch):
    home = tmp_path / "first"
    bring(pack(runs / "early"), home)
    before = count(home)
    damaged = [line for line in pack(runs / "late") if "parquet" not in line]
    with pytest.raises(LogError):
        bring(damaged[:-1], home)
    with monkeypatch.context() as patch:
        patch.setattr(fetched, "_begun_with", lambda folder: (Log(home).release(), real(folder))[1])
        with pytest.raises(LogError, match="is driven from here"):
            bring(pack(runs / "late"), home)
    assert count(home) == before
    assert [file.name for file in tmp_path.iterdir()] == ["first"]
    with pytest.raises(LogError, match="went on from here"):
        refuse_unless_fetched(home)


real = fetched._begun_with

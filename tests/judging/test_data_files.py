"""Data files of a user's as tasks: no row is in two regions, and what is trained on is what was described."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evosearch.dataset.read import check_unchanged, data_file, read
from evosearch.dataset.source import DataError
from evosearch.dataset.table import Table, checked
from evosearch.job import Job
from evosearch.judging.evaluate import Plan, Stage, worker
from evosearch.judging.objectives import TASKS
from evosearch.judging.tasks import task
from evosearch.judging.tasks.files import data_of, install, regions
from evosearch.judging.tasks.supervised import RATES
from tests.datafiles import forgotten_tasks, pictures, points, write_cifar, write_csv, write_images, write_npz


@pytest.fixture(autouse=True)
def forget():
    with forgotten_tasks():
        yield


@pytest.mark.parametrize("kind", [np.float16, ">f8", "<f4", ">i4", np.bool_, np.uint8, np.int64])
def test_any_numbers_are_inputs(tmp_path, kind):
    x = (points()[0] * 10).clip(0).astype(kind)
    table = read(write_npz(tmp_path / "a.npz", x=x, y=points()[1]))
    data = data_of(table, regions(table), "a", "classes")
    assert data.train[0].dtype == torch.float32


def test_numbers_have_as_many_outputs_as_columns(tmp_path):
    x, _ = points()
    both = read(write_npz(tmp_path / "b.npz", x=x, y=x[:, :2] * 3))
    assert data_of(both, regions(both), "b", "numbers").outputs == 2


@pytest.mark.parametrize("labels", [1, 2])
def test_a_test_part_of_the_files_own_is_kept(tmp_path, labels):
    x, y = pictures(size=32)
    train, validation, test = regions(read(write_cifar(tmp_path / "cifar", x, y, labels)))
    assert (len(train[0]), len(validation[0])) == (34, 6)
    assert np.array_equal(test[0], x[40:])


@given(seed=st.integers(0, 2**32), rows=st.integers(20, 60), columns=st.integers(1, 4), distinct=st.integers(1, 60))
@settings(max_examples=50)
def test_every_row_is_in_one_region_and_equal_rows_in_the_same(seed, rows, columns, distinct):
    x = np.random.default_rng(seed).normal(size=(distinct, columns)).round(1)[np.arange(rows) % distinct] + 0.0
    try:
        parts = regions(checked(Table(x, np.arange(rows) % 2)))
    except DataError:
        assert len(np.unique(x, axis=0)) < 10
        return
    assert sorted(row.tobytes() for part, _ in parts for row in part) == sorted(row.tobytes() for row in x)
    kept = [{row.tobytes() for row in part} for part, _ in parts]
    assert not kept[0] & kept[1] | kept[0] & kept[2] | kept[1] & kept[2]
    if sum(map(len, kept)) == rows:  # no row repeats
        assert [len(part) for part, _ in parts] == [round(0.7 * rows), round(0.85 * rows) - round(0.7 * rows), rows - round(0.85 * rows)]


@given(rows=st.integers(40, 60), columns=st.integers(1, 3), seed=st.integers(0, 2**32), center=st.sampled_from([0.0, 1e3, 1.7e9]))
@settings(max_examples=30)
def test_every_column_has_mean_0_and_deviation_1_in_training(rows, columns, seed, center):
    x = np.random.default_rng(seed).normal(size=(rows, columns)) + center
    x[:, 0] *= 1e-12 if center == 0.0 else 1.0
    table = checked(Table(x, np.arange(rows) % 2))
    data = data_of(table, regions(table), "a", "classes")
    assert torch.allclose(data.train[0].mean(0), torch.zeros(columns), atol=1e-5)
    assert torch.allclose(data.train[0].std(0, correction=0), torch.ones(columns), atol=1e-5)


def test_rows_that_hardly_differ_leave_regions_empty(tmp_path):
    x, y = points()
    with pytest.raises(DataError, match="too few of 60 differ: the regions would have 60, 0, 0 rows"):
        regions(read(write_csv(tmp_path / "a.csv", np.ones_like(x), y)))


# ---- a file as a task


def installed(path: Path, name: str = "mine"):
    file = data_file(name, path, read(path))
    install([file])
    return file


def plan(file, pair="mine/mlp.8"):
    stage = Stage((pair,), 3, (1.0,), 2)
    return Plan(stage, stage, stage, data=(file,))


def test_a_file_is_a_task_with_default_rates(tmp_path):
    installed(write_csv(tmp_path / "rows.csv", *points()))
    assert TASKS["mine"].architectures == ("mlp", "deep-mlp")
    assert TASKS["mine"].name == "accuracy"
    assert task("mine").rates == {"mlp": RATES["mlp"], "deep-mlp": RATES["deep-mlp"]}
    assert task("mine").what == "the user's rows.csv"
    installed(write_images(tmp_path / "pets", *pictures()), "pets")
    assert set(TASKS["pets"].architectures) == set(RATES)
    x, _ = points()
    installed(write_npz(tmp_path / "c.npz", x=x, y=x[:, :2]), "numbers")
    assert (TASKS["numbers"].name, TASKS["numbers"].direction) == ("R2", 1)


@pytest.mark.parametrize("architecture", RATES)
def test_images_train_on_every_architecture(tmp_path, architecture):
    file = installed(write_images(tmp_path / "pets", *pictures()))
    (result,) = [worker(plan(file, f"mine/{architecture}").to_text())(Job(0, "tanh(x)", 0).to_text())]
    assert '"status":"ok"' in result


def test_a_plan_with_data_travels_as_text(tmp_path):
    sent = plan(installed(write_csv(tmp_path / "a.csv", *points())))
    assert Plan.from_text(sent.to_text()) == sent


def test_a_worker_refuses_a_file_that_differs(tmp_path):
    path = write_csv(tmp_path / "a.csv", *points())
    file = installed(path)
    check_unchanged(file)
    write_csv(path, *points(seed=1))
    for attempt in (lambda: worker(plan(file).to_text()), lambda: check_unchanged(file)):
        with pytest.raises(ValueError, match=f"a.csv: its content has changed since .*SHA-256 {file.sha256[:12]}, now {read(path).sha256[:12]}"):
            attempt()
    path.unlink()
    with pytest.raises(ValueError, match=r"the task `mine` failed: DataError: .*a.csv: there is no such file"):
        worker(plan(file).to_text())


def test_a_name_that_is_taken_is_refused_and_a_file_may_replace_a_file(tmp_path):
    path = write_csv(tmp_path / "a.csv", *points())
    for name, message in (("digits", "there is a task `digits` already"), ("no good", "a task's name is letters")):
        with pytest.raises(ValueError, match=message):
            installed(path, name)
    installed(path)
    x, _ = points()
    installed(write_npz(tmp_path / "b.npz", x=x, y=x[:, 0]))
    assert TASKS["mine"].name == "R2"
    assert task("mine").load("").outputs == 1

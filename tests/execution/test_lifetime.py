"""How executors begin and end. Apart from their laws, because two of them would share one Ray and its cores."""

from __future__ import annotations

import pytest

from evosearch.execution import ExecutorError
from evosearch.job import Job
from tests.execution.laws import happens, jobs_of, make, offspring, run_all

RAY = pytest.param("ray", marks=pytest.mark.cluster)


@pytest.mark.parametrize("name", ["local", RAY])
@pytest.mark.parametrize("plan", ["fails", "dies"])
def test_an_entry_that_does_not_load_is_an_error_for_the_user(name: str, plan: str) -> None:
    expected = r"^there is no such data$" if plan == "fails" else "ended with code 3 .* 3 times in a row"
    with make(name, plan) as executor, pytest.raises(ExecutorError, match=expected) as caught:
        run_all(executor, jobs_of(["ok"]))
    assert "\n" not in str(caught.value)


def test_an_entry_that_does_not_load_is_the_same_error_in_serial() -> None:
    with pytest.raises(ExecutorError, match="there is no such data"):
        make("serial", "fails")


@pytest.mark.parametrize("name", ["serial", "local", RAY])
def test_closing_leaves_no_process(name: str) -> None:
    before = offspring()
    with make(name) as executor:
        executor.submit(Job(0, "ok" if name == "serial" else "fork_many", 0))
        executor.poll(0.3)
    assert happens(lambda: offspring() <= before, within=5.0)


def test_ray_answers_too() -> None:
    """The one test of the default suite that starts a Ray; the laws run over it with `-m cluster`."""
    with make("ray") as executor:
        results = run_all(executor, jobs_of(["ok", "segfault", "ok", "threads"]))
    assert [results[index].status for index in range(4)] == ["ok", "crash", "ok", "ok"]

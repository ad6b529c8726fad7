"""Closed doors, seen from a neighbor's network namespace: minutes, so by `pytest -m cluster`; skipped where there can be no namespaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from evosearch.source import import_file

script = import_file(Path(__file__).parent.parent / "scripts" / "check_ports.py", "check_ports_script")


@pytest.mark.cluster
@pytest.mark.parametrize("what", ["local", "ray", "head"])
def test_nothing_answers_that_should_not(what):
    reason = script.why_not()
    if reason:
        pytest.skip(reason)
    assert script.check(what) == []

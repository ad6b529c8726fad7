"""The token of a cluster: nobody else reads it, and without one nothing is joined unasked."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from evosearch.execution import ExecutorError
from evosearch.execution.cluster import token


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(token.VALUE, raising=False)
    monkeypatch.delenv(token.FILE, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    return tmp_path / ".ray" / "auth_token"


def test_a_new_token_is_for_its_owner_alone(file: Path) -> None:
    mask = os.umask(0)
    try:
        token.make_token(file)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert len(file.read_text()) == 64
    assert token.has_token()
    with pytest.raises(ExecutorError, match="a cluster may be using it"):
        token.make_token(file)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_token_that_others_may_read_is_refused_with_the_fix(file: Path, mode: int) -> None:
    token.make_token(file)
    file.chmod(mode)
    with pytest.raises(ExecutorError, match=rf"mode {mode:04o}.*chmod 600 {file}"):
        token.has_token()


def test_the_environment_wins_and_a_file_that_it_names_must_be_there(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not token.has_token()
    monkeypatch.setenv(token.FILE, str(file))
    with pytest.raises(ExecutorError, match="which is not there"):
        token.has_token()
    monkeypatch.setenv(token.VALUE, "x")
    assert token.has_token()

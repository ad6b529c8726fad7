"""The token of a Ray cluster: where it is, that nobody else reads it, and a new one. It is never printed or stored by us."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from evosearch.execution import ExecutorError

MODE, VALUE, FILE = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


def token_file() -> Path:
    """Where Ray looks for the token if it is not in the environment."""
    return Path(os.environ.get(FILE) or Path.home() / ".ray" / "auth_token")


def has_token() -> bool:
    """Whether there is one, in the environment or in its file. Raises ExecutorError for a file that others may read."""
    if os.environ.get(VALUE):
        return True
    if not token_file().is_file():
        if os.environ.get(FILE):
            raise ExecutorError(f"{FILE} names {token_file()}, which is not there; `evosearch cluster token` makes one")
        return False
    fault = exposed(token_file())
    if fault:
        raise ExecutorError(fault)
    return True


def exposed(file: Path) -> str | None:
    """What is wrong with the rights of a token's file; None where only its owner reads it."""
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        return f"{file} is open to others (mode {mode:04o}), and whoever has the token commands the cluster: chmod 600 {file}; chmod 700 {file.parent}"
    return None


def make_token(file: Path) -> None:
    """Writes a new token, 0600 in a folder of 0700. Raises ExecutorError where one is: a cluster may be using it."""
    if file.exists():
        raise ExecutorError(f"{file} exists, and a cluster may be using it; remove it first if none does")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.parent.chmod(0o700)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
        handle.write(secrets.token_hex(32))

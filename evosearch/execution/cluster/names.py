"""Names of runs, and words as a shell reads them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from evosearch.execution import ExecutorError

SUBMITTED = "EVOSEARCH_SUBMITTED"  # in a job's environment: the command that submitted it, which its user types again to go on


def check_name(name: str) -> str:
    """The name itself. Raises ExecutorError for one that is no plain folder's name."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", name):
        raise ExecutorError(f"a name has letters, digits, - _ and ., at most 63, and begins with a letter or digit; received {name[:80]!r}")
    return name


def entrypoint(command: Sequence[str]) -> str:
    """The command as the head's shell reads it: every word quoted, `~/` at the beginning of one is the head's home."""
    return "exec " + " ".join(f'"$HOME"/{shlex.quote(word[2:])}' if word.startswith("~/") else shlex.quote(word) for word in command)

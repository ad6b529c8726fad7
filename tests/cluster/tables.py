"""What of a run must not depend on where and when it ran."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from evosearch.search.store import read_run

MEASURED = ("seconds", "device", "worker")  # of a row: what a clock and a place say


def rows(directory: Path) -> list[dict[str, Any]]:
    """The rows in their order, without what is measured by a clock."""
    found = read_run(directory)[0]
    kept = [{key: value for key, value in row.items() if key not in MEASURED} for row in found]
    return sorted(kept, key=lambda row: (row["ask"], row["attempt"]))


def table_hash(directory: Path) -> str:
    """SHA-256 over them, first 16 hex digits."""
    return hashlib.sha256(json.dumps(rows(directory), sort_keys=True).encode()).hexdigest()[:16]

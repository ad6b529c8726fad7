"""What `evosearch verify` found, as the page of a run shows it: one line a function."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evosearch.search.store import LogError, read_bytes

WORDS = ("better", "not better", "worse")
LARGEST = 1 << 20  # bytes


def verified_lines(directory: Path) -> list[str]:
    """The verdicts of verify.json in words, none where there is no such file; what is no such file of ours is said to be damaged."""
    file = directory / "verify.json"
    if file.exists() and not (file.is_file() and not file.is_symlink() and file.stat().st_size <= LARGEST):
        return [f"{file} is not what `evosearch verify {directory}` writes"]
    try:
        found = json.loads(read_bytes(file))
        return [_line(found["seeds"], len(found["pairs"]), one) for one in found["verified"]]
    except FileNotFoundError:
        return []
    except LogError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError):
        return [f"{file} is damaged; `evosearch verify {directory}` writes it anew"]


def _line(seeds: int, pairs: int, one: dict[str, Any]) -> str:
    by_word = {word: [str(c["against"]) for c in one["comparisons"] if c["verdict"] == word] for word in WORDS}
    said = "; ".join(f"{word} than {', '.join(names)}" for word, names in by_word.items() if names)
    line = f"verified on {seeds:d} fresh seeds of {pairs} unseen pairs: {one['candidate']}: {said or 'no score to compare'}"
    return "".join(letter for letter in line if letter.isprintable())  # the file may be a stranger's

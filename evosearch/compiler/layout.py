"""Emitted text as the formatters lay it out, so that an exported file is formatted as it stands."""

from __future__ import annotations

from collections.abc import Sequence

WIDEST = 160  # characters of a line, as the exported pyproject.toml says


def wrapped(before: str, parts: Sequence[str], after: str, indent: str = "", comment: str = "") -> list[str]:
    """A call or a definition in one line; else its arguments in one line of their own; else each in one."""
    together = ", ".join(parts)
    if len(f"{indent}{before}{together}{after}") <= WIDEST:
        return [f"{indent}{before}{together}{after}{comment}"]
    inside = [f"{indent}    {together}"]
    if len(inside[0]) > WIDEST:
        inside = [f"{indent}    {part}," for part in parts]
    return [f"{indent}{before}", *inside, f"{indent}{after}{comment}"]


def assigned(name: str, literal: str) -> str:
    """A constant: a literal that has room in a line of its own, and none after the name, stands in parentheses."""
    if len(f"{name} = {literal}") > WIDEST >= len(literal) + 4:
        return f"{name} = (\n    {literal}\n)"
    return f"{name} = {literal}"


def targets(names: Sequence[str]) -> str:
    """What a tuple is assigned to."""
    return f"({names[0]},)" if len(names) == 1 else ", ".join(names)

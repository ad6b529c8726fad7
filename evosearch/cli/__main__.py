"""`python -m evosearch.cli`."""

from __future__ import annotations

from evosearch.cli import main

main()

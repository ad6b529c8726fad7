"""Open tables of activation functions that were all trained: a search can be measured on them in seconds."""

from evosearch.benchmarks.table import NAMES, Table, load, open_table

__all__ = ["NAMES", "Table", "load", "open_table"]

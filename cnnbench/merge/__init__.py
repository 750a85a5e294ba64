"""Ledgers of many machines into one tree.

`tree` finds and places them, `duplicates` chooses among copies of one run, `files` reads and writes under locks, `outcome`
says what became of each.
"""

from cnnbench.merge.outcome import Entry, Kind, MergeResult, MergeStatus
from cnnbench.merge.tree import merge

__all__ = ["Entry", "Kind", "MergeResult", "MergeStatus", "merge"]

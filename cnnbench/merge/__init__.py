"""Ledgers of many machines into one tree.

`tree` finds and places them, `copies` reads, chooses and writes copies of one run, `outcome` says what became of each.
"""

from cnnbench.merge.outcome import Entry, Kind, MergeResult, MergeStatus
from cnnbench.merge.tree import merge

__all__ = ["Entry", "Kind", "MergeResult", "MergeStatus", "merge"]

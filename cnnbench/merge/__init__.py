"""Ledgers of many machines into one tree: `tree` finds and places them, `copies` weighs copies of one run, `files` reads and
writes under locks, `outcome` says what became of each.
"""

from cnnbench.merge.outcome import Entry, Kind, Merged, Status
from cnnbench.merge.tree import merge

__all__ = ["Entry", "Kind", "Merged", "Status", "merge"]

"""A second opinion: every printed figure re-derived from raw blocks, by code that shares nothing with what printed it.

This room imports neither `analysis` nor `report`. It finds accidents and careless edits, in ledgers and in published
pages; it does not find a forger, who can rewrite a whole ledger with its digests and print the table anew.
"""

from cnnbench.verify.audit import audit
from cnnbench.verify.dispatch import Disagreement

__all__ = ["Disagreement", "audit"]

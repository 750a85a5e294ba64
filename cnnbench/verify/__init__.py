"""A second opinion: every printed figure derived again from raw blocks, by code that shares nothing with what printed it.

A page is stored as its values (`page.json`). Each value is derived again by a function named after it (`values`, `figures`,
`learning`, `charts`); the text of each cell is written again from it (`columns`, `formats`) and found in the page at its
table, row and column (`documents`); each number in a sentence must belong to a value (`pages`), except in doubts, which are
only compared with the rendered page. Last, the page is rendered again from the ledgers and compared byte for byte; the caller
passes the renderer in, because this room imports neither `analysis` nor `report`. The audit finds accidents and careless
edits, in ledgers and in published pages. It cannot find a forger, who can rewrite a whole ledger with its digests and print
the table again.
"""

from cnnbench.verify.audit import Disagreement, audit

__all__ = ["Disagreement", "audit"]

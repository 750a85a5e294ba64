"""A second opinion: every printed figure derived again from raw blocks, by code that shares nothing with what printed it.

A page is its values (`page.json`). Each value is derived again by a function named after it (`values`, `figures`,
`learning`, `charts`); the text of each cell is written again from it (`columns`, `formats`) and found in the page at its
table, row and column (`documents`); no number in words may be of nothing (`pages`), but for those in
doubts, which are compared with the page as it is rendered again alone. Last the page is rendered again from the
ledgers and compared byte for byte; the renderer is handed in, for this room imports neither `analysis` nor `report`. It finds
accidents and careless edits, in ledgers and in published pages; it does not find a forger, who can rewrite a whole ledger
with its digests and print the table again.
"""

from cnnbench.verify.audit import Disagreement, audit

__all__ = ["Disagreement", "audit"]

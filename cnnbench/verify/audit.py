"""Printed against raw, and raw against itself: every disagreement by file, place, what is there and what should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnbench import store
from cnnbench.errors import UsageError
from cnnbench.schema import PublishedRow
from cnnbench.verify import dispatch, ledgers
from cnnbench.verify.dispatch import Disagreement, Evidence

LEDGER = ".jsonl"


@dataclass(frozen=True)
class Audited:
    """What was looked at, and what does not hold."""

    ledgers: int
    records: int
    cells: int
    marks: int
    """Of charts."""
    skipped: int
    """Tables of kinds that there are no rules for, none of them with a column of processors."""
    disagreements: tuple[Disagreement, ...]


def audit(paths: Sequence[Path], published_rows: Sequence[PublishedRow]) -> Audited:
    """Check every ledger, page, chart and table file under the paths. Raises UsageError for a path that is not there."""
    files = _files(paths)
    ledger_files = [file for file in files if file.suffix == LEDGER]
    loaded = store.load_tree(ledger_files) if ledger_files else store.LoadedLedgers((), (), ())
    found = [Disagreement(*_split(problem)) for problem in loaded.problems]
    for ledger in loaded.ledgers:
        found += [Disagreement(where, what) for where, what in ledgers.check_ledger(ledger)]
    evidence = Evidence(loaded.ledgers, (*loaded.published_rows, *published_rows))
    read = {file: dispatch.read_document(file) for file in files if file.suffix in dispatch.KINDS}
    printed = dispatch.check_documents(read, evidence)
    records = sum(len(ledger.records) for ledger in loaded.ledgers)
    counts = (printed.cells, printed.marks, printed.skipped)
    return Audited(len(loaded.ledgers), records, *counts, (*found, *printed.disagreements))


def _files(paths: Sequence[Path]) -> list[Path]:
    files: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path}: no such file or directory to audit")
        files |= {file for file in (path.rglob("*") if path.is_dir() else (path,)) if file.is_file()}
    return sorted(files)


def _split(problem: str) -> tuple[str, str]:
    where, separator, what = problem.partition(": ")
    return (where, what) if separator else ("", problem)

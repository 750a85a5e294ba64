"""Printed against raw, and raw against itself: every disagreement by file, place, what is there and what should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnbench import store
from cnnbench.audit import documents, ledgers
from cnnbench.audit.documents import Disagreement, Evidence
from cnnbench.errors import UsageError
from cnnbench.schema import ReferenceRow

LEDGER = ".jsonl"


@dataclass(frozen=True)
class Audited:
    """What was looked at, and what does not hold."""

    ledgers: int
    records: int
    cells: int
    marks: int
    """Of charts."""
    passed_over: int
    """Tables of kinds that there are no rules for, none of them with a column of processors."""
    disagreements: tuple[Disagreement, ...]


def audit(paths: Sequence[Path], references: Sequence[ReferenceRow]) -> Audited:
    """Check every ledger, page, chart and table file under the paths. Raises UsageError for a path that is not there."""
    files = _files(paths)
    ledger_files = [file for file in files if file.suffix == LEDGER]
    loaded = store.load_tree(ledger_files) if ledger_files else store.Loaded((), (), ())
    found = [Disagreement(*_split(problem)) for problem in loaded.problems]
    for ledger in loaded.ledgers:
        found += [Disagreement(where, what) for where, what in ledgers.check(ledger)]
    evidence = Evidence(loaded.ledgers, (*loaded.references, *references))
    read = {file: documents.read(file) for file in files if file.suffix in documents.KINDS}
    printed = documents.check(read, evidence)
    records = sum(len(ledger.records) for ledger in loaded.ledgers)
    counts = (printed.cells, printed.marks, printed.passed_over)
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

"""A check from its first block to its end: measure, put on disk, judge, until there is a verdict or a reason to stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from cnnbench.errors import ComparisonError, UnfitError, WorkerError
from cnnbench.gate.course import Next, conclude, judge
from cnnbench.gate.recording import CheckHeader, CheckRecord, Journal
from cnnbench.gate.verdict import Verdict
from cnnbench.pairing import Block, StageName

Measure = Callable[[int, StageName, tuple[int, ...]], Block]
"""(number of the block, its stage, its jobs) to the block measured."""


class Watcher(Protocol):
    """Told what happens, to show it; never asked."""

    def begins(self, number: int, wish: Next) -> None:
        """A block is about to be measured."""
        ...

    def ends(self, header: CheckHeader, block: Block) -> None:
        """The block is on disk."""
        ...


def drive(
    journal: Journal, header: CheckHeader, blocks: Sequence[Block], measure: Measure, watcher: Watcher
) -> CheckRecord:
    """Measure on from these blocks to the end. Every block is on disk before it is judged; an interrupt loses none."""
    done = list(blocks)
    while (wish := wanted(header, done)) is not None:
        number = len(done)
        watcher.begins(number, wish)
        block = measure(number, wish.stage, wish.jobs)
        journal.append(block)
        done.append(block)
        watcher.ends(header, block)
    return conclude(header, done)


def wanted(header: CheckHeader, blocks: Sequence[Block]) -> Next | None:
    """What to measure next; None where the check has ended, with a verdict or without."""
    try:
        answer = judge(header, blocks).answer
    except (WorkerError, ComparisonError, UnfitError):
        return None
    return None if isinstance(answer, Verdict) else answer


def replay(record: CheckRecord) -> CheckRecord:
    """The record concluded anew from its header and blocks. Raises LedgerError where blocks are missing."""
    return conclude(record.header, record.blocks)

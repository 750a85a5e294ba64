"""A check from its first block to its end: measure, put on disk, judge, until there is a verdict or a reason to stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from cnnbench.errors import ComparisonError, UnfitError, WorkerError
from cnnbench.paired_protocol import PairRecord, PhaseName
from cnnbench.regression.check_record import CheckHeader, CheckRecord
from cnnbench.regression.sequential import NextBlock, conclude, next_step
from cnnbench.regression.verdict import Verdict
from cnnbench.store import Writer

BlockMeasurer = Callable[[int, PhaseName, tuple[int, ...]], PairRecord]
"""(number of the block, its stage, its jobs) to the block measured."""


class CheckListener(Protocol):
    """Told what happens, to show it; never asked."""

    def on_start(self, number: int, next_block: NextBlock) -> None:
        """A block is about to be measured."""
        ...

    def on_finish(self, header: CheckHeader, block: PairRecord) -> None:
        """The block is on disk."""
        ...


def run_check(
    journal: Writer, header: CheckHeader, blocks: Sequence[PairRecord], measure: BlockMeasurer, watcher: CheckListener
) -> CheckRecord:
    """Measure on from these blocks to the end. Every block is on disk before it is judged; an interrupt loses none."""
    done = list(blocks)
    while (next_block := find_next_block(header, done)) is not None:
        number = len(done)
        watcher.on_start(number, next_block)
        block = measure(number, next_block.stage, next_block.jobs)
        journal.append(block)
        done.append(block)
        watcher.on_finish(header, block)
    return conclude(header, done)


def find_next_block(header: CheckHeader, blocks: Sequence[PairRecord]) -> NextBlock | None:
    """What to measure next; None where the check has ended, with a verdict or without."""
    try:
        answer = next_step(header, blocks).answer
    except (WorkerError, ComparisonError, UnfitError):
        return None
    return None if isinstance(answer, Verdict) else answer


def replay_check(record: CheckRecord) -> CheckRecord:
    """The record concluded anew from its header and blocks. Raises LedgerError where blocks are missing."""
    return conclude(record.header, record.blocks)

"""A check from its first block to its end: measure, put on disk, judge, until there is a verdict or a reason to stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cnnbench.errors import ComparisonError, UnfitError, WorkerError
from cnnbench.paired_protocol import PairRecord
from cnnbench.regression.check_record import CheckHeader
from cnnbench.regression.sequential import NextBlock, next_step
from cnnbench.regression.verdict import Verdict
from cnnbench.store import Writer

BlockMeasurer = Callable[[int, NextBlock], PairRecord]
"""(number of the block, what is wanted) to the block measured."""
BlockReporter = Callable[[CheckHeader, NextBlock, PairRecord], object]
"""Told of each block, with what was wanted, once it is on disk."""
BlockFinder = Callable[[CheckHeader, Sequence[PairRecord]], NextBlock | None]
"""What to measure after these blocks; None where there are enough."""


def find_next_block(header: CheckHeader, blocks: Sequence[PairRecord]) -> NextBlock | None:
    """What to measure next; None where the check has ended, with a verdict or without."""
    try:
        answer = next_step(header, blocks).answer
    except (WorkerError, ComparisonError, UnfitError):
        return None
    return None if isinstance(answer, Verdict) else answer


def measure_blocks(
    journal: Writer,
    header: CheckHeader,
    blocks: Sequence[PairRecord],
    measure: BlockMeasurer,
    report: BlockReporter,
    find_next: BlockFinder = find_next_block,
) -> tuple[PairRecord, ...]:
    """Measure on from these blocks to the end. Every block is on disk before it is judged; an interrupt loses none."""
    done = list(blocks)
    while (next_block := find_next(header, done)) is not None:
        block = measure(len(done), next_block)
        journal.append(block)
        done.append(block)
        report(header, next_block, block)
    return tuple(done)

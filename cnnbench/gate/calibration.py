"""A recording of A/A blocks: which of them count, and its record. The profile is made of it in `gate.profile`."""

from __future__ import annotations

from collections.abc import Sequence

from cnnbench.gate.course import dropped_blocks, hold_failures
from cnnbench.gate.observe import hold_to_equal_work
from cnnbench.gate.recording import CheckHeader, CheckRecord, Ending
from cnnbench.pairing import Block


def counted_blocks(header: CheckHeader, blocks: Sequence[Block]) -> tuple[Block, ...]:
    """The blocks that neither failed nor are dropped by the machine's counters.

    Raises WorkerError where too many failed, ComparisonError for unequal work, UnfitError where too many are dropped.
    """
    hold_failures(blocks)
    sound = [block for block in blocks if block.failure is None]
    for block in sound:
        hold_to_equal_work(header, block)
    dropped = dropped_blocks(header, sound)
    return tuple(block for block in sound if block.number not in dropped)


def conclude_calibration(header: CheckHeader, blocks: Sequence[Block]) -> CheckRecord:
    """The record of an A/A recording: raw blocks, and which of them did not count."""
    sound = [block for block in blocks if block.failure is None]
    ending = Ending(outcome="calibrated", exit_code=0, dropped=dropped_blocks(header, sound))
    return CheckRecord(header=header, blocks=tuple(blocks), ending=ending)

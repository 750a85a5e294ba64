"""A recording of A/A blocks: which of them count, its record, and the noise profile that follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from cnnbench.errors import LedgerError
from cnnbench.gate.course import dropped_blocks, hold_failures
from cnnbench.gate.observe import hold_to_equal_work
from cnnbench.gate.profile import LEAST_BLOCKS, NoiseProfile, make_profile
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


def profile_of(header: CheckHeader, blocks: Sequence[Block], holds_days: int) -> NoiseProfile:
    """The profile of a recording, dated by the end of its last block: the same whenever it is made.

    Raises LedgerError where fewer than six blocks count, else what `counted_blocks` raises.
    """
    counted = counted_blocks(header, blocks)
    if len(counted) < LEAST_BLOCKS:
        counts = f"{len(counted)} of {len(blocks)} blocks count"
        raise LedgerError(f"{counts}, a noise profile takes {LEAST_BLOCKS}: measure more")
    last = blocks[-1]
    try:
        ended = datetime.fromisoformat(last.started_at) + timedelta(seconds=last.wall_seconds)
    except ValueError as error:
        raise LedgerError(f"block {last.number}: started_at {last.started_at!r} is no date") from error
    stamps = [moment.isoformat(timespec="seconds") for moment in (ended, ended + timedelta(days=holds_days))]
    return make_profile(header, blocks, counted, *stamps)

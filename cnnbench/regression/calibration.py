"""A recording of A/A blocks: which of them count, its record, and the noise profile that follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from cnnbench.errors import LedgerError
from cnnbench.paired_protocol import PairRecord
from cnnbench.regression.check_record import CheckEnding, CheckHeader, CheckRecord
from cnnbench.regression.differences import require_equal_work
from cnnbench.regression.noise_profile import MIN_BLOCKS, NoiseProfile, make_profile
from cnnbench.regression.sequential import find_dropped_blocks, reject_failures


def keep_counted_blocks(header: CheckHeader, blocks: Sequence[PairRecord]) -> tuple[PairRecord, ...]:
    """The blocks that neither failed nor are dropped by the machine's counters.

    Raises WorkerError where too many failed, ComparisonError for unequal work, UnfitError where too many are dropped.
    """
    reject_failures(blocks)
    sound = [block for block in blocks if block.failure is None]
    for block in sound:
        require_equal_work(header, block)
    dropped = find_dropped_blocks(header, sound)
    return tuple(block for block in sound if block.number not in dropped)


def conclude_calibration(header: CheckHeader, blocks: Sequence[PairRecord]) -> CheckRecord:
    """The record of an A/A recording: raw blocks, and which of them did not count."""
    sound = [block for block in blocks if block.failure is None]
    ending = CheckEnding(outcome="calibrated", exit_code=0, dropped=find_dropped_blocks(header, sound))
    return CheckRecord(header=header, blocks=tuple(blocks), ending=ending)


def profile_recording(header: CheckHeader, blocks: Sequence[PairRecord], holds_days: int) -> NoiseProfile:
    """The profile of a recording, dated by the end of its last block: the same whenever it is made.

    Raises LedgerError where fewer than six blocks count, else what `keep_counted_blocks` raises.
    """
    counted = keep_counted_blocks(header, blocks)
    if len(counted) < MIN_BLOCKS:
        counts = f"{len(counted)} of {len(blocks)} blocks count"
        raise LedgerError(f"{counts}, a noise profile takes {MIN_BLOCKS}: measure more")
    last = blocks[-1]
    try:
        ended = datetime.fromisoformat(last.started_at) + timedelta(seconds=last.wall_seconds)
    except ValueError as error:
        raise LedgerError(f"block {last.number}: started_at {last.started_at!r} is no date") from error
    stamps = [moment.isoformat(timespec="seconds") for moment in (ended, ended + timedelta(days=holds_days))]
    return make_profile(header, blocks, counted, *stamps)

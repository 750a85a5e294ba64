"""What a machine's noise allows, from A/A blocks: the spread of d, how much more rounds would remove, what can be
detected.

The spread of d between blocks has two parts. Rounds within a block scatter, and their median has a standard error of
1.2533 x their standard deviation / sqrt(rounds) (asymptotically for a normal distribution; the scatter by the median
absolute deviation). What is left is between process pairs, and no number of rounds removes it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ValidationError

from cnnbench import schema, units
from cnnbench.errors import ComparisonError, LedgerError
from cnnbench.files import explain_refusal
from cnnbench.paired_protocol import PairRecord, Schedule
from cnnbench.regression.blocks import LOSS_TOLERANCE, compute_round_ratios, control_ratio, mean_ratio, median_ratio
from cnnbench.regression.check_record import CheckEnding, CheckHeader, CheckRecord
from cnnbench.regression.design import (
    CheckPlan,
    append_mean,
    compute_detectable_effect,
    confirm_slowdown,
    screen_checks,
)
from cnnbench.regression.sequential import sort_blocks
from cnnbench.schema import RENAMED_SUITES, Frozen, Machine, Software, current_suite_name

MEDIAN_ERROR = 1.2533
"""sqrt(pi / 2): standard error of a median over that of a mean, for a normal distribution."""
MIN_CONTROL_BAND = 0.01
"""The control loop's median ratio of a quiet pair is within 0.2 %; a narrower band than this would drop blocks by
chance.
"""
MIN_TOLERANCE = 0.005
REPLAYS = 1000
MIN_BLOCKS = 6


class JobNoise(Frozen):
    """A job's noise between A/A blocks; all spreads are standard deviations of log ratios."""

    spread: float
    """spread of d by medians: sigma_d"""
    mean_spread: float
    """spread of d by mean steps"""
    within_spread: float | None
    """spread of rounds within a block; None if the arms ran one after the other"""
    within_error: float | None
    """what that spread leaves in a block's median"""
    between_spread: float | None
    """the spread that rounds do not explain"""
    control_spread: float
    final_loss_band: float | None
    step_seconds: float
    """median step of base"""
    d: tuple[float, ...]
    """log(head / base) of each block, by medians"""


class ReplayedChecks(Frozen):
    """Checks simulated on the recorded differences, resampled with fresh signs, all slower by `effect`."""

    effect: float
    checks: int
    passed: int
    regressed: int
    median_blocks: float


class DetectableEffect(Frozen):
    """The slowdown that a plan of at most `blocks` blocks finds in 80 % of checks, as a fraction; None if it finds
    none.
    """

    blocks: int
    effect: float | None


class NoiseProfile(Frozen):
    """What `cnnbench check calibrate` stores for one suite on one machine."""

    kind: Literal["noise-profile"] = "noise-profile"
    profile_version: int = 1
    machine_id: str
    machine_name: str
    device: str
    suite: str
    suite_digest: str
    software: Software
    created_at: str
    expires_at: str
    mode: Schedule
    rounds: int
    steps_per_turn: int
    seed: int
    blocks: int
    dropped: int
    wall_seconds: float
    """seconds of all blocks, dropped and failed ones too"""
    jobs: dict[str, JobNoise]
    geometric_mean_spread: float | None = None
    """spread of the mean d, if there are several jobs"""
    control_band: float
    tolerance: float
    """the tolerance of the detectable slowdowns and replays below"""
    recommended_tolerance: float
    recommended_rounds: int | None
    """rounds for sigma_d <= tolerance / 3; None if no number of rounds reaches it"""
    detectable: tuple[DetectableEffect, ...]
    replayed: tuple[ReplayedChecks, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the profile's values."""
        return schema.digest(self.model_dump_json())

    @property
    def worst_spread(self) -> float:
        """sigma_d of the noisiest job."""
        return max(noise.spread for noise in self.jobs.values())


def profile_path(results: Path, machine_id: str, suite: str) -> Path:
    """Name the file `results/<machine>/noise/<suite>.json`.

    It is beside the ledgers, so that it can be committed with them.
    """
    return results / machine_id / "noise" / f"{suite}.json"


def stored_profile_path(results: Path, machine_id: str, suite: str) -> Path:
    """Find the path of the suite's profile, under a former name of the suite if only that exists."""
    paths = [
        profile_path(results, machine_id, name)
        for name in (suite, *(old for old, new in RENAMED_SUITES.items() if new == suite))
    ]
    return next((path for path in paths if path.exists()), paths[0])


def conclude_calibration(header: CheckHeader, blocks: Sequence[PairRecord]) -> CheckRecord:
    """Make the record of an A/A recording: raw blocks, and which did not count.

    Raises what `sort_blocks` raises.
    """
    ending = CheckEnding(outcome="calibrated", exit_code=0, dropped=sort_blocks(header, blocks)[1])
    return CheckRecord(header=header, blocks=tuple(blocks), ending=ending)


def profile_recording(header: CheckHeader, blocks: Sequence[PairRecord], holds_days: int) -> NoiseProfile:
    """Make the profile of an A/A recording, dated by the end of its last block, so that it does not depend on today.

    Raises LedgerError if fewer than six blocks count, and what `sort_blocks` raises.
    """
    counted, _ = sort_blocks(header, blocks)
    if len(counted) < MIN_BLOCKS:
        raise LedgerError(
            f"{len(counted)} of {len(blocks)} blocks count, a noise profile needs {MIN_BLOCKS}: measure more"
        )
    last, plan = blocks[-1], header.plan
    try:
        ended = datetime.fromisoformat(last.started_at) + timedelta(seconds=last.wall_seconds)
    except ValueError as error:
        raise LedgerError(f"block {last.number}: started_at {last.started_at!r} is not a date") from error
    jobs = {header.names[job]: _measure_job_noise(header, counted, job) for job in sorted(header.jobs)}
    table = np.array([noise.d for noise in jobs.values()])
    worst = max(noise.spread for noise in jobs.values())
    return NoiseProfile(
        machine_id=header.machine.id,
        machine_name=header.machine.cpu_name,
        device=header.jobs[min(header.jobs)].device,
        software=header.base.software,
        created_at=ended.isoformat(timespec="seconds"),
        expires_at=(ended + timedelta(days=holds_days)).isoformat(timespec="seconds"),
        **{
            name: getattr(header, name)
            for name in ("suite", "suite_digest", "mode", "rounds", "steps_per_turn", "seed")
        },
        blocks=len(counted),
        dropped=len(blocks) - len(counted),
        wall_seconds=round(math.fsum(block.wall_seconds for block in blocks), 1),
        jobs=jobs,
        geometric_mean_spread=float(np.std(table.mean(axis=0), ddof=1)) if len(jobs) > 1 else None,
        control_band=max(
            MIN_CONTROL_BAND,
            *(
                2 * abs(control_ratio(each.base[job], each.head[job], header.mode))
                for each in counted
                for job in each.base
            ),
        ),
        tolerance=plan.tolerance,
        recommended_tolerance=max(MIN_TOLERANCE, math.ceil(3000 * worst) / 1000),
        recommended_rounds=_recommend_rounds(list(jobs.values()), plan),
        detectable=tuple(
            DetectableEffect(blocks=look.blocks, effect=effect and math.expm1(effect))
            for place, look in enumerate(plan.looks[1:], start=2)
            for effect in [compute_detectable_effect(worst, replace(plan, looks=plan.looks[:place]))]
        ),
        replayed=tuple(_replay_checks(table, plan, effect, header.seed) for effect in (0.0, 2 * plan.tolerance)),
    )


def _measure_job_noise(header: CheckHeader, blocks: Sequence[PairRecord], job: int) -> JobNoise:
    pairs = [(block.base[job], block.head[job]) for block in blocks]
    log_ratios = [median_ratio(*pair, header.mode) for pair in pairs]
    spread = statistics.stdev(log_ratios)
    within = error = between = None
    if header.mode == "turns":
        rounds = (compute_round_ratios(head.turn_seconds, base.turn_seconds) for base, head in pairs)
        within = math.sqrt(statistics.fmean(_estimate_spread(ratios) ** 2 for ratios in rounds))
        error = MEDIAN_ERROR * within / math.sqrt(header.rounds)
        between = math.sqrt(max(0.0, spread**2 - error**2))
    losses = [(base.work.final_loss, head.work.final_loss) for base, head in pairs]
    apart = [
        abs(its - ours) / max(abs(its), abs(ours), 1e-12)
        for its, ours in losses
        if its is not None and ours is not None
    ]
    return JobNoise(
        spread=spread,
        mean_spread=statistics.stdev(mean_ratio(*pair) for pair in pairs),
        within_spread=within,
        within_error=error,
        between_spread=between,
        control_spread=statistics.stdev(control_ratio(*pair, header.mode) for pair in pairs),
        # twice the largest relative difference of two final losses, at least the tolerance of one
        final_loss_band=max(LOSS_TOLERANCE[header.jobs[job].precision], 2 * max(apart)) if apart else None,
        step_seconds=statistics.median(statistics.median(base.turn_seconds) for base, _ in pairs),
        d=tuple(log_ratios),
    )


def _estimate_spread(values: Sequence[float]) -> float:
    """Estimate the standard deviation of a normal distribution from the median absolute deviation."""
    middle = statistics.median(values)
    return 1.4826 * statistics.median(abs(value - middle) for value in values)


def _recommend_rounds(noises: Sequence[JobNoise], plan: CheckPlan) -> int | None:
    """Find the fewest rounds, a multiple of ten, that reduce every job's spread to a third of the tolerance."""
    most = 1
    for noise in noises:
        if noise.within_spread is None or noise.between_spread is None:
            return None
        left = (plan.log_tolerance / 3) ** 2 - noise.between_spread**2
        if left <= 0:
            return None
        most = max(most, math.ceil((MEDIAN_ERROR * noise.within_spread) ** 2 / left))
    return 10 * math.ceil(most / 10)


def _replay_checks(table: np.ndarray, plan: CheckPlan, effect: float, seed: int) -> ReplayedChecks:
    """Simulate checks on recorded blocks drawn with replacement, each with a fair sign that all jobs of the block
    share.
    """
    rng = np.random.default_rng([seed, round(1e6 * effect)])

    def draw(blocks: int) -> np.ndarray:
        chosen = rng.integers(0, table.shape[1], (REPLAYS, blocks))
        signs = rng.choice((-1.0, 1.0), (REPLAYS, 1, blocks))
        return append_mean(np.moveaxis(table[:, chosen], 0, 1) * signs + math.log1p(effect))

    ended = screen_checks(draw(plan.max_blocks), plan)
    regressed = (ended.suspects & confirm_slowdown(draw(plan.confirm_blocks), plan)).any(axis=-1)
    return ReplayedChecks(
        effect=effect,
        checks=REPLAYS,
        passed=int(ended.passed.sum()),
        regressed=int(regressed.sum()),
        median_blocks=float(np.median(ended.blocks)),
    )


def load_profile(path: Path, machine: Machine, suite_digest: str, now: datetime) -> NoiseProfile:
    """Load the profile in a file.

    Raises ComparisonError for another machine, a changed suite or an expired profile, LedgerError for an unusable file.
    """
    try:
        with explain_refusal(LedgerError, f"{path}: cannot be read", "make it with `cnnbench check calibrate`"):
            profile = NoiseProfile.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise LedgerError(f"{path}: not a noise profile: {error.errors()[0]['msg']}") from error
    again = f"calibrate again (`cnnbench check calibrate {current_suite_name(profile.suite)}`), or give --no-profile"
    for differs, found in (
        (profile.machine_id != machine.id, f"the noise of another machine, {profile.machine_id}; this is {machine.id}"),
        (datetime.fromisoformat(profile.expires_at) < now, f"expired on {profile.expires_at[:10]}"),
        (profile.suite_digest != suite_digest, f"of the suite {profile.suite} before it was changed"),
    ):
        if differs:
            raise ComparisonError(f"{path}: {found}; {again}")
    return profile


def explain_insensitivity(profile: NoiseProfile, plan: CheckPlan) -> str | None:
    """Explain that this plan would not find twice the tolerance on this machine.

    None if it would.
    """
    found = compute_detectable_effect(profile.worst_spread, plan)
    if found is not None and found <= math.log1p(2 * plan.tolerance):
        return None
    seen = "no slowdown" if found is None else f"only a slowdown of {units.percent(math.expm1(found), 1)}"
    twice, spread = units.percent(2 * plan.tolerance, 1), units.percent(profile.worst_spread, 1)
    return (
        f"{seen} would be found in {units.percent(plan.power, 0)} of checks of {plan.max_blocks} blocks, {twice} would not: "
        f"d spreads by {spread} here; raise --tolerance to {units.percent(profile.recommended_tolerance, 1)} or the rounds"
    )

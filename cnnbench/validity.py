"""Results that cannot be true: the identity gate and the physics gate, applied to every record when it is written and
when it is read.

Identities join only *independent* measurements (the sampler's count against steps x batch, blocks against the job clock
against the parent's own clock, the network's parameters against the closed form). Physics: no GEMM beats its device's
peak at the highest clock the device reports. A convolution may honestly do so (Winograd's algorithm saves
multiplications), so it is doubted above the bound and invalid only above four times the bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from cnnbench import units, workloads
from cnnbench.errors import WorkloadError
from cnnbench.machine import peaks
from cnnbench.schema import TUNED_ERROR, Device, Job, Machine, Outcome, Status, Trial
from cnnbench.workloads import tuned_tolerance

CHECKED_STATUSES: tuple[Status, ...] = ("ok", "missed")
"""Outcomes with a trial that the gates check."""
CONVOLUTION_FACTOR = 4.0
"""Winograd F(4x4, 3x3) saves a factor 4 of a 3x3 convolution's multiplications, the most any library uses."""
ZEROS_FACTOR = 8.0
"""The tuned division leaves out products with zeros (black pixels, gradients beside a maximum); more than this is a
wrong clock. A judgement: the most seen is 1.4 times the best product.
"""
CLOCK_TICK = 1e-9
"""The clock's resolution in seconds, so that no block is shorter."""
CLOCK_TOLERANCE = 1.001
"""The largest ratio by which two monotonic clocks of one machine may differ."""


@dataclass(frozen=True)
class Violation:
    """One thing that is impossible (`invalid`) or hard to believe (`doubt`)."""

    gate: Literal["identity", "physics"]
    severity: Literal["invalid", "doubt"]
    message: str


def find_violations(
    job: Job, trial: Trial, process_seconds: float, device: Device | None, machine: Machine, status: Status = "ok"
) -> tuple[Violation, ...]:
    """Find every violation in one trial; empty for a sound one.

    `status` is what the worker reported: `ok` or `missed`.
    """
    broken = [*_check_identities(job, trial, process_seconds), *_check_target(job, trial, status)]
    broken += [*_check_gradients(job, trial), *_check_ranks(job, trial)]
    if broken or device is None:
        return tuple(Violation("identity", "invalid", text) for text in broken)
    physics = _check_physics(job, trial, device, machine)
    return () if physics is None else (physics,)


def reject_impossible(outcome: Outcome, violations: tuple[Violation, ...]) -> Outcome:
    """Set the outcome's status to `invalid` if a gate rejects it; its raw trial is kept."""
    closed = [violation for violation in violations if violation.severity == "invalid"]
    if outcome.status not in CHECKED_STATUSES or not closed:
        return outcome
    message = "; ".join(f"{violation.gate} gate: {violation.message}" for violation in closed)
    return outcome.model_copy(update={"status": "invalid", "message": message})


def _select_broken(*rules: tuple[bool, str]) -> list[str]:
    """Return the texts of the rules that are broken."""
    return [text for broken, text in rules if broken]


def _check_identities(job: Job, trial: Trial, process_seconds: float) -> list[str]:
    blocks, timed, began = len(trial.block_seconds), sum(trial.block_seconds), trial.cold_start_seconds or 0.0
    before, whole, lived = trial.pretraining_seconds or 0.0, trial.job_seconds, process_seconds * CLOCK_TOLERANCE
    planned = job.job_steps if job.timed_whole else job.blocks * job.block_steps if job.clock == "steady" else None
    evaluated = trial.job_evaluation_seconds or 0.0
    if job.clock == "accuracy":  # this clock times each evaluation
        evaluated = max(evaluated, sum(each.seconds for each in trial.epoch_evaluations))
    parts, clock = before + timed + evaluated, whole or 0.0
    names = "pre-training, blocks and evaluations" if before else "blocks and evaluations"
    evaluations = (*trial.epoch_evaluations, *((trial.test,) if trial.test else ()))
    return _select_broken(
        (
            trial.steps != blocks * trial.steps_per_block,
            f"{blocks} blocks of {trial.steps_per_block} steps are not the {trial.steps} steps reported",
        ),
        (
            planned not in (None, trial.steps) and not trial.stopped_early,
            f"{trial.steps} steps were timed, the job asks for {planned}",
        ),
        (
            any(not CLOCK_TICK <= seconds < math.inf for seconds in trial.block_seconds),
            "a block's time is not a positive number of seconds",
        ),
        (began < 0, f"the first step was over {-began:.3f} s before the process began"),
        (timed > lived, f"blocks add up to {timed:.3f} s, the whole process lived {process_seconds:.3f} s"),
        (
            whole is not None and parts > whole * CLOCK_TOLERANCE,
            f"{names} add up to {parts:.3f} s, the job clock measured {clock:.3f} s",
        ),
        (
            trial.fit is not None
            and not (0 <= trial.fit.mean_squared_error < math.inf and 0 < trial.fit.target_variance < math.inf),
            "the mean squared error of the fit, or the variance of its targets, cannot be",
        ),
        (clock > lived, f"the job clock measured {clock:.3f} s, the process lived {process_seconds:.3f} s"),
        *(
            (
                not 0 <= each.correct <= each.images or not each.images,
                f"{each.correct} of {each.images} test images cannot be right",
            )
            for each in evaluations
        ),
    ) + _check_counts(job, trial)


def _check_target(job: Job, trial: Trial, status: Status) -> list[str]:
    """Check the accuracy clock: an evaluation of the same images after every block, up to the first to reach the
    target.
    """
    target, every, limit = job.target, job.evaluate_every, job.job_steps
    if job.clock != "accuracy" or target is None or not every:
        return []
    evaluations, blocks = trial.epoch_evaluations, len(trial.block_seconds)
    if not evaluations:
        return ["the accuracy clock ran without an evaluation"]
    after, last = [each.after_steps for each in evaluations], evaluations[-1]
    early = next((n for n, each in enumerate(evaluations[:-1], start=1) if each.reaches(target)), None)
    reached = last.reaches(target)
    unlike = reached != (status == "ok")
    accuracy = last if trial.test is None else trial.test
    share = f"{last.correct} of {last.images} right against a target of {target:g}"
    return _select_broken(
        (trial.job_seconds is None, "the accuracy clock recorded no time"),
        (
            trial.steps_per_block != every or after != [every * (n + 1) for n in range(blocks)],
            f"{len(evaluations)} evaluations, the last after {after[-1]} steps, are not one every {every}",
        ),
        (len({each.images for each in evaluations}) > 1, "the evaluations are of different numbers of images"),
        (limit is not None and trial.steps > limit, f"{trial.steps} steps were timed, the epoch limit is {limit}"),
        (early is not None, f"evaluation {early} of {len(evaluations)} reached the target, but training continued"),
        (unlike, f"the last evaluation has {share}, the outcome is {status}"),
        (
            not unlike and not reached and limit is not None and trial.steps != limit // every * every,
            f"the target was missed after {trial.steps} steps, the epoch limit is {limit}",
        ),
        (
            accuracy != last,
            f"the accuracy, {accuracy.correct} right, is not the last evaluation's, {last.correct} right",
        ),
    )


def _check_gradients(job: Job, trial: Trial) -> list[str]:
    """Check that each process compared the tuned division's gradients with the reference's, and that they agreed."""
    if job.division == "reference":
        return []
    text, most = trial.settings.get(TUNED_ERROR, ""), tuned_tolerance(job)
    try:
        error = float(text)
    except ValueError:
        return ["the tuned step was not compared with the reference's"]
    wrong = f"the tuned step's gradients are off by {error:.1e}, at most {most:.0e} is rounding"
    return [] if error <= most else [wrong]  # NaN is wrong too


def _check_ranks(job: Job, trial: Trial) -> list[str]:
    """Check that the processes of one job add up.

    Each is present once, did all blocks and drew its share, and ranks have the same weights.
    """
    ranks, what = trial.ranks, "ranks" if job.world > 1 else "copies"
    if [rank.rank for rank in ranks] != list(range(job.processes) if job.processes > 1 else ()):
        return [f"{len(ranks)} {what} reported, the job has {job.processes if job.processes > 1 else 'none'}"]
    if not ranks:
        return []
    broken = []
    share = trial.steps * job.rank_batch if job.world > 1 else trial.images
    if wrong := [rank for rank in ranks if rank.images != share]:
        name = f"{'rank' if job.world > 1 else 'copy'} {wrong[0].rank}"
        broken.append(f"the sampler of {name} handed out {wrong[0].images:,} images, its share is {share:,}")
    if any(len(rank.block_seconds) != len(trial.block_seconds) for rank in ranks):
        return [*broken, f"{what} timed different numbers of blocks"]
    if job.world == 1:
        if trial.block_seconds != max((rank.block_seconds for rank in ranks), key=sum):
            broken.append("the blocks are not the slowest copy's")
        return broken
    if trial.block_seconds != tuple(max(each) for each in zip(*(rank.block_seconds for rank in ranks), strict=True)):
        broken.append("the blocks are not as long as on the slowest rank")
    if len({rank.weights for rank in ranks}) != 1:
        broken.append("the ranks hold different weights after the timed steps")
    return broken


def _check_counts(job: Job, trial: Trial) -> list[str]:
    try:
        workload = workloads.get(job.workload, job.workload_version)
    except WorkloadError:
        return []  # another package's workload, not installed where this is read: nothing to compare it with
    if workload.kind != "training":
        return []
    broken, expected = [], trial.steps * job.batch_size
    if trial.images != expected:
        broken.append(f"the sampler handed out {trial.images:,} images, steps x batch is {expected:,}")
    if workload.version != job.workload_version:
        return broken
    if trial.parameters not in (None, workload.parameters):
        broken.append(f"the network has {trial.parameters:,} parameters, its layers give {workload.parameters:,}")
    before = workloads.pretraining_steps(job)
    if job.clock != "steady" and (trial.pretraining_steps or 0) != before:
        broken.append(f"{trial.pretraining_steps or 0:,} steps of pre-training were done, the job asks for {before:,}")
    return broken


def _check_physics(job: Job, trial: Trial, device: Device, machine: Machine) -> Violation | None:
    """Compare the fastest block with the bound; None if there is no bound or it is respected."""
    bound = peaks.upper_bound(device, machine, job.precision)
    if bound is None or not trial.block_seconds or job.workload not in workloads.names():
        return None
    bound *= devices_of(job)
    rate = workloads.flops_per_step(job) * trial.steps_per_block / min(trial.block_seconds)
    if rate <= bound:
        return None
    text = f"{units.giga(rate)} GFLOP/s in the fastest block, the bound at maximum clock is {units.giga(bound)}"
    if job.division != "reference" and rate <= ZEROS_FACTOR * bound:
        return Violation("physics", "doubt", f"{text}: products with zeros left out, or a wrong clock")
    if workloads.get(job.workload, job.workload_version).convolves and rate <= CONVOLUTION_FACTOR * bound:
        return Violation("physics", "doubt", f"{text}: a reduced-multiplication convolution, or a wrong clock")
    return Violation("physics", "invalid", text)


def devices_of(job: Job) -> int:
    """Count the processors that a job's FLOP/s are for.

    That is one GPU per rank, or the one CPU of a node that all its ranks share.
    """
    return job.world if job.device != "cpu" else job.nodes

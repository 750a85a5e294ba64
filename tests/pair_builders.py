"""Headers and blocks of paired checks for tests, with d as asked for and nothing else in the way."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from builders import cnn_job, gemm_job, machine, software

from cnnbench.paired_protocol import Arm, JobRun, PairRecord, PhaseName, Span, WorkDone, WorkerFailure
from cnnbench.regression.check_record import ArmRecord, CheckHeader, CheckRecord, DropLimits
from cnnbench.regression.design import make_check_plan
from cnnbench.regression.sequential import BlockMeasurer, NextBlock, conclude, measure_blocks
from cnnbench.schema import Job, Telemetry
from cnnbench.store import Writer

ROUNDS = 6
JOBS: dict[int, Job] = {0: cnn_job(threads=2), 1: gemm_job(64, threads=2)}
NAMES = {0: "mnist-cnn/cpu", 1: "gemm/cpu"}


def side(**fields: Any) -> ArmRecord:
    return ArmRecord(**({"label": "this", "python": "python", "software": software(), "environment": {}} | fields))


def header(tolerance: float = 0.05, max_blocks: int | None = None, **fields: Any) -> CheckHeader:
    """A check of the two jobs; blocks are dropped for steal above 1 % of two cores."""
    known: dict[str, Any] = {
        "check_id": "c1",
        "created_at": "2026-03-01T12:00:00+00:00",
        "cnnbench": "0.1.0",
        "suite": "regression",
        "suite_digest": "0" * 64,
        "machine": machine(),
        "base": side(),
        "head": side(),
        "jobs": JOBS,
        "head_jobs": JOBS,
        "names": NAMES,
        "rounds": ROUNDS,
        "steps_per_turn": 3,
        "seed": 1,
        "plan": make_check_plan(tolerance, max_blocks),
        "limits": DropLimits(cores=2),
    }
    return CheckHeader(**(known | fields))


def work(**fields: Any) -> WorkDone:
    known: dict[str, Any] = {
        "images": 2304,
        "batches": 18,
        "order_digest": "ab",
        "parameters": 10,
        "flops": 1000,
        "optimizer_steps": 18,
        "precision": "fp32",
        "first_losses": (2.3, 2.2, 2.1, 2.0, 1.9),
        "final_loss": 0.5,
    }
    return WorkDone(**(known | fields))


def run(step_seconds: float | Sequence[float], control_seconds: float = 1e-3, **fields: Any) -> JobRun:
    """A job's turns, all alike or as given by round."""
    rounds = [step_seconds] * ROUNDS if isinstance(step_seconds, float) else list(step_seconds)
    return JobRun(
        step_seconds=tuple((each, each) for each in rounds),
        control_seconds=(control_seconds,) * len(rounds),
        work=work(**fields),
    )


def span(steal_seconds: float = 0.0, wall_seconds: float = 10.0) -> Span:
    before = Telemetry(steal_seconds=5.0, cpu_pressure_seconds=1.0)
    after = Telemetry(steal_seconds=5.0 + steal_seconds, cpu_pressure_seconds=1.0)
    return Span(wall_seconds=wall_seconds, before=before, after=after)


def block(
    number: int,
    d: float | Mapping[int, float] = 0.0,
    *,
    stage: PhaseName = "screening",
    jobs: Sequence[int] = (0, 1),
    steal_seconds: float = 0.0,
    failure: WorkerFailure | None = None,
    wall_seconds: float = 20.0,
    head_work: Mapping[str, Any] | None = None,
) -> PairRecord:
    """A block whose d is the one given, of every job or by job."""
    by_job = d if isinstance(d, Mapping) else dict.fromkeys(jobs, d)
    sound = failure is None
    return PairRecord(
        number=number,
        stage=stage,
        started_at="2026-03-01T12:00:00+00:00",
        wall_seconds=wall_seconds,
        first="base",
        job_order=tuple(jobs),
        orders=dict.fromkeys(jobs, "bh" * (ROUNDS // 2)),
        base={job: run(0.01) for job in jobs} if sound else {},
        head={job: run(0.01 * math.exp(by_job[job]), **(head_work or {})) for job in jobs} if sound else {},
        spans={"both": span(steal_seconds)} if sound else {},
        failure=failure,
    )


def crash(arm: Arm = "head", status: str = "crashed") -> WorkerFailure:
    return WorkerFailure(status=status, message="the worker was ended by SIGSEGV", arm=arm)  # type: ignore[arg-type]


def measurer(true: Mapping[int, float], spread: float = 0.005, seed: int = 0) -> Callable[..., PairRecord]:
    """Measures blocks of normal d about the true log ratio of each job."""
    source = random.Random(seed)

    def measure(number: int, wanted: NextBlock) -> PairRecord:
        d = {job: source.gauss(true[job], spread) for job in wanted.jobs}
        return block(number, d, stage=wanted.stage, jobs=wanted.jobs)

    return measure


def run_check(
    journal: Writer, header: CheckHeader, blocks: Sequence[PairRecord], measure: BlockMeasurer
) -> CheckRecord:
    """Measure to the end of the check and conclude it, as `cnnbench check` does."""
    return conclude(header, measure_blocks(journal, header, blocks, measure, lambda *_: None))


def replay_check(record: CheckRecord) -> CheckRecord:
    """Conclude the record again, from its header and blocks alone."""
    return conclude(record.header, record.blocks)

"""Synthetic records, runs and ledger files for tests: every field a reader looks at, with closed-form timings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cnnbench.schema import (
    TUNED_ERROR,
    Device,
    Evaluation,
    Job,
    Machine,
    Memory,
    Outcome,
    Record,
    RunHeader,
    Software,
    Status,
    Trial,
    digest,
)
from cnnbench.store import Ledger

MACHINE_ID = "testbox-0a1b"
RUN_ID = "20260301T120000Z-0001"
LECTURE_STEPS_PER_EPOCH = 429
"""Full batches of 128 in the 55,000 training images (lecture.md, section 3)."""

CPU = Device(id="cpu", kind="cpu", name="Test CPU 9000 8-Core Processor")
GPU = Device(
    id="cuda:0", kind="cuda", name="NVIDIA Testla T1", uuid="GPU-0001", memory_bytes=16 * 2**30, capability="9.0"
)


def machine(id: str = MACHINE_ID, *, cpu_name: str = CPU.name, gpus: Sequence[Device] = (), **fields: Any) -> Machine:
    """A machine with one CPU and the GPUs given."""
    cpu = CPU.model_copy(update={"name": cpu_name})
    known: dict[str, Any] = {
        "cores_logical": 8,
        "cores_allowed": 8,
        "memory_bytes": 32 * 2**30,
        "os": "Linux",
        "kernel": "6.1",
    }
    return Machine(id=id, cpu_name=cpu_name, devices=(cpu, *gpus), **(known | fields))


def software(torch: str = "2.13.0", **fields: Any) -> Software:
    """The versions of a run."""
    known: dict[str, Any] = {"cnnbench": "0.1.0", "python": "3.11.9", "torch_build": "cpu", "numpy": "2.3.0"}
    return Software(torch=torch, **(known | fields))


def cnn_job(**fields: Any) -> Job:
    """`quick`'s mnist-cnn job: 15 blocks of 10 steps, projected to the lecture's 100 epochs of 429 steps."""
    known: dict[str, Any] = {
        "workload": "mnist-cnn",
        "workload_version": 1,
        "optimizer": "rmsprop",
        "init": "truncated-0.1",
        "split": "train-55000",
        "epochs": 100,
        "steps_per_epoch": LECTURE_STEPS_PER_EPOCH,
        "threads": 8 if fields.get("device", "cpu") == "cpu" else None,
    }
    return Job(**(known | fields))


def lecture_job(**fields: Any) -> Job:
    """The whole timed script under the job clock: 100 epochs x 429 steps of 128 images."""
    return cnn_job(**({"clock": "job", "init": "normal-0.01", "epoch_eval_images": 256} | fields))


def target_job(target: float = 0.99, **fields: Any) -> Job:
    """Training until so many of the 10,000 test images are right, looked at after each of 20 epochs of 429 steps at most."""
    known: dict[str, Any] = {
        "clock": "accuracy",
        "target": target,
        "epochs": 20,
        "evaluate_every": LECTURE_STEPS_PER_EPOCH,
    }
    return cnn_job(**(known | {"final_evaluation": False} | fields))


def crossing(
    job: Job, after: int | None, step_seconds: float = 0.01, *, evaluation_seconds: float = 1.0, **fields: Any
) -> Record:
    """A process that first reached the target at evaluation number `after`; None: at none of those there are.

    Evaluations have 9,000 right, then one more each time, and at the crossing exactly as many as the target asks for. The
    clock adds up: after x (evaluate_every x step_seconds + evaluation_seconds), and pre-training where `fields` has it.
    """
    every, images = job.evaluate_every or 1, 10_000
    most = (job.job_steps or 0) // every
    blocks = after or most
    right = [9_000 + n for n in range(blocks)]
    if after is not None:
        right[-1] = round((job.target or 1.0) * images)
    evaluations = tuple(
        Evaluation(after_steps=(n + 1) * every, images=images, correct=correct, seconds=evaluation_seconds)
        for n, correct in enumerate(right)
    )
    known: dict[str, Any] = {
        "epoch_evaluations": evaluations,
        "test": evaluations[-1],
        "accuracy_data": job.data,
        "job_seconds": blocks * (every * step_seconds + evaluation_seconds)
        + (fields.get("pretraining_seconds") or 0.0),
        "job_evaluation_seconds": blocks * evaluation_seconds,
        "stopped_early": after is not None and after < most,
    }
    status: Status = "missed" if after is None else "ok"
    message = f"{right[-1]} of {images} right after {blocks * every} steps, the limit"
    return record(job, step_seconds, status=status, message=message, blocks=blocks, **(known | fields))


def crossings(job: Job, after: Sequence[int | None], *, start: int = 0, **fields: Any) -> list[Record]:
    """One process a value, in rounds 0, 1, 2..., with seeds and indices of their own."""
    jobs = [job.model_copy(update={"round": n, "seed": start + n}) for n in range(len(after))]
    return [
        crossing(own, each, **fields).model_copy(update={"index": start + n})
        for n, (own, each) in enumerate(zip(jobs, after, strict=True))
    ]


def ranks_job(**fields: Any) -> Job:
    """Two ranks of a small network, strong, a few steps: to be really run."""
    known: dict[str, Any] = {
        "workload": "mlp-1", "workload_version": 1, "optimizer": "adam", "init": "normal-0.1", "data": "synthetic",
        "split": "train-55000", "batch_size": 64, "warmup_steps": 2, "block_steps": 4, "blocks": 3, "threads": 1,
        "world": 2, "scaling": "strong", "final_evaluation": False,
    }  # fmt: skip
    return Job.model_validate(known | fields)


def gemm_job(size: int = 1024, **fields: Any) -> Job:
    """A matrix product of that side."""
    known: dict[str, Any] = {"workload": "gemm", "workload_version": 1, "data": "random", "final_evaluation": False}
    threads = 8 if fields.get("device", "cpu") == "cpu" else None
    return Job(**(known | {"size": size, "threads": threads} | fields))


def trial(job: Job, step_seconds: float = 0.01, *, blocks: int | None = None, **fields: Any) -> Trial:
    """A trial whose every timed step took `step_seconds`; under the job clock evaluations added nothing.

    Under the accuracy clock there are as many `blocks` as evaluations (`crossing` adds those).
    """
    if job.clock == "accuracy":
        blocks, steps_per_block = blocks or 1, job.evaluate_every or 1
    elif job.clock == "job":
        blocks, steps_per_block = job.epochs or 1, job.steps_per_epoch or 1
    else:
        blocks, steps_per_block = job.blocks, job.block_steps
    steps = blocks * steps_per_block
    known: dict[str, Any] = {
        "block_seconds": (step_seconds * steps_per_block,) * blocks,
        "steps_per_block": steps_per_block,
        "steps": steps,
        "images": 0 if job.workload == "gemm" else steps * job.batch_size,
        "job_seconds": step_seconds * steps if job.clock == "job" else None,
        "job_evaluation_seconds": 0.0 if job.clock == "job" else None,
        "memory": Memory(
            host_peak_bytes=900 * 2**20,
            device_allocated_peak_bytes=None if job.device == "cpu" else 300 * 2**20,
        ),
    }
    if job.final_evaluation:
        known["test"] = Evaluation(after_steps=steps, images=10_000, correct=9_700, seconds=1.0)
        known["accuracy_data"] = job.data
    return Trial(**(known | fields))


def record(
    job: Job,
    step_seconds: float = 0.01,
    *,
    status: Status = "ok",
    run_id: str = RUN_ID,
    machine_id: str = MACHINE_ID,
    index: int = 0,
    attempt: int = 1,
    protocol: int = 1,
    message: str | None = None,
    **trial_fields: Any,
) -> Record:
    """One process; a failed one has no trial, one that missed its target has."""
    ok = status == "ok"
    if job.division == "tuned":
        trial_fields = {"settings": {TUNED_ERROR: "1e-06"}} | trial_fields
    measured = ok or (status == "missed" and job.clock == "accuracy")
    outcome = Outcome(
        status=status,
        message=None if ok else message or f"the {status} of a test",
        trial=trial(job, step_seconds, **trial_fields) if measured else None,
    )
    return Record(
        run_id=run_id,
        machine_id=machine_id,
        index=index,
        attempt=attempt,
        protocol=protocol,
        started_at="2026-03-01T12:00:00Z",
        process_seconds=1e6,
        job=job,
        outcome=outcome,
    )


def repeats(job: Job, seconds: Sequence[float], *, start: int = 0, **fields: Any) -> list[Record]:
    """One record a value of `seconds`, in rounds 0, 1, 2..., with seeds and indices of their own."""
    return [
        record(job.model_copy(update={"round": r, "seed": start + r}), each, index=start + r, **fields)
        for r, each in enumerate(seconds)
    ]


def header(
    records: Iterable[Record] = (),
    *,
    run_id: str = RUN_ID,
    machine: Machine | None = None,
    software: Software | None = None,
    created_at: str = "2026-03-01T12:00:00Z",
    unstarted: Sequence[Job] = (),
) -> RunHeader:
    """A run whose plan is the records' jobs, then `unstarted` ones."""
    by_index = {each.index: each.job for each in records}
    return RunHeader(
        run_id=run_id,
        created_at=created_at,
        suites={"quick": digest("quick")},
        seed=0,
        machine=machine or globals()["machine"](),
        software=software or globals()["software"](),
        plan=(*(by_index[index] for index in sorted(by_index)), *unstarted),
    )


def ledger(records: Sequence[Record], *, path: Path = Path("run.jsonl"), **fields: Any) -> Ledger:
    """A run in memory, as if read back; the run and machine ids of its records follow the header's."""
    head = header(records, **fields)
    moved = [each.model_copy(update={"run_id": head.run_id, "machine_id": head.machine.id}) for each in records]
    return Ledger(path, head, tuple(moved))


def lines(run: Ledger) -> list[str]:
    """The run's JSON lines, each record with the digest of the line before it."""
    written = [run.header.model_dump_json()]
    for each in run.records:
        written.append(each.model_copy(update={"prev": digest(written[-1])}).model_dump_json())
    return written


def write(directory: Path, run: Ledger) -> Path:
    """The run as a file `directory/<machine>/<run>.jsonl`; returns its path."""
    path = directory / run.header.machine.id / f"{run.header.run_id}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines(run)) + "\n")
    return path

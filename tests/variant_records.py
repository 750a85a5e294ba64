"""Runs of every way of computing and training: seeds to a target, some of them missed, pre-training, inference, a ladder."""

from __future__ import annotations

import builders as b

from cnnbench import workloads
from cnnbench.schema import Job, Record
from cnnbench.store import Ledger

MEASURED = {
    "floors": {"launch_seconds": 2.5e-6, "copy_bytes_per_second": 4.1e10, "draw_seconds": 3.1e-6},
    "operators_per_step": 85,
}
CNN_AFTER = (3, 5, 4, 3, 4, 6)
FAST_AFTER = (3, 4, None, 5, 4, 3)
STEP, FAST_STEP, EVALUATION = 0.07, 0.03, 1.5
PRETRAINING_SECONDS = 30.0
FAST = {"precision": "bf16", "layout": "nhwc", "execution": "compiled"}


def mlp_job(name: str, **fields: object) -> Job:
    """A network of dense layers in batches of 100: 550 full ones an epoch, its own optimiser and initialisation."""
    workload = workloads.get(name)
    known = {
        "workload": name,
        "batch_size": 100,
        "steps_per_epoch": 550,
        "optimizer": workload.default_optimizer,
        "init": workload.default_init,
    }
    return b.cnn_job(**(known | fields))


def mlp_target(name: str, **fields: object) -> Job:
    """The same until 97 % are right, at most 10 epochs."""
    known = {"clock": "accuracy", "target": 0.97, "evaluate_every": 550, "epochs": 10, "final_evaluation": False}
    return mlp_job(name, **(known | fields))


def pretrained(job: Job) -> dict[str, object]:
    """The fields of a trial whose first part was pre-training."""
    return {"pretraining_seconds": PRETRAINING_SECONDS, "pretraining_steps": workloads.pretraining_steps(job)}


def targets() -> Ledger:
    """Seeds to a target: two ways of computing the CNN, a network that crashed once, one never there, one pre-trained."""
    known = {"evaluation_seconds": EVALUATION, **MEASURED}
    before, whole = mlp_target("mlp-5-pretrained"), mlp_job("mlp-5-pretrained", clock="job", epochs=2)
    records: list[Record] = []
    for job, after, step, more in (
        (b.target_job(), CNN_AFTER, STEP, {}),
        (b.target_job(**FAST), FAST_AFTER, FAST_STEP, {}),
        (mlp_target("mlp-1"), (2, 2), 0.002, {}),
        (mlp_target("mlp-5"), (None, None, None), 0.004, {}),
        (before, (1, 2, 1), 0.004, pretrained(before)),
    ):
        records += b.crossings(job, after, start=len(records), step_seconds=step, **known, **more)
    crashed = mlp_target("mlp-1", round=2, seed=99)
    records.append(b.record(crashed, index=len(records), status="crashed", message="signal 11 (SIGSEGV)"))
    clock = {"job_seconds": PRETRAINING_SECONDS + 2 * 550 * 0.004}
    records += b.repeats(whole, [0.004] * 3, start=len(records), **pretrained(whole), **clock, **MEASURED)
    return b.ledger(records, run_id="20260301T120000Z-0001")


def ladder() -> Ledger:
    """Training and inference of the CNN on one device, rung by rung, a product in two precisions, what cannot be done."""
    records: list[Record] = []
    for fields, seconds in (
        ({}, (0.080, 0.082, 0.081)),
        ({"layout": "nhwc"}, (0.070, 0.071, 0.069)),
        ({"execution": "compiled"}, (0.090, 0.091, 0.089)),
        ({"precision": "bf16"}, (0.050, 0.052, 0.051)),
        ({"precision": "bf16", "layout": "nhwc"}, (0.040, 0.0405, 0.041)),
        ({"loader": "dataloader", "loader_workers": 2}, (0.085, 0.086, 0.084)),
    ):
        records += b.repeats(b.cnn_job(**fields), seconds, start=len(records), **MEASURED)
    for precision, why in (("tf32", "needs tensor cores"), ("fp16", "no half precision on this CPU")):
        for turn in range(3):
            job = b.cnn_job(precision=precision, round=turn, seed=100 + turn)
            records.append(b.record(job, index=len(records), status="unsupported", message=why))
    forward = {"task": "inference", "optimizer": None, "final_evaluation": False}
    records += b.repeats(b.cnn_job(**forward), (0.020, 0.021, 0.022), start=len(records), **MEASURED)
    records += b.repeats(b.cnn_job(**forward, precision="bf16"), (0.012, 0.011, 0.0115), start=len(records), **MEASURED)
    records += b.repeats(b.gemm_job(2048), (0.09, 0.091, 0.092), start=len(records))
    records += b.repeats(b.gemm_job(2048, precision="bf16"), (0.04, 0.041, 0.042), start=len(records))
    created = {"run_id": "20260302T120000Z-0001", "created_at": "2026-03-02T12:00:00Z"}
    return b.ledger(records, **created)

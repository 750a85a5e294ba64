"""A run of one job on one process and on ranks, strong and weak, on a CPU and on GPUs; a rank that failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import builders as b

from cnnbench.schema import Communication, Device, Job, Memory, Rank, Record
from cnnbench.store import Ledger

GPUS = tuple(
    Device(id=f"cuda:{n}", kind="cuda", name="NVIDIA Testla T1", uuid=f"GPU-{n}", multiprocessors=4) for n in range(4)
)
PLAIN = {"epochs": None, "steps_per_epoch": None, "final_evaluation": False}


def ranks(job: Job, step_seconds: float, exchange: float = 0.1) -> dict[str, Any]:
    """The fields of a trial of several ranks: rank 0 a tenth of a percent faster, a share of every step exchange."""
    block = step_seconds * job.block_steps
    memory = Memory(host_peak_bytes=500 * 2**20, device_allocated_peak_bytes=None if job.device == "cpu" else 2**28)
    found = tuple(
        Rank(
            rank=rank,
            place=f"cores {rank}",
            block_seconds=(block * (0.999 if rank == 0 else 1.0),) * job.blocks,
            images=job.blocks * job.block_steps * job.rank_batch,
            memory=memory,
            weights="ab",
        )
        for rank in range(job.world)
    )
    blocks = Communication(
        steps_per_block=job.block_steps, with_seconds=(block,) * 8, without_seconds=(block * (1 - exchange),) * 8
    )
    phases = {"interpreter": 0.1, "launch": 2.0, "join": 0.5, "import": 2.5}
    return {"ranks": found, "communication": blocks, "phases": phases, "cold_start_seconds": 6.0, "memory": memory}


def repeats(job: Job, seconds: Sequence[float], start: int, exchange: float = 0.1) -> list[Record]:
    """One record a value of `seconds`, in rounds."""
    found = []
    for turn, each in enumerate(seconds):
        own = job.model_copy(update={"round": turn, "seed": 100 + turn})
        fields = ranks(job, each, exchange) if job.world > 1 else {"cold_start_seconds": 3.0}
        found.append(b.record(own, each, index=start + turn, **fields))
    return found


def records() -> list[Record]:
    """On a CPU one thread, two threads, two ranks; on GPUs one, two and four; a fifth of the images a second lost to four."""
    found: list[Record] = []
    for fields, seconds in (
        ({"threads": 1}, (0.160, 0.161, 0.162)),
        ({"threads": 2}, (0.090, 0.0905, 0.091)),
        ({"threads": 1, "world": 2, "scaling": "strong"}, (0.095, 0.0956, 0.0965)),
        ({"threads": 1, "world": 2, "scaling": "weak", "batch_size": 256}, (0.170, 0.172, 0.171)),
        ({"device": "cuda:0"}, (0.001, 0.00101, 0.00102)),
        ({"device": "cuda:0", "world": 2, "scaling": "strong"}, (0.0006, 0.00061, 0.00062)),
        ({"device": "cuda:0", "world": 4, "scaling": "weak", "batch_size": 512}, (0.00125, 0.00126, 0.00127)),
    ):
        found += repeats(b.cnn_job(**(PLAIN | fields)), seconds, len(found))
    lost = b.cnn_job(**(PLAIN | {"device": "cuda:0", "world": 4, "scaling": "strong"}))
    found.append(b.record(lost, index=len(found), status="crashed", message="rank 3 of 4 was ended by SIGKILL"))
    found += b.repeats(b.gemm_job(2048, threads=1), [0.1, 0.101, 0.102], start=len(found))
    found += b.repeats(b.gemm_job(2048, threads=2), [0.05, 0.0501, 0.0502], start=len(found) + 3)
    return [each.model_copy(update={"index": n}) for n, each in enumerate(found)]


def ledger() -> Ledger:
    """All of it as one run."""
    return b.ledger(
        records(), run_id="20260304T120000Z-0001", created_at="2026-03-04T12:00:00Z", machine=b.machine(gpus=GPUS)
    )

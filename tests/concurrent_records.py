"""A run of the same job on five devices at once, one of them slow; products likewise; and one device alone."""

from __future__ import annotations

import builders as b

from cnnbench.schema import Device, Job, Rank, Record
from cnnbench.store import Ledger

PLAIN = {"epochs": None, "steps_per_epoch": None, "final_evaluation": False}
SLOW = 1.25


def card(number: int, name: str = "NVIDIA Testla T1") -> Device:
    return Device(id=f"cuda:{number}", kind="cuda", name=name, uuid=f"GPU-{number}")


CARDS = tuple(card(number) for number in range(5))


def record(job: Job, steps: dict[str, float], turn: int, index: int) -> Record:
    """A launch of copies, each with its step by its place."""
    own = job.model_copy(update={"round": turn, "seed": turn})
    images = 0 if job.workload == "gemm" else job.blocks * job.block_steps * job.batch_size
    ranks = tuple(
        Rank(rank=n, place=place, block_seconds=(seconds * job.block_steps,) * job.blocks, images=images)
        for n, (place, seconds) in enumerate(steps.items())
    )
    return b.record(own, max(steps.values()), index=index, ranks=ranks)


def ledger() -> Ledger:
    """Five cards of which the fourth is a quarter slower, in three launches; products; and one card alone."""
    job = b.cnn_job(**(PLAIN | {"device": "cuda:0", "copies": 5}))
    found = []
    for turn, scale in enumerate((1.0, 1.01, 1.02)):
        steps = {each.id: 0.001 * scale * (1 + n / 1000) * (SLOW if n == 3 else 1.0) for n, each in enumerate(CARDS)}
        found.append(record(job, steps, turn, turn))
    gemm = b.gemm_job(2048, device="cuda:0", threads=None, copies=5)
    found.append(record(gemm, {each.id: 0.0002 for each in CARDS}, 0, 3))
    found += b.repeats(b.cnn_job(**(PLAIN | {"device": "cuda:0"})), [0.001] * 3, start=4)
    return b.ledger(found, machine=b.machine(gpus=CARDS))

"""One model on two hosts in three boots, and an old run that names neither: all share a machine id."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import builders as b

from cnnbench.store import Ledger

HOSTS = ("aaaa00000001", "bbbb00000002")
BOOTS = (
    "11111111-0000-4000-8000-000000000001",
    "22222222-0000-4000-8000-000000000002",
    "33333333-0000-4000-8000-000000000003",
)
KERNELS, MEMORY = ("6.1.0-a", "6.1.0-b"), (25_276_514_304, 25_276_502_016)
"""Both print as 23.5 GiB."""
LABELS = (
    "boot unknown, host unknown, kernel 6.1.0-a, 25,276,514,304 bytes",
    "boot 11111111, host aaaa",
    "boot 22222222, host aaaa",
    "boot 33333333, host bbbb",
)


def run(number: int, seconds: float, job: Any, boot: int | None, host: int) -> Ledger:
    """The run of day `number`, three processes about `seconds` a step; without a boot it is an old ledger."""
    made = b.ledger(
        b.repeats(job, (seconds, 1.01 * seconds, 1.02 * seconds)),
        run_id=f"202603{number:02d}T120000Z-{number:04x}",
        created_at=f"2026-03-{number:02d}T12:00:00Z",
        machine=b.machine(gpus=[b.GPU], kernel=KERNELS[host], memory_bytes=MEMORY[host]),
    )
    known = {} if boot is None else {"boot_id": BOOTS[boot], "host_id": HOSTS[host]}
    return replace(made, header=made.header.model_copy(update=known))


def ledgers() -> list[Ledger]:
    """Batches of their own, and on the last host a GPU, whose last row is divided by the CPU row of the oldest run."""
    gpu = b.cnn_job(device="cuda:0")
    return [
        run(1, 0.010, b.cnn_job(), None, 0),
        run(2, 0.011, b.cnn_job(batch_size=64), 0, 0),
        run(3, 0.012, b.cnn_job(batch_size=256), 1, 0),
        run(4, 0.002, gpu.model_copy(update={"batch_size": 512}), 2, 1),
        run(5, 0.001, gpu, 2, 1),
    ]


def repeated() -> list[Ledger]:
    """One row in each boot, twice in the last one."""
    places = ((None, 0), (0, 0), (1, 0), (2, 1), (2, 1))
    return [run(n, 0.01 * n, b.cnn_job(), boot, host) for n, (boot, host) in enumerate(places, start=1)]

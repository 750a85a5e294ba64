"""Records for pages: a tree that has everything, a hostile one, and the odd ones (failures alone, one record, thousands)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import builders as b
import variant_records

from cnnbench.schema import Device, Energy, Evaluation, Job, Machine, Memory, Record
from cnnbench.store import Ledger

GIGABYTE = 2**30
EPYC = {
    **{"cpu_name": "AMD EPYC 7543 32-Core Processor", "cpu_vendor": "AuthenticAMD", "cpu_family": 0x19, "cpu_model": 1},
    **{"cpu_isa": ("avx2", "fma"), "cpu_max_clock_hertz": 3.7e9, "cores_physical": 32, "cores_logical": 64},
    **{"cores_allowed": 64, "memory_bytes": 256 * GIGABYTE, "governor": "performance", "turbo": True},
}
XEON = {
    **{"cpu_name": "Intel(R) Xeon(R) Platinum 8480+", "cpu_vendor": "GenuineIntel", "cpu_family": 6, "cpu_model": 0x8F},
    **{"cpu_isa": ("avx2", "fma", "avx512f"), "cpu_max_clock_hertz": 3.8e9, "cores_physical": 56, "cores_logical": 112},
    **{"cores_allowed": 26, "memory_bytes": 512 * GIGABYTE, "hypervisor": "KVM"},
}
H100 = ("NVIDIA H100 80GB HBM3", 132, 80)
RTX_4090 = ("NVIDIA GeForce RTX 4090", 128, 24)
RTX_3080 = ("NVIDIA GeForce RTX 3080", 68, 10)
L40S = ("NVIDIA L40S", 142, 48)
SPEED = {H100[0]: 140.0, RTX_4090[0]: 118.0, RTX_3080[0]: 61.0, L40S[0]: 96.0}
"""Times the speed of a CPU: made up, so that charts have something to show."""
CPU_STEP_SECONDS = 0.065


def gpu(kind: tuple[str, int, int], number: int = 0) -> Device:
    """A card of that name, so many multiprocessors and gigabytes."""
    name, units, gigabytes = kind
    return Device(
        id=f"cuda:{number}", kind="cuda", name=name, uuid=f"GPU-{number:04x}", memory_bytes=gigabytes * GIGABYTE,
        multiprocessors=units, max_clock_hertz=2.6e9, power_limit_watts=450.0, driver="580.95.05", capability="9.0",
    )  # fmt: skip


class Run:
    """The records of one run as they come; `add` gives each job's repeats times around a mean, the same every time."""

    def __init__(self, machine: Machine, run_id: str) -> None:
        self.machine, self.run_id = machine, run_id
        self.records: list[Record] = []
        self._chance = random.Random(run_id + machine.id)

    def add(self, job: Job, step_seconds: float, repeats: int = 3, **trial: Any) -> None:
        """Processes of the job, a few per cent apart, the blocks of each a little too."""
        for turn in range(repeats):
            mean = step_seconds * self._chance.uniform(0.97, 1.03)
            per_block = job.steps_per_epoch if job.clock == "job" else job.block_steps
            blocks = job.epochs if job.clock == "job" else job.blocks
            times = tuple(mean * (per_block or 1) * self._chance.uniform(0.98, 1.04) for _ in range(blocks or 1))
            whole = {"job_seconds": sum(times) + 20.0, "job_evaluation_seconds": 20.0} if job.clock == "job" else {}
            known = {"block_seconds": times, "cold_start_seconds": 2.5 + turn / 10, **whole, **trial}
            self._append(job, turn, b.record(job, mean, **known))

    def fail(self, job: Job, status: str, message: str, repeats: int = 1) -> None:
        """Processes that ended badly."""
        for turn in range(repeats):
            self._append(job, turn, b.record(job, status=status, message=message))  # type: ignore[arg-type]

    def _append(self, job: Job, turn: int, record: Record) -> None:
        index = len(self.records)
        own = job.model_copy(update={"round": turn, "seed": turn})
        self.records.append(record.model_copy(update={"job": own, "index": index}))

    def ledger(self, **header: Any) -> Ledger:
        """The run as if read back."""
        return b.ledger(self.records, run_id=self.run_id, machine=self.machine, **header)


def _where(device: Device) -> dict[str, Any]:
    return {"device": device.id} | ({} if device.kind == "cpu" else {"threads": None})


def _measured(device: Device, job: Job, step_seconds: float) -> dict[str, Any]:
    """Floors, operators, memory and, on a GPU, energy."""
    on_gpu = device.kind != "cpu"
    known: dict[str, Any] = {
        "floors": {
            **{"launch_seconds": 4e-6 if on_gpu else 8e-7, "copy_bytes_per_second": 2e12 if on_gpu else 4e10},
            **{"draw_seconds": 2e-5},
        },
        "operators_per_step": 85,
        "memory": Memory(
            host_peak_bytes=int(6.2e8 + 4e5 * job.batch_size),
            device_allocated_peak_bytes=int(5e7 + 3e5 * job.batch_size) if on_gpu else None,
            device_reserved_peak_bytes=int(9e7 + 4e5 * job.batch_size) if on_gpu else None,
            device_used_bytes=int(6e8 + 4e5 * job.batch_size) if on_gpu else None,
        ),
    }
    if on_gpu:
        known["energy"] = Energy(
            source="nvml-total-energy", tick_seconds=0.1, window_seconds=10.0, window_steps=int(10 / step_seconds),
            window_joules=2800.0, idle_seconds=5.0, idle_joules=350.0,
        )  # fmt: skip
    return known


def _learning(epochs: int, right: float) -> tuple[Evaluation, ...]:
    shares = [right - (right - 0.9) * 0.9**epoch for epoch in range(epochs)]
    return tuple(
        Evaluation(after_steps=429 * (n + 1), images=256, correct=round(256 * share), seconds=0.2)
        for n, share in enumerate(shares)
    )


def measure(run: Run, device: Device, *, whole: bool = False, energy: bool = True, brief: bool = False) -> None:
    """All there is to measure on one processor: the job, its whole, products, batch sizes, threads or, on a GPU, the ladder;
    `brief` takes one of each.
    """
    step, most = CPU_STEP_SECONDS / SPEED.get(device.name, 1.0), 1 if brief else None

    def train(scale: float = 1.0, repeats: int = 3, **fields: Any) -> None:
        job = b.cnn_job(**(_where(device) | fields))
        known = _measured(device, job, step * scale)
        if not energy:
            known.pop("energy", None)
        run.add(job, step * scale, repeats, **known)

    train()
    if whole:
        job = b.lecture_job(**_where(device))
        run.add(job, step * 1.02, 2, **_measured(device, job, step), epoch_evaluations=_learning(100, 0.995))
    for side in (4096, 512, 1024)[:most]:
        rate = 2e11 * SPEED.get(device.name, 1.0) * (0.5 if side < 1024 else 1.0)
        run.add(b.gemm_job(side, **_where(device)), 2 * side**3 / rate)
    for batch in (64, 256, 1024)[:most]:
        train(0.3 + 0.7 * batch / 128, 2, batch_size=batch, epochs=None, steps_per_epoch=None)
    if device.kind == "cpu":
        for threads, gain in ((1, 5.1), (2, 2.7), (4, 1.5), (16, 0.9))[:most]:
            train(gain, threads=threads)
    else:
        for scale, fields in _LADDER[:most]:
            train(scale, **fields)


_LADDER: tuple[tuple[float, dict[str, Any]], ...] = (
    (0.80, {"precision": "tf32"}),
    (0.62, {"precision": "bf16"}),
    (0.55, {"precision": "bf16", "layout": "nhwc"}),
    (0.30, {"precision": "bf16", "layout": "nhwc", "division": "tuned"}),
    (1.90, {"loader": "dataloader", "loader_workers": 2}),
)


def everything() -> list[Ledger]:
    """CPU and several GPUs on two machines, products, failures, energy, a ladder, sweeps, whole jobs with evaluations."""
    first = Run(b.machine("epyc-rack-3f9a", gpus=(gpu(H100), gpu(RTX_4090, 1)), **EPYC), "20260301T120000Z-0001")
    for device in first.machine.devices:
        measure(first, device, whole=True)
    huge = b.cnn_job(device="cuda:1", threads=None, batch_size=65536, epochs=None, steps_per_epoch=None)
    first.fail(huge, "oom", "CUDA out of memory: tried to allocate 27.72 GiB of 23.65 GiB", 3)
    second = Run(b.machine("xeon-cloud-77c2", gpus=(gpu(RTX_3080),), **XEON), "20260302T080000Z-0002")
    for device in second.machine.devices:
        measure(second, device, energy=False)
    hanging = b.cnn_job(device="cuda:0", threads=None, precision="fp16")
    second.fail(hanging, "hang", "no progress for 120 s; killed", 2)
    second.fail(b.gemm_job(8192, device="cuda:0", threads=None), "invalid", "1.4 times the theoretical peak")
    return [first.ledger(), second.ledger(created_at="2026-03-02T08:00:00Z", software=b.software("2.12.1"))]


def many_machines() -> list[Ledger]:
    """Three machines with four GPUs each."""
    found = []
    for number, kind in enumerate((H100, L40S, RTX_4090)):
        cards = tuple(gpu(kind, card) for card in range(4))
        run = Run(b.machine(f"node-{number}-{'abc'[number] * 4}", gpus=cards, **EPYC), f"20260301T120000Z-010{number}")
        for device in run.machine.devices:
            measure(run, device)
        found.append(run.ledger())
    return found


def one_record() -> list[Ledger]:
    """A single process."""
    return [b.ledger(b.repeats(b.cnn_job(), [0.065]))]


def only_failures() -> list[Ledger]:
    """Nothing ended well."""
    run = Run(b.machine(gpus=(gpu(RTX_3080),), **XEON), b.RUN_ID)
    run.fail(b.cnn_job(), "timeout", "no end after 3,600 s", 3)
    run.fail(b.cnn_job(device="cuda:0", threads=None), "crashed", "signal 11 (SIGSEGV) after 3 steps", 3)
    run.fail(b.gemm_job(device="cuda:0", threads=None), "unsupported", "no kernel image for this device")
    return [run.ledger()]


def only_products() -> list[Ledger]:
    """Matrix products alone."""
    run = Run(b.machine(gpus=(gpu(H100),), **EPYC), b.RUN_ID)
    for device in run.machine.devices:
        for side in (256, 1024, 8192):
            run.add(b.gemm_job(side, **_where(device)), 2 * side**3 / (4e11 * SPEED.get(device.name, 1.0)))
    return [run.ledger()]


def thousands(ledgers: int, rows: int = 20, repeats: int = 5) -> list[Ledger]:
    """Runs of a hundred records each, on as many machines: twenty batch sizes of five processes."""
    found = []
    for number in range(ledgers):
        run = Run(b.machine(f"node-{number:03d}", **EPYC), f"20260301T120000Z-{number:04x}")
        for size in range(rows):
            job = b.cnn_job(batch_size=32 * (size + 1))
            run.add(job, CPU_STEP_SECONDS * (size + 1) / 4, repeats, **_measured(run.machine.devices[0], job, 0.1))
        found.append(run.ledger())
    return found


HOSTILE: Sequence[str] = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "{{ 7*7 }}",
    "</script><script>alert(3)</script>",
    "javascript:alert(4)",
    '" onmouseover="alert(5)',
    "' onfocus='alert(6)' autofocus='",
    "]]><svg onload=alert(7)>",
    "--><img src=x onerror=alert(8)><!--",
    "${alert(9)}` datum.toString.constructor('alert(10)')()",
    "</style><img src=http://evil.example/11>",
    "N" * 5000,
    "\u202egpu.exe\u2066",
    "\x1b[2J\x1b]0;title\x07\x9b31m",
)


def hostile() -> list[Ledger]:
    """Everything a ledger may name, named as above: processors, machines, versions, suites, messages."""
    found = []
    for number, text in enumerate(HOSTILE):
        card = gpu(RTX_4090).model_copy(update={"name": text, "driver": text})
        machine = b.machine(f"{text[:200]}-{number}", gpus=(card,), cpu_name=f"{text} CPU", os=text, kernel=text)
        run = Run(machine, f"{text[:100]} {number}")
        for device in machine.devices:
            measure(run, device, whole=number == 0, brief=True)
        run.fail(b.cnn_job(device="cuda:0", threads=None, precision="fp16"), "crashed", text)
        header = run.ledger(software=b.software(text, blas=text, git_commit=text)).header
        header = header.model_copy(update={"suites": {text: "0" * 64}, "options": {text: text}})
        found.append(Ledger(run.ledger().path, header, run.ledger(software=header.software).records))
    return found


def modes() -> list[Ledger]:
    """Seeds to a target, some missed, pre-training, inference, and a ladder with rungs the device cannot do."""
    return [variant_records.targets(), variant_records.ladder()]


def nothing_measured() -> list[Ledger]:
    """No ledger at all: what is left are the published rows."""
    return []

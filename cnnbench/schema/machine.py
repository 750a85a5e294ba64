"""The fingerprint of a machine and its software."""

from __future__ import annotations

from cnnbench.schema.base import Frozen

DeviceKind = str
"""`cpu`, `cuda`, `rocm`, `mps`, `xpu`, or what another file of `devices/vendors/` declares."""


class Device(Frozen):
    """A processor as found on a machine. `id` is what `--device` takes: `cpu`, `cuda:0`."""

    id: str
    kind: DeviceKind
    name: str
    uuid: str | None = None
    memory_bytes: int | None = None
    capability: str | None = None
    """compute capability such as 9.0, or gfx target"""
    multiprocessors: int | None = None
    max_clock_hertz: float | None = None
    power_limit_watts: float | None = None
    ecc: bool | None = None
    mig: bool | None = None
    driver: str | None = None
    usable: bool = True
    unusable_reason: str | None = None


class Machine(Frozen):
    """The fingerprint: what a result depends on and a reader must know. No host name: ledgers are published."""

    id: str
    """slug and short hash of the stable fields; names the folder under results/"""
    cpu_name: str
    cpu_vendor: str | None = None
    cpu_family: int | None = None
    cpu_model: int | None = None
    cpu_stepping: int | None = None
    cpu_isa: tuple[str, ...] = ()
    cpu_max_clock_hertz: float | None = None
    """maximum (boost) clock the system reports"""
    cores_physical: int | None = None
    cores_logical: int
    cores_allowed: int
    """cores this process may use: affinity and cgroup quota, rounded down, >= 1"""
    cgroup_cpu_limit: float | None = None
    """CPU quota over period, in cores"""
    memory_bytes: int
    memory_limit_bytes: int | None = None
    """cgroup limit, where below the RAM"""
    hypervisor: str | None = None
    governor: str | None = None
    turbo: bool | None = None
    swap_bytes: int | None = None
    os: str
    kernel: str
    libc: str | None = None
    devices: tuple[Device, ...] = ()


class Software(Frozen):
    """The versions a result depends on, as the probe process saw them."""

    cnnbench: str
    git_commit: str | None = None
    git_dirty: bool | None = None
    python: str
    torch: str
    torch_build: str
    """cpu, cuda 13.0, rocm 6.4"""
    cudnn: str | None = None
    blas: str | None = None
    onednn: str | None = None
    cpu_capability: str | None = None
    numpy: str

    @property
    def torch_text(self) -> str:
        """torch with the build that it is: `2.13.0 (cuda 13.0)`."""
        return f"{self.torch} ({self.torch_build})"

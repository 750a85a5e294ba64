"""What must be equal before the times of two runs are one sample: the machine, the software that matters, the timing rule.

cnnbench's own version and commit are not in it: they are what a check of runs is to judge. Kernel, libc and a device's
serial number change by themselves, or with a machine bought alike; they are recorded (`volatile_facts`) and hinder nothing.
"""

from __future__ import annotations

from cnnbench.analysis.process_table import Process
from cnnbench.analysis.ratio import FieldDifference
from cnnbench.schema import Frozen, RunHeader


class Conditions(Frozen):
    """The fingerprint of one row of one run. None is unknown, or not there; it equals only itself."""

    machine_id: str
    protocol: int
    torch: str
    torch_build: str
    python: str
    """Major and minor version: patches do not change how fast a step is launched."""
    cudnn: str | None = None
    blas: str | None = None
    onednn: str | None = None
    cpu_capability: str | None = None
    governor: str | None = None
    turbo: bool | None = None
    driver: str | None = None
    power_limit_watts: float | None = None
    ecc: bool | None = None
    mig: bool | None = None


def read_conditions(process: Process) -> Conditions:
    """The conditions under which this process was measured."""
    machine, software, device = process.machine, process.software, process.device
    return Conditions(
        machine_id=process.machine_id,
        protocol=process.protocol,
        torch=software.torch,
        torch_build=software.torch_build,
        python=".".join(software.python.split(".")[:2]),
        cudnn=software.cudnn,
        blas=software.blas,
        onednn=software.onednn,
        cpu_capability=software.cpu_capability,
        governor=machine.governor,
        turbo=machine.turbo,
        driver=device.driver,
        power_limit_watts=device.power_limit_watts,
        ecc=device.ecc,
        mig=device.mig,
    )


def find_differences(base: Conditions, new: Conditions) -> tuple[FieldDifference, ...]:
    """Every field that is not equal, with both values."""
    pairs = ((name, getattr(base, name), getattr(new, name)) for name in Conditions.model_fields)
    return tuple(FieldDifference(name, its, ours) for name, its, ours in pairs if its != ours)


def volatile_facts(run: RunHeader) -> dict[str, str]:
    """What is recorded beside the conditions and hinders no comparison: kernel, libc, the devices' serial numbers."""
    machine = run.machine
    serials = ", ".join(device.uuid for device in machine.devices if device.uuid)
    known = {"os": machine.os, "kernel": machine.kernel, "libc": machine.libc, "device_uuids": serials or None}
    return {name: value for name, value in known.items() if value is not None}

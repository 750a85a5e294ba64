"""The machine's state at one moment, read at the ends of a timed region and never inside it.

A GPU's UUID, or None for the CPU alone, gives a `schema.Telemetry`, in which an unreadable value is None with a line
in `missing`. Reading it takes a few milliseconds, and no broken sensor can raise or hang it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cnnbench.devices import host_sensors, nvml
from cnnbench.schema import Telemetry

PROC = Path("/proc")
SYS = Path("/sys")


def sample(
    uuid: str | None, *, proc: Path = PROC, sys: Path = SYS, timeout_seconds: float = 2.0, library: Any = None
) -> Telemetry:
    """Read the host's load, stolen and throttled time, clock and energy, and the GPU's with this UUID if one is given.

    `library` replaces `pynvml`. Never raises; a GPU that does not answer costs `timeout_seconds`, once per process.
    """
    values, missing = {}, {}
    for name, read in host_sensors.SENSORS.items():
        try:
            values[name] = read(proc, sys)
        except (host_sensors.MissingSensor, OSError, ValueError) as error:
            missing[name] = str(error)
    if uuid is not None:
        found, reasons = nvml.read_gpu(uuid, timeout_seconds, library=library, proc=proc)
        values |= found
        missing |= reasons
    return Telemetry.model_validate({**values, "missing": missing})

"""Who this host is: an identity that can be published, beside the fingerprint that names its model.

It is made as systemd's sd_id128_get_machine_app_specific(3) makes one: HMAC-SHA256 with the machine-id as key and an
application's id as message, so that neither the machine-id nor another application's identity can be found from it.
Images carry their machine-id to every copy: two different identities are two hosts, two equal ones prove nothing.
In a container the machine-id is the image's or the runtime's, so there is none.
"""

from __future__ import annotations

import hmac
import re
from pathlib import Path

from cnnbench.devices.host_sensors import read_line, read_lines

ROOT = Path("/")
APPLICATION_ID = bytes.fromhex("cfc7c9086a864457a8866ed967362495")
"""Drawn at random once for cnnbench; another value would give every host another identity."""
PUBLISHED_DIGITS = 12
"""Hexadecimal digits that are kept. Two hosts share 48 bits once in 3e14 pairs, and equal identities prove nothing anyway.
The version digits that systemd sets in a whole id come after them.
"""
_CONTAINER_FILES = (
    ".dockerenv",
    "run/.containerenv",
    "run/systemd/container",
    "run/host/container-manager",
    "var/run/secrets/kubernetes.io",
    ".singularity.d",
)
"""What Docker, Podman, systemd (for nspawn, LXC and others), Kubernetes and Apptainer or Singularity leave in a container.
The first four are those that systemd-detect-virt(1) looks at.
"""
_CONTAINER_VARIABLES = re.compile(r"^(container|KUBERNETES_SERVICE_HOST|APPTAINER_CONTAINER|SINGULARITY_CONTAINER)=.")
_CONTAINER_CGROUPS = re.compile(r"docker|containerd|kubepods|crio|libpod|/lxc[./]|/machine\.slice/")
_FIRST_NAMESPACES = {"cgroup": "cgroup:[4026531835]", "pid": "pid:[4026531836]"}
"""The namespaces of the host itself, which the kernel numbers when it is built (PROC_CGROUP_INIT_INO, PROC_PID_INIT_INO)."""


def host_id(*, root: Path = ROOT) -> str | None:
    """Make the host's identity, twelve hexadecimal digits; None without a machine-id, and in a container."""
    text = read_line(root / "etc/machine-id").replace("-", "").lower()
    if not re.fullmatch("[0-9a-f]{32}", text) or not text.strip("0") or is_container(root=root):
        return None
    return hmac.digest(bytes.fromhex(text), APPLICATION_ID, "sha256").hex()[:PUBLISHED_DIGITS]


def is_container(*, root: Path = ROOT) -> bool:
    """Tell whether this system looks like a container, or like WSL, whose machine-id is one distribution's.

    By the signs that systemd-detect-virt(1) reads, and those of Kubernetes and Apptainer. Without root's rights the
    environment of process 1 cannot be read; a container then shows by its files, control groups or namespaces.
    """
    proc = root / "proc"
    if any((root / name).exists() for name in _CONTAINER_FILES):
        return True
    if "microsoft" in read_line(proc / "sys/kernel/osrelease").lower():
        return True
    # OpenVZ shows both folders on the host, and the first alone in a container.
    if (proc / "vz").exists() and not (proc / "bc").exists():
        return True
    return any(_shows_container(proc / process) for process in ("1", "self"))


def _shows_container(process: Path) -> bool:
    """Check the environment, the control groups and the namespaces of a process for a container's."""
    variables = "\0".join(read_lines(process / "environ")).split("\0")
    if any(map(_CONTAINER_VARIABLES.match, variables)) or any(
        map(_CONTAINER_CGROUPS.search, read_lines(process / "cgroup"))
    ):
        return True
    return any(_read_namespace(process, kind) not in (None, first) for kind, first in _FIRST_NAMESPACES.items())


def _read_namespace(process: Path, kind: str) -> str | None:
    """Read the name of a process's namespace; None if the system does not show it."""
    try:
        return str((process / "ns" / kind).readlink())
    except OSError:
        return None

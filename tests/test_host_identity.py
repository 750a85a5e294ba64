"""The identity of a host: equal to systemd's, and unknown wherever the machine-id says nothing about the host."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes_machine import lay_out

from cnnbench.machine.host_identity import APPLICATION_ID, PUBLISHED_DIGITS, host_id, is_container

MACHINE_ID = "0123456789abcdef0123456789abcdef"
HOST = {
    "etc/machine-id": f"{MACHINE_ID}\n",
    "proc/sys/kernel/osrelease": "6.1.0-18-amd64\n",
    "proc/1/cgroup": "0::/init.scope\n",
    "proc/self/cgroup": "0::/user.slice/user-1000.slice/session-2.scope\n",
    "proc/self/environ": "HOME=/home/a\0containers=2\0",
}
"""A host as a user sees it, who may not read the environment of process 1."""


def host(root: Path, **changed: str) -> Path:
    return lay_out(root, {**HOST, **changed})


def link(root: Path, process: str, kind: str, text: str) -> None:
    namespaces = root / "proc" / process / "ns"
    namespaces.mkdir(parents=True, exist_ok=True)
    (namespaces / kind).symlink_to(text)


def test_the_identity_is_the_beginning_of_systemds_own(tmp_path: Path) -> None:
    """Expected: `systemd-id128 machine-id --app-specific=...` of systemd 252 printed this for that machine-id."""
    assert APPLICATION_ID.hex() == "cfc7c9086a864457a8866ed967362495"
    whole = "a74f12b3fd9842a8b1d3c3e261fca748"
    assert host_id(root=host(tmp_path)) == whole[:PUBLISHED_DIGITS]


def test_another_machine_id_is_another_identity_and_a_copied_one_the_same(tmp_path: Path) -> None:
    one, copy = host_id(root=host(tmp_path / "one")), host_id(root=host(tmp_path / "copy"))
    other = host_id(root=host(tmp_path / "other", **{"etc/machine-id": MACHINE_ID.replace("0", "1") + "\n"}))
    assert one == copy
    assert None not in (one, other)
    assert one != other
    assert MACHINE_ID[:6] not in str(one)


@pytest.mark.parametrize("text", ["", "\n", "uninitialized\n", "0" * 32, MACHINE_ID[:-1], "g" * 32])
def test_a_machine_id_that_names_no_machine_gives_no_identity(tmp_path: Path, text: str) -> None:
    """machine-id(5): empty and `uninitialized` mean that none was set yet; all zeros is not valid."""
    assert host_id(root=host(tmp_path, **{"etc/machine-id": text})) is None


def test_a_system_without_a_machine_id_has_no_identity(tmp_path: Path) -> None:
    assert host_id(root=tmp_path) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".dockerenv", ""),
        ("run/.containerenv", 'engine="podman-4.3.1"\n'),
        ("run/systemd/container", "lxc\n"),
        ("run/host/container-manager", "systemd-nspawn\n"),
        ("var/run/secrets/kubernetes.io/serviceaccount/namespace", "default"),
        (".singularity.d/runscript", "#!/bin/sh\n"),
        ("proc/1/environ", "TERM=xterm\0container=lxc\0"),
        ("proc/self/environ", "container=podman\0"),
        ("proc/self/environ", "A=b\0KUBERNETES_SERVICE_HOST=10.0.0.1\0"),
        ("proc/self/environ", "APPTAINER_CONTAINER=/images/torch.sif\0"),
        ("proc/1/cgroup", "12:cpu:/docker/0123456789ab\n0::/docker/0123456789ab\n"),
        ("proc/1/cgroup", "4:memory:/kubepods/besteffort/pod1234\n"),
        ("proc/self/cgroup", "0::/lxc.payload.box\n"),
        ("proc/vz/version", "1\n"),
        ("proc/sys/kernel/osrelease", "5.15.133.1-microsoft-standard-WSL2\n"),
    ],
)
def test_inside_a_container_the_host_is_unknown(tmp_path: Path, name: str, text: str) -> None:
    """Each sign alone suffices; without it the same tree is a host."""
    assert not is_container(root=host(tmp_path / "bare"))
    inside = host(tmp_path / "inside", **{name: text})
    assert is_container(root=inside)
    assert host_id(root=inside) is None


def test_the_host_has_the_first_namespaces_and_a_container_others(tmp_path: Path) -> None:
    """The kernel numbers the first cgroup namespace 0xEFFFFFFB and the first PID namespace 0xEFFFFFFC (linux/proc_ns.h)."""
    root = host(tmp_path / "bare")
    link(root, "self", "cgroup", f"cgroup:[{0xEFFFFFFB}]")
    link(root, "self", "pid", f"pid:[{0xEFFFFFFC}]")
    assert host_id(root=root) is not None
    for kind in ("cgroup", "pid"):
        inside = host(tmp_path / kind)
        link(inside, "self", kind, f"{kind}:[4026532177]")
        assert host_id(root=inside) is None


def test_an_openvz_host_is_no_container(tmp_path: Path) -> None:
    """Its containers lack /proc/bc."""
    assert host_id(root=host(tmp_path, **{"proc/vz/version": "1\n", "proc/bc/resources": "1\n"})) is not None

"""The fingerprint: the same machine has the same id, another one another, and limits are seen for what they are."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from fakes_machine import i7_cpuinfo, lay_out, quiet_proc

from cnnbench.machine.fingerprint import boot_id, fingerprint, parse_cpuinfo, read_foreign_processor, slug
from cnnbench.schema import Device, Machine

EIGHT = frozenset(range(8))
CPUFREQ = {
    **{f"devices/system/cpu/cpu{core}/cpufreq/scaling_governor": "powersave\n" for core in range(8)},
    **{f"devices/system/cpu/cpu{core}/cpufreq/scaling_driver": "intel_pstate\n" for core in range(8)},
    **{f"devices/system/cpu/cpu{core}/cpufreq/cpuinfo_max_freq": "4400000\n" for core in range(8)},
    "devices/system/cpu/intel_pstate/no_turbo": "0\n",
}


def take(root: Path, sys_files: dict[str, str] | None = None, devices: tuple[Device, ...] = (), **proc: str) -> Machine:
    """The fingerprint of an i7-4790K with these files changed."""
    return fingerprint(
        devices,
        proc=quiet_proc(root / "proc", **proc),
        sys=lay_out(root / "sys", CPUFREQ if sys_files is None else sys_files),
        affinity=EIGHT,
    )


def test_a_bare_metal_machine_is_read_whole(tmp_path: Path) -> None:
    """Every field of the lecture's CPU, in base units."""
    machine = take(tmp_path)
    assert machine.id.startswith("intel-core-i7-4790k-")
    assert (machine.cpu_vendor, machine.cpu_family, machine.cpu_model, machine.cpu_stepping) == (
        "GenuineIntel",
        6,
        60,
        3,
    )
    assert machine.cpu_isa == ("sse4_2", "avx", "fma", "f16c", "avx2")
    assert (machine.cores_physical, machine.cores_logical, machine.cores_allowed) == (4, 8, 8)
    assert (machine.memory_bytes, machine.swap_bytes) == (16 << 30, 2 << 30)
    assert (machine.governor, machine.turbo, machine.cpu_max_clock_hertz) == ("powersave", True, 4.4e9)
    assert (machine.hypervisor, machine.memory_limit_bytes, machine.cgroup_cpu_limit) == (None, None, None)


def test_the_id_forgets_what_changes_by_itself(tmp_path: Path) -> None:
    """Clock of the moment, governor, load, swap in use, driver and UUID leave the id alone."""
    gpu = Device(id="cuda:0", kind="cuda", name="NVIDIA H200", uuid="GPU-1", driver="580.1")
    first = take(tmp_path / "a", devices=(gpu,))
    later = take(
        tmp_path / "b",
        {**CPUFREQ, "devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance"},
        (gpu.model_copy(update={"uuid": "GPU-2", "driver": "590.2"}),),
        cpuinfo=i7_cpuinfo(megahertz=800.0),
        loadavg="9.0 9.0 9.0 9/900 1\n",
    )
    assert first.id == later.id
    assert first.id.startswith("intel-core-i7-4790k+nvidia-h200-")


def test_the_id_knows_what_matters(tmp_path: Path) -> None:
    """Other instructions, cores, memory, hypervisor or GPU: another id each."""
    gpu = Device(id="cuda:0", kind="cuda", name="NVIDIA H200")
    machines = [
        take(tmp_path / "a"),
        take(tmp_path / "b", cpuinfo=i7_cpuinfo(" avx512f")),
        take(tmp_path / "c", meminfo="MemTotal: 33554432 kB\n"),
        take(tmp_path / "d", cpuinfo=i7_cpuinfo(" hypervisor")),
        take(tmp_path / "e", devices=(gpu,)),
        take(tmp_path / "f", devices=(gpu, gpu)),
        take(tmp_path / "g", {"fs/cgroup/cgroup.controllers": "cpu", "fs/cgroup/cpu.max": "200000 100000"}),
    ]
    assert len({machine.id for machine in machines}) == len(machines)


@pytest.mark.parametrize(("quota", "cores"), [("max", 8), ("250000", 2), ("50000", 1), ("1600000", 8)])
def test_a_quota_rounds_down_to_at_least_one_core(tmp_path: Path, quota: str, cores: int) -> None:
    """2.5 cores allow two threads, half a core one, sixteen no more than there are."""
    tree = {"fs/cgroup/cgroup.controllers": "cpu", "fs/cgroup/cpu.max": f"{quota} 100000"}
    assert take(tmp_path, tree).cores_allowed == cores


def test_affinity_and_cpuset_both_hold(tmp_path: Path) -> None:
    """Cores 0-3 by affinity and 2-7 by cpuset leave two."""
    tree = {"fs/cgroup/cgroup.controllers": "cpuset", "fs/cgroup/cpuset.cpus.effective": "2-7"}
    machine = fingerprint(
        (), proc=quiet_proc(tmp_path / "proc"), sys=lay_out(tmp_path / "sys", tree), affinity=frozenset(range(4))
    )
    assert machine.cores_allowed == 2


def test_a_memory_limit_counts_only_below_the_ram(tmp_path: Path) -> None:
    """4 GiB of 16 is a limit, 64 GiB is none; the CPU's memory as a device is what may be used."""
    for size, expected in ((4 << 30, 4 << 30), (64 << 30, None)):
        tree = {"fs/cgroup/cgroup.controllers": "memory", "fs/cgroup/memory.max": str(size)}
        machine = take(tmp_path, tree)
        assert machine.memory_limit_bytes == expected
        assert machine.devices[0].id == "cpu"
        assert machine.devices[0].memory_bytes == min(size, 16 << 30)


@pytest.mark.parametrize(
    ("flag", "dmi", "expected"),
    [
        (" hypervisor", {"sys_vendor": "QEMU"}, "QEMU/KVM"),
        (
            " hypervisor",
            {"sys_vendor": "Microsoft Corporation", "product_name": "Virtual Machine"},
            "Microsoft Hyper-V",
        ),
        (" hypervisor", {"sys_vendor": "Amazon EC2", "product_name": "c7i.large"}, "Amazon EC2"),
        ("", {"sys_vendor": "Amazon EC2", "product_name": "c7i.metal-24xl"}, None),
        (" hypervisor", {}, "a hypervisor without a name"),
        ("", {"sys_vendor": "Dell Inc."}, None),
    ],
)
def test_hypervisors_are_named_and_bare_metal_is_not_accused(
    tmp_path: Path, flag: str, dmi: dict[str, str], expected: str | None
) -> None:
    """The CPU's flag decides, DMI names; a cloud's bare-metal machine is none."""
    tree = {f"class/dmi/id/{name}": text for name, text in dmi.items()}
    assert take(tmp_path, tree, cpuinfo=i7_cpuinfo(flag)).hypervisor == expected


def test_a_base_clock_is_not_taken_for_the_boost_clock(tmp_path: Path) -> None:
    """acpi-cpufreq shows the base clock as the maximum; without cpufreq there is none."""
    tree = {name: "acpi-cpufreq" if name.endswith("scaling_driver") else text for name, text in CPUFREQ.items()}
    assert take(tmp_path / "a", tree).cpu_max_clock_hertz is None
    assert take(tmp_path / "b", {}).cpu_max_clock_hertz is None


def test_arm_cores_are_named_from_their_numbers(tmp_path: Path) -> None:
    """Implementer 0x41, part 0xd40 is a Neoverse-V1; its cores are counted by topology."""
    text = "\n".join(
        f"processor\t: {core}\nFeatures\t: fp asimd bf16 sve\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
        "CPU variant\t: 0x1\nCPU part\t: 0xd40\nCPU revision\t: 1\n"
        for core in range(2)
    )
    tree = {f"devices/system/cpu/cpu{core}/topology/thread_siblings_list": f"{core}\n" for core in range(2)}
    machine = take(tmp_path, tree, cpuinfo=text)
    assert (machine.cpu_name, machine.cpu_vendor, machine.cpu_model) == ("Neoverse-V1", "ARM", 0xD40)
    assert machine.cpu_isa == ("neon", "bf16", "sve")
    assert machine.cores_physical == 2


def test_an_unknown_arm_core_shows_its_number() -> None:
    """Never a similar core's name."""
    found = parse_cpuinfo("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xfff\n")
    assert found is not None
    assert found.name == "ARM part 0xfff"


def test_mixed_governors_are_both_shown(tmp_path: Path) -> None:
    """One core set otherwise is not hidden by the first."""
    tree = {**CPUFREQ, "devices/system/cpu/cpu5/cpufreq/scaling_governor": "performance"}
    assert take(tmp_path, tree).governor == "performance, powersave"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Intel(R) Core(TM) i7-4790K CPU @ 4.00GHz", "intel-core-i7-4790k"),
        ("AMD EPYC 9654 96-Core Processor", "amd-epyc-9654"),
        ("///", "unknown"),
    ],
)
def test_slugs_are_short_and_safe_in_a_path(name: str, expected: str) -> None:
    """Letters, digits and hyphens."""
    assert slug(name) == expected


def test_this_machine_is_read_quickly_and_without_heavy_imports() -> None:
    """The real fingerprint imports neither torch, pandas nor cpuinfo where Linux names the CPU, in half a second of its own."""
    if parse_cpuinfo(Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else "") is None:
        pytest.skip("this system has no /proc/cpuinfo that names the CPU")
    begun = time.process_time()
    assert fingerprint([]).cores_allowed >= 1
    assert time.process_time() - begun < 0.5
    code = (
        "import sys; from cnnbench.machine.fingerprint import fingerprint; fingerprint([]);"
        "print([name for name in ('torch', 'pandas', 'cpuinfo', 'pynvml') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "[]\n"


def test_without_proc_the_cpu_still_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On another system py-cpuinfo and psutil answer."""
    fake = type(sys)("cpuinfo")
    monkeypatch.setattr(fake, "get_cpu_info", lambda: {"brand_raw": "Some CPU", "flags": ["avx2"]}, raising=False)
    monkeypatch.setitem(sys.modules, "cpuinfo", fake)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 8 if logical else 4)
    monkeypatch.setattr(platform, "system", lambda: "Plan 9")
    found = read_foreign_processor.__wrapped__()
    assert (found.name, found.isa, found.cores_physical, found.cores_logical) == ("Some CPU", ("avx2",), 4, 8)
    monkeypatch.setitem(sys.modules, "cpuinfo", None)
    assert read_foreign_processor.__wrapped__().name == "unknown CPU"


def test_the_boot_is_the_kernels_random_id_and_unknown_where_there_is_none(tmp_path: Path) -> None:
    """It is beside the fingerprint: the machine and its id are the same in every boot."""
    text = "0d9c5a54-8ad0-4e4c-a5b9-2f6d0f6d3a51"
    proc = lay_out(tmp_path / "proc", {"sys/kernel/random/boot_id": f"{text}\n"})
    assert boot_id(proc=proc) == text
    assert boot_id(proc=tmp_path / "nowhere") is None
    one, other = take(tmp_path / "a"), take(tmp_path / "b", **{"sys/kernel/random/boot_id": text})
    assert one == other

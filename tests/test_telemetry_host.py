"""The host's sensors: exact conversions from fake /proc and /sys trees, and a reason for every one that is not there."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from fakes_machine import i7_cpuinfo, lay_out, quiet_proc
from hypothesis import given
from hypothesis import strategies as st

from cnnbench.devices import host_sensors
from cnnbench.devices.plausibility import counter_growth, energy_between, require_plausible
from cnnbench.devices.telemetry import sample


def test_counters_are_converted_to_seconds(tmp_path: Path) -> None:
    """Steal comes in clock ticks, pressure in microseconds, throttled time in microseconds (version 2)."""
    proc = quiet_proc(tmp_path / "proc")
    sys = lay_out(
        tmp_path / "sys",
        {"fs/cgroup/cgroup.controllers": "cpu memory", "fs/cgroup/cpu.stat": "usage_usec 9\nthrottled_usec 1500000\n"},
    )
    state = sample(None, proc=proc, sys=sys)
    assert state.load_1min == 0.25
    assert state.steal_seconds == 300 / os.sysconf("SC_CLK_TCK")
    assert state.cpu_pressure_seconds == 2.5
    assert state.cgroup_throttled_seconds == 1.5
    assert state.cpu_clock_hertz == 4.0e9


def test_an_empty_machine_gives_reasons_and_no_error(tmp_path: Path) -> None:
    """No /proc, no /sys: every host field is None and each has its line."""
    state = sample(None, proc=tmp_path / "proc", sys=tmp_path / "sys")
    fields = (
        "load_1min", "steal_seconds", "cpu_pressure_seconds", "cgroup_throttled_seconds", "cpu_clock_hertz",
        "package_energy_joules",
    )  # fmt: skip
    assert [name for name in fields if getattr(state, name) is not None] == []
    assert set(state.missing) == set(fields)


@pytest.mark.parametrize("junk", ["", "junk", "cpu 1 2\n", "\x00\xff"])
def test_junk_in_proc_is_missing_not_an_error(tmp_path: Path, junk: str) -> None:
    """A file that holds something else costs its field."""
    proc = quiet_proc(tmp_path / "proc", loadavg=junk, stat=junk, cpuinfo=junk, **{"pressure/cpu": junk})
    state = sample(None, proc=proc, sys=tmp_path)
    assert (state.load_1min, state.steal_seconds, state.cpu_pressure_seconds, state.cpu_clock_hertz) == (None,) * 4


def test_a_sample_of_this_machine_is_cheap() -> None:
    """The best of five readings of the real /proc and /sys takes under 20 ms of its own."""
    seconds = []
    for _ in range(5):
        begun = time.process_time()
        sample(None)
        seconds.append(time.process_time() - begun)
    assert min(seconds) < 0.02


def test_a_virtual_machines_nominal_clock_is_no_measurement(tmp_path: Path) -> None:
    """With the hypervisor flag /proc/cpuinfo's MHz is a constant: missing, with the constant in the reason."""
    proc = quiet_proc(tmp_path / "proc", cpuinfo=i7_cpuinfo(" hypervisor", 2596.134))
    state = sample(None, proc=proc, sys=tmp_path)
    assert state.cpu_clock_hertz is None
    assert "2596 MHz" in state.missing["cpu_clock_hertz"]


def test_cpufreq_goes_before_cpuinfo(tmp_path: Path) -> None:
    """Two cores at 4.4 and 4.2 GHz run at 4.3 on the mean."""
    clocks = {f"devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq": f"{khz}\n" for core, khz in
              ((0, 4_400_000), (1, 4_200_000))}  # fmt: skip
    assert host_sensors.cpu_clock_hertz(quiet_proc(tmp_path / "proc"), lay_out(tmp_path / "sys", clocks)) == 4.3e9


V1 = {
    "fs/cgroup/cpu/job/cpu.stat": "nr_periods 4\nthrottled_time 2500000000\n",
    "fs/cgroup/cpu/job/cpu.cfs_quota_us": "150000",
    "fs/cgroup/cpu/job/cpu.cfs_period_us": "100000",
    "fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
    "fs/cgroup/cpu/cpu.cfs_period_us": "100000",
    "fs/cgroup/memory/job/memory.limit_in_bytes": "1073741824",
    "fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
    "fs/cgroup/cpuset/cpuset.cpus": "0-2,5",
}
V2 = {
    "fs/cgroup/cgroup.controllers": "cpu memory cpuset",
    "fs/cgroup/job/cpu.stat": "throttled_usec 2000000\n",
    "fs/cgroup/cpu.stat": "throttled_usec 500000\n",
    "fs/cgroup/job/cpu.max": "max 100000",
    "fs/cgroup/cpu.max": "150000 100000",
    "fs/cgroup/job/memory.max": "max",
    "fs/cgroup/memory.max": "1073741824",
    "fs/cgroup/cpuset.cpus.effective": "0-2,5",
}


@pytest.mark.parametrize(
    ("groups", "tree"),
    [("4:memory:/job\n3:cpuset:/\n1:cpu:/job\n0::/\n", V1), ("0::/job\n", V2), ("0::/elsewhere/on/the/host\n", V2)],
    ids=["version 1", "version 2", "version 2 seen from a container"],
)
def test_both_versions_of_control_groups_give_the_tightest_limits(
    tmp_path: Path, groups: str, tree: dict[str, str]
) -> None:
    """The limit of any level holds; `max`, -1 and nearly 2^63 are no limits."""
    proc, sys = quiet_proc(tmp_path / "proc", **{"self/cgroup": groups}), lay_out(tmp_path / "sys", tree)
    assert host_sensors.cgroup_cpu_limit(proc, sys) == 1.5
    assert host_sensors.cgroup_memory_limit(proc, sys) == 1 << 30
    assert host_sensors.cgroup_cpus(proc, sys) == frozenset({0, 1, 2, 5})
    assert host_sensors.cgroup_throttled_seconds(proc, sys) == (0.5 if "elsewhere" in groups else 2.5)


def test_both_versions_mounted_at_once_read_each_controller_where_it_is(tmp_path: Path) -> None:
    """A hybrid system: controllers in version 1, version 2 at `unified` without any."""
    tree = {**V1, "fs/cgroup/unified/cgroup.controllers": "", "fs/cgroup/unified/cpu.stat": "usage_usec 1\n"}
    proc = quiet_proc(tmp_path / "proc", **{"self/cgroup": "2:cpu,cpuacct:/job\n0::/\n"})
    assert host_sensors.cgroup_throttled_seconds(proc, lay_out(tmp_path / "sys", tree)) == 2.5


@given(st.frozensets(st.integers(0, 300)))
def test_cpu_lists_are_read_as_they_are_written(cores: frozenset[int]) -> None:
    """Any set, written as single cores or ranges, is read back."""
    assert host_sensors.parse_cpu_list(",".join(map(str, sorted(cores)))) == cores
    assert host_sensors.parse_cpu_list("3-x") == frozenset()


class Rapl:
    """Two packages, a part and the whole platform, as RAPL's sysfs shows them; energies in J."""

    def __init__(self, root: Path, scope: float = 1000.0) -> None:
        self.root, self.scope, self.now = root, scope, 0.0
        self.counter = host_sensors.RaplCounter(root, lambda: self.now)

    def read(self, at: float, *energies: float) -> float:
        names = ("package-0", "package-1", "core", "psys")
        zones = ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0", "intel-rapl:2")
        for zone, name, joules in zip(zones, names, (*energies, 7.0, 9000.0), strict=True):
            lay_out(self.root / "class/powercap" / zone, {
                "name": name, "energy_uj": f"{joules * 1e6:.0f}", "max_energy_range_uj": f"{self.scope * 1e6:.0f}",
            })  # fmt: skip
        self.now = at
        return self.counter.read_joules()


def test_rapl_sums_packages_and_unwraps_each(tmp_path: Path) -> None:
    """100 + 990 J, then package 1 wraps at 1000 J: 10 + 30 J were used, whatever its own counter shows."""
    rapl = Rapl(tmp_path)
    before = rapl.read(0.0, 100, 990)
    assert before == 1090
    assert rapl.read(0.5, 110, 20) - before == pytest.approx(10 + 30)


def test_rapl_refuses_a_window_in_which_it_may_have_wrapped_unseen(tmp_path: Path) -> None:
    """A 1000 J counter read 2 s apart: at 1 kW it could have wrapped twice."""
    rapl = Rapl(tmp_path)
    rapl.read(0.0, 1, 1)
    with pytest.raises(host_sensors.MissingSensor, match="wrapped unseen"):
        rapl.read(2.0, 2, 2)
    assert rapl.read(2.5, 3, 3) == 6


def test_a_reset_rapl_counter_is_caught(tmp_path: Path) -> None:
    """From 500 to 1 J in half a second would be 1 kJ/s and more if it were a wrap: a reset."""
    rapl = Rapl(tmp_path, scope=262_143)
    rapl.read(0.0, 500, 1)
    with pytest.raises(host_sensors.MissingSensor, match="reset"):
        rapl.read(0.5, 1, 2)


def test_rapl_out_of_its_range_is_a_lie(tmp_path: Path) -> None:
    """Negative, or beyond the range it names."""
    for energy in (-5, 2000):
        with pytest.raises(host_sensors.MissingSensor, match="outside its range"):
            Rapl(tmp_path).read(0.0, energy, 1)


def test_a_counter_only_grows() -> None:
    """Growth is the difference; a smaller second reading is a reset, a negative one a lie, a missing one unknown."""
    assert counter_growth(3.0, 3.0) == 0
    assert counter_growth(3.0, 5.5) == 2.5
    for before, after in ((5.0, 1.0), (-1.0, 4.0), (-4.0, -1.0), (None, 4.0), (4.0, None)):
        assert counter_growth(before, after) is None


def test_energy_must_flow() -> None:
    """A frozen counter is caught after a second; 0.05 s may show no tick. A reset one gives no energy either."""
    assert energy_between(10, 7010, 10.0) == 7000
    assert energy_between(10, 10, 0.05) == 0
    assert energy_between(10, 10, 10.0) is None
    assert energy_between(10, 5, 10.0) is None


def test_nan_is_never_plausible() -> None:
    """Every comparison with nan is false, and so is this one."""
    with pytest.raises(ValueError, match="nan"):
        require_plausible(float("nan"), 0, 1, "W")

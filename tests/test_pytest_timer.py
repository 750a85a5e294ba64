"""Timing any work under pytest-benchmark's fixture: how often it is called, when it is waited for, what is said of it."""

from __future__ import annotations

import gc
from types import SimpleNamespace

import pytest

from cnnbench.engine import pytest_timer
from cnnbench.engine.pytest_timer import measure
from cnnbench.errors import DeviceError


class FakeBenchmark:
    """pytest-benchmark's fixture with rounds of known length."""

    def __init__(self, events, *, median=0.5, enabled=True):
        self.events, self.enabled, self.extra_info = events, enabled, {"own": 1}
        self._median, self.stats = median, None

    def pedantic(self, target, *, rounds):
        if not self.enabled:
            return target()
        for _ in range(rounds):
            self.events.append("start")
            result = target()
            self.events.append("stop")
        self.stats = {"median": self._median}
        return result


class FakeDevice:
    kind = "cuda"

    def __init__(self, events):
        self.events = events

    def synchronize(self):
        self.events.append("wait")

    def reset_peaks(self):
        self.events.append("reset")

    def peaks(self):
        return 300, 400


@pytest.fixture
def events(monkeypatch):
    found = []
    attaching = SimpleNamespace(attach=lambda threads: FakeDevice(found))
    monkeypatch.setattr(pytest_timer, "backend", lambda device: attaching)
    return found


def test_a_round_is_its_calls_and_one_wait_and_marks_begin_after_warm_up(events):
    result = measure(FakeBenchmark(events), lambda: events.append("work") or 7, device="cuda:0", calls=2, rounds=2)
    warm_up = ["work", "work", "wait"] * 2
    timed = ["start", "work", "work", "wait", "stop"] * 2
    assert events == [*warm_up, "wait", "reset", *timed]
    assert result == 7


def test_rates_are_those_of_the_median_round(events):
    """4 calls of 1000 FLOPs and 8 images in half a second."""
    benchmark = FakeBenchmark(events, median=0.5)
    measure(benchmark, lambda: None, device="cuda:0", calls=4, flops=1000, images=8)
    info = benchmark.extra_info
    assert (info["flops_per_second"], info["images_per_second"]) == (8000, 64)
    assert (info["calls_per_round"], info["flops"], info["own"]) == (4, 1000, 1)
    assert (info["device_peak_bytes"], info["device_reserved_peak_bytes"]) == (300, 400)


@pytest.mark.parametrize("median", [0.5, 0.0])
def test_what_is_not_known_is_none(events, median):
    benchmark = FakeBenchmark(events, median=median)
    measure(benchmark, lambda: None, device="cuda:0", images=None if median else 8)
    assert benchmark.extra_info["flops_per_second"] is None
    assert benchmark.extra_info["images_per_second"] is None


def test_where_benchmarks_are_disabled_the_work_runs_once(events):
    benchmark = FakeBenchmark(events, enabled=False)
    assert measure(benchmark, lambda: "done", device="cuda:0", rounds=9, flops=1) == "done"
    assert "start" not in events
    assert benchmark.extra_info["flops_per_second"] is None


def test_the_collector_is_off_in_the_rounds_and_on_again_after(events):
    seen = []
    measure(FakeBenchmark(events), lambda: seen.append(gc.isenabled()), device="cuda:0", warmup_rounds=0, rounds=3)
    assert seen == [False] * 3
    assert gc.isenabled()


@pytest.mark.parametrize("device", ["cuda:1", "tpu", "xpu:3"])
def test_a_device_that_would_not_be_waited_for_is_refused(device):
    with pytest.raises(DeviceError, match=device.partition(":")[0]):
        measure(FakeBenchmark([]), lambda: None, device=device)

"""The sync canary against devices that finish later than they say."""

from __future__ import annotations

import random

import pytest

from cnnbench.engine.canary import run

LAUNCH_NS = 5_000


class FakeDevice:
    """Charges 5 microseconds a launch and does the work later, `rate` multiply-adds a nanosecond, under noise."""

    def __init__(self, *, synchronizes: bool, noise: float = 0.0, seed: int = 0, rate: float = 20.0) -> None:
        self.now = 0.0
        self._free_at = 0.0
        self._synchronizes, self._noise, self._rate = synchronizes, noise, rate
        self._random = random.Random(seed)

    def clock(self) -> int:
        return int(self.now)

    def _noisy(self, nanoseconds: float) -> float:
        return nanoseconds * self._random.uniform(1 - self._noise, 1 + self._noise)

    def launch(self, side: int) -> None:
        self.now += self._noisy(LAUNCH_NS)
        self._free_at = max(self._free_at, self.now) + self._noisy(side**3 / self._rate)

    def synchronize(self) -> None:
        if self._synchronizes:
            self.now = max(self.now, self._free_at)
        self.now += self._noisy(1_000)

    def read_back(self) -> None:
        self.now = max(self.now, self._free_at) + self._noisy(10_000)


def test_a_device_whose_synchronise_does_nothing_never_passes() -> None:
    """1,000 of 1,000 with the synchronise removed, under 30 % noise."""
    results = [run(d, clock=d.clock) for d in (FakeDevice(synchronizes=False, noise=0.3, seed=s) for s in range(1000))]
    assert not any(canary.passed for canary in results)
    assert all("synchronise" in (canary.reason or "") for canary in results)


def test_an_honest_device_always_passes() -> None:
    """1,000 of 1,000 with the synchronise restored, under the same noise."""
    results = [run(d, clock=d.clock) for d in (FakeDevice(synchronizes=True, noise=0.3, seed=s) for s in range(1000))]
    assert [canary.reason for canary in results if not canary.passed] == []


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8])
def test_a_synchronise_that_waits_for_a_part_of_the_work_fails(share: float) -> None:
    """Growth alone would not see it: half of eight times is still four; the read-back does."""

    class Partial(FakeDevice):
        def synchronize(self) -> None:
            self.now += max(0.0, self._free_at - self.now) * share

    device = Partial(synchronizes=True)
    canary = run(device, clock=device.clock)
    assert not canary.passed
    assert "read the result back" in (canary.reason or "")


def test_the_figures_are_the_ones_measured() -> None:
    """Without noise, growth of a compute-bound device is the work's: eightfold, less the launches."""
    device = FakeDevice(synchronizes=True)
    canary = run(device, clock=device.clock)
    assert canary.passed
    assert 7.5 < canary.growth < 8.0
    assert canary.copy_seconds == pytest.approx(10e-6)

"""The energy window against a fake counter: long enough, gross and idle apart, silent where the counter lies or is absent."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from cnnbench.devices import backend
from cnnbench.engine import energy
from cnnbench.engine.distributed import group
from cnnbench.engine.process import ProgressWriter
from cnnbench.engine.training import GemmStep
from cnnbench.schema import Job, Telemetry, WorkerInput

JOB = Job(workload="gemm", workload_version=1, size=16, data="random", block_steps=5)


class Clock:
    """Time that passes by a millisecond whenever it is read, and while somebody sleeps."""

    def __init__(self) -> None:
        self.seconds, self.slept = 1000.0, 0.0

    def monotonic_ns(self) -> int:
        self.seconds += 0.001
        return round(self.seconds * 1e9)

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.slept += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(energy, "time", clock)
    return clock


def envelope(*, energy: bool = True) -> WorkerInput:
    return WorkerInput(job=JOB, outcome_path="x", parent_pid=1, spawn_monotonic_ns=0, energy=energy)


def measure(monkeypatch: pytest.MonkeyPatch, counter: Callable[[], float | None]) -> object:
    monkeypatch.setattr(energy.telemetry, "sample", lambda uuid: Telemetry(package_energy_joules=counter()))
    idle = energy.idle_energy(envelope(), ProgressWriter(None))
    products = GemmStep(JOB, torch.device("cpu"))
    return energy.steps_energy(idle, JOB, products, backend("cpu").attach(threads=None), None)


def test_a_counter_of_fifty_watts_is_read_as_fifty_watts(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """Over a window at least as long as asked, in whole blocks of steps; idling by the same counter."""
    found = measure(monkeypatch, lambda: 50 * clock.seconds)
    assert found is not None
    assert found.source == "rapl-package"  # type: ignore[attr-defined]
    assert found.window_seconds >= energy.ENERGY_WINDOW_SECONDS  # type: ignore[attr-defined]
    assert clock.slept == energy.ENERGY_IDLE_SECONDS
    assert found.window_joules / found.window_seconds == pytest.approx(50, rel=0.01)  # type: ignore[attr-defined]
    assert found.idle_joules / found.idle_seconds == pytest.approx(50, rel=0.01)  # type: ignore[attr-defined]
    assert found.window_steps % JOB.block_steps == 0  # type: ignore[attr-defined]


def test_a_counter_that_is_reset_or_absent_gives_no_energy(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    assert measure(monkeypatch, lambda: 1e6 - 50 * clock.seconds) is None
    assert measure(monkeypatch, lambda: None) is None


def test_energy_not_asked_for_costs_no_wait(clock: Clock) -> None:
    assert energy.idle_energy(envelope(energy=False), ProgressWriter(None)) is None
    assert clock.slept == 0


@pytest.mark.parametrize(("mine", "others"), [((1.0, 0.1), ""), (None, "yes"), (None, "")])
def test_ranks_do_the_window_together_or_not_at_all(
    mine: tuple[float, float] | None, others: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has no idle reading says so before the others wait for it in a step: nothing else is exchanged."""
    said: list[str] = []

    def exchange(texts: list[str], own: str, group: object) -> None:
        said.append(own)
        texts[:] = [own, others]

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a rank waits for others that have left")

    monkeypatch.setattr(group.distributed, "all_gather_object", exchange)
    monkeypatch.setattr(group.distributed, "broadcast", never)
    monkeypatch.setattr(group.distributed, "barrier", never)
    monkeypatch.setattr(energy.telemetry, "sample", lambda uuid: Telemetry(package_energy_joules=50.0))
    products, ranks = GemmStep(JOB, torch.device("cpu")), group.ProcessGroup(world=2, together=True)
    assert energy.steps_energy(mine, JOB, products, backend("cpu").attach(threads=None), None, ranks) is None
    assert said == ["yes" if mine else ""]

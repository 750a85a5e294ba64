"""Choosing a rung: the fastest of those that can be had, and memory that one holds is no reason against another."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cnnbench.engine import tuned
from cnnbench.engine.tuned.graph_training import RecordingError
from cnnbench.errors import UnsupportedError

NAMES = ("graph", "compiled-graph", "fused")


class Rung:
    """A training that takes its time, and memory while it lives."""

    held, now = 0, 0.0

    def __init__(self, name: str, seconds: float = 0.0, steps_per_launch: int = 1) -> None:
        self.name, self.steps_per_launch, self._seconds, self.done = name, steps_per_launch, seconds, 0
        Rung.held += 1

    def __del__(self) -> None:
        Rung.held -= 1

    def step(self) -> None:
        self.steps(1)

    def steps(self, count: int) -> None:
        Rung.now += self._seconds * count
        self.done += count

    def loss(self) -> float:
        return 0.0


@pytest.fixture(autouse=True)
def nothing_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a clock that only rungs move, which no other process delays."""
    Rung.held = 0
    monkeypatch.setattr(tuned, "time", SimpleNamespace(perf_counter=lambda: Rung.now))


SECONDS = {"graph": 0.001, "compiled-graph": 0.003, "fused": 0.006}


def build(name: str) -> Rung:
    return Rung(name, SECONDS[name], steps_per_launch=4 if "graph" in name else 1)


def test_the_fastest_is_taken_and_a_launch_of_several_steps_is_timed_by_the_step() -> None:
    choice = tuned.choose_variant(NAMES, build)
    assert choice.name == "graph"
    assert choice.seconds == pytest.approx(SECONDS)
    assert set(choice.seconds) == set(NAMES)
    assert choice.training.done % 4 == tuned.ROUNDS % 4  # whole launches, and a step to begin each turn


def test_what_does_not_fit_beside_the_others_is_tried_alone() -> None:
    """One at a time is all that memory holds: every rung is timed nevertheless, and the fastest built again."""

    def tight(name: str) -> Rung:
        if Rung.held:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return build(name)

    choice = tuned.choose_variant(NAMES, tight)
    assert choice.name == choice.training.name == "graph"
    assert set(choice.seconds) == set(NAMES)
    assert choice.reasons == {}


def test_a_rung_that_never_fits_is_left_out_with_its_reason() -> None:
    def tight(name: str) -> Rung:
        if name == "graph" or Rung.held:
            raise MemoryError("a pool of its own")
        return build(name)

    choice = tuned.choose_variant(NAMES, tight)
    assert choice.name == "compiled-graph"
    assert choice.reasons == {"graph": "out of memory: MemoryError: a pool of its own"}


def test_where_none_fits_the_job_is_out_of_memory_and_not_unsupported() -> None:
    def none(name: str) -> Rung:
        if name == "compiled-graph":
            raise UnsupportedError("no compiler")
        raise RuntimeError("CUDA out of memory")

    with pytest.raises(MemoryError, match=r"graph: out of memory.*compiled-graph: no compiler.*fused: out of memory"):
        tuned.choose_variant(NAMES, none)


def test_after_a_recording_that_failed_what_was_built_before_is_built_again() -> None:
    """Its random numbers come from a generator that the failure may have spoilt."""
    built: list[str] = []

    def third_fails(name: str) -> Rung:
        built.append(name)
        if name == "compiled-graph":
            raise RecordingError("the step could not be recorded")
        return build(name)

    choice = tuned.choose_variant(NAMES, third_fails)
    assert built == ["graph", "compiled-graph", "graph", "fused"]
    assert choice.reasons == {"compiled-graph": "the step could not be recorded"}
    assert Rung.held == 1


def test_other_failures_are_nobodys_reason() -> None:
    def broken(name: str) -> Rung:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        tuned.choose_variant(NAMES, broken)


def test_where_none_can_be_had_every_reason_is_given() -> None:
    def none(name: str) -> Rung:
        raise UnsupportedError(f"no {name}")

    with pytest.raises(UnsupportedError, match=r"no graph; no compiled-graph; no fused"):
        tuned.choose_variant(NAMES, none)
    with pytest.raises(UnsupportedError, match=r"^no fused$"):
        tuned.choose_variant(("fused",), none)

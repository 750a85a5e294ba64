"""Energy per image from raw counters, in closed form."""

from __future__ import annotations

import pytest
from builders import cnn_job, trial

from cnnbench.analysis.process_table import compute_metrics
from cnnbench.analysis.rows import estimate_energy_use, has_energy
from cnnbench.schema import Energy


def window(joules: float, idle_watts: float = 100.0) -> Energy:
    """10 s of 1,000 steps beside 5 s of idling."""
    return Energy(
        source="nvml-total-energy", tick_seconds=0.1, window_seconds=10.0, window_steps=1000, window_joules=joules,
        idle_seconds=5.0, idle_joules=5 * idle_watts,
    )  # fmt: skip


def test_gross_and_net_are_the_closed_forms() -> None:
    """3,000 J over 128,000 images; 100 W idle for 10 s is 1,000 J of them; a tick of 0.1 s in 10 s is 1 %."""
    use = estimate_energy_use([window(3000.0)] * 3, 128)
    assert use is not None
    assert use.gross_joules.value == pytest.approx(3000 / 128_000)
    assert use.gross_joules.n == 3
    assert use.net_joules == pytest.approx(2000 / 128_000)
    assert use.watts == pytest.approx(300)
    assert use.uncertainty == pytest.approx(0.01)


def test_an_idle_machine_that_took_as_much_leaves_no_net() -> None:
    use = estimate_energy_use([window(900.0)], 128)
    assert use is not None
    assert use.net_joules is None
    assert use.gross_joules.low is None


def test_without_a_reading_there_is_no_energy() -> None:
    assert estimate_energy_use([], 128) is None


@pytest.mark.parametrize("field", ["window_joules", "window_steps", "window_seconds", "idle_seconds"])
def test_a_counter_that_stood_still_gives_no_energy_and_says_so(field: str) -> None:
    """There is nothing to divide, or nothing to divide by."""
    job, still = cnn_job(), window(3000.0).model_copy(update={field: 0})
    assert has_energy(window(3000.0))
    assert not has_energy(still)
    found = compute_metrics(job, trial(job, energy=still))
    assert found is not None
    assert found.energy is None
    assert found.energy_missing == "nvml-total-energy did not count"

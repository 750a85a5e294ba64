"""The floors in closed form, and the verdict each kind of step deserves."""

from __future__ import annotations

import pytest
from builders import cnn_job, gemm_job

from cnnbench.analysis.ceiling import bytes_per_step, find_bottleneck

JOB = cnn_job()
FLOORS = {"launch_seconds": 5e-6, "copy_bytes_per_second": 1e12, "draw_seconds": 1e-5}


def test_the_floors_are_the_closed_forms() -> None:
    """85 operators x 5 us; 128 x 51,972,732 FLOP at 50 TFLOP/s; 5 x 128 x 227,116 + 8 x 5,514,792 bytes at 1 TB/s."""
    found = find_bottleneck(JOB, 1e-3, FLOORS, 85, 50e12)
    assert bytes_per_step(JOB) == 5 * 128 * 227_116 + 8 * 5_514_792
    seconds = {floor.kind: floor.seconds for floor in found.floors}
    assert seconds["launch"] == pytest.approx(425e-6)
    assert seconds["compute"] == pytest.approx(133.05e-6, rel=1e-4)
    assert seconds["bandwidth"] == pytest.approx(189.47e-6, rel=1e-4)
    assert seconds["input"] == 1e-5
    assert [floor.kind for floor in found.floors] == ["launch", "bandwidth", "compute", "input"]


@pytest.mark.parametrize(
    ("step", "changes", "operators", "ceiling", "verdict"),
    [
        (5e-4, {}, 85, 50e12, "launch-bound"),
        (5e-4, {"launch_seconds": 1e-7, "copy_bytes_per_second": 5e11}, 85, 50e12, "bandwidth-bound"),
        (67e-3, {"launch_seconds": 1e-6, "copy_bytes_per_second": 5e10}, 85, 180e9, "compute-bound"),
        (5e-3, {"draw_seconds": 4e-3}, 85, 50e12, "input-bound"),
        (5e-3, {}, 85, 50e12, "nearest: launch"),
    ],
)
def test_the_highest_floor_names_what_binds(
    step: float, changes: dict[str, float], operators: int, ceiling: float, verdict: str
) -> None:
    assert find_bottleneck(JOB, step, FLOORS | changes, operators, ceiling).summary == verdict


def test_a_floor_allows_what_the_step_is_over_it() -> None:
    floor = find_bottleneck(JOB, 1e-3, FLOORS, 85, None).floor("launch")
    assert floor is not None
    assert floor.allows == pytest.approx(1e-3 / 425e-6)


def test_what_was_not_measured_is_left_out() -> None:
    assert find_bottleneck(JOB, 1e-3, {}, None, None).floors == ()
    assert find_bottleneck(JOB, 1e-3, {}, None, None).summary == "n/a"
    assert [floor.kind for floor in find_bottleneck(gemm_job(), 1e-3, {}, None, 1e12).floors] == ["compute"]


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_without_a_measured_peak_there_is_no_verdict(share: float) -> None:
    """The launch floor of 85 x 5 us is the highest of those known; the unknown compute floor may be higher."""
    found = find_bottleneck(JOB, 425e-6 / share, FLOORS, 85, None)
    assert found.floors[0].kind == "launch"
    assert found.summary == "n/a"


@pytest.mark.parametrize("seconds", [0.0, 1e-320, 1e308])
def test_a_floor_that_says_nothing_is_none(seconds: float) -> None:
    found = find_bottleneck(JOB, 1e-3, {"launch_seconds": seconds, "draw_seconds": seconds}, 85, 50e12)
    assert [floor.kind for floor in found.floors] == ["compute"]

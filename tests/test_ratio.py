"""One way to divide a row by another: the same whichever table asks, exact about what is published, silent without a time."""

from __future__ import annotations

import builders as b
import pytest
from hypothesis import given
from hypothesis import strategies as st
from side_builders import PUBLISHED, peak_of, rounds, run, same_numbers, side

from cnnbench.analysis import process_table
from cnnbench.analysis.ratio import ORDER, divide_rows, group_by, share_all_but, share_work
from cnnbench.analysis.speedup import compute_speedups

run_ids = st.sampled_from(["r1", "r2"])


def row(times, run_id="r1"):
    (found,) = side(run({"cnn": times}, run_id)).rows
    return found


@given(base=rounds, new=rounds, run_id=run_ids)
def test_a_over_b_inverts_b_over_a(base, new, run_id):
    one, other = row(base), row(new, run_id)
    same_numbers(divide_rows(one, other), divide_rows(other, one))


@given(times=rounds)
def test_a_row_over_itself_is_one_and_counts_its_processes(times):
    found = divide_rows(row(times), row(times))
    assert (found.value, found.n) == (1.0, len(times))
    assert (found.low, found.high) == ((1.0, 1.0) if len(times) >= 3 else (None, None))


@given(base=rounds, new=rounds, factor=st.floats(0.1, 10), run_id=run_ids)
def test_a_base_that_takes_longer_by_a_factor_has_the_ratio_times_the_factor(base, new, factor, run_id):
    once = divide_rows(row(base), row(new, run_id))
    longer = divide_rows(row([factor * seconds for seconds in base]), row(new, run_id))
    assert longer.value == pytest.approx(factor * once.value)


def test_a_row_without_a_time_divides_nothing_and_is_divided_by_nothing():
    failed = [b.record(b.cnn_job(round=r, seed=r), index=r, status="oom") for r in range(3)]
    (nothing,) = side(b.ledger(failed)).rows
    assert divide_rows(nothing, row([1.0])) is divide_rows(row([1.0]), nothing) is None


def test_a_published_time_is_exact_and_the_interval_is_of_the_rows_whole_job_alone():
    """Published over measured is the inverse of measured over published, bound by bound."""
    processes, _ = process_table.read_processes([run({"lecture": [0.01, 0.012, 0.011]})])
    (measured,) = compute_speedups(processes, peak_of=peak_of).rows
    for published in PUBLISHED.published:
        over = divide_rows(published, measured)
        if published.job_seconds is None:
            assert over is None
            continue
        assert over.value == pytest.approx(published.job_seconds.value / measured.job_seconds.value)
        assert over.low == pytest.approx(published.job_seconds.value / measured.job_seconds.high)
        same_numbers(over, divide_rows(measured, published))


def test_rows_share_all_but_what_is_varied_where_nothing_else_differs():
    base, tf32, larger = (
        side(b.ledger(b.repeats(b.cnn_job(**fields), [0.01]))).rows[0]
        for fields in ({}, {"precision": "bf16"}, {"batch_size": 64})
    )
    assert share_all_but(base, ORDER) == share_all_but(tf32, ORDER)
    assert share_all_but(base, ()) != share_all_but(tf32, ())
    assert share_all_but(base, ORDER) != share_all_but(larger, ORDER)
    assert share_all_but(base, ORDER) != share_all_but(row([0.01], "r2"), ORDER)
    assert share_work(base) == share_work(row([0.02], "r2")) != share_work(tf32)


@given(st.lists(st.integers(0, 5)))
def test_grouping_loses_nothing_and_keeps_the_order(numbers):
    found = group_by(numbers, lambda number: number % 3)
    assert list(found) == list(dict.fromkeys(number % 3 for number in numbers))
    assert {key: [each for each in numbers if each % 3 == key] for key in found} == found

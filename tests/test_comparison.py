"""Two sides to pairs: what is divided by what, how surely, and that nothing a side has gets lost."""

from __future__ import annotations

import math
import random

import builders as b
import pytest
from hypothesis import given
from hypothesis import strategies as st
from side_builders import OPPOSITE, cnn, only, peak_of, run, same_numbers, side, some_rows

from cnnbench.analysis import process_table, ratio, stats
from cnnbench.analysis.comparison import ComparisonSide, compare_sides
from cnnbench.analysis.ratio import FieldDifference, describe_place
from cnnbench.analysis.speedup import compute_speedups
from cnnbench.analysis.stats import Estimate
from cnnbench.schema import Evaluation


def divided(*values, tolerance=0.05):
    base, new = (side(cnn(*each, run_id=f"r{index}")) for index, each in enumerate(values))
    return only(compare_sides(base, new, tolerance))


@given(base=some_rows, new=some_rows, run_id=st.sampled_from(["r1", "r2"]), tolerance=st.floats(0, 0.5))
def test_swapping_the_sides_inverts_ratio_bounds_and_verdict(base, new, run_id, tolerance):
    one, other = side(run(base)), side(run(new, run_id))
    forward, backward = compare_sides(one, other, tolerance), compare_sides(other, one, tolerance)
    turned = {(id(pair.new), id(pair.base)): pair for pair in backward.pairs}
    assert len(forward.pairs) == len(backward.pairs)
    for pair in forward.pairs:
        opposite = turned[id(pair.base), id(pair.new)]
        same_numbers(pair.ratio, opposite.ratio)
        assert pair.verdict == OPPOSITE[opposite.verdict]
        assert [(each.base, each.new) for each in pair.differences] == [
            (each.new, each.base) for each in opposite.differences
        ]


@given(times=some_rows, again=st.sampled_from(["r1", "r2"]), tolerance=st.floats(0, 0.5))
def test_a_thing_against_itself_is_the_same_or_unclear(times, again, tolerance):
    """The very run, or its copy under another name; where the very run has 3 processes, it is the same whatever the noise."""
    found = compare_sides(side(run(times)), side(run(times, again)), tolerance)
    assert len(found.pairs) == len(times)
    assert not found.unpaired
    for pair in found.pairs:
        assert pair.ratio.value == 1.0
        known = again == "r1" and pair.ratio.n >= 3
        assert pair.verdict in (("SAME",) if known else ("SAME", "UNCLEAR"))


@given(seed=st.integers(0, 10**6), n=st.integers(3, 6), tolerance=st.floats(0, 0.2))
def test_twice_the_time_with_little_noise_is_slower(seed, n, tolerance):
    rng = random.Random(seed)
    base = [0.01 * rng.uniform(0.99, 1.01) for _ in range(n)]
    new = [0.02 * rng.uniform(0.99, 1.01) for _ in range(n)]
    pair = divided(base, new, tolerance=tolerance)
    assert pair.verdict == "SLOWER"
    assert pair.ratio.value == pytest.approx(0.5, rel=0.03)


def test_where_nothing_changed_one_row_in_forty_at_most_reads_faster():
    """2,000 pairs of log-normal triples, tolerance 0; 3.4 standard errors of slack. Welch's is careful at n = 3."""
    rng = random.Random(2)
    said = []
    for _ in range(2000):
        base, new = ([rng.lognormvariate(0.0, 0.1) for _ in range(3)] for _ in range(2))
        said.append(ratio.classify_ratio(stats.unpaired_ratio(base, new), 0.0))
    most = 1 / 40 + 3.4 * math.sqrt(1 / 40 * 39 / 40 / 2000)
    assert 0 < said.count("FASTER") / 2000 < most
    assert 0 < said.count("SLOWER") / 2000 < most


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.96, 1.04, "SAME"),
        (1.01, 1.04, "SAME"),  # a difference, and too small to matter
        (1 / 1.05, 1.05, "SAME"),
        (1.01, 1.06, "FASTER"),
        (1.2, 1.3, "FASTER"),
        (0.94, 0.99, "SLOWER"),
        (0.5, 0.6, "SLOWER"),
        (0.9, 1.04, "UNCLEAR"),
        (1.0, 1.06, "UNCLEAR"),
        (0.5, 2.0, "UNCLEAR"),
        (None, None, "UNCLEAR"),
    ],
)
def test_the_verdict_is_the_intervals(low, high, verdict):
    assert ratio.classify_ratio(Estimate(1.03, low, high, 3), 0.05) == verdict


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_processes_are_unclear_however_far_apart(n):
    pair = divided([1.0] * 5, [0.001] * n)
    assert (pair.verdict, pair.ratio.n, pair.ratio.low) == ("UNCLEAR", n, None)


def test_two_runs_share_round_numbers_and_are_not_paired_by_them():
    """Rounds 1, 2, 3 are each twice as slow on both sides: paired, the interval would be a point. It is at least Welch's."""
    pair = divided([1.0, 2.0, 4.0], [0.5, 1.0, 2.0])
    welch = stats.unpaired_ratio([1.0, 2.0, 4.0], [0.5, 1.0, 2.0])
    assert (pair.ratio.value, pair.ratio.low, pair.ratio.high) == pytest.approx((welch.value, welch.low, welch.high))
    assert (pair.by_round, pair.in_one_run, pair.verdict) == (False, False, "UNCLEAR")


def test_two_machines_whose_runs_happen_to_share_an_id_are_not_paired_either():
    there = cnn(0.5, 1.0, 2.0, machine=b.machine("elsewhere"))
    pair = only(compare_sides(side(cnn(1.0, 2.0, 4.0)), side(there)))
    assert pair.ratio.low == stats.unpaired_ratio([1.0, 2.0, 4.0], [0.5, 1.0, 2.0]).low
    assert not pair.in_one_run


def test_rows_of_one_run_are_paired_by_round():
    both = run({"cnn": [1.0, 2.0, 4.0], "cnn, 2 threads": [0.5, 1.0, 2.0]})
    processes, _ = process_table.read_processes([both])
    base, new = (
        ComparisonSide(
            str(threads), compute_speedups([p for p in processes if p.job.threads == threads], peak_of=peak_of).rows
        )
        for threads in (8, 2)
    )
    pair = only(compare_sides(base, new))
    assert (pair.ratio.value, pair.ratio.low, pair.ratio.high) == pytest.approx((2.0, 2.0, 2.0))
    assert (pair.by_round, pair.in_one_run, pair.verdict, pair.fastest_of_each) == (True, True, "FASTER", True)


@given(base=some_rows, new=some_rows)
def test_every_row_is_in_one_pair_or_listed_with_its_reason(base, new):
    one, other = side(run(base)), side(run(new, "r2"))
    found = compare_sides(one, other)
    seen = [id(entry) for pair in found.pairs for entry in (pair.base, pair.new)]
    seen += [id(each.entry) for each in found.unpaired]
    assert sorted(seen) == sorted(id(row) for row in (*one.rows, *other.rows))
    counted = sum(2 * s.divided + s.failed + s.only_base + s.only_new for s in found.summaries)
    assert counted == len(one.rows) + len(other.rows)


@given(base=some_rows, new=some_rows)
def test_only_equal_work_is_divided_and_the_same_place_before_any_other(base, new):
    for pair in compare_sides(side(run(base)), side(run(new, "r2"))).pairs:
        assert pair.base.work_key == pair.new.work_key
        assert pair.fastest_of_each == (pair.base.row_key != pair.new.row_key)


def test_without_a_common_place_the_fastest_of_each_side_is_taken():
    base = run({"cnn": [0.03] * 3, "cnn, 2 threads": [0.01] * 3})
    found = compare_sides(side(base), side(run({"cnn, gpu": [0.001] * 3}, "r2")))
    pair = only(found)
    assert (pair.base.job.threads, pair.new.job.device, pair.fastest_of_each) == (2, "cuda:0", True)
    assert pair.ratio.value == pytest.approx(10)
    assert [(each.entry.job.threads, each.reason) for each in found.unpaired] == [(8, "place")]


def test_of_several_machines_each_stands_against_itself_then_the_fastest_left_against_the_fastest():
    def machines(**times):
        return side(*(cnn(*[t] * 3, run_id=f"r-{name}-{t}", machine=b.machine(name)) for name, t in times.items()))

    found = compare_sides(machines(a=0.01, c=0.03, d=0.02), machines(a=0.04, e=0.05))
    assert {(pair.base.machine.id, pair.new.machine.id) for pair in found.pairs} == {("a", "a"), ("d", "e")}
    assert [(each.entry.machine.id, each.reason) for each in found.unpaired] == [("c", "taken")]


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [("batch_size", 256, "work"), ("precision", "bf16", "work"), ("data", "synthetic", "work")],
)
def test_other_work_is_not_divided_and_the_difference_is_named(field, value, why):
    other = b.ledger(b.repeats(b.cnn_job(**{field: value}), [0.01] * 3), run_id="r2")
    found = compare_sides(side(cnn(0.01, 0.01, 0.01)), side(other))
    assert not found.pairs
    expected = (FieldDifference(field, getattr(b.cnn_job(), field), value),)
    assert [(each.side, each.reason, each.differences) for each in found.unpaired] == [
        ("base", why, expected),
        ("new", why, expected),
    ]


def test_another_timing_rule_is_not_divided():
    old = cnn(0.01, 0.01, 0.01)
    records = [each.model_copy(update={"protocol": 2}) for each in old.records]
    found = compare_sides(side(old), side(b.ledger(records, run_id="r2")))
    assert not found.pairs
    assert [(each.reason, each.differences) for each in found.unpaired] == [
        ("protocol", (FieldDifference("protocol", 1, 2),))
    ] * 2


def test_failed_processes_never_enter():
    """A row with one good process counts that one; one with none is a pair without ratio or verdict, and is counted."""
    failed = [b.record(b.cnn_job(round=r, seed=r), index=r, status="oom") for r in range(3)]
    half = b.ledger([*b.repeats(b.cnn_job(), [0.01]), *failed[1:]], run_id="r2")
    pair = only(compare_sides(side(cnn(0.02, 0.02, 0.02)), side(half)))
    assert (pair.ratio.value, pair.ratio.n, pair.verdict) == (pytest.approx(2.0), 1, "UNCLEAR")
    whole = compare_sides(side(cnn(0.02, 0.02, 0.02)), side(b.ledger(failed, run_id="r2")))
    assert (only(whole).ratio, only(whole).verdict) == (None, None)
    (summary,) = whole.summaries
    assert (summary.divided, summary.failed, summary.mean, summary.best) == (0, 1, None, None)


def test_the_mean_is_geometric_and_products_stand_apart():
    """Ratios 2 and 8 have mean 4; the products' 10 is not in it, nor is the row that failed."""
    base = run({"cnn": [2.0] * 3, "cnn, gpu": [8.0] * 3, "gemm": [10.0] * 3, "gemm, larger": [1.0]})
    new = run({"cnn": [1.0] * 3, "cnn, gpu": [1.0] * 3, "gemm": [1.0] * 3}, "r2")
    training, gemm = compare_sides(side(base), side(new)).summaries
    assert (training.mean, training.divided, training.failed, training.only_base) == (pytest.approx(4), 2, 0, 0)
    assert (training.best.ratio.value, training.worst.ratio.value) == pytest.approx((8, 2))
    assert (gemm.mean, gemm.divided, gemm.only_base, gemm.only_new) == (pytest.approx(10), 1, 1, 0)


FIELDS = {
    "machine": {"machine": b.machine("elsewhere")},
    "processor": {"machine": b.machine(cpu_name="Another CPU")},
    "cores_allowed": {"machine": b.machine(cores_allowed=2)},
    "torch": {"software": b.software("2.14.0")},
    "torch_build": {"software": b.software(torch_build="cuda 13.0")},
    "governor": {"machine": b.machine(governor="powersave")},
    "hypervisor": {"machine": b.machine(hypervisor="kvm")},
}


@pytest.mark.parametrize("field", FIELDS)
def test_what_differs_is_named_with_both_values_and_nothing_else(field):
    base, new = (
        side(cnn(1.0, machine=b.machine())),
        side(cnn(1.0, run_id="r2", **({"machine": b.machine()} | FIELDS[field]))),
    )
    pair = only(compare_sides(base, new))
    one, other = (describe_place(each.rows[0])[field] for each in (base, new))
    assert pair.differences == (FieldDifference(field, one, other),)


@pytest.mark.parametrize(("field", "base", "new"), [("driver", "580.1", "581.0"), ("power_limit_watts", 700.0, 350.0)])
def test_a_gpus_driver_and_power_limit_are_named_where_both_are_known(field, base, new):
    def on_gpu(value, run_id):
        gpu = b.GPU.model_copy(update={field: value})
        return side(run({"cnn, gpu": [0.1]}, run_id, machine=b.machine(gpus=[gpu])))

    assert only(compare_sides(on_gpu(base, "r1"), on_gpu(new, "r2"))).differences == (
        FieldDifference(field, base, new),
    )
    assert only(compare_sides(on_gpu(base, "r1"), on_gpu(None, "r2"))).differences == ()


def test_threads_and_allocator_are_named_where_the_fastest_differ_in_them():
    other = b.ledger(b.repeats(b.cnn_job(threads=2, allocator="system"), [0.1]), run_id="r2")
    pair = only(compare_sides(side(cnn(0.1, machine=b.machine())), side(other)))
    assert pair.differences == (FieldDifference("threads", 8, 2), FieldDifference("allocator", "held", "system"))


@pytest.mark.parametrize(("right", "worse"), [(9_700, None), (9_690, None), (9_500, "new"), (9_900, "base")])
def test_accuracies_whose_intervals_are_apart_are_said(right, worse):
    """Wilson's interval of 9,700 of 10,000 is 96.65 to 97.32 %."""
    tested = Evaluation(after_steps=150, images=10_000, correct=right, seconds=1.0)
    new = b.ledger([b.record(b.cnn_job(), test=tested)], run_id="r2")
    assert only(compare_sides(side(cnn(0.01)), side(new))).learns_worse == worse

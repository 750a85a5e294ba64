"""Records to rows: what is averaged, what is divided by what, and what is not."""

from __future__ import annotations

import random

import builders as b
import pytest

from cnnbench import store, workloads
from cnnbench.analysis import process_table
from cnnbench.analysis.speedup import compute_speedups, is_published_job
from cnnbench.machine.peaks import Peak
from cnnbench.schema import Evaluation
from cnnbench.verify import raw_rows

LECTURE = store.load_tree([store.find_published_dir() / "lecture-2017.jsonl"]).published_rows


def peak_of(device, machine, precision):
    return Peak(None, reason="a test's device")


def rows_of(*ledgers, references=LECTURE, **options):
    processes, _ = process_table.read_processes(ledgers)
    return compute_speedups(processes, references, peak_of=peak_of, **options).rows


def only(rows, device, **fields):
    found = [
        row
        for row in rows
        if row.job.device == device and all(getattr(row.job, name) == value for name, value in fields.items())
    ]
    assert len(found) == 1, [row.job for row in rows]
    return found[0]


def pair_of_rows(cpu_seconds, gpu_seconds, **job):
    """A run of the same job on the CPU and on a GPU, interleaved by round."""
    on_cpu = b.repeats(b.cnn_job(**job), cpu_seconds)
    on_gpu = b.repeats(b.cnn_job(device="cuda:0", **job), gpu_seconds, start=len(cpu_seconds))
    return b.ledger([*on_cpu, *on_gpu], machine=b.machine(gpus=[b.GPU]))


def test_one_row_holds_a_jobs_processes_and_n_counts_processes_not_steps():
    row = only(rows_of(b.ledger(b.repeats(b.cnn_job(), [0.010, 0.011, 0.012]))), "cpu")
    assert row.step_seconds.n == 3
    assert row.step_seconds.value == pytest.approx((0.010 * 0.011 * 0.012) ** (1 / 3))
    assert row.outcomes == {"ok": 3}


def test_figures_follow_from_the_blocks_by_hand():
    """15 blocks of 10 steps of 128 images at 10 ms: 12,800 images/s; 42,900 steps take 429 s; 51,972,732 FLOP an image."""
    row = only(rows_of(b.ledger(b.repeats(b.cnn_job(), [0.01] * 3))), "cpu")
    assert row.images_per_second.value == pytest.approx(12_800)
    assert row.job_seconds.value == pytest.approx(429.0)
    assert row.flops_per_second.value == pytest.approx(128 * 51_972_732 / 0.01)
    assert row.job_kind == "projected"


def test_a_process_is_the_mean_of_its_steps_and_its_median_ignores_a_stall():
    job = b.cnn_job(blocks=3, block_steps=10)
    stalled = b.trial(job, block_seconds=(0.1, 0.1, 1.0))
    figures = process_table.compute_metrics(job, stalled)
    assert figures.step_seconds == pytest.approx(1.2 / 30)
    assert figures.median_step_seconds == pytest.approx(0.01)


def test_doubling_every_block_time_halves_the_rates_and_doubles_the_time():
    once, twice = (
        only(rows_of(b.ledger(b.repeats(b.cnn_job(), seconds))), "cpu")
        for seconds in ([0.01, 0.012, 0.011], [0.02, 0.024, 0.022])
    )
    assert twice.images_per_second.value == pytest.approx(once.images_per_second.value / 2)
    assert twice.flops_per_second.value == pytest.approx(once.flops_per_second.value / 2)
    assert twice.job_seconds.value == pytest.approx(2 * once.job_seconds.value)
    assert twice.job_seconds.high == pytest.approx(2 * once.job_seconds.high)


def test_a_speedup_is_the_cpus_time_over_the_rows_paired_by_round():
    """Rounds 1, 2, 3 are each twice as slow for both: the ratio is 10 in every pair, so its interval is a point."""
    rows = rows_of(pair_of_rows([0.01, 0.02, 0.04], [0.001, 0.002, 0.004]))
    speedup = only(rows, "cuda:0").speedup
    assert (speedup.ratio.value, speedup.ratio.low, speedup.ratio.high) == pytest.approx((10, 10, 10))
    assert (speedup.ratio.n, speedup.baseline.id, speedup.is_baseline) == (3, "cpu", False)


def test_a_baseline_over_itself_is_one():
    ratio = only(rows_of(b.ledger(b.repeats(b.cnn_job(), [0.01, 0.02, 0.03]))), "cpu").speedup
    assert ratio.is_baseline
    assert ratio.ratio.value == ratio.ratio.low == ratio.ratio.high == 1.0


def test_swapping_the_devices_inverts_the_speedup():
    fast, slow = [0.01, 0.012, 0.011], [0.02, 0.021, 0.026]
    forward = only(rows_of(pair_of_rows(slow, fast)), "cuda:0").speedup.ratio
    backward = only(rows_of(pair_of_rows(fast, slow)), "cuda:0").speedup.ratio
    assert forward.value == pytest.approx(1 / backward.value)
    assert forward.low == pytest.approx(1 / backward.high)


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_processes_give_no_bar_and_no_projection(n):
    row = only(rows_of(pair_of_rows([0.01] * n, [0.001] * n)), "cuda:0")
    assert (row.step_seconds.low, row.step_seconds.n) == (None, n)
    assert (row.speedup.ratio.low, row.speedup.ratio.n) == (None, n)
    assert row.job_seconds is None
    assert "300 steady steps in 3 or more processes of at least 40" in row.missing["job"]


def test_three_epochs_of_one_process_are_enough_to_project():
    row = only(rows_of(b.ledger(b.repeats(b.cnn_job(blocks=3, block_steps=429), [0.01]))), "cpu")
    assert (row.job_seconds.value, row.job_seconds.low, row.job_seconds.n) == (pytest.approx(429.0), None, 1)


@pytest.mark.parametrize(
    ("blocks", "processes", "enough"),
    [(10, 3, True), (9, 3, False), (4, 8, True), (4, 7, False), (3, 20, False), (29, 2, False)],
)
def test_300_steps_in_three_or_more_processes_of_at_least_40_project(blocks, processes, enough):
    row = only(rows_of(b.ledger(b.repeats(b.cnn_job(blocks=blocks), [0.01] * processes))), "cpu")
    assert (row.job_seconds is not None) == enough
    assert row.step_seconds.n == processes


@pytest.mark.parametrize(
    "status", ["oom", "timeout", "hang", "crashed", "unsupported", "diverged", "missed", "interrupted", "invalid"]
)
def test_a_failed_process_is_counted_and_enters_no_mean(status):
    good = b.repeats(b.cnn_job(), [0.01, 0.01])
    bad = b.record(b.cnn_job(round=2, seed=2), 99.0, index=2, status=status)
    broken = bad.model_copy(update={"outcome": bad.outcome.model_copy(update={"trial": b.trial(bad.job, 99.0)})})
    row = only(rows_of(b.ledger([*good, broken])), "cpu")
    assert row.outcomes == {"ok": 2, status: 1}
    assert row.step_seconds.value == pytest.approx(0.01)
    assert row.step_seconds.n == 2


def test_a_row_without_one_good_process_stays_visible():
    row = only(rows_of(b.ledger(b.repeats(b.cnn_job(), [0, 0], status="oom"))), "cpu")
    assert row.outcomes == {"oom": 2}
    assert row.step_seconds is None
    assert row.failures == ("oom in rounds 1, 2: the oom of a test",)


def test_planned_processes_that_never_started_are_counted():
    planned = [b.cnn_job(round=r, seed=r) for r in (1, 2)]
    row = only(rows_of(b.ledger(b.repeats(b.cnn_job(), [0.01]), unstarted=planned)), "cpu")
    assert row.outcomes == {"not run": 2, "ok": 1}


@pytest.mark.parametrize(
    "other",
    [{"batch_size": 256}, {"precision": "bf16"}, {"division": "tuned"}, {"data": "synthetic"}, {"init": "normal-0.01"}],
)
def test_rows_of_other_work_are_never_divided_by_one_another(other):
    run = b.ledger(
        [*b.repeats(b.cnn_job(), [0.01] * 3), *b.repeats(b.cnn_job(device="cuda:0", **other), [0.001] * 3, start=3)],
        machine=b.machine(gpus=[b.GPU]),
    )
    row = only(rows_of(run), "cuda:0")
    assert row.speedup is None
    assert "no CPU row of the same work" in row.missing["speedup"]


def test_rows_of_other_machines_are_never_divided_by_one_another():
    here = b.ledger(b.repeats(b.cnn_job(), [0.01] * 3))
    there = b.ledger(
        b.repeats(b.cnn_job(device="cuda:0"), [0.001] * 3), machine=b.machine("elsewhere", gpus=[b.GPU]), run_id="r2"
    )
    assert only(rows_of(here, there), "cuda:0").speedup is None


def test_records_of_two_protocols_never_share_a_row():
    old = b.repeats(b.cnn_job(), [0.01, 0.01, 0.01])
    new = [record.model_copy(update={"protocol": 2, "index": record.index + 3}) for record in old]
    rows = rows_of(b.ledger([*old, *new]))
    assert [(row.protocol, row.step_seconds.n) for row in rows] == [(1, 3), (2, 3)]


def test_the_baseline_is_the_best_of_a_thread_sweep():
    sweep = [
        *b.repeats(b.cnn_job(threads=1), [0.04] * 3),
        *b.repeats(b.cnn_job(threads=8), [0.01] * 3, start=3),
        *b.repeats(b.cnn_job(threads=16), [0.02] * 3, start=6),
    ]
    rows = rows_of(b.ledger(sweep))
    assert {row.job.threads: round(row.speedup.ratio.value, 6) for row in rows} == {1: 0.25, 8: 1.0, 16: 0.5}
    assert {row.speedup.baseline_threads for row in rows} == {8}


def test_a_later_attempt_supersedes_an_interrupted_one():
    first = b.record(b.cnn_job(), status="interrupted", index=0)
    again = b.record(b.cnn_job(), 0.01, index=0, attempt=2)
    assert only(rows_of(b.ledger([first, again])), "cpu").outcomes == {"ok": 1}
    assert only(rows_of(b.ledger([first])), "cpu").outcomes == {"interrupted": 1}


def test_the_newest_run_of_a_row_stands_and_the_others_are_counted():
    runs = [
        b.ledger(b.repeats(b.cnn_job(), [seconds] * 3), run_id=f"r{day}", created_at=f"2026-03-0{day}")
        for day, seconds in ((1, 0.01), (3, 0.03), (2, 0.02))
    ]
    row = only(rows_of(*runs), "cpu")
    assert (row.run_id, row.step_seconds.n, row.other_runs) == ("r3", 3, 2)
    assert [each.run_id for each in rows_of(*runs, all_runs=True)] == ["r3", "r2", "r1"]


def test_a_run_that_was_interrupted_at_once_hides_no_finished_one():
    done = b.ledger(b.repeats(b.cnn_job(), [0.01] * 3), run_id="r1", created_at="2026-03-01")
    broken_off = b.ledger(b.repeats(b.cnn_job(), [0], status="interrupted"), run_id="r2", created_at="2026-03-02")
    assert only(rows_of(done, broken_off), "cpu").run_id == "r1"
    failed = b.ledger(b.repeats(b.cnn_job(), [0], status="crashed"), run_id="r2", created_at="2026-03-02")
    assert only(rows_of(done, failed), "cpu").run_id == "r2"


def test_with_all_runs_each_run_is_divided_by_its_own_baseline():
    one = pair_of_rows([0.01] * 3, [0.001] * 3)
    two = pair_of_rows([0.04] * 3, [0.001] * 3)
    two = b.ledger(two.records, run_id="r2", created_at="2027-01-01", machine=b.machine(gpus=[b.GPU]))
    ratios = {
        row.run_id: row.speedup.ratio.value for row in rows_of(one, two, all_runs=True) if row.job.device != "cpu"
    }
    assert ratios == {b.RUN_ID: pytest.approx(10), "r2": pytest.approx(40)}


def test_a_run_found_twice_counts_once():
    run = b.ledger(b.repeats(b.cnn_job(), [0.01] * 3))
    processes, problems = process_table.read_processes([run, run])
    assert len(processes) == 3
    assert problems == (f"run {b.RUN_ID} is in 2 files; counted once, from the longest",)


def test_two_machines_runs_of_one_id_both_count():
    """Ids were short once (four random digits), and two machines may have begun in the same second. The audit sees both too."""
    runs = [b.ledger(b.repeats(b.cnn_job(), [0.01] * 3), machine=b.machine(name)) for name in ("box-1", "box-2")]
    processes, problems = process_table.read_processes(runs)
    assert sorted({each.machine_id for each in processes}) == ["box-1", "box-2"]
    assert (len(processes), problems) == (6, ())
    assert sorted(row.header.machine.id for row in raw_rows.build_rows(runs)) == ["box-1", "box-2"]


def test_the_lectures_table_recomputes():
    """lecture.md, section 4: speed-ups 4.78, 11.51, 19.36; achieved 45.1, 215.6, 518.9, 872.8 GFLOP/s; 2.854e14 FLOP."""
    references = compute_speedups([], LECTURE, peak_of=peak_of).published_rows
    by_name = {found.published.processor: found for found in references}
    assert by_name["GTX-745"].speedup is None
    assert by_name["GTX-745"].flops_per_second is None
    speedups = [round(by_name[name].speedup, 2) for name in ("Intel i7-4790K", "AWS EC2 K520", "GTX-970", "GTX-1080")]
    rates = [round(found.flops_per_second / 1e9, 1) for found in references if found.flops_per_second]
    assert speedups == [1.00, 4.78, 11.51, 19.36]
    assert rates == [45.1, 215.6, 518.9, 872.8]
    timed = [row for row in LECTURE if row.job_seconds is not None]
    assert {row.job_images for row in timed} == {100 * 429 * 128}
    assert {row.job_flops for row in timed} == {workloads.get("mnist-cnn").flops_training_per_image * 100 * 429 * 128}


def test_the_lectures_job_is_compared_with_the_i7_measured_or_projected():
    """42,900 steps at 1 ms are 42.9 s: 6331 / 42.9 = 147.6."""
    projected = only(rows_of(b.ledger(b.repeats(b.cnn_job(), [0.001] * 3))), "cpu")
    measured = only(rows_of(b.ledger(b.repeats(b.lecture_job(), [0.001]))), "cpu")
    assert projected.speedup_over_published.value == measured.speedup_over_published.value == pytest.approx(6331 / 42.9)
    assert (projected.job_kind, measured.job_kind) == ("projected", "measured")


@pytest.mark.parametrize(
    "other",
    [
        {"epochs": 99},
        {"batch_size": 64},
        {"extra_forwards": 2},
        {"stop_when_all_right": True},
        {"epochs": None},
        {"workload_version": 99},
    ],
)
def test_another_job_is_not_compared_with_the_i7(other):
    assert is_published_job(b.cnn_job(), LECTURE[0])
    assert not is_published_job(b.cnn_job(**other), LECTURE[0])


def test_the_job_clock_divides_whole_jobs_evaluations_included():
    """Equal steps, but the CPU's job took 10 s longer over its evaluations: (429 + 10) / 42.9."""
    run = b.ledger(
        [
            b.record(b.lecture_job(), 0.01, index=0, job_seconds=439.0, job_evaluation_seconds=10.0),
            b.record(b.lecture_job(device="cuda:0"), 0.001, index=1),
        ],
        machine=b.machine(gpus=[b.GPU]),
    )
    assert only(rows_of(run), "cuda:0").speedup.ratio.value == pytest.approx(439 / 42.9)


def test_a_job_that_may_stop_early_is_divided_by_steps_not_by_its_length():
    job = b.cnn_job(clock="job", stop_when_all_right=True, epoch_eval_images=200)
    run = b.ledger(
        [
            b.record(job, 0.01, index=0, job_seconds=500.0),
            b.record(job.model_copy(update={"device": "cuda:0", "threads": None}), 0.001, index=1, job_seconds=50.0),
        ],
        machine=b.machine(gpus=[b.GPU]),
    )
    assert only(rows_of(run), "cuda:0").speedup.ratio.value == pytest.approx(10.0)


def test_accuracy_of_one_process_is_wilsons_and_of_three_the_mean():
    def tested(correct):
        return Evaluation(after_steps=150, images=10_000, correct=correct, seconds=1.0)

    one = only(rows_of(b.ledger([b.record(b.cnn_job(), test=tested(9_700))])), "cpu").accuracy
    three = b.ledger(
        [b.record(b.cnn_job(round=r, seed=r), index=r, test=tested(c)) for r, c in enumerate((9_690, 9_700, 9_710))]
    )
    mean = only(rows_of(three), "cpu").accuracy
    assert (one.share.value, one.share.n, one.after_steps) == (0.97, 1, (150, 150))
    assert one.share.low == pytest.approx(0.96647, abs=1e-5)
    assert (mean.share.value, mean.share.n) == (pytest.approx(0.97), 3)
    assert mean.share.low == pytest.approx(0.97 - 4.302653 * 0.001 / 3**0.5)


def test_accuracies_on_different_data_never_share_a_figure():
    mixed = [
        b.record(b.cnn_job(round=0)),
        b.record(b.cnn_job(round=1), index=1, accuracy_data="synthetic"),
    ]
    row = only(rows_of(b.ledger(mixed)), "cpu")
    assert row.accuracy is None
    assert "different" in row.missing["accuracy"]


def test_peaks_of_memory_are_the_largest_of_the_row():
    records = b.repeats(b.cnn_job(), [0.01] * 2)
    larger = b.record(b.cnn_job(round=2), index=2, memory=b.Memory(host_peak_bytes=2 * 2**30))
    assert only(rows_of(b.ledger([*records, larger])), "cpu").host_peak_bytes == 2 * 2**30


def test_flops_of_an_unknown_workload_are_not_known_and_everything_else_is():
    row = only(rows_of(b.ledger(b.repeats(b.cnn_job(workload="someones-own"), [0.01] * 3))), "cpu")
    assert row.flops_per_second is None
    assert "not known here" in row.missing["achieved"]
    assert row.images_per_second.value == pytest.approx(12_800)


@pytest.mark.parametrize(
    "lie",
    [
        {"block_seconds": (float("nan"),)},
        {"block_seconds": (0.0,)},
        {"block_seconds": (-1.0,)},
        {"steps": 0},
    ],
)
def test_a_time_that_cannot_be_gives_no_figure_and_says_so(lie):
    records = [*b.repeats(b.cnn_job(), [0.01, 0.01]), b.record(b.cnn_job(round=2), index=2, **lie)]
    row = only(rows_of(b.ledger(records)), "cpu")
    assert row.step_seconds.n == 2
    assert row.outcomes == {"invalid": 1, "ok": 2}
    assert row.failures[0].startswith("invalid in round 3: identity gate")


def test_more_right_answers_than_images_make_a_record_invalid():
    lie = Evaluation(after_steps=150, images=10, correct=11, seconds=1.0)
    row = only(rows_of(b.ledger([b.record(b.cnn_job(), test=lie)])), "cpu")
    assert row.accuracy is None
    assert row.outcomes == {"invalid": 1}
    assert "11 of 10" in row.failures[0]


def test_every_figure_that_is_missing_has_its_reason():
    ledger = b.ledger(
        [*b.repeats(b.cnn_job(), [0.01]), *b.repeats(b.gemm_job(), [0.01], start=1)], machine=b.machine(gpus=[b.GPU])
    )
    figures = {
        "peak": "peak_flops_per_second",
        "flops": "flops_per_second",
        "job": "job_seconds",
        "accuracy": "accuracy",
    }
    for row in rows_of(ledger):
        for key, name in figures.items():
            assert (getattr(row, name) is None) == (key in row.missing)


def test_the_order_of_ledgers_and_records_changes_nothing():
    run = pair_of_rows([0.01, 0.02, 0.04], [0.001, 0.002, 0.004])
    other = b.ledger(b.repeats(b.cnn_job(threads=2), [0.03] * 3), run_id="r2")
    expected = rows_of(run, other)
    rng = random.Random(0)
    for _ in range(5):
        shuffled = b.Ledger(run.path, run.header, tuple(rng.sample(run.records, len(run.records))))
        assert rows_of(other, shuffled) == expected


def test_the_frame_has_a_row_a_process_and_its_missing_values_are_missing():
    records = [*b.repeats(b.cnn_job(), [0.01, 0.02]), b.record(b.cnn_job(round=2), index=2, status="oom")]
    processes, _ = process_table.read_processes([b.ledger(records)])
    table = process_table.to_frame(processes)
    assert list(table["status"]) == ["ok", "ok", "oom"]
    assert table["step_seconds"].tolist()[:2] == pytest.approx([0.01, 0.02])
    assert table["step_seconds"].isna().tolist() == [False, False, True]
    assert table["test_correct"].dropna().tolist() == [9_700, 9_700]


def test_a_rows_ceiling_is_the_best_gemm_of_its_own_device_and_precision():
    """Not another device's, precision's or thread count's; MFU needs a theoretical peak, the share of the ceiling does not."""
    run = b.ledger(
        [
            b.record(b.cnn_job(), 0.1, index=0),
            b.record(b.gemm_job(1024), 2 * 1024**3 / 100e9, index=1),
            b.record(b.gemm_job(2048), 2 * 2048**3 / 200e9, index=2),
            b.record(b.gemm_job(2048, precision="bf16"), 2 * 2048**3 / 900e9, index=3),
            b.record(b.gemm_job(2048, threads=1), 2 * 2048**3 / 800e9, index=4),
        ],
        machine=b.machine(),
    )
    row = next(row for row in rows_of(run) if row.job.workload == "mnist-cnn")
    assert row.ceiling_flops_per_second.value == pytest.approx(200e9)
    assert row.ceiling_share.value == pytest.approx(128 * 51_972_732 / 0.1 / 200e9)
    assert row.mfu is None
    assert row.bottleneck.summary == "nearest: compute"


def test_a_step_faster_than_the_bare_products_is_doubted():
    run = b.ledger([b.record(b.cnn_job(), 0.01, index=0), b.record(b.gemm_job(512), 2 * 512**3 / 100e9, index=1)])
    row = next(row for row in rows_of(run) if row.job.workload == "mnist-cnn")
    assert "above-ceiling" in {doubt.code for doubt in row.doubts}

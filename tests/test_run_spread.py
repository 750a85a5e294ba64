"""How much runs differ: taken from their own history where it is as far apart as the two compared, else from the prior."""

from __future__ import annotations

import math
import statistics

import builders as b
import pytest
from scipy.stats import t as student
from side_builders import HERE, cnn, only, peak_of, side

from cnnbench.analysis import process_table, stats
from cnnbench.analysis.comparison import ComparisonSide, compare_sides
from cnnbench.analysis.history import build_history
from cnnbench.analysis.run_spread import LEAST_HISTORY, PRIORS, find_run_spreads
from cnnbench.analysis.same_host import RELATION_WORDS
from cnnbench.analysis.speedup import compute_speedups
from cnnbench.analysis.stats import RunSpread
from cnnbench.report import comparison
from cnnbench.report.history import build as build_history_report
from cnnbench.report.tables import build as build_tables
from cnnbench.verify import intervals

MEANS = (0.100, 0.104, 0.097, 0.101, 0.106, 0.099)
BOOTS = ("boot-a", None, "boot-b")


def boot(ledger, boot_id, host_id=None):
    header = ledger.header.model_copy(update={"boot_id": boot_id, "host_id": host_id})
    return b.Ledger(ledger.path, header, ledger.records)


def one_run(number, seconds, boot_id, **options):
    times = [seconds * (1 + place / 100) for place in (-1, 0, 1)]
    return boot(cnn(*times, run_id=f"r{number:02}", machine=HERE, **options), boot_id)


def rows_of(ledgers):
    processes, _ = process_table.read_processes(ledgers)
    return compute_speedups(processes, peak_of=peak_of, all_runs=True).rows


def mean_log(row):
    return statistics.fmean(map(math.log, row.costs.values()))


def test_without_a_history_the_prior_of_the_work_and_the_boots_is_taken():
    for boot_id, one_boot in (("boot-a", True), ("boot-b", False), (None, False)):
        base, new = rows_of([one_run(1, 0.1, "boot-a"), one_run(2, 0.1, boot_id)])
        for found in find_run_spreads(base, new):
            assert (found.spread, found.source, found.kind) == (PRIORS["training", one_boot], "prior", "training")


def test_five_other_runs_of_the_boot_are_the_spread_of_two_of_it():
    """The variance of their mean logs, by hand; four are too few, and the two compared do not count."""
    ledgers = [one_run(n, seconds, "boot-a") for n, seconds in enumerate((*MEANS[:LEAST_HISTORY], 0.1, 0.2))]
    *before, base, new = rows = rows_of(ledgers)
    found, _ = find_run_spreads(base, new, rows)
    assert (found.source, found.runs, found.spread.degrees) == ("boot", LEAST_HISTORY, LEAST_HISTORY - 1)
    assert found.spread.variance == pytest.approx(statistics.variance(map(mean_log, before)))
    assert find_run_spreads(base, new, rows[1:])[0].source == "prior"


def test_runs_of_one_boot_say_nothing_about_runs_of_two():
    """Of other boots one run each counts; runs of unknown boots on machines that look alike are one."""
    base, new = rows_of([one_run(90, 0.1, "boot-y"), one_run(91, 0.1, "boot-z")])
    for boots, source in (
        (["boot-a"] * 6, "prior"),
        ([None] * 6, "prior"),
        (["boot-y"] * 6, "prior"),
        ([f"boot-{n}" for n in range(5)], "model"),
    ):
        history = rows_of([one_run(n, MEANS[n], each) for n, each in enumerate(boots)])
        assert find_run_spreads(base, new, history)[0].source == source


def test_other_work_or_software_is_no_history():
    base, new = rows_of([one_run(90, 0.1, "boot-a"), one_run(91, 0.1, "boot-a")])
    for options in ({"software": b.software("2.14.0")},):
        history = rows_of([one_run(n, MEANS[n], "boot-a", **options) for n in range(6)])
        assert find_run_spreads(base, new, history)[0].source == "prior"


def test_the_interval_is_satterthwaites_over_processes_and_runs():
    """Worked out here: 2 x the prior's variance, and each side's, with their degrees of freedom."""
    base, new = [1.0, 1.1, 1.2], [1.0, 1.02, 1.05, 1.01]
    spread = RunSpread(0.2**2, 9)
    parts = [(2 * 0.2**2, 9)]
    parts += [(statistics.variance(map(math.log, each)) / len(each), len(each) - 1) for each in (base, new)]
    total = sum(part for part, _ in parts)
    half = student.ppf(0.975, total**2 / sum(part**2 / df for part, df in parts)) * math.sqrt(total)
    middle = statistics.fmean(map(math.log, base)) - statistics.fmean(map(math.log, new))
    found = stats.ratio_between_runs(base, new, (spread, spread))
    assert (found.low, found.high) == pytest.approx((math.exp(middle - half), math.exp(middle + half)))
    assert found.n == 3


def test_the_interval_is_never_narrower_than_the_processes_alone():
    none = RunSpread(0.0, 4, with_processes=True)
    values = [1.0, 1.1, 1.2], [1.0, 1.02, 1.05]
    assert stats.ratio_between_runs(*values, (none, none)) == stats.unpaired_ratio(*values)
    wide = RunSpread(0.5**2, 4)
    assert stats.ratio_between_runs(*values, (wide, wide)).high > stats.unpaired_ratio(*values).high


def test_two_processes_have_no_interval_however_much_is_known_of_runs():
    found = stats.ratio_between_runs([1.0, 1.1], [1.0, 1.1, 1.2], (RunSpread(0.01, 5), RunSpread(0.01, 5)))
    assert (found.low, found.high, found.n) == (None, None, 2)


@pytest.mark.parametrize("one_boot", [True, False])
@pytest.mark.parametrize("products", [(False, False), (True, True), (True, False)])
def test_the_audits_ratio_of_runs_is_the_same_by_other_code(products, one_boot):
    base, own = (
        {("r", n): value for n, value in enumerate(side)} for side in ([1.0, 1.1, 1.3], [0.9, 0.91, 0.93, 0.9])
    )
    kinds = ["gemm" if each else "training" for each in products]
    ours = stats.ratio_between_runs(
        list(base.values()), list(own.values()), tuple(PRIORS[kind, one_boot] for kind in kinds)
    )
    theirs = intervals.ratio_of_runs(base, own, products, one_boot)
    assert (theirs.value, theirs.low, theirs.high, theirs.n) == pytest.approx((ours.value, ours.low, ours.high, ours.n))


@pytest.mark.parametrize(
    ("boots", "hosts", "said"),
    [
        (("boot-a", "boot-a"), (None, None), ""),
        (("boot-a", "boot-b"), (None, None), RELATION_WORDS["another boot"]),
        (("boot-a", "boot-b"), ("one", "two"), RELATION_WORDS["another host"]),
        ((None, None), (None, None), "host unknown, kernel"),
    ],
)
def test_faster_is_never_printed_without_how_the_hosts_are_related(boots, hosts, said):
    """In the cell, in the summary, and as a note; between runs of one boot there is nothing to add."""
    sides = []
    for number, (boot_id, host_id) in enumerate(zip(boots, hosts, strict=True)):
        ledger = one_run(number, (0.2, 0.1)[number], boot_id)
        sides.append(side(boot(ledger, boot_id, host_id)))
    pair = only(compare_sides(*sides))
    assert pair.verdict == "FASTER"
    report = comparison.build(*sides)
    (line,) = report.tables[0].groups[0].lines
    verdict = next(cell for cell in line.cells if cell.text == "FASTER")
    summary = next(note.text for note in report.notes if note.kind == "summary")
    shown = [" ".join(verdict.details), summary, " ".join(note.text for note in report.notes if note.kind == "doubt")]
    assert all((said in text) == bool(said) or not said for text in shown)
    assert bool(said) == bool(verdict.details)
    assert verdict.values["host_relation"] == pair.relation


def test_an_unknown_host_is_shown_with_both_kernels_and_memories():
    machines = [b.machine("box", kernel=f"6.{n}", memory_bytes=25_000_000_000 + n) for n in (1, 2)]
    sides = [side(cnn(*[(0.2, 0.1)[n]] * 3, run_id=f"r{n}", machine=each)) for n, each in enumerate(machines)]
    text = comparison.describe_hosts(only(compare_sides(*sides)))
    known = "kernels 6.1 and 6.2, memory 25,000,000,001 B and 25,000,000,002 B"
    assert text == f"another boot, perhaps another host of the same model; host unknown, {known}"


def test_the_report_says_which_spread_each_interval_has():
    base, new = (side(one_run(n, 0.1, "boot-a")) for n in (90, 91))
    prior = " ".join(note.text for note in comparison.build(base, new).notes)
    assert "Spread of runs: SD 2.0 %, a prior for training with 8 degrees of freedom" in prior
    history = rows_of([one_run(n, MEANS[n], "boot-a") for n in range(6)])
    own = ComparisonSide(base.name, base.rows, history=history)
    text = " ".join(note.text for note in comparison.build(own, new).notes)
    assert "of the means of 6 other runs of this boot" in text


def test_from_five_runs_of_a_boot_on_the_interval_over_runs_is_given_beside_it():
    """Student's t over the runs' own means, n counting runs; four runs, or runs of unknown boots, have none."""
    ledgers = [one_run(n, seconds, "boot-a") for n, seconds in enumerate(MEANS)]
    processes, _ = process_table.read_processes(ledgers)
    newest = compute_speedups(processes, peak_of=peak_of)
    (row,) = newest.rows
    expected = stats.geometric([each.step_seconds.value for each in rows_of(ledgers)])
    over = row.step_seconds_over_runs
    assert (over.value, over.low, over.high, over.n) == pytest.approx(
        (expected.value, expected.low, expected.high, len(MEANS))
    )
    assert "one step over 6 runs of its boot: " in " ".join(note.text for note in build_tables(newest).notes)
    (series,) = build_history(processes)
    known = [point.over_runs and point.over_runs.n for point in series.points]
    assert known == [None] * 4 + [5, 6]
    assert "over runs" in str(build_history_report([series], ()))
    for some in (ledgers[:4], [boot(each, None) for each in ledgers]):
        (row,) = compute_speedups(process_table.read_processes(some)[0], peak_of=peak_of).rows
        assert row.step_seconds_over_runs is None

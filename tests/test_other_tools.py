"""The rules of other tools: against the tools themselves where they are installed, else against their definitions."""

from __future__ import annotations

import statistics

import numpy as np
import other_tools
import pytest
from scipy import stats


def arms(seed, comparisons, processes, values, spread=0.03, effects=(0.0, 0.03, 0.05, 0.08, 0.12)):
    """Times of two arms, the head slower by a different effect in each comparison, so that both answers occur."""
    rng = np.random.default_rng(seed)
    shape = (comparisons, processes, values)
    slower = 1 + np.resize(effects, comparisons)[:, np.newaxis, np.newaxis]
    process = rng.normal(0, 0.01, (2, comparisons, processes, 1))
    base, head = np.exp(rng.normal(0, spread, (2, *shape)) + process)
    return base, head * slower


def lists(values):
    return [list(map(float, each.ravel())) for each in values]


def both_answers(found):
    return 0 < np.count_nonzero(found) < len(found)


@pytest.mark.parametrize("field", ["min", "mean", "median"])
def test_pytest_benchmark_decides_as_ours(field):
    utils = pytest.importorskip("pytest_benchmark.utils")
    base, head = arms(1, 200, 1, 20)
    check = utils.parse_compare_fail(f"{field}:5%")
    summary = {"min": min, "mean": statistics.fmean, "median": statistics.median}[field]
    theirs = [
        check.fails({field: summary(now)}, {field: summary(before)}) is not None
        for before, now in zip(lists(base), lists(head), strict=True)
    ]
    ours = other_tools.pytest_benchmark(base, head, field, 5)
    assert ours.tolist() == theirs
    assert both_answers(ours)


@pytest.mark.parametrize("factor", [1.05, 1.1])
@pytest.mark.parametrize("digits", [15, 2], ids=["continuous", "tied"])
def test_asv_decides_as_ours(factor, digits):
    compare = pytest.importorskip("asv.commands.compare")
    statistics_of = pytest.importorskip("asv_runner.statistics")
    base, head = (np.round(values, digits) for values in arms(2, 300, 2, 5))

    def better(before, now):
        (a, a_stats), (b, b_stats) = (statistics_of.compute_stats(samples, 1) for samples in (before, now))
        return compare._is_result_better(a, b, (a_stats, before), (b_stats, now), factor)

    theirs = [better(before, now) for before, now in zip(lists(base), lists(head), strict=True)]
    ours = other_tools.asv(base, head, factor)
    assert ours.tolist() == theirs
    assert both_answers(ours)


def test_pyperf_decides_as_ours():
    compare = pytest.importorskip("pyperf._utils")
    base, head = arms(3, 300, 20, 3, effects=(0.0, 0.005, 0.01, 0.02))
    theirs = [
        compare.is_significant(before, now)[0] and statistics.fmean(now) > statistics.fmean(before)
        for before, now in zip(lists(base), lists(head), strict=True)
    ]
    ours = other_tools.pyperf(base, head)
    assert ours.tolist() == theirs
    assert both_answers(ours)


def test_pyperf_reads_its_table_as_ours():
    compare = pytest.importorskip("pyperf._utils")
    degrees = range(1, 250)
    assert [other_tools.tabulated_t(each) for each in degrees] == [compare.tdist95conf_level(each) for each in degrees]


def test_pyperf_is_students_test():
    base, head = arms(4, 200, 20, 3, effects=(0.0, 0.01, 0.02))
    p = stats.ttest_ind(head.reshape(200, -1), base.reshape(200, -1), axis=1, alternative="greater").pvalue
    ours = other_tools.pyperf(base, head)
    sure = np.abs(p - 0.025) > 1e-3  # its table rounds
    assert (ours == (p < 0.025))[sure].all()
    held = other_tools.pyperf(base, head, min_speed_percent=5.0)
    assert not (held & (head.mean(axis=(1, 2)) < 1.05 * base.mean(axis=(1, 2)))).any()


@pytest.mark.parametrize(("m", "n"), [(6, 6), (8, 8), (10, 10), (7, 12), (20, 20)])
def test_the_largest_significant_u_is_scipys(m, n):
    """For continuous data the exact two-sided p falls strictly with the distance from m n / 2."""
    limit = other_tools.largest_significant_u(m, n, 0.002)

    def p(u):
        """Of samples with exactly that U: the first sample's values fill the order from the left."""
        ranks = np.arange(m, dtype=float)
        left = u
        for place in range(m - 1, -1, -1):
            step = min(left, n)
            ranks[place] += step
            left -= step
        others = sorted(set(range(m + n)) - set(ranks.astype(int)))
        return stats.mannwhitneyu(ranks, others, method="exact").pvalue

    assert p(limit + 1) >= 0.002
    assert limit < 0 or p(limit) < 0.002


def test_asv_cannot_tell_six_from_six():
    """Its own threshold is out of reach: the least two-sided p of 6 against 6 is 2/924 = 0.00216."""
    assert other_tools.largest_significant_u(6, 6, 0.002) == -1
    base, head = np.full((1, 1, 6), 1.0), np.full((1, 1, 6), 9.0)
    assert not other_tools.asv(base + np.arange(6) / 100, head + np.arange(6) / 100, 1.1)[0]
    with pytest.raises(ValueError, match="6 to 20"):
        other_tools.asv(base[..., :5], head, 1.1)


def test_criterion_decides_as_its_bootstrap():
    """Its definition, resampled 2,000 times, in 120 comparisons of which at most 5 are too close to call."""
    base, head = arms(5, 120, 1, 100, effects=(0.0, 0.005, 0.01, 0.02, 0.03))
    rng = np.random.default_rng(6)

    def bootstrap(before, now):
        def t(a, b):
            return (a.mean(-1) - b.mean(-1)) / np.sqrt(a.var(-1, ddof=1) / 100 + b.var(-1, ddof=1) / 100)

        pooled = rng.choice(np.concatenate([before, now]), (2, 2000, 100))
        null, observed = t(*pooled), t(now, before)
        p = 2 * min(np.mean(null < observed), np.mean(null > observed))
        change = rng.choice(now, (2000, 100)).mean(1) / rng.choice(before, (2000, 100)).mean(1) - 1
        return p < 0.05 and np.quantile(change, 0.025) > 0.01

    theirs = np.array([bootstrap(b, h) for b, h in zip(base[:, 0], head[:, 0], strict=True)])
    ours = other_tools.criterion(base, head)
    assert np.count_nonzero(ours != theirs) <= 5
    assert both_answers(ours)


def test_hyperfine_is_welchs_test_of_a_slower_head():
    base, head = arms(7, 100, 10, 1)
    ours = other_tools.hyperfine(base, head)
    for index, (before, now) in enumerate(zip(lists(base), lists(head), strict=True)):
        result = stats.ttest_ind(before, now, equal_var=False)
        assert ours[index] == (result.pvalue < 0.05 and result.statistic < 0)
    assert both_answers(ours)


@pytest.mark.parametrize(("threshold", "slower", "alarm"), [(2.0, 1.99, False), (2.0, 2.01, True), (1.05, 1.06, True)])
def test_the_action_compares_one_number_with_one(threshold, slower, alarm):
    base = np.full((1, 1, 20), 0.05)
    assert other_tools.github_action_benchmark(base, base * slower, threshold)[0] == alarm


@pytest.mark.parametrize("peer", other_tools.OTHER_TOOLS, ids=lambda peer: peer.name)
def test_no_rule_alarms_where_head_is_faster_by_half_and_all_but_one_where_it_takes_twice_as_long(peer):
    base, head = arms(8, 50, peer.processes, peer.values, spread=0.01, effects=(0.0,))
    assert not peer.rule(base, head / 2).any()
    assert peer.rule(base, head * 2.2).all()
    assert peer.source.startswith("https://")


@pytest.mark.parametrize("peer", other_tools.OTHER_TOOLS, ids=lambda peer: peer.name)
def test_a_change_of_unit_changes_no_decision(peer):
    base, head = arms(9, 100, peer.processes, peer.values)
    assert (peer.rule(base * 1024, head * 1024) == peer.rule(base, head)).all()

"""The study of changed code: its page follows from its counts, its noises are as described, the check keeps its promises."""

from __future__ import annotations

import math
from pathlib import Path

import changed_code as study
import numpy as np
import pytest
from click.testing import CliRunner

from cnnbench.errors import LedgerError, UsageError

PUBLISHED = Path(__file__).parents[1] / "docs" / "studies" / "changed-code.md"
COUNTS = study.read_changed_code(PUBLISHED.with_suffix(".json"))
ROWS = {case.name: case for case in COUNTS.cases}
UNCHANGED = "Nothing changed: what the rule costs"


def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def test_the_committed_page_is_that_of_its_counts(tmp_path: Path) -> None:
    assert study.render_changed_code(COUNTS) == PUBLISHED.read_text(encoding="utf-8")
    page = tmp_path / "page.md"
    made = CliRunner().invoke(study.changed_code, ["--from", str(PUBLISHED.with_suffix(".json")), "-o", str(page)])
    assert (made.exit_code, page.read_bytes()) == (0, PUBLISHED.read_bytes())
    assert page.with_suffix(".json").read_bytes() == PUBLISHED.with_suffix(".json").read_bytes()


@pytest.mark.parametrize("case", study.list_cases(), ids=lambda case: case.name)
def test_the_committed_counts_are_those_of_today_s_rules(case: study.Case) -> None:
    """Another seed, 400 checks: within 4.5 standard errors of each share, and of the smallest that 400 can show."""
    again, stored = study.run_case(case, 400, rng()), ROWS[case.name]
    assert COUNTS.rules == tuple(study.RULES)
    for now, before in zip((*again.passed, *again.regressed), (*stored.passed, *stored.regressed), strict=True):
        share = before / COUNTS.checks
        assert abs(now / 400 - share) <= 4.5 * math.sqrt(max(share * (1 - share), 1 / 400) / 400)


def test_a_slow_fifth_passes_sixteen_pairs_in_at_most_a_tenth_and_clean_checks_keep_passing() -> None:
    alone, today, sixteen = ROWS["30 % slower in 20 % of the processes"].passed
    assert sixteen <= 0.1 * COUNTS.checks < today < alone
    for name, case in ROWS.items():
        if case.group == UNCHANGED and "bursts" not in name:
            assert case.passed[0] - case.passed[1] < 0.05 * COUNTS.checks


def test_unchanged_code_is_never_called_regressed() -> None:
    """1 series: the levels allow 1.2 of 20,000 at worst, where head is slower by exactly the tolerance."""
    unchanged = [case for case in COUNTS.cases if case.group == UNCHANGED]
    assert len(unchanged) == 5
    assert all(count == 0 for case in unchanged for count in case.regressed)


def test_the_noises_are_what_they_say() -> None:
    shape, tolerance = (4000, 26), study.TOLERANCE
    correlated = study.draw_correlated(tolerance, 0.6)(rng(), shape)
    assert np.corrcoef(correlated[:, 3], correlated[:, 4])[0, 1] == pytest.approx(0.6, abs=0.06)
    assert correlated.std() == pytest.approx(study.QUIET, rel=0.02)
    for sign in (-1, 1):
        skewed = study.draw_skewed(tolerance, sign)(rng(), shape)
        assert np.mean(skewed > tolerance) == pytest.approx(0.5, abs=0.01)
        assert sign * (skewed.mean() - tolerance) > 0
    states = study.draw_states(0.08, 0.02, 0.9)(rng(), shape)
    slow = states > tolerance
    assert np.mean(slow[:, 1:] == slow[:, :-1]) == pytest.approx(0.9, abs=0.01)
    assert states.mean() == pytest.approx((math.log(1.08) + math.log(1.02)) / 2, abs=0.001)
    tail = study.add_tail(lambda _, size: np.zeros(size), 0.2, 1.3)(rng(), shape)
    assert np.exp(tail).mean() == pytest.approx(1.06, abs=0.002)
    bursts = study.add_bursts(lambda _, size: np.zeros(size), 0.05, 1.3)(rng(), shape)
    assert np.mean(bursts > 0) == pytest.approx(0.05 * 0.95, abs=0.004)
    assert bursts.mean() == pytest.approx(0, abs=0.002)


def test_counts_of_another_study_and_a_page_named_as_counts_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(LedgerError, match=r"give a \.json that"):
        study.read_changed_code(tmp_path / "x.json")
    with pytest.raises(UsageError, match="name the page"):
        study.changed_code.main(["-o", str(tmp_path / "y.json")], standalone_mode=False)

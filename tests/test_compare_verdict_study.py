"""The study of compare's verdicts: its page is what its values say, the priors are its components, and a fast part of it."""

from __future__ import annotations

import json
from pathlib import Path

import compare_verdict_study as studies
import numpy as np
import pytest
from click.testing import CliRunner
from compare_verdict_study import (
    Components,
    compute_coverage,
    draw_correlated_runs,
    fit_components,
    list_noises,
    simulate_cases,
)
from compare_verdicts import compare_verdicts as command
from compare_verdicts import from_json, to_json
from scipy.stats import t as student

from cnnbench.analysis.run_spread import PRIORS
from cnnbench.errors import ExitCode, LedgerError
from cnnbench.verify import intervals

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "docs" / "studies" / "compare-verdicts.md"
COMPARISONS = 400


@pytest.fixture(scope="module")
def published():
    return from_json(PUBLISHED.with_suffix(".json").read_text(encoding="utf-8"))[0]


def test_the_published_page_is_what_its_values_say(tmp_path):
    page = tmp_path / PUBLISHED.name
    result = CliRunner().invoke(command, ["--from", str(PUBLISHED.with_suffix(".json")), "-o", str(page)])
    assert result.exit_code == ExitCode.DONE, result.output
    for ending in (".md", ".json"):
        assert page.with_suffix(ending).read_bytes() == PUBLISHED.with_suffix(ending).read_bytes()


def test_the_priors_are_the_components_rounded_up_to_half_a_percent(published):
    for each in published.components:
        prior = PRIORS[each.kind, each.one_boot]
        assert prior.sd == pytest.approx(np.ceil(each.run_sd * 200) / 200)
        assert prior.degrees == each.degrees
        assert intervals.RUN_SPREADS[each.kind == "gemm", each.one_boot] == pytest.approx((prior.sd, prior.degrees))


def test_the_44_real_pairs_are_those_of_the_ledgers(published):
    """By the processes alone six read FASTER or SLOWER; with the spread of runs at most one in twenty may."""
    found = tuple(studies.compare_real_pairs(studies.load_rows([ROOT / "results"])))
    ours = [each for each in found if each.new <= max(pair.new for pair in published.pairs)]
    assert {(each.row, each.base, each.new) for each in published.pairs} <= {(e.row, e.base, e.new) for e in ours}
    assert len(published.pairs) == 44
    assert sum(each.processes_verdict in ("FASTER", "SLOWER") for each in published.pairs) == 6
    assert sum(each.verdict in ("FASTER", "SLOWER") for each in published.pairs) <= 0.05 * 44
    assert all(target.met for target in published.targets)


def test_a_fast_part_of_the_simulation_errs_in_at_most_5_percent_and_finds_25_percent(published):
    """400 comparisons of a training row on one boot; 3.3 standard errors of slack."""
    found = next(each for each in published.components if (each.kind, each.one_boot) == ("training", True))
    for name in ("normal", "heavy tails, t3", "AR(1)"):
        (case,) = (
            each
            for each in simulate_cases(found, name, list_noises(found)[name], COMPARISONS, np.random.default_rng(5))
            if (each.processes, each.history) == (8, 0)
        )
        assert case.false / COMPARISONS <= 0.05 + 3.3 * (0.05 * 0.95 / COMPARISONS) ** 0.5
        assert case.found >= 0.95 * COMPARISONS


def test_reml_finds_the_components_that_runs_were_drawn_with():
    rng = np.random.default_rng(1)
    rows = [[rng.normal(rng.normal(level, 0.06), 0.03, 4) for _ in range(40)] for level in (0.0, 3.0, -1.0)]
    assert fit_components(rows) == pytest.approx((0.06, 0.03), rel=0.15)


def test_correlated_processes_make_three_of_a_run_differ_as_the_components_say():
    """Between means of runs s_r^2 + s_p^2 / 3, within runs s_p^2: 40,000 runs."""
    found = Components("training", True, 0.05, 0.06, 8, 1)
    (runs,) = draw_correlated_runs(found, np.random.default_rng(2), (1, 40_000, 3))
    assert runs.var(axis=1, ddof=1).mean() == pytest.approx(0.06**2, rel=0.03)
    assert runs.mean(axis=1).var() == pytest.approx(0.05**2 + 0.06**2 / 3, rel=0.03)


@pytest.mark.parametrize("processes", [3, 6, 10])
def test_the_coverage_of_one_run_is_that_of_simulated_runs(processes):
    """40,000 runs with 5.6 % between runs and 5.8 % between processes; four standard errors of slack."""
    rng = np.random.default_rng(processes)
    logs = rng.normal(0, 0.056, (40_000, 1)) + rng.normal(0, 0.058, (40_000, processes))
    half = student.ppf(0.975, processes - 1) * logs.std(axis=1, ddof=1) / processes**0.5
    held = (np.abs(logs.mean(axis=1)) <= half).mean()
    assert compute_coverage(processes, 5.6 / 5.8) == pytest.approx(held, abs=0.01)
    assert compute_coverage(processes, 0.0) == pytest.approx(0.95)


def test_values_read_back_are_the_study(published):
    assert from_json(json.dumps(to_json(published, "how"))) == (published, "how")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"command": 1}'])
def test_a_file_without_values_is_named(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    result = CliRunner().invoke(command, ["--from", str(path)])
    assert isinstance(result.exception, LedgerError)
    assert str(path) in str(result.exception)


@pytest.mark.parametrize("arguments", [[], ["results", "--from", str(PUBLISHED.with_suffix(".json"))]])
def test_ledgers_or_values_are_given_and_not_both(arguments, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert "give ledgers" in str(CliRunner().invoke(command, arguments).exception)


def test_timing_md_gives_the_coverage_of_the_study(published):
    text = " ".join((ROOT / "docs" / "timing.md").read_text(encoding="utf-8").split())
    shares = " / ".join(f"{100 * each.share:.0f}" for each in published.coverage)
    assert f"{shares} % of runs at n = 3 / 6 / 10" in text

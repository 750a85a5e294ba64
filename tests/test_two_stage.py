"""`run --until`: Stein's two stages, from the number of processes to the ledger, the table and the audit."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from pathlib import Path

import builders as b
import numpy as np
import pytest
import test_run_cli
import until as study
from test_run_cli import _faked, ledger  # noqa: F401 (a fixture)

from cnnbench import store
from cnnbench.analysis import metrics, stats
from cnnbench.analysis.process_table import read_processes
from cnnbench.analysis.speedup import build_row
from cnnbench.analysis.two_stage import count_needed, find_wide_rows
from cnnbench.cli.main import run_cli
from cnnbench.errors import ExitCode
from cnnbench.runner import run as room
from cnnbench.runner.launch import WorkerExit
from cnnbench.schema import Job, Outcome
from cnnbench.store import Ledger
from cnnbench.verify import intervals
from cnnbench.verify.audit import check_ledger

T2 = 4.302653
"""t(0.975, 2), from any t-table."""
WIDE = (0.010, 0.011, 0.012)


def test_steins_number_is_the_textbook_one() -> None:
    """Logs 0, 0.1, 0.2: s = 0.1, n is (4.302653 x 0.1 / log 1.05)^2 = 77.8, so 78. Without spread the first stage is enough."""
    assert (T2 * 0.1 / math.log(1.05)) ** 2 == pytest.approx(77.77, abs=0.01)
    assert count_needed([0.0, 0.1, 0.2], 0.05) == 78
    assert count_needed([0.0, 0.0, 0.0], 0.05) == 3


def test_the_interval_keeps_the_first_stages_variance_and_degrees() -> None:
    found = stats.two_stage_mean([0.0, 1.0, 2.0, 1.0, 1.0, 1.0], 3)
    assert (found.value, found.n) == (1.0, 6)
    assert found.high - found.value == pytest.approx(T2 / math.sqrt(6), rel=1e-6)


def test_the_audits_own_interval_is_the_same() -> None:
    values = [1.0, 1.2, 0.9, 1.4, 1.1]
    ours, theirs = metrics.geometric_mean(values, 3), intervals.two_stages(values, 3)
    assert ours is not None
    assert (ours.value, ours.low, ours.high, ours.n) == pytest.approx((theirs.value, theirs.low, theirs.high, theirs.n))


def extended(later: Sequence[float], until: str | None = "5%", **fields: object) -> Ledger:
    """A run of three planned processes and `later` ones beyond its plan."""
    records = b.repeats(b.cnn_job(), [*WIDE, *later], **fields)
    run = b.ledger(records)
    options = {} if until is None else {"until": until}
    return Ledger(
        run.path, run.header.model_copy(update={"plan": run.header.plan[:3], "options": options}), run.records
    )


def test_a_row_needs_what_its_first_stage_asks_for_whatever_followed() -> None:
    needed = count_needed([math.log(each) for each in WIDE], 0.05)
    assert needed > 5
    for later in ([], [0.011], [0.5, 0.001]):
        (wide,) = find_wide_rows(extended(later))
        assert wide.more == needed - 3 - len(later)
    assert find_wide_rows(extended([0.011] * (needed - 3))) == ()
    assert find_wide_rows(extended([], until=None)) == ()


def test_a_table_has_steins_interval_of_all_and_ratios_of_the_planned() -> None:
    processes, _ = read_processes([extended([0.011] * 5)])
    row = build_row(processes)
    logs = [math.log(each) for each in (*WIDE, *[0.011] * 5)]
    expected = stats.two_stage_mean(logs, 3).map(math.exp)
    assert row.step_seconds is not None
    assert (row.step_seconds.low, row.step_seconds.n) == (pytest.approx(expected.low), 8)
    assert sorted(row.costs.values()) == pytest.approx(WIDE)
    assert row.outcomes == {"ok": 8}, "nothing is missing"


def test_the_audit_names_a_process_that_nothing_asked_for() -> None:
    assert not [each for each in check_ledger(extended([0.011])) if "not planned" in str(each)]
    assert [each for each in check_ledger(extended([0.011], until=None)) if "not planned" in str(each)]


def noisy(job: Job, options: object, on_progress: object) -> WorkerExit:
    """Processes of size 256 differ by some 10 %, those of 128 not at all."""
    spread = 0.1 if job.size == 256 else 0.0
    seconds = 0.01 * math.exp(spread * (1, -1, 0.5, -0.5, 0, 0.2)[job.round % 6])
    return WorkerExit(Outcome(status="ok", trial=b.trial(job, seconds)), 100.0, 0.0, {})


@pytest.fixture
def two_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(room, "execute", functools.partial(room.execute.func, launcher=noisy))  # of `_faked`
    (tmp_path / "s.toml").write_text(test_run_cli.SUITE.replace("256", "[128, 256]"))


def run(*more: str) -> int:
    return run_cli(["run", "s.toml", "--results", "results", *more])


@pytest.mark.usefixtures("two_rows")
def test_rounds_are_added_to_the_wide_row_alone_until_it_is_narrow(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--until", "5%", "--seed", "1") == ExitCode.DONE
    err = capsys.readouterr().err
    found = ledger()
    sizes = [record.job.size for record in found.records]
    first = [0.1 * each for each in (1, -1, 0.5, -0.5, 0, 0.2)]
    assert (sizes.count(128), sizes.count(256)) == (6, count_needed(first, 0.05))
    assert sizes.count(256) > 6
    assert len({record.job.seed for record in found.records if record.job.size == 256}) == sizes.count(256)
    assert len(found.header.plan) == 12
    assert (found.header.options["until"], find_wide_rows(found)) == ("5%", ())
    assert f"done      {len(sizes)} of {len(sizes)} jobs ok" in err
    assert not list(check_ledger(found))


@pytest.mark.usefixtures("two_rows")
def test_the_time_limit_leaves_a_row_wide_and_resume_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--until", "5%", "--repeats", "4", "--max-minutes", "1e-9") == ExitCode.DONE
    assert "until     1 of 2 rows is wider than 5%; --resume adds rounds" in capsys.readouterr().err
    assert len(ledger().records) == 8
    assert run("--resume") == ExitCode.DONE
    assert find_wide_rows(ledger()) == ()
    assert len(ledger().records) > 8


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--until", "5"), "'5' is not a half-width from 0.1% to 50%, such as 5%"),
        (("--until", "60%"), "'60%' is not a half-width"),
        (("--max-minutes", "3"), "it needs --until, as in --until 5%"),
        (("--until", "5%", "-r", "2"), "at least 3 processes decide how many follow"),
        (("--until", "5%", "--resume"), "a resumed run keeps its own width"),
    ],
)
def test_a_bad_width_is_one_clear_error(more, words, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*more) == ExitCode.USAGE
    assert words in capsys.readouterr().err
    assert not list(Path("results").rglob("*.jsonl"))


def test_a_dry_run_plans_the_first_stage_and_measures_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--until", "5%", "--dry-run", "--json") == ExitCode.DONE
    assert len(json.loads(capsys.readouterr().out)) == 6


def test_an_interrupted_process_of_the_second_stage_is_repeated(tmp_path: Path) -> None:
    run_ = extended([0.011])
    last = run_.records[-1]
    cut = last.model_copy(update={"outcome": Outcome(status="interrupted", message="x")})
    (pending,) = room.list_pending_jobs(run_.header, (*run_.records[:-1], cut))
    assert (pending.index, pending.attempt, pending.job) == (3, 2, last.job)
    path = b.write(tmp_path, Ledger(run_.path, run_.header, run_.records))
    assert find_wide_rows(store.load(path))[0].job.row_key == last.job.row_key


def test_the_simulation_has_the_closed_forms_coverage_where_processes_are_normal() -> None:
    """95 % exactly, within 4 standard errors of 1,000 runs; always narrow; the rule that stops when narrow covers less."""
    found = study.simulate("normal", 6, 1000, np.random.default_rng(1))
    error = math.sqrt(0.95 * 0.05 / 1000)
    assert found.covered / 1000 == pytest.approx(0.95, abs=4 * error)
    assert found.narrow == 1000
    assert found.naive_covered < found.covered


def test_the_committed_page_is_what_its_counts_give() -> None:
    page = Path(study.__file__).with_suffix(".md")
    stored = json.loads(page.with_suffix(".json").read_text())
    counts = [study.CoverageCounts(**each) for each in stored["counts"]]
    assert page.read_text() == study.render(counts, stored["seed"])
    assert {each.noise for each in counts} == set(study.NOISES)
    assert all(each.covered / each.runs > 0.945 for each in counts if each.noise == "normal")

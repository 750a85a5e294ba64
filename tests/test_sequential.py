"""A check from blocks to its end: each verdict, what stops it without one, and that a record replays to the same bytes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from pair_builders import JOBS, block, crash, header, measurer, replay_check, run, run_check, side, span

from cnnbench.errors import ComparisonError, LedgerError, UnfitError, WorkerError
from cnnbench.naming import name_jobs
from cnnbench.paired_protocol import PairRecord
from cnnbench.regression import check_record
from cnnbench.regression.blocks import compute_differences, median_ratio
from cnnbench.regression.check_record import CheckHeader, CheckRecord
from cnnbench.regression.decision import Decision, MetricSeries, Verdict
from cnnbench.regression.sequential import NextBlock, conclude, find_answer, next_step

SLOW = math.log(1.3)


def driven(tmp_path: Path, true: dict[int, float], check: CheckHeader | None = None, **noise: Any) -> CheckRecord:
    check = check or header()
    with check_record.begin_journal(tmp_path / "check.json", check) as journal:
        return run_check(journal, check, (), measurer(true, **noise))


@pytest.mark.parametrize(
    ("true", "outcome", "code", "blocks"),
    [
        ({0: 0.0, 1: 0.0}, "pass", 0, 6),
        ({0: -SLOW, 1: 0.0}, "improved", 0, 6),
        ({0: SLOW, 1: 0.0}, "regressed", 1, 18),
        ({0: math.log(1.05), 1: 0.0}, "inconclusive", 4, 16),
    ],
)
def test_each_verdict_has_its_exit_code_and_takes_the_blocks_of_the_plan(
    true: dict[int, float], outcome: str, code: int, blocks: int, tmp_path: Path
) -> None:
    """Pass after 6; regressed after 8 to suspect and 10 to confirm; the tolerance itself uses up all 16."""
    record = driven(tmp_path, true)
    assert (record.ending.outcome, record.ending.exit_code) == (outcome, code)
    assert len(record.blocks) == blocks
    assert record.ending.lines[0].startswith(outcome.upper())


def test_only_the_jobs_under_suspicion_are_measured_again(tmp_path: Path) -> None:
    """gemm is clean; the geometric mean, slower by half as much, is suspect too here, so a smaller slowdown shows it."""
    record = driven(tmp_path, {0: math.log(1.085), 1: 0.0}, spread=0.001)
    confirming = [block for block in record.blocks if block.stage == "confirming"]
    assert len(confirming) == 10
    assert {tuple(block.base) for block in confirming} == {(0,)}
    named = [line for line in record.ending.lines if "confirmed 10 of 10" in line]
    assert [line.partition(":")[0] for line in named] == ["mnist-cnn/cpu"]


def test_a_replay_writes_the_same_bytes(tmp_path: Path) -> None:
    for place, true in enumerate(({0: SLOW, 1: 0.0}, {0: 0.0, 1: 0.0})):
        folder = tmp_path / str(place)
        record = driven(folder, true)
        check_record.save_record(folder / "check.json", record)
        loaded = check_record.load_record(folder / "check.json")
        assert check_record.to_bytes(replay_check(loaded)) == (folder / "check.json").read_bytes()
        assert not check_record.journal_path(folder / "check.json").exists()
        assert isinstance(find_answer(loaded.header, loaded.blocks), Verdict)


def test_a_record_cut_short_has_no_verdict(tmp_path: Path) -> None:
    record = driven(tmp_path, {0: 0.0, 1: 0.0})
    with pytest.raises(LedgerError, match="takes 6 blocks"):
        conclude(record.header, record.blocks[:5])


def test_an_interrupted_check_goes_on_where_it_was(tmp_path: Path) -> None:
    """Blocks before and after the interrupt are numbered on, and the end is that of a check never interrupted."""
    path = tmp_path / "check.json"
    measure, taken = measurer({0: 0.0, 1: 0.0}), []

    def until_third(number: int, wanted: NextBlock) -> PairRecord:
        if number == 3:
            raise KeyboardInterrupt
        taken.append(number)
        return measure(number, wanted)

    with check_record.begin_journal(path, header()) as journal, pytest.raises(KeyboardInterrupt):
        run_check(journal, header(), (), until_third)
    journal, old, blocks = check_record.reopen_journal(path)
    assert (old, [each.number for each in blocks]) == (header(), [0, 1, 2])
    with journal:
        record = run_check(journal, old, blocks, measure)
    assert record == driven(tmp_path / "whole", {0: 0.0, 1: 0.0})


def test_a_journal_torn_in_its_last_line_loses_that_block_alone(tmp_path: Path) -> None:
    path = tmp_path / "check.json"
    with check_record.begin_journal(path, header()) as journal:
        for number in range(2):
            journal.append(block(number))
    with check_record.journal_path(path).open("ab") as file:
        file.write(b'{"kind":"block","number":2')
    journal, _, blocks = check_record.reopen_journal(path)
    with journal:
        journal.append(block(2))
    assert [each.number for each in blocks] == [0, 1]
    journal, _, blocks = check_record.reopen_journal(path)
    journal.close()
    assert [each.number for each in blocks] == [0, 1, 2]


def test_a_journal_has_one_writer(tmp_path: Path) -> None:
    path = tmp_path / "check.json"
    with check_record.begin_journal(path, header()):
        with pytest.raises(LedgerError, match="--resume"):
            check_record.begin_journal(path, header())
        with pytest.raises(LedgerError, match="still running"):
            check_record.reopen_journal(path)
    with pytest.raises(LedgerError, match="no unfinished check"):
        check_record.reopen_journal(tmp_path / "other.json")


def test_a_failed_block_is_measured_again_and_the_third_ends_the_check(tmp_path: Path) -> None:
    measured = [block(0), block(1, failure=crash()), block(2, failure=crash("base"))]
    assert next_step(header(), measured).answer == NextBlock("screening", (0, 1), 6, 1)
    measured.append(block(3, failure=crash()))
    with pytest.raises(WorkerError, match="3 of 4 blocks failed; the last, head: crashed"):
        next_step(header(), measured)
    record = conclude(header(), measured)
    assert (record.ending.outcome, record.ending.exit_code) == ("failed", 5)
    assert check_record.to_bytes(replay_check(record)) == check_record.to_bytes(record)


def test_what_a_fresh_process_would_only_say_again_is_not_tried_again() -> None:
    with pytest.raises(WorkerError, match="unsupported"):
        next_step(header(), [block(0, failure=crash(status="unsupported"))])
    with pytest.raises(ComparisonError, match="outdated"):
        next_step(header(), [block(0, failure=crash(status="outdated"))])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": 2303}, "images: head 2,303, base 2,304"),
        ({"order_digest": "cd"}, "another order"),
        ({"first_losses": (2.3, 2.2, 2.1, 2.0, 2.9)}, "loss of step 5"),
        ({"flops": 900}, "model FLOPs"),
    ],
)
def test_arms_that_did_other_work_are_not_compared(changes: dict[str, Any], words: str) -> None:
    """However much faster the one with less to do was."""
    done = [block(0), block(1, -SLOW, head_work=changes)]
    with pytest.raises(ComparisonError, match=words):
        next_step(header(), done)
    assert conclude(header(), done).ending.exit_code == 3


def test_what_was_declared_different_is_not_compared() -> None:
    """Another order draws other batches and so has other losses; less work is still less work."""
    other = {"order_digest": "cd", "first_losses": (1.0,) * 5}
    assert isinstance(next_step(header(declared=("order",)), [block(0, head_work=other)]).answer, NextBlock)
    with pytest.raises(ComparisonError, match="images"):
        next_step(header(declared=("order",)), [block(0, head_work={**other, "images": 1})])


def test_a_final_loss_outside_the_calibrated_band_is_other_work() -> None:
    done = [block(0, head_work={"final_loss": 0.6})]
    assert isinstance(next_step(header(), done).answer, NextBlock)
    with pytest.raises(ComparisonError, match="calibrated spread"):
        next_step(header(final_loss_bands={0: 0.05}), done)


def test_disturbed_blocks_are_replaced_and_too_many_end_the_check() -> None:
    """0.5 s stolen of 10 s on two cores is 2.5 %, above the 1 % declared; told by no step time."""
    blocks = [block(n, steal_seconds=0.5 if n == 1 else 0.0) for n in range(7)]
    judged = next_step(header(), blocks)
    assert isinstance(judged.answer, Verdict)
    assert list(judged.dropped) == [1]
    assert "1 blocks were dropped" in conclude(header(), blocks).ending.notes[0]
    assert isinstance(next_step(header(), blocks[:6]).answer, NextBlock)
    with pytest.raises(UnfitError, match="--keep-disturbed"):
        next_step(header(), [block(n, steal_seconds=0.5) for n in range(8)])
    assert next_step(header(limits=None), [block(n, steal_seconds=0.5) for n in range(6)]).dropped == {}


def test_time_that_is_used_up_ends_the_check_at_the_next_look_and_says_so() -> None:
    """20 s per block and 2.5 minutes: the look after 6 blocks comes at 2 minutes, the one after 8 at 2:40."""
    near = math.log(1.05)
    check = header(max_minutes=2.5)
    blocks = [block(n, near + (-1) ** n * 0.01) for n in range(8)]
    assert next_step(check, blocks[:6]).answer == NextBlock("screening", (0, 1), 8, 6)
    assert next_step(check, blocks[:7]).answer == NextBlock("screening", (0, 1), 8, 7)
    record = conclude(check, blocks)
    assert (record.ending.outcome, record.ending.exit_code) == ("inconclusive", 4)
    assert "2.5 minutes were used up" in record.ending.lines[-1]


def test_time_that_is_used_up_leaves_a_suspicion_unconfirmed_not_a_regression() -> None:
    record = conclude(header(max_minutes=1), [block(n, SLOW) for n in range(6)])
    assert record.ending.outcome == "inconclusive"
    late = conclude(header(max_minutes=2.5), [block(n, SLOW) for n in range(8)])
    assert late.ending.outcome == "inconclusive"
    assert any("suspect" in line for line in late.ending.lines)


def test_inconclusive_may_be_a_warning() -> None:
    blocks = [block(n, math.log(1.05) + (-1) ** n * 0.01) for n in range(16)]
    assert conclude(header(), blocks).ending.exit_code == 4
    warned = conclude(header(on_inconclusive="warn", advisory="too noisy"), blocks).ending
    assert (warned.outcome, warned.exit_code) == ("inconclusive", 0)
    assert "advisory: too noisy" in warned.notes


def test_in_turns_a_drift_slower_than_a_round_cancels_and_a_stall_shows_in_the_mean_alone() -> None:
    """Both arms twice as slow at the end as at the start: d is 0. One round of head 100 times slower: the median is 0."""
    drift = [0.01 * (1 + n / 5) for n in range(6)]
    assert median_ratio(run(drift), run(drift), "turns") == 0
    stalled = [0.01] * 5 + [1.0]
    assert median_ratio(run(0.01), run(stalled), "turns") == 0
    whole = block(0).model_copy(update={"head": {0: run(stalled), 1: run(0.01)}})
    found = compute_differences(header(), [whole], (0,))
    assert found[MetricSeries("mnist-cnn/cpu")] == [0.0]
    (mean,) = found[MetricSeries("mnist-cnn/cpu", "mean step", gated=False)]
    assert mean == pytest.approx(math.log((5 * 0.01 + 1.0) / 0.06))


def test_the_metric_asked_for_decides_and_the_other_advises() -> None:
    gated = {series.metric for series in compute_differences(header(metric="mean"), [block(0)], (0,)) if series.gated}
    assert gated == {"mean step"}


def test_one_after_the_other_each_process_has_its_own_state() -> None:
    check = header(mode="sequential")
    done = block(0, SLOW).model_copy(update={"spans": {"base": span(), "head": span(0.5)}})
    assert list(next_step(check, [done]).dropped) == [0]
    found = compute_differences(check, [done], (0,))
    assert found[MetricSeries("mnist-cnn/cpu")] == [pytest.approx(SLOW)]


def test_jobs_of_one_name_are_told_apart_by_what_differs() -> None:
    one, two = JOBS[0], JOBS[0].model_copy(update={"batch_size": 64, "seed": 9})
    assert name_jobs([one, two, JOBS[1]]) == (
        "mnist-cnn/cpu batch_size=128",
        "mnist-cnn/cpu batch_size=64",
        "gemm/cpu",
    )


def test_an_edited_record_is_not_what_it_says(tmp_path: Path) -> None:
    """A pass whose blocks say otherwise replays to another ending."""
    record = driven(tmp_path, {0: SLOW, 1: 0.0})
    clean = driven(tmp_path / "clean", {0: 0.0, 1: 0.0})
    assert replay_check(record.model_copy(update={"ending": clean.ending})).ending != clean.ending
    assert record.header.base == side()
    assert find_answer(record.header, record.blocks).decision == Decision.REGRESSED  # type: ignore[union-attr]

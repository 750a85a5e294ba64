"""Runs recorded one after another, for tests of baselines and histories: a step time for each run, the rest alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import builders as b

from cnnbench.analysis import process_table
from cnnbench.regression.saved_baseline import SavedBaseline, make_baseline
from cnnbench.regression.screen import ScreeningResult, screen_run
from cnnbench.schema import Evaluation, Job
from cnnbench.store import Ledger

COMMIT = "0123456789abcdef0123456789abcdef01234567"
STEPS = (0.0100, 0.0102, 0.0101, 0.0099, 0.0103, 0.0100, 0.0101, 0.0098, 0.0102, 0.0100)
MEASURED: dict[str, Any] = {"parameters": 1_378_698, "operators_per_step": 85}


def run(
    number: int,
    step_seconds: float,
    *,
    job: Job | None = None,
    processes: int = 3,
    correct: Sequence[int] = (9_700, 9_702, 9_698),
    commit: str | None = COMMIT,
    software: dict[str, Any] | None = None,
    run_id: str | None = None,
    machine: Any = None,
    protocol: int = 1,
    **measured: Any,
) -> Ledger:
    """Run `number` (its day of March 2026): processes 1 % apart around `step_seconds`."""
    job = job or b.cnn_job()
    records = []
    for place in range(processes):
        known = MEASURED | measured
        if job.final_evaluation:
            test = Evaluation(after_steps=150, images=10_000, correct=correct[place % len(correct)], seconds=1.0)
            known = {"test": test} | known
        each = job.model_copy(update={"round": place, "seed": 100 * number + place})
        seconds = step_seconds * (1 + (place - 1) / 100)
        records.append(b.record(each, seconds, index=place, protocol=protocol, **known))
    return b.ledger(
        records,
        run_id=run_id or f"202603{number:02d}T120000Z-{number:04x}",
        created_at=f"2026-03-{number:02d}T12:00:00Z",
        software=b.software(git_commit=commit, git_dirty=None if commit is None else False, **(software or {})),
        machine=machine,
    )


def runs(steps: Sequence[float] = STEPS, **fields: Any) -> list[Ledger]:
    """A run a step time, on the 1st of March and the days after."""
    return [run(number, seconds, **fields) for number, seconds in enumerate(steps, start=1)]


def saved(ledgers: Sequence[Ledger], name: str = "main") -> SavedBaseline:
    """The baseline of these runs."""
    processes, _ = process_table.read_processes(ledgers, as_recorded=True)
    return make_baseline(name, processes, "2026-04-01T00:00:00Z")[0]


def held(baseline: SavedBaseline, ledger: Ledger) -> ScreeningResult:
    """The run against the baseline."""
    processes, _ = process_table.read_processes([ledger])
    return screen_run(baseline, ledger.header, processes)


def standings(judgement: ScreeningResult) -> dict[str, str]:
    """The verdict of each metric; for judgements of one row."""
    return {found.metric: found.status.value for found in judgement.findings}

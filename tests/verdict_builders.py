"""Verdicts of the regression check that have every kind of finding, made by the real decision from chosen differences."""

from __future__ import annotations

import math
from typing import Any

from cnnbench.errors import LedgerError
from cnnbench.regression.decision import Continue, MetricSeries, Observations, Verdict, decide
from cnnbench.regression.design import CheckPlan
from cnnbench.regression.verdict_text import VerdictContext

PLAN = CheckPlan()
SPREAD = (0.3, -0.2, 0.1, -0.3, 0.2, -0.1, 0.15, -0.15, 0.25, -0.25, 0.05, -0.05, 0.12, -0.12, 0.22, -0.22)


def replay_decision(screening: Observations, confirming: Observations, plan: CheckPlan) -> Verdict:
    """The verdict that recorded blocks lead to, the same as live. Raises LedgerError where they end before it."""
    answer = decide(screening, plan)
    if isinstance(answer, Continue) and answer.series and confirming:
        answer = decide(confirming, plan, answer)
    if isinstance(answer, Continue):
        stage = "confirmation" if answer.series else "screening"
        raise LedgerError(f"the record ends before the verdict: the {stage} takes {answer.blocks} blocks of each job")
    return answer


def differences(ratio: float, spread: float = 0.02, n: int = 16) -> list[float]:
    """d about log(ratio), spread evenly on both sides."""
    return [math.log(ratio) + spread * each for each in SPREAD[:n]]


def mixed(names: tuple[str, str, str, str] = ("slow", "fast", "noisy", "same")) -> Verdict:
    """REGRESSED: one job 9 % slower and confirmed, one twice as fast, one too noisy to tell, one unchanged; and advice."""
    slow, fast, noisy, same = map(MetricSeries, names)
    advice = MetricSeries(names[0], "mean step", gated=False)
    screening = {
        slow: differences(1.09),
        fast: differences(0.5),
        noisy: differences(1.02, 0.8),
        same: differences(1.0),
        advice: differences(1.09),
    }
    return replay_decision(screening, {slow: differences(1.09, n=10)}, PLAN)


def clean() -> Verdict:
    """PASS: two jobs unchanged."""
    return replay_decision({MetricSeries("a"): differences(1.0), MetricSeries("b"): differences(1.0)}, {}, PLAN)


def meta(**fields: Any) -> VerdictContext:
    """The conditions of a check."""
    known: dict[str, Any] = {
        **{
            "title": "cnnbench check regression",
            "suite": "regression",
            "base": "main at 4f3a2b1",
            "head": "topic at 9c8d7e6",
        },
        **{"machine_id": "testbox-0a1b", "seed": 7, "started_at": "2026-03-01T12:00:00Z", "minutes": 3.4},
        **{"base_software": "torch 2.13.0+cpu", "head_software": "torch 2.13.0+cpu"},
        **{"controls": {"slow": math.log(1.001)}, "job_seconds": {"slow": 61.25, "fast": 30.5}, "blocks_measured": 19},
        **{"dropped": {2: "other guests took 3.1 % of the CPU time, allowed are 1.0 %"}},
        **{"files": ("check.json",), "missing": {}, "notes": ()},
    }
    return VerdictContext(**(known | fields))

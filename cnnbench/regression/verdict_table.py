"""What every surface of a verdict says, whatever its format: the columns of its table and the conditions it was found under.

Enters a verdict and a `VerdictContext`, what the command knows besides; leave plain words. Nothing is escaped here: names and
messages are data, and each format of `report` writes them so that they do nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from cnnbench import units
from cnnbench.regression.exclusion import DroppedBlock
from cnnbench.regression.verdict import GEOMETRIC_MEAN, Decision, SeriesFinding, Verdict
from cnnbench.regression.verdict_text import format_change, format_estimate, format_tolerance

NOTHING_TO_SAY = "–"
"""Stands where there is nothing to say; what is unknown is n/a."""


@dataclass(frozen=True)
class VerdictContext:
    """The conditions of a check that its verdict does not know. The tolerance is the verdict's plan's."""

    title: str
    """The title of the whole, such as `cnnbench check regression`."""
    suite: str
    base: str
    head: str
    """The arms by name: revisions, environments or settings."""
    machine_id: str
    base_software: str
    head_software: str
    """Versions that matter, in words: `torch 2.13.0+cpu, Python 3.11.7`."""
    seed: int
    """Of the coins that drew the order."""
    started_at: str
    """UTC, ISO 8601."""
    minutes: float
    """From start to verdict."""
    controls: Mapping[str, float] = field(default_factory=dict)
    """The control loop's log ratio by job."""
    job_seconds: Mapping[str, float] = field(default_factory=dict)
    """How long a job's processes ran, both arms and all blocks; jobs of unknown length are left out."""
    blocks_measured: int | None = None
    """Of both stages, dropped ones too."""
    dropped: tuple[DroppedBlock, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    """Jobs that brought no observation, and why; missing is not passed."""
    suite_file: str | None = None
    """Path in the repository, for annotations."""
    files: tuple[str, ...] = ()
    """Where the record and what was made of it are."""
    notes: tuple[str, ...] = ()
    """What a reader must know besides: that the check is advisory here, or that it stopped at its time limit."""


@dataclass(frozen=True)
class SeriesColumn:
    """A column of the table of series."""

    title: str
    number: bool = True


def list_columns(verdict: Verdict) -> tuple[SeriesColumn, ...]:
    """The columns that `format_row` fills."""
    return (
        SeriesColumn("series", number=False),
        SeriesColumn("decision", number=False),
        SeriesColumn("slower by, with 95 % interval"),
        SeriesColumn(f"pairs slower than {format_tolerance(verdict.plan)}"),
        SeriesColumn("confirmed by fresh pairs"),
        SeriesColumn(f"would be found in {units.percent(verdict.plan.power, 0)} of checks"),
        SeriesColumn("control"),
    )


def format_row(finding: SeriesFinding, meta: VerdictContext) -> tuple[str, ...]:
    """One series in words, a text a column."""
    return (
        format_label(finding),
        format_decision(finding),
        format_estimate(finding),
        f"{finding.slower} of {finding.blocks}",
        _format_confirmation(finding),
        "nothing" if finding.detectable is None else format_change(finding.detectable),
        _format_control(finding, meta),
    )


def format_label(finding: SeriesFinding) -> str:
    """The series by name; one that does not decide says so."""
    return finding.series.label if finding.series.gated else f"{finding.series.label} (advisory)"


def format_decision(finding: SeriesFinding) -> str:
    """`REGRESSED`, `INCONCLUSIVE, suspect`: a suspicion that was not confirmed, or not looked into, is said."""
    word = finding.decision.value.upper()
    return f"{word}, suspect" if finding.suspect and finding.decision == Decision.INCONCLUSIVE else word


def list_conditions(verdict: Verdict, meta: VerdictContext) -> tuple[tuple[str, str], ...]:
    """Name and text of everything the verdict depends on, in the order of reading."""
    gated = sum(finding.series.gated for finding in verdict.findings)
    bound = units.percent(verdict.plan.false_alarm_bound(gated), 3)
    found = [
        ("base", f"{meta.base} ({meta.base_software})"),
        ("head", f"{meta.head} ({meta.head_software})"),
        ("suite", meta.suite),
        ("machine", meta.machine_id),
        ("tolerance", format_tolerance(verdict.plan)),
        ("false alarms", f"at most {bound} of checks of {gated} series, whatever the noise"),
        ("blocks", _format_blocks(verdict, meta)),
        *((f"block {each.block + 1} dropped", each.reason) for each in meta.dropped),
        *((f"missing: {job}", reason) for job, reason in meta.missing.items()),
        ("order", f"drawn by coins from seed {meta.seed}"),
        ("started", f"{meta.started_at}, took {units.duration(60 * meta.minutes)}"),
        *(("file", name) for name in meta.files),
        *(("note", note) for note in meta.notes),
    ]
    return tuple(found)


def to_ratio(log_ratio: float) -> float:
    """Head's time over base's."""
    return math.exp(log_ratio)


def _format_confirmation(finding: SeriesFinding) -> str:
    fresh = finding.confirmation
    if fresh is None:
        return NOTHING_TO_SAY
    return f"{'yes' if fresh.holds else 'no'}, {fresh.slower} of {fresh.blocks}"


def _format_control(finding: SeriesFinding, meta: VerdictContext) -> str:
    known = meta.controls.get(finding.series.job)
    if known is not None:
        return format_change(known)
    return NOTHING_TO_SAY if finding.series.job == GEOMETRIC_MEAN else units.NOT_AVAILABLE


def _format_blocks(verdict: Verdict, meta: VerdictContext) -> str:
    fresh = max((each.confirmation.blocks for each in verdict.findings if each.confirmation), default=0)
    parts = [f"{verdict.blocks} of two fresh processes each", *([f"{fresh} fresh ones to confirm"] if fresh else [])]
    if meta.blocks_measured is not None:
        parts.append(f"{len(meta.dropped)} of {meta.blocks_measured} measured were dropped by rule, blind to the times")
    return "; ".join(parts)

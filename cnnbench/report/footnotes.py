"""What stands under the tables: the rules the figures follow, why some are n/a, and what a reader must not overlook."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from cnnbench import naming, units
from cnnbench.analysis import metrics
from cnnbench.analysis.metrics import job_flops, name_baseline, pretraining_flops, step_flops
from cnnbench.analysis.ratio import PublishedResult
from cnnbench.analysis.rows import Row
from cnnbench.analysis.speedup import Comparison
from cnnbench.analysis.stats import MINIMUM_FOR_MEDIAN
from cnnbench.report.escaping import plain
from cnnbench.report.model import Note, NoteKind
from cnnbench.schema import PROTOCOL, Job, PublishedRow

CLOCKS = {
    "accuracy": "time to accuracy, first crossing: first batch drawn to the end of the first evaluation on all test images that "
    "reaches the target, every evaluation counted, build and compile outside",
    "job": "job, first batch drawn to last step synchronised, data and evaluations inside, build and compile outside",
    "recipe": "fixed recipe, the decompressed and verified digits opened to the end of the one evaluation on all test images, a "
    "schedule fixed before the seeds are drawn, build and compile outside",
    "steady": "steady state, blocks of steps after warm-up, data inside, device synchronised at both ends",
}
GEMM_CLOCK = "blocks of products after warm-up, device synchronised at both ends; one product is 2 x size^3 FLOP"
MOST_PROBLEMS = 20
FIRST_GAP, GEMM_GAPS = "ceiling", ("peak", "achieved")
"""The column whose gap is noted first, since most others follow from it, and the only gaps of a matrix product."""


def list_clocks(jobs: Iterable[Job]) -> str:
    """The clock rules of these jobs."""
    return "; ".join(CLOCKS[name] for name in sorted({job.clock for job in jobs}))


def build_row_notes(row: Row) -> tuple[str, ...]:
    """What a reader of this row alone must know."""
    notes = [f"{figure} n/a: {plain(reason)}" for figure, reason in _missing(row)]
    if row.accuracy is not None and row.accuracy.data == "synthetic":
        notes.append("accuracy is on synthetic digits")
    if row.speedup is not None and row.speedup.baseline_torch != row.software.torch:
        torch, own = plain(row.speedup.baseline_torch), plain(row.software.torch)
        notes.append(f"the baseline ran under torch {torch}, this row under {own}")
    return (*notes, *(f"doubt: {plain(doubt.message)}" for doubt in row.doubts), *map(plain, row.failures))


def build(
    comparison: Comparison,
    published_rows: Sequence[PublishedResult],
    problems: Iterable[str],
    digests: Mapping[str, str],
) -> tuple[Note, ...]:
    """All notes in the order they are printed: what could mislead first, then rules, gaps, sources, conditions."""
    rows = comparison.rows
    return tuple(
        dict.fromkeys(
            (
                *_warnings(rows),
                *_doubts(rows),
                *(Note("rule", text) for text in _write_rules(rows, comparison)),
                *_gaps(rows),
                *build_published_notes(published_rows),
                *build_run_notes(rows),
                *_hidden(rows),
                *build_ledger_notes(rows, digests),
                *build_problem_notes(sorted(set(problems))),
            )
        )
    )


def _warnings(rows: Sequence[Row]) -> Iterator[Note]:
    if any(row.job.data == "synthetic" for row in rows):
        yield Note(
            "warning",
            "SYNTHETIC DATA: the digits were made by a procedure, they are not MNIST. Times are the real work's; "
            "accuracies compare with no others. For MNIST: cnnbench data fetch.",
        )
    for row in rows:
        name = f"{naming.processor_name(row.device)}, {naming.short_name(row.job)}"
        # What a device cannot do is an answer; it misleads nobody, and stands with the figures that are n/a.
        kind: NoteKind = "missing" if set(row.outcomes) <= {"unsupported"} else "warning"
        yield from (Note(kind, f"{name}: {plain(failure)}") for failure in row.failures)
        baseline = row.speedup
        if baseline is not None and baseline.baseline_torch != row.software.torch:
            torch, other = plain(row.software.torch), plain(baseline.baseline_torch)
            yield Note("warning", f"{name}: torch {torch}, its baseline torch {other}")
    if any(row.protocol != PROTOCOL for row in rows):
        yield Note("warning", "Rows of another protocol (timing rule) stand apart and do not compare with these.")


def _doubts(rows: Sequence[Row]) -> list[Note]:
    """Each doubt once, with the rows it is about; a row is named by its processor and its job in short."""
    who: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows:
        name = f"{naming.processor_name(row.device)} {naming.short_name(row.job, size=True)}"
        for doubt in row.doubts:
            who.setdefault((doubt.message, doubt.remedy), {})[name] = None
    return [
        Note("doubt", f"Doubt ({join_names(list(names))}): {plain(message)}. {remedy}")
        for (message, remedy), names in who.items()
    ]


def _write_rules(rows: Sequence[Row], comparison: Comparison) -> Iterator[str]:
    """How the figures shown are to be read."""
    training = [row for row in rows if row.job.workload != "gemm"]
    if any(row.job_kind == "projected" and row.job_seconds is not None for row in training):
        yield "~ is projected, not measured: mean steady step x steps of the job, no evaluations in it."
    yield from _write_target_rules(training)
    baselines = sorted({name for row in training if (name := name_baseline(row)) is not None})
    if baselines:
        key, names = comparison.baseline, "; ".join(baselines)
        whom = f"the CPU baseline ({names})" if key is None else f"{plain(key)} ({names})"
        text = f"Speed-up: time of {whom} over the row's, same work{', same machine' if key is None else ''}"
        yield f"{text}; paired by round where both ran in it."
    published = comparison.published_cpu
    if published is not None and any(row.speedup_over_published is not None for row in training):
        seconds = units.count(published.job_seconds)
        yield (
            f"Over the {plain(published.processor)}: its published {seconds} s over the row's time of the same job (assumed: "
            f"the source does not say what was timed); {published.year}'s software, one run, taken as exact."
        )
    for row in rows:
        if row.peak_flops_per_second is not None and row.peak_origin is not None:
            yield f"Theoretical, {naming.processor_name(row.device)} {row.job.precision}: {plain(row.peak_origin)}."
    if any(row.ok >= 3 for row in rows):
        yield "Intervals: 95 %, Student's t between fresh processes (n), on logs for times and ratios; all in json, csv."
    if any(row.accuracy is not None and row.ok == 1 for row in training):
        yield "Accuracy of one process: Wilson's interval, for the choice of test images alone."


def _write_target_rules(rows: Sequence[Row]) -> Iterator[str]:
    """What holds for all figures of rows to a target, and for those of rows that are pre-trained."""
    own = [row for row in rows if row.job.clock == "accuracy"]
    if own:
        yield (
            "Time to accuracy is over seeds: the median with its distribution-free interval (order statistics, at least 95 %, "
            f"from {MINIMUM_FOR_MEDIAN} seeds on). A seed that missed the target counts in n, in the median as later than "
            "all others; then there is no mean and no slowest. What crashed is no seed."
        )
    if any(row.speedup is not None for row in own):
        yield (
            "Speed-ups of rows to a target are of their mean step: how many steps a seed needs is chance in the seed, not "
            "speed of the processor."
        )
    if any(row.accuracy is not None for row in own):
        yield (
            "Test accuracy of a row to a target is that of the evaluations that reached it: not below the target by "
            "construction."
        )
    yield from _pretraining_rules(rows)


def _pretraining_rules(rows: Sequence[Row]) -> list[str]:
    """That FLOP/s are of the fine-tuning, and what a whole job of fixed length comes to; once a network and batch."""
    found: dict[str, str] = {}
    for row in rows:
        before, step, whole = pretraining_flops(row.job), step_flops(row.job), job_flops(row.job)
        if row.pretraining_seconds is None or before is None or step is None:
            continue
        text = (
            f"{plain(row.job.workload)} is pre-trained first, inside its clock: FLOP/s, MFU, images and the step are of the "
            f"fine-tuning. Pre-training is {units.giga(before)} GFLOP, a step after it {units.giga(step)} GFLOP"
        )
        fixed = whole is not None and row.job.timed_whole and not row.job.stop_when_all_right
        length = f", the whole job of {units.count(row.job.job_steps)} steps {units.giga(whole)} GFLOP" if fixed else ""
        found[text] = length or found.get(text, "")
    return [f"{text}{length}." for text, length in found.items()]


def _gaps(rows: Sequence[Row]) -> list[Note]:
    """Each reason once, with the processors it holds for."""
    who: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows:
        for gap in _missing(row):
            who.setdefault(gap, {})[f"{naming.processor_name(row.device)} {row.job.precision}"] = None
    return [
        Note("missing", f"n/a, {figure}: {plain(reason)} ({join_names(list(names))}).")
        for (figure, reason), names in who.items()
    ]


def join_names(names: Sequence[str], most: int = 4) -> str:
    """The first names and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return "; ".join(names[:most]) + more


def _missing(row: Row) -> list[tuple[str, str]]:
    """What of the row is n/a, in a note's words, and why."""
    gaps = [metric for metric in metrics.METRICS if metric.gap and metric.column_key in row.missing]
    gaps.sort(key=lambda metric: metric.column_key != FIRST_GAP)
    if row.job.workload == "gemm":
        gaps = [metric for metric in gaps if metric.column_key in GEMM_GAPS]
    return [(metric.gap, row.missing[metric.column_key]) for metric in gaps]


def build_published_notes(published_rows: Sequence[PublishedResult]) -> list[Note]:
    """The published rows' notes; a clause that several rows share is said once."""
    if not published_rows:
        return []
    clauses = {found.published.processor: (found.published.note or "").split("; ") for found in published_rows}
    shared = [clause for clause, n in Counter(c for each in clauses.values() for c in each if c).items() if n > 1]
    source = "; ".join(map(plain, (published_rows[0].published.source, *shared)))
    notes = [Note("reference", f"{published_rows[0].published.year}: {source}.")]
    for found in published_rows:
        row = found.published
        parts = [
            *_printed_values(row),
            *(clause for clause in clauses[row.processor] if clause not in shared),
            row.theoretical_note,
        ]
        joined = "; ".join(plain(part) for part in parts if part)
        notes.append(Note("reference", f"{plain(row.processor)}: {joined}."))
    return notes


def build_problem_notes(problems: Sequence[str]) -> list[Note]:
    """The first ones and how many more: a damaged ledger has one a line, and they would bury the rest."""
    notes = [Note("problem", plain(text)) for text in problems[:MOST_PROBLEMS]]
    if len(problems) > MOST_PROBLEMS:
        notes.append(Note("problem", f"... and {len(problems) - MOST_PROBLEMS} more problems in these files."))
    return notes


def _printed_values(row: PublishedRow) -> tuple[str, ...]:
    """What stands on the slide, where it differs from the figure shown."""
    flops, speedup = row.printed_flops_per_second, row.printed_speedup
    same = None if flops is None else f"{flops / 1e9:g} GFLOPS"
    texts = [] if row.printed_flops_text in (None, same) else [f'"{row.printed_flops_text}"']
    texts += [] if speedup in (None, 1) else [f"{speedup:g}x"]
    return (f"printed {' and '.join(texts)}",) if texts else ()


def build_ledger_notes(rows: Sequence[Row], digests: Mapping[str, str]) -> list[Note]:
    """Where each ledger ended when this was made: what `cnnbench audit` holds the ledger against.

    A run that has no row here is listed too if a row's measured peak is from it.
    """
    runs = {(row.machine.id, run) for row in rows for run in (row.run_id, row.ceiling_run_id) if run is not None}
    return [
        Note("run", f"Ledger {plain(machine)}/{plain(run)} sha256:{digests[run][:16]}")
        for machine, run in sorted(runs)
        if run in digests
    ]


def build_condition_notes(
    rows: Sequence[Row], problems: Iterable[str], digests: Mapping[str, str] | None
) -> list[Note]:
    """The runs of the rows shown, where their ledgers ended, and what was odd on the way: the end of every report."""
    return [
        *build_run_notes(rows),
        *build_ledger_notes(rows, digests or {}),
        *build_problem_notes(sorted(set(problems))),
    ]


def build_run_notes(rows: Sequence[Row]) -> list[Note]:
    """The conditions of each run the rows are of, one line a run."""
    notes: list[Note] = []
    for row in sorted(rows, key=lambda each: (each.machine.id, each.created_at, each.run_id)):
        software, machine = row.software, row.machine
        commit = "" if software.git_commit is None else f" at {software.git_commit[:10]}"
        dirty = " with local changes" if software.git_dirty else ""
        notes.append(
            Note(
                "run",
                f"Run {plain(row.run_id)} on {plain(machine.id)}: {machine.cores_allowed} of {machine.cores_logical} cores "
                f"allowed, torch {plain(software.torch)} ({plain(software.torch_build)}), Python {plain(software.python)}, "
                f"cnnbench {plain(software.cnnbench)}{commit}{dirty}.",
            )
        )
    return list(dict.fromkeys(notes))


def _hidden(rows: Sequence[Row]) -> list[Note]:
    hidden = [row.other_runs for row in rows if row.other_runs]
    if not hidden:
        return []
    have = "1 row has" if len(hidden) == 1 else f"{len(hidden)} rows have"
    text = f"{have} other runs too ({sum(hidden)} in all), not pooled and not shown: --all-runs lists each."
    return [Note("run", text)]

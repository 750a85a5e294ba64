"""What stands under the tables: the rules the figures follow, why some are n/a, and what a reader must not overlook."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from cnnbench import naming, units
from cnnbench.analysis.speedup import Comparison, PublishedResult, Row
from cnnbench.report import cells, time_to_accuracy
from cnnbench.report.escaping import plain
from cnnbench.report.model import Note, NoteKind
from cnnbench.schema import PROTOCOL, PublishedRow

CLOCKS = {
    "accuracy": "time to accuracy, first crossing: first batch drawn to the end of the first evaluation on all test images that "
    "reaches the target, every evaluation counted, build and compile outside",
    "job": "job, first batch drawn to last step synchronised, data and evaluations inside, build and compile outside",
    "recipe": "fixed recipe, the decompressed and verified digits opened to the end of the one evaluation on all test images, a "
    "schedule fixed before the seeds are drawn, build and compile outside",
    "steady": "steady state, blocks of steps after warm-up, data inside, device synchronised at both ends",
}
GEMM_CLOCK = "blocks of products after warm-up, device synchronised at both ends; one product is 2 x size^3 FLOP"
RESOURCE_CLOCK = (
    "memory marks are of the timed steps alone, process and data included; activations are one image's forward pass; energy "
    "is a window of at least 10 s of further steps; cold start is process spawn to first step"
)
BOUND_CLOCK = (
    "floors are the best of 5 in the same process: operators x smallest operator, bytes moved at copy speed, FLOPs at the "
    "best GEMM of the same run, one batch drawn; without that GEMM the highest floor is unknown, so nothing is said to bind"
)

METRIC_NAMES = {
    "ceiling": "measured peak, of peak, compute floor",
    "peak": "theoretical FLOP/s",
    "flops": "achieved FLOP/s",
    "job": "time of the job",
    "speedup": "speed-up",
    "versus_reference": "speed-up over the published CPU",
    "host_peak": "host peak",
    "device_peak": "device memory",
    "accuracy": "test accuracy",
    "energy": "energy",
    "to_target_median": "median time to accuracy",
    "to_target_mean": "mean and slowest time to accuracy",
}
MOST_PROBLEMS = 20
_GEMM_METRICS = ("peak", "flops")


def build_row_notes(row: Row) -> tuple[str, ...]:
    """What a reader of this row alone must know."""
    notes = [f"{METRIC_NAMES[figure]} n/a: {plain(reason)}" for figure, reason in _missing(row)]
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
                *_rules(rows, comparison),
                *_gaps(rows),
                *build_published_notes(published_rows),
                *build_run_notes(rows),
                *_hidden(rows),
                *build_ledger_notes(rows, digests),
                *build_problem_notes(sorted(set(problems))),
            )
        )
    )


def _warnings(rows: Sequence[Row]) -> list[Note]:
    notes: list[Note] = []
    if any(row.job.data == "synthetic" for row in rows):
        notes.append(
            Note(
                "warning",
                "SYNTHETIC DATA: the digits were made by a procedure, they are not MNIST. Times are the real work's; "
                "accuracies compare with no others. For MNIST: cnnbench data fetch.",
            )
        )
    for row in rows:
        name = f"{naming.processor_name(row.device)}, {naming.short_name(row.job)}"
        # What a device cannot do is an answer; it misleads nobody, and stands with the figures that are n/a.
        kind: NoteKind = "missing" if set(row.outcomes) <= {"unsupported"} else "warning"
        notes.extend(Note(kind, f"{name}: {plain(failure)}") for failure in row.failures)
        baseline = row.speedup
        if baseline is not None and baseline.baseline_torch != row.software.torch:
            torch, other = plain(row.software.torch), plain(baseline.baseline_torch)
            notes.append(Note("warning", f"{name}: torch {torch}, its baseline torch {other}"))
    if any(row.protocol != PROTOCOL for row in rows):
        notes.append(
            Note("warning", "Rows of another protocol (timing rule) stand apart and do not compare with these.")
        )
    return notes


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


def _rules(rows: Sequence[Row], comparison: Comparison) -> list[Note]:
    notes: list[Note] = []
    training = [row for row in rows if row.job.workload != "gemm"]
    if any(row.job_kind == "projected" and row.job_seconds is not None for row in training):
        notes.append(
            Note("rule", "~ is projected, not measured: mean steady step x steps of the job, no evaluations in it.")
        )
    notes += time_to_accuracy.rules(training)
    baselines = sorted({name for row in training if (name := cells.baseline(row)) is not None})
    if baselines:
        key, names = comparison.baseline, "; ".join(baselines)
        whom = f"the CPU baseline ({names})" if key is None else f"{plain(key)} ({names})"
        text = f"Speed-up: time of {whom} over the row's, same work{', same machine' if key is None else ''}"
        notes.append(Note("rule", f"{text}; paired by round where both ran in it."))
    published = comparison.published_cpu
    if published is not None and any(row.speedup_over_published is not None for row in training):
        seconds = units.count(published.job_seconds)
        notes.append(
            Note(
                "rule",
                f"Over the {plain(published.processor)}: its published {seconds} s over the row's time of the same job (assumed: "
                f"the source does not say what was timed); {published.year}'s software, one run, taken as exact.",
            )
        )
    for row in rows:
        if row.peak_flops_per_second is not None and row.peak_origin is not None:
            name = f"{naming.processor_name(row.device)} {row.job.precision}"
            notes.append(Note("rule", f"Theoretical, {name}: {plain(row.peak_origin)}."))
    if any(row.ok >= 3 for row in rows):
        notes.append(
            Note(
                "rule",
                "Intervals: 95 %, Student's t between fresh processes (n), on logs for times and ratios; all in json, csv.",
            )
        )
    if any(row.accuracy is not None and row.ok == 1 for row in training):
        notes.append(Note("rule", "Accuracy of one process: Wilson's interval, for the choice of test images alone."))
    return notes


def _gaps(rows: Sequence[Row]) -> list[Note]:
    """Each reason once, with the processors it holds for."""
    who: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows:
        for gap in _missing(row):
            who.setdefault(gap, {})[f"{naming.processor_name(row.device)} {row.job.precision}"] = None
    return [
        Note("missing", f"n/a, {METRIC_NAMES[figure]}: {plain(reason)} ({join_names(list(names))}).")
        for (figure, reason), names in who.items()
    ]


def join_names(names: Sequence[str], most: int = 4) -> str:
    """The first names and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return "; ".join(names[:most]) + more


def _missing(row: Row) -> list[tuple[str, str]]:
    shown = _GEMM_METRICS if row.job.workload == "gemm" else tuple(METRIC_NAMES)
    return [(figure, row.missing[figure]) for figure in shown if figure in row.missing]


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

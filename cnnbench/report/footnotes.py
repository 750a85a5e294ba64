"""The notes under the tables: the rules behind the figures, the reasons for n/a, and what a reader must not overlook."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import TypedDict, Unpack

from cnnbench import naming, units
from cnnbench.analysis import metrics
from cnnbench.analysis.doubts import Doubt
from cnnbench.analysis.metrics import UNFIT_MARK, job_flops, name_baseline, pretraining_flops, step_flops
from cnnbench.analysis.ratio import GroupKey, PublishedResult, group_by
from cnnbench.analysis.rows import Row
from cnnbench.analysis.same_host import RELATION_WORDS
from cnnbench.analysis.seed_accuracy import Untested, compare_with_plain
from cnnbench.analysis.speedup import Comparison
from cnnbench.analysis.stats import COVERS, MINIMUM_FOR_MEDIAN, OVER_RUNS
from cnnbench.machine_facts import describe_boot
from cnnbench.plain_text import plain
from cnnbench.report.cells import explain_software
from cnnbench.report.model import Note, NoteKind, make_notes
from cnnbench.schema import PROTOCOL, Job

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


class Sources(TypedDict, total=False):
    """What a report needs beside its rows: problems found while loading, and the final digests of the ledgers by run."""

    problems: Sequence[str]
    digests: Mapping[str, str]


def name_sources(problems: Sequence[str] = (), digests: Mapping[str, str] | None = None) -> dict[str, list[str]]:
    """Write the sources as options of a report, from which the audit makes it again."""
    return {"runs": sorted(digests or {}), "problems": list(problems)}


def list_clocks(jobs: Iterable[Job]) -> str:
    """Join the clock rules of these jobs."""
    return "; ".join(CLOCKS[name] for name in sorted({job.clock for job in jobs}))


def build_row_notes(row: Row) -> Iterator[str]:
    """Yield the notes that a reader of this row alone needs."""
    yield from (f"{figure} n/a: {plain(reason)}" for figure, reason in _missing(row))
    if row.accuracy and row.accuracy.data == "synthetic":
        yield "accuracy is on synthetic digits"
    yield from (f"the baseline ran under torch {other}, this row under {own}" for own, other in _find_other_torch(row))
    yield from (f"the baseline is of another run ({words})" for words in describe_other_host(row))
    yield from (f"doubt: {plain(doubt.message)}" for doubt in row.doubts)
    yield from map(plain, row.failures)


def build(
    comparison: Comparison, published_rows: Sequence[PublishedResult], **sources: Unpack[Sources]
) -> tuple[Note, ...]:
    """Build all notes in printing order: what could mislead first, then rules, gaps, sources, conditions."""
    rows = comparison.rows
    doubts = ((doubt, f"{_name(row)} {naming.short_name(row.job, size=True)}") for row in rows for doubt in row.doubts)
    gaps = name_each((gap, f"{_name(row)} {row.job.precision}") for row in rows for gap in _missing(row))
    return keep_first(
        *_warnings(rows),
        *build_doubt_notes(doubts),
        *make_notes("rule", _write_rules(rows, comparison)),
        *make_notes("missing", (f"n/a, {figure}: {plain(reason)} ({names})." for (figure, reason), names in gaps)),
        *list_untested(compare_with_plain(rows)[1]),
        *build_published_notes(published_rows),
        *build_conditions(rows, "not pooled and not shown: --all-runs lists each", **sources),
    )


def list_untested(untested: Sequence[Untested]) -> tuple[Note, ...]:
    """List the modes of which it could not be tested whether they learn as well, by reason."""
    texts = []
    for reason, own in group_by(untested, attrgetter("reason")).items():
        names = dict.fromkeys(f"{_name(each.row)} {naming.short_name(each.row.job, batch=True)}" for each in own)
        texts.append(f"Not tested whether it learns as well: {plain(reason)} ({'; '.join(names)}).")
    return make_notes("missing", texts)


def keep_first(*notes: Note) -> tuple[Note, ...]:
    """Keep each note once, at its first place."""
    return tuple(dict.fromkeys(notes))


def name_each(found: Iterable[tuple[GroupKey, str]]) -> Iterator[tuple[GroupKey, str]]:
    """Yield each key once, with the names that come with it, each once: the first ones and how many more."""
    for key, pairs in group_by(found, itemgetter(0)).items():
        yield key, join_names(dict.fromkeys(name for _, name in pairs))


def join_names(names: Iterable[str], most: int = 4, separator: str = "; ") -> str:
    """Join the first `most` names and count the rest."""
    own = list(names)
    return separator.join(own[:most]) + (f" and {len(own) - most} more" if len(own) > most else "")


def build_doubt_notes(found: Iterable[tuple[Doubt, str]]) -> tuple[Note, ...]:
    """Write each doubt once, with the names of the rows it is about."""
    named = name_each(((doubt.message, doubt.remedy), name) for doubt, name in found)
    return make_notes("doubt", (f"Doubt ({names}): {plain(message)}. {remedy}" for (message, remedy), names in named))


def _name(row: Row) -> str:
    return naming.processor_name(row.device)


def _warnings(rows: Sequence[Row]) -> Iterator[Note]:
    if any(row.job.data == "synthetic" for row in rows):
        yield Note(
            "warning",
            "SYNTHETIC DATA: the digits were generated, they are not MNIST. Times are those of the real work; "
            "accuracies cannot be compared with any other. For MNIST: cnnbench data fetch.",
        )
    for row in rows:
        name = f"{_name(row)}, {naming.short_name(row.job)}"
        # An unsupported job is an answer, which misleads nobody: it is listed with the figures that are n/a.
        kind: NoteKind = "missing" if set(row.outcomes) <= {"unsupported"} else "warning"
        yield from make_notes(kind, (f"{name}: {plain(failure)}" for failure in row.failures))
        for torch, other in _find_other_torch(row):
            yield Note("warning", f"{name}: torch {torch}, its baseline torch {other}")
        for words in describe_other_host(row):
            yield Note("warning", f"{name}: its baseline is of another run ({words})")
    if any(row.protocol != PROTOCOL for row in rows):
        yield Note(
            "warning", "Rows of another protocol (timing rule) are listed separately and cannot be compared with these."
        )


def _find_other_torch(row: Row) -> list[tuple[str, str]]:
    """Find the row's torch and its baseline's, if they differ."""
    own, other = row.software.torch, row.speedup and row.speedup.baseline_torch
    return [] if other in (None, own) else [(plain(own), plain(other))]


def describe_other_host(row: Row) -> list[str]:
    """Say how the baseline's host is related to the row's; empty if it is the row's own, or another machine was asked for."""
    if row.speedup is None or row.job.workload == "gemm":  # no table prints the speed-up of a product
        return []
    return list(filter(None, (RELATION_WORDS[row.speedup.baseline_host],)))


def _write_rules(rows: Sequence[Row], comparison: Comparison) -> Iterator[str]:
    """Yield the rules for reading the figures shown."""
    training = [row for row in rows if row.job.workload != "gemm"]
    if any(row.job_kind == "projected" and row.job_seconds for row in training):
        yield "~ means projected, not measured: mean steady step x steps of the job, without evaluations."
    yield from _write_target_rules(training)
    baselines = sorted({name for row in training if (name := name_baseline(row))})
    if baselines:
        key, names = comparison.baseline, "; ".join(baselines)
        whom = f"the CPU baseline ({names})" if key is None else f"{plain(key)} ({names})"
        text = f"Speed-up: time of {whom} over the row's, same work{', same machine' if key is None else ''}"
        yield f"{text}; paired by round where both ran in it."
    yield from write_unfit_rule(rows)
    published = comparison.published_cpu
    if published and any(row.speedup_over_published for row in training):
        seconds = units.count(published.job_seconds)
        yield (
            f"Over the {plain(published.processor)}: its published {seconds} s over the row's time of the same job (assumed: "
            f"the source does not say what was timed), one run, taken as exact; {explain_software(published.year)}."
        )
    for row in rows:
        if row.peak_flops_per_second is not None and row.peak_origin is not None:
            yield f"Theoretical, {_name(row)} {row.job.precision}: {plain(row.peak_origin)}."
    if any(row.ok >= 3 for row in rows):
        yield (
            f"Intervals: {COVERS}; Student's t between fresh processes (n), on logs for times and ratios; all in json, csv. They "
            "do not cover other hours or hosts; a ratio of two runs also covers how much runs differ."
        )
    for row in rows:
        if (over := row.step_seconds_over_runs) is not None:
            ends = units.span(over.low or 0.0, over.high or 0.0, units.short_seconds)
            yield (
                f"{naming.short_name(row.job, size=True, batch=True)} on {_name(row)}, one step over {over.n} runs of its boot: "
                f"{units.short_seconds(over.value)} ({ends}; {OVER_RUNS})."
            )
    if any(row.accuracy and row.ok == 1 for row in training):
        yield "Accuracy of one process: Wilson's interval, for the choice of test images alone."


def write_unfit_rule(rows: Sequence[Row]) -> Iterator[str]:
    """Explain the mark of rows measured while the machine was unfit, if there is one."""
    if any(row.unfit for row in rows):
        yield (
            f"{UNFIT_MARK} means measured while the machine was unfit (other programs or guests used it, see the doubts): "
            "in no headline, and nothing is divided by such a row."
        )


def _write_target_rules(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the rules for rows to a target and for pre-trained rows.

    FLOP/s of the latter are those of fine-tuning; the FLOPs of a whole job are given once per network and batch.
    """
    own = [row for row in rows if row.job.clock == "accuracy"]
    if own:
        yield (
            "Time to accuracy is over seeds: the median with its distribution-free interval (order statistics, at least 95 %, "
            f"from {MINIMUM_FOR_MEDIAN} seeds on). A seed that missed the target counts in n, and in the median as later "
            "than all others; mean and slowest are then unknown. A crashed process does not count as a seed."
        )
    if any(row.speedup for row in own):
        yield (
            "Speed-ups of rows to a target compare their mean steps: how many steps a seed needs is chance, not speed of the "
            "processor."
        )
    if any(row.accuracy for row in own):
        yield (
            "Test accuracy of a row to a target comes from the evaluations that reached it, so it is never below the "
            "target."
        )
    lengths: dict[str, str] = {}
    for row in rows:
        before, step, whole = pretraining_flops(row.job), step_flops(row.job), job_flops(row.job)
        if row.pretraining_seconds is None or before is None or step is None:
            continue
        text = (
            f"{plain(row.job.workload)} is pre-trained first, inside its clock: FLOP/s, MFU, images and the step are of the "
            f"fine-tuning. Pre-training is {units.giga(before)} GFLOP, a step after it {units.giga(step)} GFLOP"
        )
        fixed = whole and row.job.divided_whole
        length = f", the whole job of {units.count(row.job.job_steps)} steps {units.giga(whole)} GFLOP" if fixed else ""
        lengths[text] = length or lengths.get(text, "")
    yield from (f"{text}{length}." for text, length in lengths.items())


def _missing(row: Row) -> list[tuple[str, str]]:
    """List the row's figures that are n/a, in a note's words, with the reasons."""
    wanted = ("peak", "achieved") if row.job.workload == "gemm" else row.missing
    gaps = {each.column_key: each.gap for each in metrics.METRICS if each.gap and each.column_key in row.missing}
    # The gap of the ceiling comes first, since most others follow from it.
    keys = sorted(filter(wanted.__contains__, gaps), key=lambda key: key != "ceiling")
    return [(gaps[key], row.missing[key]) for key in keys]


def build_published_notes(published_rows: Sequence[PublishedResult]) -> Iterator[Note]:
    """Yield the published rows' notes; a clause that several rows share is printed once."""
    if not published_rows:
        return
    clauses = {found.published.processor: (found.published.note or "").split("; ") for found in published_rows}
    shared = [clause for clause, n in Counter(c for each in clauses.values() for c in each if c).items() if n > 1]
    source = "; ".join(map(plain, (published_rows[0].published.source, *shared)))
    yield Note("reference", f"{published_rows[0].published.year}: {source}.")
    for row in (found.published for found in published_rows):
        # The slide's own text, if it differs from the figure shown.
        flops, speedup = row.printed_flops_per_second, row.printed_speedup
        same = flops and f"{flops / 1e9:g} GFLOPS"
        printed = [] if row.printed_flops_text in (None, same) else [f'"{row.printed_flops_text}"']
        printed += [] if speedup in (None, 1) else [f"{speedup:g}x"]
        parts = (
            f"printed {' and '.join(printed)}" if printed else "",
            *(clause for clause in clauses[row.processor] if clause not in shared),
            row.theoretical_note,
        )
        joined = "; ".join(plain(part) for part in parts if part)
        yield Note("reference", f"{plain(row.processor)}: {joined}.")


def build_problem_notes(problems: Iterable[str]) -> tuple[Note, ...]:
    """List the first problems and count the rest: a damaged ledger has one per line, which would bury other notes."""
    own = sorted(set(problems))
    more = len(own) - MOST_PROBLEMS
    last = [f"... and {more} more problems in these files."] if more > 0 else []
    return make_notes("problem", (*map(plain, own[:MOST_PROBLEMS]), *last))


def build_conditions(
    rows: Sequence[Row], remedy: str = "", problems: Iterable[str] = (), digests: Mapping[str, str] | None = None
) -> Iterator[Note]:
    """Yield the conditions of the runs behind these rows, one line per run, and the problems found while loading.

    With a remedy, a note counts the rows with other runs, which are not shown, and tells how to see them. With digests, a line
    per ledger has its final digest, by which `cnnbench audit` checks the ledger.
    """
    for row in sorted(rows, key=attrgetter("machine.id", "created_at", "run_id")):
        software, machine = row.software, row.machine
        commit = "" if software.git_commit is None else f" at {software.git_commit[:10]}"
        dirty = " with local changes" if software.git_dirty else ""
        boot = plain(describe_boot(machine, row.boot_id, row.host_id))
        text = (
            f"Run {plain(row.run_id)} on {plain(machine.id)} ({boot}): {machine.cores_allowed} of "
            f"{machine.cores_logical} cores allowed, torch {plain(software.torch)} ({plain(software.torch_build)}), "
            f"Python {plain(software.python)}, "
            f"cnnbench {plain(software.cnnbench)}{commit}{dirty}."
        )
        yield Note("run", text)
    # A row that is on both sides of a comparison counts once.
    others = {(row.machine.id, row.run_id, row.row_key): row.other_runs for row in rows}
    hidden = list(filter(None, others.values()))
    if hidden and remedy:
        have = "1 row has" if len(hidden) == 1 else f"{len(hidden)} rows have"
        yield Note("run", f"{have} other runs too ({sum(hidden)} in all), {remedy}.")
    # A run that has no row here is listed too if a row's measured peak is from it.
    for machine_id, run in sorted(
        {(row.machine.id, run) for row in rows for run in (row.run_id, row.ceiling_run_id) if run}
    ):
        if digests and run in digests:
            yield Note("run", f"Ledger {plain(machine_id)}/{plain(run)} sha256:{digests[run][:16]}")
    yield from build_problem_notes(problems)

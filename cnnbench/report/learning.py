"""Tables of accuracies: the lecture's "100 %", modes compared with the plain one, bands of recipes, claims."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Unpack

from cnnbench import naming, units
from cnnbench.analysis.metrics import describe_interval
from cnnbench.analysis.rows import Row, follow
from cnnbench.analysis.seed_accuracy import (
    BAND_SEEDS,
    CLAIM_SEEDS,
    MOST_SEEDS,
    WIDTH,
    Claim,
    ConvergenceResult,
    SeedSpread,
    compare_with_plain,
)
from cnnbench.analysis.stopping_rule import (
    SAMPLE,
    Epoch,
    Stop,
    find_stops,
    predict_from_accuracy,
    predict_rows,
    select_landmarks,
)
from cnnbench.plain_text import plain
from cnnbench.report import cells, footnotes
from cnnbench.report.cells import ProcessorCell
from cnnbench.report.footnotes import Sources
from cnnbench.report.model import Cell, Note, Report, Table, Value, make_notes
from cnnbench.report.table_builder import PROCESSOR, ColumnSpec, TableSpec, build_table, figure, wording
from cnnbench.schema.job import TEST_IMAGES

_ALL = units.count(TEST_IMAGES)
percent_of_images, _hundredths = partial(units.percent, digits=3), "{:.2f}".format
_unsigned = partial(units.points, signed=False)


def _make_report(
    found: Sequence[Table],
    notes: Iterable[Note],
    rows: Sequence[Row],
    asked: Mapping[str, object] | None = None,
    **sources: Unpack[Sources],
) -> Report:
    """Put the conditions of these rows under tables and notes; `asked` is the command with its options."""
    options = {**asked, **footnotes.name_sources(**sources)} if asked else {}
    notes = footnotes.keep_first(*notes, *footnotes.build_conditions(rows, **sources))
    return Report(tuple(found), notes, options=options)


def title(row: Row, processor: ProcessorCell) -> str:
    """Title a group of lines about one row: processor, place, precision, work."""
    return f"{processor(row).one_line} · {row.job.precision} · {naming.work_label(row.job, row.protocol)}"


def say_number(read: str, word: str) -> Callable[[Any], tuple[str, ...]]:
    """Make the function that adds to a figure how many of these there are, if any."""
    return lambda each: (f"{number} {word}",) if (number := follow(each, read)) else ()


def say_deviation(read: str) -> Callable[[Any], tuple[str, ...]]:
    """Make the function that adds to a mean the standard deviation of accuracy between seeds, if known."""
    return lambda each: () if (found := follow(each, read)) is None else (f"SD {_unsigned(found)}",)


# The lecture's stopping rule: what it would have done, epoch by epoch, and what it did in rows that ran it.


class EpochLine(NamedTuple):
    """The stopping rule after one epoch, of a row or at an assumed accuracy."""

    row: Row | None
    epoch: Epoch
    sample: int
    identity: Mapping[str, Value]
    """Raw values that identify the row."""


def _true_accuracy(each: EpochLine) -> Cell:
    """Show the share with its interval and n; an assumed share is shown alone."""
    share = each.epoch.accuracy
    if each.row is None:
        return Cell(units.percent(share.value), {"true_accuracy": share.value})
    details = (*describe_interval(share, units.percent), f"n={share.n}")
    return Cell(units.percent(share.value), cells.values("true_accuracy", share), details)


STOPPING = TableSpec[EpochLine](
    "stopping",
    'What "100 %" means: the chance that a sample is all right',
    (
        figure("epoch", "epoch", 1, "epoch.number", units.count, further=lambda each: each.identity),
        ColumnSpec("true_accuracy", f"accuracy on\nall {_ALL}", 1, _true_accuracy),
        figure(
            "all_right",
            "chance that {sample}\nare all right",
            1,
            "epoch.all_right",
            units.chance,
            name="chance_all_right",
            further={"sample_images": "sample"},
        ),
        figure("stopped", "chance of having\nstopped by then", 1, "epoch.stopped", units.chance, name="chance_stopped"),
    ),
)
STOPPED = TableSpec[Stop](
    "stopped",
    "Where the rule was followed: when it stopped, and the accuracy then",
    (
        ColumnSpec("process", "process", 1),
        figure(
            "stopped_epoch",
            "stopped after\nepoch",
            1,
            "epoch",
            units.count,
            details=lambda stop: () if stop.by_rule else ("its last; never all right",),
            further={"stopped_by_rule": "by_rule"},
        ),
        figure(
            "sample",
            "right of\nthe sample",
            1,
            lambda stop: f"{units.count(stop.last.correct)} of {units.count(stop.last.images)}",
            name="",
            further={"sample_right": "last.correct", "sample_images": "last.images"},
        ),
        figure(
            "true_accuracy",
            f"accuracy on\nall {_ALL}",
            1,
            "accuracy",
            units.percent,
            estimated=True,
            details="interval",
        ),
    ),
)


def build_stopping(rows: Sequence[Row], processor: ProcessorCell, *, sample: int, **sources: Unpack[Sources]) -> Report:
    """Build the report of these rows: one conclusion per row, the tables, and the conditions."""
    conclusions, found = build_stopping_tables(rows, processor, sample)
    shown = [each.row for each in predict_rows(rows, sample)]
    shown += [stop.row for stop in find_stops(rows)]
    notes = (*make_notes("summary", conclusions), *write_stopping_rules(sample))
    return _make_report(found, notes, shown, {"command": "stopping", "sample": sample}, **sources)


def build_stopping_from_accuracy(accuracy: float, epochs: int, sample: int) -> Report:
    """Build the report at one assumed true accuracy, without records."""
    found = predict_from_accuracy(accuracy, epochs, sample)
    right = f"right on {units.count(found[0].accuracy.value * TEST_IMAGES)} of {_ALL}"
    groups = [(f"a network {right}, epoch after epoch", [EpochLine(None, each, sample, {}) for each in found])]
    table = build_table(STOPPING, groups=groups, words={"sample": units.count(sample)})
    conclusion = Note("summary", _write_conclusion(found, sample, f"with a network {right}"))
    options = {"command": "stopping", "accuracy": accuracy, "epochs": epochs, "sample": sample, "runs": []}
    return Report((table,), (conclusion, write_stopping_rules(sample)[0]), options=options)


def build_stopping_tables(
    rows: Sequence[Row], processor: ProcessorCell, sample: int = SAMPLE
) -> tuple[list[str], list[Table]]:
    """Build one conclusion per row, the table of what the rule would have done, and that of what it did.

    There are tables only if a row evaluated all images after every epoch.
    """
    conclusions, groups = [], []
    for each in predict_rows(rows, sample):
        cell, job = processor(each.row), each.row.job
        place = cell.add_details(f"{plain(job.workload)}, batch {job.batch_size}").one_line
        conclusions.append(_write_conclusion(each.epochs, sample, f"on {place}"))
        lines = [EpochLine(each.row, epoch, sample, cell.values) for epoch in each.epochs]
        groups.append((title(each.row, processor), lines))
    if not groups:
        return [], []

    def name_process(stop: Stop) -> Cell:
        number, seed = stop.training_outcome.round + 1, stop.training_outcome.seed
        return Cell(units.count(number), {"process": number, "seed": seed, **processor(stop.row).values})

    predicted = build_table(STOPPING, groups=groups, words={"sample": units.count(sample)})
    spec = replace(STOPPED, group=lambda stop: title(stop.row, processor))
    stopped = build_table(spec, find_stops(rows), named=name_process)
    return conclusions, [table for table in (predicted, stopped) if table.groups]


def _write_conclusion(epochs: Sequence[Epoch], sample: int, where: str) -> str:
    """Write one sentence: the epoch by which the rule has probably stopped, the chance, and the true accuracy there."""
    clauses = [
        f"by epoch {each.number} with probability {units.chance(each.stopped)}, at a true accuracy of "
        f"{units.percent(each.accuracy.value)}"
        for each in select_landmarks(epochs)
    ]
    rule = f"A training that stops when {units.count(sample)} random test images are all right has stopped"
    return f"{rule}, {where}, {'; '.join(clauses)}."


def write_stopping_rules(sample: int = SAMPLE) -> tuple[Note, ...]:
    """Write how the figures are derived."""
    drawn = units.count(sample)
    rules = (
        f"Chance: {drawn} of the {_ALL} test images are drawn after each epoch, without replacement and independently of "
        f"the draws before; all are right with C(right, {drawn}) / C({_ALL}, {drawn}). Stopped by then: 1 - product of "
        "(1 - chance) so far.",
        f"Accuracy: share of all {_ALL} test images. One process: Wilson's 95 % interval, for the choice of images; three "
        "or more: Student's t between processes. With several, each chance is the mean of theirs.",
    )
    return make_notes("rule", rules)


# Modes compared with the plain row of the same job, over seeds: whether each learns as well.

CONVERGENCE_RULES = make_notes(
    "rule",
    (
        "Difference: mean test accuracy of the mode less that of the plain mode (fp32, nchw, eager, resident, reference "
        "division) of the same job in the same place, in percentage points (pp), with both one-sided 95 % bounds: Student's t "
        "on the differences where both have the same seeds, else Welch's. One image of the 10,000 is 0.010 pp.",
        "Learns as well: the lower bound is above minus the margin. Learns worse: the upper bound is below it, or a seed of "
        "the mode diverged and none of the plain mode's did. Undecided: neither; the seeds printed are those per side for a "
        "decision with a chance of 80 %, if difference and spread are as they seem.",
        "A mode that is worse by the margin passes in at most 5 % of tests if accuracies are normal over seeds. If one seed in "
        "ten is bad, and only in the mode, it passes in more than one test of five: look at the seeds themselves.",
    ),
)


def _seeds(each: ConvergenceResult) -> Cell:
    seeds, plain_seeds = len(each.variant.right), len(each.plain.right)
    paired, failed, plain_failed = follow(each, "difference.paired") or False, each.variant.failed, each.plain.failed
    raw = {"seeds": seeds, "plain_seeds": plain_seeds, "paired": paired, "failed": failed, "plain_failed": plain_failed}
    return Cell(f"{seeds} and {plain_seeds}", raw).add_details(
        "the same" if paired else "",
        f"{failed} did not" if failed else "",
        f"{plain_failed} of the plain did not" if plain_failed else "",
    )


def _describe_verdict(each: ConvergenceResult) -> tuple[str, ...]:
    """Describe what decided the verdict, or how many seeds would decide it."""
    if each.decided_by_failures:
        return ("by the seeds that did not learn",)
    needed = f"about {units.count(each.seeds_needed)}" if each.seeds_needed else f"more than {units.count(MOST_SEEDS)}"
    return (f"{needed} seeds would tell",) if each.verdict == "undecided" else ()


def _accuracy_column(side: str, name: str, title: str, priority: int) -> ColumnSpec[ConvergenceResult]:
    """Declare the test accuracy of one side: `variant` or `plain`."""
    return figure(
        f"{name}_accuracy",
        title,
        priority,
        f"{side}.accuracy",
        percent_of_images,
        details=say_deviation(f"{side}.deviation"),
        further={f"{name}_accuracy_sd": f"{side}.deviation"},
    )


CONVERGENCE = TableSpec[ConvergenceResult](
    "convergence",
    "Whether each mode learns as well as the plain one",
    (
        replace(PROCESSOR, key="mode", title="mode"),
        ColumnSpec("seeds", "seeds that\nlearned", 2, _seeds),
        _accuracy_column("variant", "mode", "test\naccuracy", 3),
        _accuracy_column("plain", "plain", "of the\nplain mode", 4),
        figure(
            "difference",
            "difference\nof means",
            1,
            "difference.value",
            units.points,
            details=lambda each: (units.points_span(each.difference.low, each.difference.high),),
            further={"difference_low": "difference.low", "difference_high": "difference.high"},
        ),
        figure("of_medians", "of medians", 5, "median_difference", units.points, name="difference_of_medians"),
        figure("margin", "loss\nallowed", 4, "margin", _unsigned, name="loss_allowed"),
        wording(
            "verdict",
            "the mode",
            1,
            "verdict",
            details=_describe_verdict,
            further={"by_rule": "decided_by_failures", "seeds_to_decide": "seeds_needed"},
        ),
    ),
    rows=lambda each: (each.variant.row, each.plain.row),
)


class LearnedSeed(NamedTuple):
    """One seed of a mode and of the plain row."""

    test: ConvergenceResult
    seed: int

    @property
    def mode(self) -> float | None:
        """Accuracy of the mode; None if the mode does not have the seed, or it did not learn."""
        return self._share(self.test.variant.right)

    @property
    def plain(self) -> float | None:
        """Accuracy of the plain row, likewise."""
        return self._share(self.test.plain.right)

    @property
    def difference(self) -> float | None:
        """Mode minus plain."""
        return None if self.mode is None or self.plain is None else self.mode - self.plain

    def _share(self, right: Mapping[int, int]) -> float | None:
        return right[self.seed] / TEST_IMAGES if self.seed in right else None


LEARNED_SEEDS = TableSpec[LearnedSeed](
    "learned_seeds",
    "Each seed of the modes and of the plain one",
    (
        replace(PROCESSOR, key="mode", title="mode"),
        figure("seed", "seed", 1, "seed"),
        figure("of_mode", "test\naccuracy", 1, "mode", percent_of_images, name="seed_mode_accuracy"),
        figure("of_plain", "of the\nplain mode", 1, "plain", percent_of_images, name="seed_plain_accuracy"),
        figure("apart", "difference", 1, "difference", units.points, name="seed_difference"),
    ),
    rows=lambda each: (each.test.variant.row, each.test.plain.row),
)


def build_convergence(
    rows: Sequence[Row], processor: ProcessorCell, *, margin: float | None, **sources: Unpack[Sources]
) -> Report:
    """Build the report of these rows: verdicts counted, the table, the rules, untested modes, and the conditions.

    `margin` is a share; None stands for each workload's own. Without a tested mode there is no table.
    """
    tested, untested = compare_with_plain(rows, margin)
    verdicts = [each.verdict for each in tested]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))
    modes = "1 mode" if len(tested) == 1 else f"{len(tested)} modes"
    summary = [Note("summary", f"{modes} tested: {counts}.")] if tested else []
    shown = [row for each in tested for row in (each.variant.row, each.plain.row)]
    notes = (*summary, *CONVERGENCE_RULES, *footnotes.list_untested(untested))
    found = build_convergence_tables(tested, processor, margin)
    return _make_report(found, notes, shown, {"command": "converge", "margin": margin}, **sources)


def build_convergence_tables(
    tested: Sequence[ConvergenceResult], processor: ProcessorCell, margin: float | None = None
) -> list[Table]:
    """Build the table of tested modes, and that of their seeds; empty if none could be tested."""
    asked = "" if margin is None else f" · a loss of {_unsigned(margin)} allowed"

    def mode(each: ConvergenceResult) -> Cell:
        words = naming.step_label(each.variant.row.job, ())
        return Cell(words, {"mode": words, **processor(each.variant.row).values})

    spec = replace(CONVERGENCE, group=lambda each: title(each.plain.row, processor) + asked)
    by_seed = replace(LEARNED_SEEDS, group=lambda each: title(each.test.plain.row, processor))
    seeds = [
        LearnedSeed(each, seed) for each in tested for seed in dict.fromkeys((*each.variant.right, *each.plain.right))
    ]
    found = build_table(spec, tested, named=mode), build_table(by_seed, seeds, named=lambda each: mode(each.test))
    return [table for table in found if table.groups]


# The final accuracy of recipes, and the claims of the open class: means over seeds, one group per run of a processor.


def _seeds_column(read: str, word: str) -> ColumnSpec[Any]:
    """Declare the number of seeds, with the number of those left out of every figure."""
    return figure(
        "seeds",
        "seeds",
        1,
        lambda each: len(each.right),
        units.count,
        details=say_number(read, word),
        further={word: read},
    )


MEAN_COLUMN: ColumnSpec[Any] = figure(
    "mean",
    "mean\naccuracy",
    1,
    "accuracy",
    percent_of_images,
    name="mean_accuracy",
    details=say_deviation("deviation"),
    further={"accuracy_sd": "deviation"},
)


BAND_RULES = make_notes(
    "rule",
    (
        f"Accuracy: share of all {_ALL} test images that are right when training ends, one figure per seed. "
        f"Band: mean +- {WIDTH} standard deviations of a seed, outwards to whole images, of "
        f"{BAND_SEEDS} seeds or more.",
        "Inside: every seed is in the band that the workload has for this recipe (steps, batch, order).",
    ),
)


def _describe_recipe(each: SeedSpread) -> Iterable[str]:
    steps = f"{units.count(each.steps)} steps of {each.row.job.batch_size}"
    return filter(None, (steps, naming.step_label(each.row.job, ())))


def _verdict_text(each: SeedSpread) -> str:
    if each.known_band is None:
        return "held to no band"
    return "outside" if each.outside_seeds or each.failed else "inside"


def _describe_outside(each: SeedSpread) -> Iterator[str]:
    if outside := each.outside_seeds:
        yield f"seed{'s' if len(outside) > 1 else ''} {', '.join(map(str, outside))}"


def _band_column(key: str, title: str, read: str) -> ColumnSpec[SeedSpread]:
    """Declare a column that shows both ends of a band."""
    return figure(
        key,
        title,
        2,
        read,
        lambda band: f"{units.percent(band.low)} to {units.percent(band.high)}",
        name="",
        further={f"{key}_low": f"{read}.low", f"{key}_high": f"{read}.high"},
    )


BANDS = TableSpec[SeedSpread](
    "bands",
    "The accuracy each recipe ends with",
    (
        wording(
            "recipe",
            "recipe",
            1,
            "row.job.workload",
            plain,
            name="workload",
            details=_describe_recipe,
            further={
                "workload_version": "row.job.workload_version",
                "steps": "steps",
                "batch_size": "row.job.batch_size",
                "order": "row.job.order",
            },
        ),
        _seeds_column("failed", "diverged"),
        MEAN_COLUMN,
        figure(
            "range",
            "lowest to\nhighest",
            3,
            lambda each: sorted(each.right.values()),
            lambda right: " to ".join(units.percent(number / TEST_IMAGES) for number in (right[0], right[-1])),
            name="",
            further={
                "lowest": lambda each: min(each.right.values()) / TEST_IMAGES,
                "highest": lambda each: max(each.right.values()) / TEST_IMAGES,
            },
        ),
        _band_column("made", "band of\nthese seeds", "observed_band"),
        _band_column("known", "the workload's\nband", "known_band"),
        wording(
            "verdict",
            "the seeds are",
            1,
            _verdict_text,
            details=_describe_outside,
            further={"seeds_outside": lambda each: len(each.outside_seeds or ())},
        ),
    ),
)


def build_bands(found: Sequence[SeedSpread], processor: ProcessorCell, **sources: Unpack[Sources]) -> Report:
    """Build the report of these spreads: the verdicts counted, the table, the rules, and the conditions."""
    verdicts = [_verdict_text(each) for each in found if each.known_band]
    recipes = "1 recipe" if len(found) == 1 else f"{len(found)} recipes"
    known = f"{len(verdicts)} with a known band, {verdicts.count('inside')} inside it with every seed"
    summary = Note("summary", f"{recipes}: {known}.")
    spec = replace(BANDS, group=lambda each: cells.title_run(each.row, processor))
    rows = [each.row for each in found]
    return _make_report([build_table(spec, found)], (summary, *BAND_RULES), rows, **sources)


CHOSEN_ON_TEST = (
    "Steps and learning rate of {} were chosen by accuracy on the same test images that the claim is about, so the claim is "
    "optimistic for other images, by an amount that was not measured."
)
CLAIM_RULES = make_notes(
    "rule",
    (
        f"A claim is about the mean of at least {CLAIM_SEEDS} seeds, drawn after the recipe was fixed, all that were "
        "planned: one that did not end leaves the claim open. It holds where the one-sided lower 95 % bound of the mean accuracy "
        "(Student's t) is the target or more.",
        "Time: arithmetic mean over the seeds, with its two-sided 95 % interval (Student's t).",
    ),
)


def _describe_mean_seconds(each: Claim) -> tuple[str, ...]:
    mean = each.mean_seconds
    return () if mean is None or mean.low is None else (f"{mean.low:.2f} to {mean.high:.2f}",)


def _describe_claim(each: Claim) -> tuple[str, ...]:
    job = each.row.job
    steps = f"{units.count(job.job_steps)} steps of {job.batch_size}, {plain(job.optimizer or '')}"
    return plain(job.workload), steps, f"{job.precision}, {job.execution}"


CLAIMS = TableSpec[Claim](
    "claims",
    "The open class: fixed recipes to a target accuracy",
    (
        wording(
            "recipe",
            "recipe",
            1,
            "row.job.recipe",
            plain,
            details=_describe_claim,
            further={name: f"row.job.{name}" for name in ("workload", "precision", "execution")},
        ),
        figure("target", "target", 2, "target", units.exact_percent),
        _seeds_column("lost", "lost"),
        MEAN_COLUMN,
        figure("bound", "lower\n95 % bound", 1, "lower_bound", percent_of_images, name="accuracy_lower_bound"),
        figure(
            "time",
            "mean time",
            1,
            "mean_seconds.value",
            _hundredths,
            name="mean_seconds",
            unit="s",
            details=_describe_mean_seconds,
            further={"mean_seconds_low": "mean_seconds.low", "mean_seconds_high": "mean_seconds.high"},
        ),
        figure("epochs", "epochs", 2, "epochs", _hundredths),
        wording(
            "verdict",
            "the claim",
            1,
            "outcome",
            details=say_number("failed", "diverged"),
            further={"diverged": "failed", "recipe_chosen_on": "chosen_on"},
        ),
    ),
    footnotes.CLOCKS["recipe"],
    notes=lambda each: footnotes.build_row_notes(each.row),
)


def build_claims(found: Sequence[Claim], processor: ProcessorCell, **sources: Unpack[Sources]) -> Report:
    """Build the report of these claims: the table, the rules, and the conditions."""
    spec = replace(CLAIMS, group=lambda each: cells.title_run(each.row, processor))
    tuned = dict.fromkeys(each.row.job.recipe for each in found if each.chosen_on == "test images")
    notes = (*CLAIM_RULES, *make_notes("warning", (CHOSEN_ON_TEST.format(plain(name or "")) for name in tuned)))
    return _make_report([build_table(spec, found)], notes, [each.row for each in found], **sources)

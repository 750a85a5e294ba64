"""Time to accuracy as tables: a line a way of training, all seeds together, and below it every seed by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cnnbench import naming, units
from cnnbench.analysis.metrics import job_flops, pretraining_flops, step_flops
from cnnbench.analysis.process_table import NOT_RUN
from cnnbench.analysis.speedup import Row
from cnnbench.analysis.stats import MINIMUM_FOR_MEDIAN, MedianEstimate
from cnnbench.analysis.time_to_accuracy import SeedResult
from cnnbench.report import cells
from cnnbench.report.cells import NumberText
from cnnbench.report.escaping import plain
from cnnbench.report.model import Cell, Column, Line, Note, RowGroup, Table, Value

TTA, SEEDS = "tta", "seeds"


def tables(processor: Callable[[Row], Cell], rows: Sequence[Row]) -> list[Table]:
    """Both tables; none where no row trains to a target."""
    own = [row for row in rows if row.job.clock == "accuracy"]
    if not own:
        return []
    found = [_all_seeds(processor, own)]
    return [*found, _each_seed(processor, own)] if any(row.time_to_accuracy is not None for row in own) else found


def _all_seeds(processor: Callable[[Row], Cell], rows: Sequence[Row]) -> Table:
    columns: list[tuple[Column, Callable[[Row], Cell]]] = [
        (Column("processor", "processor", "", 1, "left"), processor),
        (Column("mode", "mode", "", 1, "left"), _variant),
        (Column("target", "target", "", 2), _target),
        (Column("seeds", "seeds that\nreached it", "", 1, "left"), _seeds),
        (Column("median", "median\ntime", "s", 1), _median),
        (Column("mean", "mean\ntime", "s", 3), _mean),
        (Column("fastest", "fastest", "s", 4), _fastest),
        (Column("slowest", "slowest", "s", 4), _slowest),
        (Column("median_steps", "median\nsteps", "", 2), _steps),
        (Column("median_epochs", "median\nepochs", "", 2), _epochs),
        (Column("step", "one step", "", 5), cells.step),
    ]
    by_title: dict[str, list[Line]] = {}
    for row in _group_by_target(rows):
        shown = tuple(cell(row) for _, cell in columns)
        line = Line(
            shown, tuple(map(plain, row.failures)), "measured" if row.ok else "failed", cells.name_raw_rows(row)
        )
        by_title.setdefault(_title(row), []).append(line)
    groups = tuple(RowGroup(title, tuple(lines)) for title, lines in by_title.items())
    every = " or ".join(
        sorted({units.count(row.job.evaluate_every) for row in rows}, key=lambda text: (len(text), text))
    )
    clock = (
        "first crossing: first batch drawn to the end of the first evaluation, on all test images, that reaches the target; "
        f"evaluations every {every} steps counted, build and compile outside"
    )
    return Table(TTA, "Time to accuracy", clock, tuple(column for column, _ in columns), groups)


def _each_seed(processor: Callable[[Row], Cell], rows: Sequence[Row]) -> Table:
    columns: list[tuple[Column, Callable[[Row, SeedResult], Cell]]] = [
        (Column("processor", "processor", "", 1, "left"), lambda row, seed: processor(row)),
        (Column("mode", "mode", "", 1, "left"), lambda row, seed: _variant(row)),
        (Column("seed", "seed", "", 1), lambda row, seed: Cell(str(seed.seed), (), {"seed": seed.seed})),
        (Column("reached", "ended", "", 1, "left"), _reached),
        (Column("seconds", "time to\ntarget", "s", 1), _seconds),
        (Column("steps", "steps", "", 2), _seed_steps),
        (Column("epochs", "epochs", "", 3), _seed_epochs),
        (Column("last", "last\naccuracy", "", 2), _last),
    ]
    by_title: dict[str, list[Line]] = {}
    for row in _group_by_target(rows):
        for seed in () if row.time_to_accuracy is None else row.time_to_accuracy.seed_results:
            shown = tuple(cell(row, seed) for _, cell in columns)
            line = Line(shown, (), "measured" if seed.reached else "failed", cells.name_raw_rows(row))
            by_title.setdefault(_title(row), []).append(line)
    groups = tuple(RowGroup(title, tuple(lines)) for title, lines in by_title.items())
    clock = "as above; a missed seed has no time, its steps and accuracy are those at its epoch limit"
    title = "Time to accuracy, seed by seed"
    return Table(SEEDS, title, clock, tuple(column for column, _ in columns), groups, folded=True)


def _group_by_target(rows: Sequence[Row]) -> list[Row]:
    """Those of one network and target together, each in the order given."""
    return sorted(rows, key=lambda row: (row.job.workload, row.job.target or 0.0, _title(row)))


def _title(row: Row) -> str:
    return naming.target_label(row.job, row.protocol)


def _variant(row: Row) -> Cell:
    return Cell(naming.variant_label(row.job), (), {"mode_precision": row.job.precision})


def _target(row: Row) -> Cell:
    return Cell(units.NOT_AVAILABLE if row.job.target is None else units.exact_percent(row.job.target))


def _seeds(row: Row) -> Cell:
    """`7 of 8 (1 missed)`: of all processes planned, with how the others ended."""
    total = sum(row.outcomes.values())
    others = sorted(
        (each for each in row.outcomes.items() if each[0] != "ok"), key=lambda each: (each[0] == NOT_RUN, each[0])
    )
    raw: dict[str, Value] = {
        "seeds": total,
        "seeds_reached": row.ok,
        "seeds_missed": row.outcomes.get("missed", 0),
    }
    return Cell(f"{row.ok} of {total}", tuple(f"{n} {status}" for status, n in others), raw)


def _median_cell(key: str, found: MedianEstimate | None, text: NumberText) -> Cell:
    """A median with its interval; an end that lies beyond the epoch limit is said, not drawn."""
    known = found if found is not None and found.value is not None else None
    raw: dict[str, Value] = {
        key: None if known is None else known.value,
        f"{key}_low": None if known is None else known.low,
        f"{key}_high": None if known is None else known.high,
        f"{key}_n": None if known is None else known.n,
    }
    if known is None or known.value is None:
        return Cell(units.NOT_AVAILABLE, (), raw)
    details: tuple[str, ...] = ()
    if known.low is not None and known.high is not None:
        details = (units.span(known.low, known.high, text),)
    elif known.low is not None:
        details = (f"from {text(known.low)} on",)
    return Cell(text(known.value), (*details, f"n={known.n}"), raw)


def _median(row: Row) -> Cell:
    seeds = row.time_to_accuracy
    return _median_cell("median_seconds_to_target", None if seeds is None else seeds.seconds, units.number)


def _steps(row: Row) -> Cell:
    seeds = row.time_to_accuracy
    return _median_cell("median_steps_to_target", None if seeds is None else seeds.steps, units.count)


def _epochs(row: Row) -> Cell:
    seeds = row.time_to_accuracy
    return _median_cell("median_epochs_to_target", None if seeds is None else seeds.epochs, units.number)


def _plain(key: str, value: float | None) -> Cell:
    return Cell(units.number(value), (), {key: value})


def _mean(row: Row) -> Cell:
    return _plain("mean_seconds_to_target", None if row.time_to_accuracy is None else row.time_to_accuracy.mean_seconds)


def _fastest(row: Row) -> Cell:
    return _plain(
        "fastest_seconds_to_target", None if row.time_to_accuracy is None else row.time_to_accuracy.fastest_seconds
    )


def _slowest(row: Row) -> Cell:
    return _plain(
        "slowest_seconds_to_target", None if row.time_to_accuracy is None else row.time_to_accuracy.slowest_seconds
    )


def _reached(row: Row, seed: SeedResult) -> Cell:
    raw: dict[str, Value] = {"reached_target": seed.reached, "clock_seconds": seed.clock_seconds}
    return Cell("reached" if seed.reached else "missed", (), raw)


def _seconds(row: Row, seed: SeedResult) -> Cell:
    return Cell(units.number(seed.seconds), (), {"seconds_to_target": seed.seconds})


def _seed_steps(row: Row, seed: SeedResult) -> Cell:
    return Cell(units.count(seed.steps), (), {"steps_to_target": seed.steps, "evaluations": seed.evaluations})


def _seed_epochs(row: Row, seed: SeedResult) -> Cell:
    return Cell(units.number(seed.epochs), (), {"epochs_to_target": seed.epochs})


def _last(row: Row, seed: SeedResult) -> Cell:
    share = seed.last.correct / seed.last.images
    raw: dict[str, Value] = {"last_accuracy": share, "last_correct": seed.last.correct, "last_images": seed.last.images}
    return Cell(units.percent(share), (), raw)


def pretraining(row: Row) -> Cell:
    """What pre-training took before the first step, with its own FLOP/s; empty where there is none."""
    found, rate = row.pretraining_seconds, row.pretraining_flops_per_second
    own: dict[str, Value] = {"pretraining_flops_per_second": None if rate is None else rate.value}
    raw = cells.values("pretraining_seconds", found) | own
    if found is None:
        return Cell("", (), raw)
    speed = () if rate is None else (f"{units.giga(rate.value)} GFLOP/s",)
    return Cell(units.short_seconds(found.value), (*speed, f"n={found.n}"), raw)


def rules(rows: Sequence[Row]) -> list[Note]:
    """What holds for all figures of rows to a target, and for those of rows that are pre-trained."""
    texts = []
    own = [row for row in rows if row.job.clock == "accuracy"]
    if own:
        texts.append(
            "Time to accuracy is over seeds: the median with its distribution-free interval (order statistics, at least 95 %, "
            f"from {MINIMUM_FOR_MEDIAN} seeds on). A seed that missed the target counts in n, in the median as later than "
            "all others; then there is no mean and no slowest. What crashed is no seed."
        )
    if any(row.speedup is not None for row in own):
        texts.append(
            "Speed-ups of rows to a target are of their mean step: how many steps a seed needs is chance in the seed, not "
            "speed of the processor."
        )
    if any(row.accuracy is not None for row in own):
        texts.append(
            "Test accuracy of a row to a target is that of the evaluations that reached it: not below the target by "
            "construction."
        )
    return [Note("rule", text) for text in (*texts, *_pretraining_rules(rows))]


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

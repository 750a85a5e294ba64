"""What each mark of a chart should say: by the chart's key a rule that gives a check of every field but those of identity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cnnbench.schema import PublishedRow, Record, Trial
from cnnbench.verify import intervals, metrics, scaling
from cnnbench.verify.expectations import ExpectedRow
from cnnbench.verify.field_checks import (
    FieldCheck,
    FieldChecks,
    Mark,
    MarkContext,
    check_equal,
    check_estimate,
    check_label,
    check_value_text,
    check_words,
    has_no_number,
    names_baseline,
)
from cnnbench.verify.raw_rows import RawRow

MarkRule = Callable[[MarkContext], FieldChecks | None]
"""None where the records have no such figure of that row."""
GIGA, MIB = 1e9, 2**20
STATE_COPIES = {"sgd": 0, "momentum": 1, "rmsprop": 1, "rmsprop-tf1": 1, "adam": 2}
"""What an update rule keeps beside each weight and its gradient."""


def _ratio(marked: MarkContext, name: str, heading: str) -> dict[str, FieldCheck] | None:
    """A mark of either chart of speed-ups."""
    figure = marked.metric(heading)
    if figure is None:
        return None
    ends = [end for end in (figure.low, figure.high) if end is not None]
    return {
        **check_estimate(name, figure),
        "text": check_value_text("ratio", figure.value, figure.projected),
        "edge": check_equal(max(1.0, figure.value, *ends)),
        "label": check_label(marked),
    }


def _speedup(marked: MarkContext) -> FieldChecks | None:
    fields = _ratio(marked, "speedup_over_reference", "over")

    def kind(printed: Any) -> bool:
        if isinstance(marked.expected.row, PublishedRow):
            return bool(printed == f"published in {marked.expected.row.year}")
        return has_no_number(printed) and ("projected" in printed) == marked.expected.row.projected

    return None if fields is None else {"kind": kind, **fields}


def _speedup_cpu(marked: MarkContext) -> FieldChecks | None:
    fields, base = _ratio(marked, "speedup", "speed-up"), marked.expected.base
    if fields is None:
        return None
    return {
        "kind": lambda said: has_no_number(said) and (said == "baseline") == (base is marked.row),
        "baseline": lambda said: names_baseline(base, said),
        **fields,
    }


RATES: Mapping[str, str] = {
    "printed": "theoretical",
    "theoretical peak": "theoretical",
    "measured peak (GEMM)": "measured peak",
    "achieved in the job": "achieved",
}


def _flops(marked: MarkContext) -> FieldChecks | None:
    figure = marked.metric(RATES.get(marked.kind, ""))
    if figure is None:
        return None
    row = marked.expected.row
    beside = [each["flops_per_second"] for each in marked.every if each.get("label") == marked.mark.get("label")]
    side = "most" if figure.value >= max(beside) else "least" if figure.value <= min(beside) else ""
    source = f"published in {row.year}" if isinstance(row, PublishedRow) else None
    kinds = {"printed", "achieved in the job"} if source else RATES.keys() - {"printed"}
    return {
        "kind": lambda said: said in kinds,
        "source": has_no_number if source is None else check_equal(source),
        "flops_per_second": check_equal(figure.value),
        "gflops_per_second": check_equal(figure.value / GIGA),
        "text": check_value_text("giga", figure.value),
        "side": check_equal(side),
        "label": check_label(marked),
    }


def _roofline(marked: MarkContext) -> FieldChecks | None:
    """A training step or a matrix product under its roof."""
    row, rate = marked.row, marked.metric("achieved")
    if row is None or rate is None or row.flops is None:
        return None
    gemm = row.job.workload == "gemm"
    width = 2 if row.job.precision in ("bf16", "fp16") else 4
    moved = 3 * (row.job.size or 0) ** 2 * width if gemm else metrics.bytes_moved(row)
    if not moved:
        return None
    return {
        **{"kind": has_no_number, "roof": check_words(marked), "name": check_words(marked)},
        "intensity_flops_per_byte": check_equal(row.flops / moved),
        "gflops_per_second": check_equal(rate.value / GIGA),
        **check_estimate("achieved_flops_per_second", rate),
        **({} if gemm else {"verdict": check_equal(marked.expected.words["what binds"])}),
    }


def roof(mark: Mark, rows: Sequence[ExpectedRow]) -> FieldChecks | None:
    """A corner of the roof over the steps of these rows: up the fastest copy to the best product, then level."""
    raw = [each.row for each in rows if isinstance(each.row, RawRow)]
    ceilings = [figure.value for each in rows if (figure := each.metrics.get("measured peak"))]
    slopes = [copy for row in raw if (copy := metrics.median_floors(row).get("copy_bytes_per_second"))]
    if len({each.product.header.run_id for each in rows if each.product is not None}) > 1:
        return None  # steps of several runs have no roof in common
    if not ceilings or not slopes or mark.get("order") not in (0, 1, 2):
        return None
    ceiling, ridge = max(ceilings), max(ceilings) / max(slopes)
    corners = ((ridge / 16, ceiling / 16), (ridge, ceiling), (max(1000.0, 4 * ridge), ceiling))
    intensity, rate = corners[mark["order"]]
    return {
        **{"kind": check_equal("roof"), "roof": check_equal(mark["roof"]), "order": check_equal(mark["order"])},
        "machine": check_equal(raw[0].header.machine.id),
        "run": check_equal(raw[0].header.run_id),
        "intensity_flops_per_byte": check_equal(intensity),
        "gflops_per_second": check_equal(rate / GIGA),
    }


def _images(marked: MarkContext, varied: int | None) -> dict[str, FieldCheck] | None:
    """A point of a sweep."""
    images = marked.metric("images")
    if images is None:
        return None
    return {"series": check_words(marked), "varied": check_equal(varied), **check_estimate("images_per_second", images)}


def _threads(marked: MarkContext) -> FieldChecks | None:
    """Beside it what perfect scaling from the fewest threads of its series would give."""
    threads = marked.row.job.threads if marked.row else None
    fields = _images(marked, threads)
    if fields is None or not threads:
        return None
    series = [each for each in marked.every if each.get("series") == marked.mark.get("series")]
    first = min(series, key=lambda each: each["varied"])
    return {**fields, "ideal": check_equal(first["images_per_second"] * threads / first["varied"])}


def _scaling(marked: MarkContext) -> FieldChecks | None:
    """Beside it what the fewest processors of its series would give if each further one gave as much."""
    speed = marked.metric(scaling.SPEED)
    if marked.row is None or speed is None:
        return None
    used = scaling.count_cores(marked.row)
    series = [each for each in marked.every if each.get("series") == marked.mark.get("series")]
    first = min(series, key=lambda each: each["varied"])
    return {
        **{"series": check_words(marked), "varied": check_equal(used)},
        **check_estimate("scaling_speedup", speed),
        "ideal": check_equal(first["scaling_speedup"] * used / first["varied"]),
    }


def _batches(marked: MarkContext) -> FieldChecks | None:
    return _images(marked, marked.row.job.batch_size if marked.row else None)


def _ladder(marked: MarkContext) -> FieldChecks | None:
    row, step = marked.row, marked.metric("one step")
    if row is None or step is None:
        return None
    variant = f"{row.job.division}, {row.job.precision}, {row.job.layout}, {row.job.execution}, {row.job.loader}"
    return {
        "rung": check_equal(variant),
        "label": check_label(marked, variant),
        "text": check_value_text("time", step.value),
        "milliseconds": check_equal(step.value * 1e3),
        **check_estimate("step_seconds", step),
    }


def _memory(marked: MarkContext) -> FieldChecks | None:
    row = marked.row
    if row is None:
        return None
    peak = marked.metric("host peak" if row.on_cpu else "device peak")
    value = None if peak is None else peak.value
    if marked.kind.startswith("analytic"):
        value = None
        if row.workload is not None and row.job.task == "training":
            images = row.job.batch_size // row.job.world * row.workload.activation_bytes_per_image
            value = images + (2 + STATE_COPIES[row.job.optimizer or ""]) * row.workload.parameter_bytes
    if value is None:
        return None
    return {
        **{
            "kind": has_no_number,
            "where": has_no_number,
            "label": check_label(marked),
            "text": check_value_text("size", value),
        },
        **{"bytes": check_equal(value), "mib": check_equal(value / MIB)},
    }


def _energy(marked: MarkContext) -> FieldChecks | None:
    image = marked.metric("energy an image")
    if marked.row is None or image is None:
        return None
    return {
        "label": check_label(marked),
        "text": check_value_text("energy", image.value),
        "watts": check_equal(metrics.mean_watts(marked.row)),
        **check_estimate("energy_joules_per_image", image),
    }


def _process(marked: MarkContext) -> tuple[Record, Trial] | None:
    """The row's process at that place in the plan, one that missed its target too."""
    trials = () if marked.row is None else marked.row.attempts
    return next((pair for pair in trials if pair[0].index == marked.mark.get("index")), None)


def _learning(marked: MarkContext) -> FieldChecks | None:
    """An evaluation after an epoch or on the way to a target, or the final one at the end of the clock."""
    found = _process(marked)
    if found is None:
        return None
    record, trial = found
    epochs = list(zip(trial.block_seconds, trial.epoch_evaluations, strict=False))
    final = marked.kind.startswith("all test images")
    after = marked.mark.get("after_steps")
    evaluations = [(trial.test, len(epochs))] if final else [(each, n + 1) for n, (_, each) in enumerate(epochs)]
    test, until = next(((each, n) for each, n in evaluations if each and each.after_steps == after), (None, 0))
    if test is None:
        return None
    before = trial.pretraining_seconds or 0.0
    share = intervals.wilson(test.correct, test.images)
    return {
        **{"kind": has_no_number, "index": check_equal(record.index), "after_steps": check_equal(test.after_steps)},
        "series": check_words(marked, f"process {record.job.round + 1}"),
        "minutes": check_equal((before + sum(block + each.seconds for block, each in epochs[:until])) / 60),
        "images": check_equal(test.images),
        "accuracy": check_equal(share.value),
        **({"accuracy_low": check_equal(share.low), "accuracy_high": check_equal(share.high)} if final else {}),
    }


def _noise(marked: MarkContext) -> FieldChecks | None:
    """A process's blocks over the mean of its row."""
    found, step = _process(marked), marked.metric("one step")
    if found is None or step is None:
        return None
    record, trial = found
    blocks = [seconds / trial.steps_per_block / step.value for seconds in trial.block_seconds]
    if len(blocks) < 2:
        return None
    shares = {f"block_p{share:02}": check_equal(intervals.percentile(blocks, share / 100)) for share in (5, 50, 95)}
    process = {"index": record.index, "round": record.job.round + 1, "blocks": len(blocks)}
    return {"label": check_label(marked), **{name: check_equal(value) for name, value in process.items()}, **shares}


RULES: Mapping[str, MarkRule] = {
    "speedup": _speedup,
    "speedup-cpu": _speedup_cpu,
    "flops": _flops,
    "roofline": _roofline,
    "threads": _threads,
    "batches": _batches,
    "scaling": _scaling,
    "ladder": _ladder,
    "memory": _memory,
    "energy": _energy,
    "learning": _learning,
    "noise": _noise,
}

"""What each mark of a chart should say: by the chart's key a rule that gives a check of every field but those of identity."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cnnbench.audit import figures, intervals, scalings
from cnnbench.audit.checks import (
    Check,
    Fields,
    Mark,
    Marked,
    equals,
    estimate,
    is_base,
    label_of,
    text_of,
    wordless,
    words_of,
)
from cnnbench.audit.raw import RawRow
from cnnbench.audit.views import Wanted
from cnnbench.schema import Record, ReferenceRow, Trial

Rule = Callable[[Marked], Fields | None]
"""None where the records have no such figure of that row."""
GIGA, MIB = 1e9, 2**20
KEPT = {"sgd": 0, "momentum": 1, "rmsprop": 1, "rmsprop-tf1": 1, "adam": 2}
"""What an update rule keeps beside each weight and its gradient."""


def _ratio(marked: Marked, name: str, heading: str) -> dict[str, Check] | None:
    """A mark of either chart of speed-ups."""
    figure = marked.figure(heading)
    if figure is None:
        return None
    ends = [end for end in (figure.low, figure.high) if end is not None]
    return {
        **estimate(name, figure),
        "text": text_of("ratio", figure.value, figure.projected),
        "edge": equals(max(1.0, figure.value, *ends)),
        "label": label_of(marked),
    }


def _speedup(marked: Marked) -> Fields | None:
    fields = _ratio(marked, "speedup_over_reference", "over")

    def kind(said: Any) -> bool:
        if isinstance(marked.wanted.row, ReferenceRow):
            return bool(said == f"published in {marked.wanted.row.year}")
        return wordless(said) and ("projected" in said) == marked.wanted.row.projected

    return None if fields is None else {"kind": kind, **fields}


def _speedup_cpu(marked: Marked) -> Fields | None:
    fields, base = _ratio(marked, "speedup", "speed-up"), marked.wanted.base
    if fields is None:
        return None
    return {
        "kind": lambda said: wordless(said) and (said == "baseline") == (base is marked.row),
        "baseline": lambda said: is_base(base, said),
        **fields,
    }


RATES: Mapping[str, str] = {
    "printed": "theoretical",
    "theoretical peak": "theoretical",
    "measured peak (GEMM)": "measured peak",
    "achieved in the job": "achieved",
}


def _flops(marked: Marked) -> Fields | None:
    figure = marked.figure(RATES.get(marked.kind, ""))
    if figure is None:
        return None
    row = marked.wanted.row
    beside = [each["flops_per_second"] for each in marked.every if each.get("label") == marked.mark.get("label")]
    side = "most" if figure.value >= max(beside) else "least" if figure.value <= min(beside) else ""
    source = f"published in {row.year}" if isinstance(row, ReferenceRow) else None
    kinds = {"printed", "achieved in the job"} if source else RATES.keys() - {"printed"}
    return {
        "kind": lambda said: said in kinds,
        "source": wordless if source is None else equals(source),
        "flops_per_second": equals(figure.value),
        "gflops_per_second": equals(figure.value / GIGA),
        "text": text_of("giga", figure.value),
        "side": equals(side),
        "label": label_of(marked),
    }


def _roofline(marked: Marked) -> Fields | None:
    """A training step or a matrix product under its roof."""
    row, rate = marked.row, marked.figure("achieved")
    if row is None or rate is None or row.flops is None:
        return None
    gemm = row.job.workload == "gemm"
    width = 2 if row.job.precision in ("bf16", "fp16") else 4
    moved = 3 * (row.job.size or 0) ** 2 * width if gemm else figures.bytes_moved(row)
    if not moved:
        return None
    return {
        **{"kind": wordless, "roof": words_of(marked), "name": words_of(marked)},
        "intensity_flops_per_byte": equals(row.flops / moved),
        "gflops_per_second": equals(rate.value / GIGA),
        **estimate("achieved_flops_per_second", rate),
        **({} if gemm else {"verdict": equals(marked.wanted.words["what binds"])}),
    }


def roof(mark: Mark, rows: Sequence[Wanted]) -> Fields | None:
    """A corner of the roof over the steps of these rows: up the fastest copy to the best product, then level."""
    raw = [each.row for each in rows if isinstance(each.row, RawRow)]
    ceilings = [figure.value for each in rows if (figure := each.figures.get("measured peak"))]
    slopes = [copy for row in raw if (copy := figures.floors_of(row).get("copy_bytes_per_second"))]
    if len({each.product.header.run_id for each in rows if each.product is not None}) > 1:
        return None  # steps of several runs have no roof in common
    if not ceilings or not slopes or mark.get("order") not in (0, 1, 2):
        return None
    ceiling, ridge = max(ceilings), max(ceilings) / max(slopes)
    corners = ((ridge / 16, ceiling / 16), (ridge, ceiling), (max(1000.0, 4 * ridge), ceiling))
    intensity, rate = corners[mark["order"]]
    return {
        **{"kind": equals("roof"), "roof": equals(mark["roof"]), "order": equals(mark["order"])},
        "machine": equals(raw[0].header.machine.id),
        "run": equals(raw[0].header.run_id),
        "intensity_flops_per_byte": equals(intensity),
        "gflops_per_second": equals(rate / GIGA),
    }


def _images(marked: Marked, varied: int | None) -> dict[str, Check] | None:
    """A point of a sweep."""
    images = marked.figure("images")
    if images is None:
        return None
    return {"series": words_of(marked), "varied": equals(varied), **estimate("images_per_second", images)}


def _threads(marked: Marked) -> Fields | None:
    """Beside it what perfect scaling from the fewest threads of its series would give."""
    threads = marked.row.job.threads if marked.row else None
    fields = _images(marked, threads)
    if fields is None or not threads:
        return None
    series = [each for each in marked.every if each.get("series") == marked.mark.get("series")]
    first = min(series, key=lambda each: each["varied"])
    return {**fields, "ideal": equals(first["images_per_second"] * threads / first["varied"])}


def _scaling(marked: Marked) -> Fields | None:
    """Beside it what the fewest processors of its series would give if each further one gave as much."""
    speed = marked.figure(scalings.SPEED)
    if marked.row is None or speed is None:
        return None
    used = scalings.cores(marked.row)
    series = [each for each in marked.every if each.get("series") == marked.mark.get("series")]
    first = min(series, key=lambda each: each["varied"])
    return {
        **{"series": words_of(marked), "varied": equals(used)},
        **estimate("scaling_speedup", speed),
        "ideal": equals(first["scaling_speedup"] * used / first["varied"]),
    }


def _batches(marked: Marked) -> Fields | None:
    return _images(marked, marked.row.job.batch_size if marked.row else None)


def _ladder(marked: Marked) -> Fields | None:
    row, step = marked.row, marked.figure("one step")
    if row is None or step is None:
        return None
    rung = f"{row.job.division}, {row.job.precision}, {row.job.layout}, {row.job.execution}, {row.job.loader}"
    return {
        "rung": equals(rung),
        "label": label_of(marked, rung),
        "text": text_of("time", step.value),
        "milliseconds": equals(step.value * 1e3),
        **estimate("step_seconds", step),
    }


def _memory(marked: Marked) -> Fields | None:
    row = marked.row
    if row is None:
        return None
    peak = marked.figure("host peak" if row.on_cpu else "device peak")
    value = None if peak is None else peak.value
    if marked.kind.startswith("analytic"):
        value = None
        if row.workload is not None and row.job.task == "training":
            images = row.job.batch_size // row.job.world * row.workload.activation_bytes_per_image
            value = images + (2 + KEPT[row.job.optimizer or ""]) * row.workload.parameter_bytes
    if value is None:
        return None
    return {
        **{"kind": wordless, "where": wordless, "label": label_of(marked), "text": text_of("size", value)},
        **{"bytes": equals(value), "mib": equals(value / MIB)},
    }


def _energy(marked: Marked) -> Fields | None:
    image = marked.figure("energy an image")
    if marked.row is None or image is None:
        return None
    return {
        "label": label_of(marked),
        "text": text_of("energy", image.value),
        "watts": equals(figures.watts(marked.row)),
        **estimate("energy_joules_per_image", image),
    }


def _process(marked: Marked) -> tuple[Record, Trial] | None:
    """The row's process at that place in the plan, one that missed its target too."""
    trials = () if marked.row is None else marked.row.attempts
    return next((pair for pair in trials if pair[0].index == marked.mark.get("index")), None)


def _learning(marked: Marked) -> Fields | None:
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
        **{"kind": wordless, "index": equals(record.index), "after_steps": equals(test.after_steps)},
        "series": words_of(marked, f"process {record.job.round + 1}"),
        "minutes": equals((before + sum(block + each.seconds for block, each in epochs[:until])) / 60),
        "images": equals(test.images),
        "accuracy": equals(share.value),
        **({"accuracy_low": equals(share.low), "accuracy_high": equals(share.high)} if final else {}),
    }


def _noise(marked: Marked) -> Fields | None:
    """A process's blocks over the mean of its row."""
    found, step = _process(marked), marked.figure("one step")
    if found is None or step is None:
        return None
    record, trial = found
    blocks = [seconds / trial.steps_per_block / step.value for seconds in trial.block_seconds]
    if len(blocks) < 2:
        return None
    shares = {f"block_p{share:02}": equals(intervals.percentile(blocks, share / 100)) for share in (5, 50, 95)}
    process = {"index": record.index, "round": record.job.round + 1, "blocks": len(blocks)}
    return {"label": label_of(marked), **{name: equals(value) for name, value in process.items()}, **shares}


RULES: Mapping[str, Rule] = {
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

"""The columns of CSV and JSON files: `<key>_text` is what is printed, and beside it stand raw values by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from cnnbench.machine import peaks
from cnnbench.schema import PublishedRow, digest
from cnnbench.verify import metrics
from cnnbench.verify.expectations import ExpectedRow
from cnnbench.verify.field_checks import names_baseline
from cnnbench.verify.intervals import ExpectedFigure, RequiredText
from cnnbench.verify.raw_rows import RawRow, RawValue, is_same_text

HEADINGS: Mapping[str, str] = {
    "precision": "precision",
    "peak": "theoretical",
    "ceiling": "measured peak",
    "achieved": "achieved",
    "mfu": "MFU",
    "of_ceiling": "of peak",
    "job": "time of the job",
    "speedup": "speed-up",
    "versus": "over",
    "images": "images",
    "host_peak": "host peak",
    "device_peak": "device peak",
    "accuracy": "test accuracy",
    "outcome": "outcome",
    "device_reserved": "device reserved",
    "device_used": "device used",
    "activations": "activations an image",
    "parameters": "parameters",
    "energy": "energy an image",
    "cold_start": "cold start",
    "step": "one step",
    "verdict": "what binds",
    "compute": "compute floor",
    "bandwidth": "bandwidth floor",
    "launch": "launch floor",
    "input": "input floor",
    "size": "size",
    "products": "blocks x products after warm-up",
    "job_energy": "energy of the job",
    "price": "price an hour",
    "cost": "cost of the job",
    "pretraining": "pretraining",
    "mode": "mode",
    "target": "target",
    "seeds": "seeds that reached it",
    "median": "median time",
    "mean": "mean time",
    "fastest": "fastest",
    "slowest": "slowest",
    "median_steps": "median steps",
    "median_epochs": "median epochs",
    "seed": "seed",
    "reached": "ended",
    "seconds": "time to target",
    "steps": "steps",
    "epochs": "epochs",
    "last": "last accuracy",
    "rung": "rung",
    "over_before": "speed over the one before",
    "over_first": "speed over the first",
    "why_not": "why not",
    "scaling": "scaling",
    "scaled": "scaled",
    "efficiency": "efficiency",
    "exchange": "exchange",
    "started": "launch",
    "copies": "copies",
    "median_copy": "median copy",
    "slowest_copy": "slowest copy",
    "over_median": "slowest over median",
}
"""Each column's heading on a page."""
ESTIMATES: Mapping[str, str] = {
    "ceiling": "measured_peak_flops_per_second",
    "of_ceiling": "share_of_measured_peak",
    "achieved": "achieved_flops_per_second",
    "job": "job_seconds",
    "speedup": "speedup",
    "versus": "speedup_over_reference",
    "images": "images_per_second",
    "accuracy": "test_accuracy",
    "energy": "energy_joules_per_image",
    "cold_start": "cold_start_seconds",
    "step": "step_seconds",
    "job_energy": "job_energy_joules",
    "cost": "job_cost",
    "pretraining": "pretraining_seconds",
    "median": "median_seconds_to_target",
    "median_steps": "median_steps_to_target",
    "median_epochs": "median_epochs_to_target",
    "over_before": "speed_over_rung_before",
    "over_first": "speed_over_first_rung",
    "scaled": "scaling_speedup",
    "efficiency": "scaling_efficiency",
    "exchange": "exchange_share",
    "started": "launch_seconds",
    "median_copy": "median_copy_seconds",
    "over_median": "slowest_over_median",
}
"""Raw values with their ends and n."""
EXACT: Mapping[str, str] = {
    "peak": "peak_flops_per_second",
    "mfu": "mfu",
    "host_peak": "host_peak_bytes",
    "device_peak": "device_peak_bytes",
    "device_reserved": "device_reserved_bytes",
    "device_used": "device_used_bytes",
    "activations": "activation_bytes_per_image",
    "parameters": "parameter_bytes",
    "size": "size",
    "price": "price_per_hour",
    **{name: f"{name}_seconds_to_target" for name in ("mean", "fastest", "slowest")},
    "seed": "seed",
    "seconds": "seconds_to_target",
    "steps": "steps_to_target",
    "epochs": "epochs_to_target",
    "last": "last_accuracy",
    "copies": "copies",
    **{kind: f"{kind}_floor_seconds" for kind in ("compute", "bandwidth", "launch", "input")},
}
"""Raw values without."""
VARIANT_FIELDS = (
    *("task", "layout", "execution", "loader", "loader_workers", "optimizer", "init", "pool", "activation"),
    *("target", "evaluate_every"),
)
"""Fields of the job that a file has beside a row where one of its rows is computed another way than the plain one."""
OTHER_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "processor": (
        *("processor", "device", "threads", "allocator", "machine_id", "run_id", "torch", "workload", "division"),
        *("batch_size", "clock", "work_key_sha256", "protocol", "year", "source", *VARIANT_FIELDS),
    ),
    "precision": ("precision",),
    "peak": ("peak_kind", "peak_origin", "printed_flops"),
    "ceiling": ("measured_peak_run_id",),
    "job": ("job_kind",),
    "speedup": ("baseline",),
    "versus": ("printed_speedup",),
    "accuracy": ("accuracy_after_steps", "accuracy_data"),
    "outcome": ("processes", "processes_ok", "outcome"),
    "energy": ("net_energy_joules_per_image", "mean_power_watts"),
    "verdict": ("verdict",),
    "products": ("blocks", "block_steps", "warmup_steps"),
    "pretraining": ("pretraining_flops_per_second",),
    "mode": ("mode_precision",),
    "seeds": ("seeds", "seeds_reached", "seeds_missed"),
    "reached": ("reached_target", "clock_seconds"),
    "steps": ("evaluations",),
    "last": ("last_correct", "last_images"),
    "rung": ("rung_precision",),
    "scaling": ("scaling", "world", "nodes"),
    "slowest_copy": ("slowest_copy",),
    **{kind: (f"{kind}_floor_allows",) for kind in ("compute", "bandwidth", "launch", "input")},
}
"""What else stands beside a column: which row it is, and values that are no estimate."""
_ENDS = ("", "_low", "_high", "_n")


def find_key(name: str, table: str) -> str | None:
    """The column that a name belongs to; None where there is no rule for it."""
    if name == "is_ceiling":
        return "ceiling" if table == "gemm" else None
    return _owners().get(name)


@cache
def _owners() -> dict[str, str]:
    owners = {f"{key}_text": key for key in (*HEADINGS, "processor")}
    owners |= {f"{name}{end}": key for key, name in ESTIMATES.items() for end in _ENDS}
    owners |= {name: key for key, name in EXACT.items()}
    return owners | {name: key for key, names in OTHER_COLUMNS.items() for name in names}


def heading(key: str, table: str) -> str:
    """What the column is headed on a page; among products the column of the ceiling is a mark."""
    return "mark" if (key, table) == ("ceiling", "gemm") else HEADINGS[key]


def raw_values(key: str, table: str, wanted: ExpectedRow) -> dict[str, RawValue]:
    """The raw values of the column by name, None where unknown."""
    if (key, table) == ("ceiling", "gemm"):
        return {"is_ceiling": wanted.words["mark"] != ""}
    figure = wanted.metrics.get(HEADINGS.get(key, ""))
    found: dict[str, RawValue] = {}
    if key in EXACT:
        found[EXACT[key]] = None if figure is None else figure.value
    if key in ESTIMATES:
        ends = (None,) * 4 if figure is None else (figure.value, figure.low, figure.high, figure.n)
        found |= {f"{ESTIMATES[key]}{end}": value for end, value in zip(_ENDS, ends, strict=True)}
    if isinstance(wanted.row, PublishedRow):
        others = _published_values(key, wanted.row)
    else:
        others = _measured_values(key, wanted, wanted.row, figure)
    return found | dict(zip(OTHER_COLUMNS.get(key, ()), others, strict=True))


def _published_values(key: str, row: PublishedRow) -> tuple[RawValue, ...]:
    known: dict[str, tuple[RawValue, ...]] = {
        "processor": (row.processor, *(None,) * 12, row.year, row.source, *(None,) * len(VARIANT_FIELDS)),
        "peak": ("printed" if row.printed_flops_per_second is not None else None, None, row.printed_flops_text),
        "job": ("published",),
        "versus": (row.printed_speedup,),
    }
    return known.get(key, (None,) * len(OTHER_COLUMNS.get(key, ())))


def _measured_values(key: str, wanted: ExpectedRow, row: RawRow, figure: ExpectedFigure | None) -> tuple[RawValue, ...]:
    if key not in OTHER_COLUMNS:  # most columns: nothing below is needed
        return ()
    job, software = row.job, row.header.software
    after = [trial.test.after_steps for _, trial in row.trials if trial.test]
    data = next((trial.accuracy_data for _, trial in row.trials if trial.test), None) or job.data
    outcome = wanted.words["outcome"]
    whole = "projected" if job.job_steps is not None else None
    kind = {"job": "measured", "recipe": "measured", "accuracy": "to target", "steady": whole}[job.clock]
    ends = [record.outcome.status for record in row.records]
    beside = figure.details[0] if figure is not None and figure.details else None
    known: dict[str, tuple[RawValue, ...]] = {
        "processor": (
            *(row.full_name, job.device, job.threads, job.allocator, row.header.machine.id, row.header.run_id),
            *(f"{software.torch} ({software.torch_build})", job.workload, job.division, job.batch_size, job.clock),
            *(digest(row.work_key), row.protocol, None, None, *(getattr(job, name) for name in VARIANT_FIELDS)),
        ),
        "precision": (job.precision,),
        "peak": ("theoretical", _origin(row), None),
        "ceiling": (None if wanted.product is None else wanted.product.header.run_id,),
        "job": (kind,),
        "speedup": (None if wanted.base is None else wanted.base.full_name,),
        "versus": (None,),
        "accuracy": (max(after), data) if after and figure is not None else (None, None),
        "outcome": (
            *(len(row.records) + row.unstarted, len(row.trials)),
            outcome.replace(" (", ", ", 1).replace("; ", ", ").removesuffix(")"),
        ),
        "energy": (metrics.net_joules(row), metrics.mean_watts(row)),
        "verdict": (wanted.words["what binds"],),
        "products": (job.blocks, job.block_steps, job.warmup_steps),
        "pretraining": (metrics.pretraining_rate(row),),
        "mode": (job.precision,),
        "rung": (job.precision,),
        "scaling": (job.scaling, job.world, job.nodes),
        "slowest_copy": (wanted.words["slowest copy"],),
        "seeds": (len(ends) + row.unstarted, ends.count("ok"), ends.count("missed")),
        **{
            name: tuple(wanted.raw_values.get(each) for each in OTHER_COLUMNS[name])
            for name in ("reached", "steps", "last")
        },
        **dict.fromkeys(
            ("compute", "bandwidth", "launch", "input"), (beside.value if isinstance(beside, RequiredText) else None,)
        ),
    }
    return known.get(key, ())


def _origin(row: RawRow) -> str | None:
    """The arithmetic and the source of a theoretical peak."""
    if row.device is None:
        return None
    peak = peaks.theoretical_peak(row.device, row.header.machine, row.job.precision)
    return "; ".join(part for part in (peak.formula, peak.source) if part) or None


def is_same_cell_text(printed: str, value: str) -> bool:
    """Whether a file that says this means this text, of which a CSV file's reader may have taken a ' away."""
    return printed == value or is_same_text(printed, value) or is_same_text(f"'{printed}", value)


def is_row_baseline(wanted: ExpectedRow, printed: object) -> bool:
    """Whether the file names the row's baseline."""
    return names_baseline(wanted.base, printed)

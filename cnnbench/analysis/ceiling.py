"""The measured peak of a row, and why the row is not N times faster: its step compared with the floors measured beside
it.

The measured peak is the best matrix product of the row's own run, else of the same boot of the same host, else none. A
machine id names a kind of machine. Two runs under one id may come from two virtual machines that differ by a third, so
a product of another run describes a row only if both runs were in the same boot. Each size of a sweep is estimated over
its processes, and the best size counts. Where its processes differ too much, a doubt replaces the measured peak.

Four floors, all from measurements on the same device: *launch*, the step's operators times the smallest operator;
*bandwidth*, the bytes the step must move at the speed of a copy; *compute*, its model FLOPs at the best matrix product
of the same precision; *input*, drawing a batch. The largest is the limit; the share of the step it explains shows how
far the step is from it. A floor is a model, not a law: data that stays in a cache moves faster than a copy of 64 MiB
does, and a fused step launches fewer operators.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

from cnnbench import units, validity, workloads
from cnnbench.analysis import stats
from cnnbench.analysis.doubts import Doubt
from cnnbench.analysis.metrics import step_flops
from cnnbench.analysis.rows import Bottleneck, Floor, FloorKind, Row, follow
from cnnbench.analysis.run_spread import find_run_spreads
from cnnbench.errors import WorkloadError
from cnnbench.schema import Job

MOST_SPREAD = 1.5
"""Largest allowed ratio of the fastest process's rate to the slowest's for the best product. Beyond it their mean describes
none of them.
"""
NO_PRODUCT = (
    "no GEMM of the same device, precision, threads and allocator in this run; add a suite that has one to the command (as "
    "in cnnbench run tta quick; ladder has every precision)"
)
UNFIT_PRODUCT = "the GEMM of the same device, precision, threads and allocator was measured while the machine was unfit"
ACTIVATION_MOVES, ACTIVATION_MOVES_FORWARD = 5, 2
"""Each activation is written and read once forward, read once backward, and its gradient written and read once.
Inference is only the forward part.
"""
PARAMETER_MOVES, PARAMETER_MOVES_FORWARD = 8, 1
"""Weights are read forward and backward, gradients written and read, weight and mean square each read and written; inference
reads the weights.
"""
FARTHEST = 1e12
"""A floor farther than this factor from its step is ignored: a nanosecond is a millionth of a millionth of 17 minutes.
"""

PeakKey = tuple[Hashable, ...]


def with_ceilings(rows: Sequence[Row], products: Sequence[Row]) -> list[Row]:
    """Add to each row its measured peak, its share of that and the floors of its step.

    `products` are the matrix products of all runs: a newer run may hide some of them from the table. The product that
    is the measured peak of its run is marked, or doubted if its processes differ too much to be one.
    """
    usable = [row for row in products if row.job.copies == 1 and row.flops_per_second is not None]
    by_run, by_boot = {}, {}
    unfit = {_run_key(row) for row in usable if row.unfit}
    usable = [row for row in usable if not row.unfit]
    for row in sorted(usable, key=lambda row: (row.values["flops_per_second"].value, row.row_key, row.run_id)):
        by_run[_run_key(row)] = row  # the best product of each key, since it comes last
        if row.boot_id is not None:
            by_boot[_boot_key(row)] = row
    found = []
    for row in rows:
        best = by_run.get(_run_key(row))
        if row.job.workload != "gemm":
            why = UNFIT_PRODUCT if _run_key(row) in unfit else NO_PRODUCT
            row = _with_ceiling(row, best or by_boot.get(_boot_key(row)), why)
            if row.step_seconds is not None and row.job.processes == 1:  # floors do not cover waiting for others
                step, rate = row.step_seconds.value, follow(row, "ceiling_flops_per_second.value")
                # Where products with zeros are left out, the model's FLOPs are no lower bound of the step.
                rate = None if row.flops_per_second is None else rate
                floors = find_bottleneck(row.job, step, row.floors, row.operators_per_step, rate)
                row = replace(row, bottleneck=floors)
        elif best is not None and best.row_key == row.row_key:
            doubt = _doubt_spread(best)
            row = replace(row, is_ceiling=True) if doubt is None else row.with_doubt(doubt[1])
        found.append(row)
    return found


def _place_key(row: Row) -> PeakKey:
    """Return what a product and a row share.

    All ranks of a machine together have as many threads as one product.
    """
    job = row.job
    threads = None if job.threads is None else job.threads * (job.world // job.nodes)
    return (row.machine.id, job.device, job.precision, threads, job.allocator, row.protocol, row.software.torch)


def _run_key(row: Row) -> PeakKey:
    return (row.run_id, *_place_key(row))


def _boot_key(row: Row) -> PeakKey:
    """Return the key of products of the same boot.

    The fingerprint in it guards against cloned machines. Products of an unknown boot are not stored under any key.
    """
    return (row.boot_id, row.machine, *_place_key(row))


def _doubt_spread(product: Row) -> tuple[str, Doubt] | None:
    """Doubt a measured peak whose own processes differ.

    The doubt comes with the reason why a row has no peak.
    """
    fastest, slowest = max(product.rates.values()), min(product.rates.values())
    if fastest / slowest <= MOST_SPREAD:
        return None
    size, times = f"size {units.count(product.job.size)}", units.ratio(fastest / slowest)
    reason = f"the processes of the best GEMM, {size}, differ by {times}, more than {MOST_SPREAD}x"
    name = f"{size}, {product.job.precision}"
    text = f"the processes of the best matrix product ({name}) differ by {times}: no row is compared with it"
    remedy = "Stop other programs and measure the products again, in the same run."
    return reason, Doubt("ceiling-spread", text, remedy)


def _with_ceiling(row: Row, product: Row | None, why_none: str) -> Row:
    if row.step_seconds is None:
        return row
    if product is None:
        return row.with_reason("ceiling", why_none)
    doubt = _doubt_spread(product)
    if doubt is not None:
        return row.with_reason("ceiling", doubt[0]).with_doubt(doubt[1])
    devices, rate, share = validity.devices_of(row.job), product.flops_per_second, None
    if row.rates:
        share = stats.ratio(row.rates, product.rates)
        if product.run_id != row.run_id:
            first, second = (found.spread for found in find_run_spreads(row, product))
            share = stats.ratio_between_runs(list(row.rates.values()), list(product.rates.values()), (first, second))
        elif share.low is None:  # then of the means: a single pair would disagree with the columns beside it
            share = stats.unpaired_ratio(list(row.rates.values()), list(product.rates.values()))
        share = share.scaled(1 / devices)
    if share is not None and share.value > 1:
        # A whole training step is faster than the bare products of its device.
        text = f"the step reaches {share.value:.0%} of the best matrix product measured on its device"
        row = row.with_doubt(Doubt("above-ceiling", text, "Measure the products again, in the same run."))
    peak = rate and rate.scaled(devices)
    return replace(row, ceiling_flops_per_second=peak, ceiling_run_id=product.run_id, ceiling_share=share)


def find_bottleneck(
    job: Job,
    step_seconds: float,
    measured: Mapping[str, float],
    operators: int | None,
    ceiling_flops_per_second: float | None,
) -> Bottleneck:
    """Compute the floors that are known; `measured` holds `measure_lower_bounds`' values.

    `ceiling_flops_per_second` is the best GEMM's rate.
    """
    seconds: dict[FloorKind, float] = {}
    if operators is not None and "launch_seconds" in measured:
        seconds["launch"] = operators * measured["launch_seconds"]
    moved, flops = bytes_per_step(job), step_flops(job)
    if moved is not None and measured.get("copy_bytes_per_second"):
        seconds["bandwidth"] = moved / measured["copy_bytes_per_second"]
    if flops is not None and ceiling_flops_per_second:
        seconds["compute"] = flops / ceiling_flops_per_second
    if "draw_seconds" in measured:
        seconds["input"] = measured["draw_seconds"]
    floors = [Floor(kind, floor, floor / step_seconds) for kind, floor in seconds.items()]
    floors = [floor for floor in floors if 1 / FARTHEST < floor.share < FARTHEST]
    return Bottleneck(tuple(sorted(floors, key=lambda floor: -floor.seconds)))


def bytes_per_step(job: Job) -> int | None:
    """Count the bytes a float32 step must move at least, by the counts above.

    None for a GEMM or an unknown workload.
    """
    try:
        workload = workloads.get(job.workload, job.workload_version)
    except WorkloadError:
        return None
    if workload.kind != "training":
        return None
    activations = job.batch_size * workload.activation_bytes_per_image
    if job.task == "inference":
        return ACTIVATION_MOVES_FORWARD * activations + PARAMETER_MOVES_FORWARD * workload.parameter_bytes
    return ACTIVATION_MOVES * activations + PARAMETER_MOVES * workload.parameter_bytes

"""The measured peak of a row: the best matrix product of its own run, else of the same boot of the same host, else none.

A machine id names a kind of machine. Two runs under one id may be of two virtual machines that differ by a third, so a
product of another run describes a row only if both runs were in one boot. Each size of a sweep is estimated over its
processes, and the best size counts. Where its processes differ too much, a doubt replaces the measured peak.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence

from cnnbench import units, validity
from cnnbench.analysis import stats
from cnnbench.analysis.bottleneck import find_bottleneck
from cnnbench.analysis.doubts import Doubt, above_ceiling, ceiling_spread
from cnnbench.analysis.rows import Row
from cnnbench.analysis.stats import Estimate

MOST_SPREAD = 1.5
"""Fastest over slowest process of the best product. Beyond it their mean describes none of them."""
NO_PRODUCT = (
    "no GEMM of the same device, precision, threads and allocator in this run; add a suite that has one to the command (as "
    "in cnnbench run tta quick; ladder has every precision)"
)

PeakKey = tuple[Hashable, ...]


def with_ceilings(rows: Sequence[Row], products: Sequence[Row]) -> list[Row]:
    """Give each row its measured peak, its share of that and the floors of its step.

    `products` are the matrix products of all runs: a newer run may hide some of them from the table.
    """
    usable = [row for row in products if row.job.copies == 1 and row.flops_per_second is not None]
    by_run, by_boot = _fastest(usable, _run_key), _fastest(usable, _boot_key)
    found = []
    for row in rows:
        own = by_run.get(_run_key(row))
        if row.job.workload == "gemm":
            found.append(_with_mark(row, own))
        else:
            found.append(_with_ceiling(row, own or by_boot.get(_boot_key(row))))
    return found


def measure_spread(product: Row) -> float:
    """Divide the fastest process of a product by its slowest."""
    return max(product.rates.values()) / min(product.rates.values())


def _place_key(row: Row) -> PeakKey:
    """What a product and a row share; all ranks of a machine together have as many threads as one product."""
    job = row.job
    threads = None if job.threads is None else job.threads * (job.world // job.nodes)
    return (row.machine.id, job.device, job.precision, threads, job.allocator, row.protocol, row.software.torch)


def _run_key(row: Row) -> PeakKey | None:
    return (row.run_id, *_place_key(row))


def _boot_key(row: Row) -> PeakKey | None:
    """None where the boot is unknown: an unknown boot equals no other. The fingerprint guards against cloned machines."""
    return None if row.boot_id is None else (row.boot_id, row.machine, *_place_key(row))


def _fastest(products: Sequence[Row], key_of: Callable[[Row], PeakKey | None]) -> Mapping[PeakKey | None, Row]:
    """Pick the best product of each key; rows without a key have none."""
    best: dict[PeakKey | None, Row] = {}
    for product in sorted(products, key=_rank):
        if (key := key_of(product)) is not None:
            best[key] = product
    return best


def _rank(product: Row) -> tuple[float, str, str]:
    return 0.0 if product.flops_per_second is None else product.flops_per_second.value, product.row_key, product.run_id


def _with_mark(row: Row, best: Row | None) -> Row:
    """Mark the product if it is the measured peak of its run; doubt it if its processes differ too much to be one."""
    if best is None or best.row_key != row.row_key:
        return row
    doubt = _doubt(best)
    if doubt is not None:
        return dataclasses.replace(row, doubts=(*row.doubts, doubt))
    return dataclasses.replace(row, is_ceiling=True)


def _doubt(product: Row) -> Doubt | None:
    times = measure_spread(product)
    return ceiling_spread(product.job, times) if times > MOST_SPREAD else None


def _with_ceiling(row: Row, product: Row | None) -> Row:
    if row.step_seconds is None:
        return row
    if product is None:
        return _with_floors(row.with_reason("ceiling", NO_PRODUCT))
    doubt = _doubt(product)
    if doubt is not None:
        size, times = units.count(product.job.size), units.ratio(measure_spread(product))
        reason = f"the processes of the best GEMM, size {size}, differ by {times}, more than {MOST_SPREAD}x"
        return _with_floors(dataclasses.replace(row.with_reason("ceiling", reason), doubts=(*row.doubts, doubt)))
    return _with_share(row, product)


def _with_share(row: Row, product: Row) -> Row:
    devices, rate = validity.devices_of(row.job), product.flops_per_second
    ceiling = None if rate is None else rate.scaled(devices)
    share = _share(row.rates, product.rates).scaled(1 / devices) if row.rates else None
    doubted = row.doubts
    if share is not None and share.value > 1:
        doubted = (*doubted, above_ceiling(share.value, row.job.division))
    row = dataclasses.replace(
        row, ceiling_flops_per_second=ceiling, ceiling_run_id=product.run_id, ceiling_share=share, doubts=doubted
    )
    return _with_floors(row, ceiling)


def _share(rates: Mapping[tuple[str, int], float], peak: Mapping[tuple[str, int], float]) -> Estimate:
    """Divide by round where that gives an interval, else the means: one pair alone is not what the columns beside it say."""
    found = stats.ratio(rates, peak)
    return stats.unpaired_ratio(list(rates.values()), list(peak.values())) if found.low is None else found


def _with_floors(row: Row, ceiling: Estimate | None = None) -> Row:
    """Add the floors of one process; they say nothing of waiting for others."""
    if row.job.processes > 1 or row.step_seconds is None:
        return row
    rate = None if ceiling is None else ceiling.value
    return dataclasses.replace(
        row, bottleneck=find_bottleneck(row.job, row.step_seconds.value, row.floors, row.operators_per_step, rate)
    )

"""Many nodes in one table: per work and kind of node the median node, the spread, and the outliers by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import NamedTuple

from cnnbench import naming, units
from cnnbench.analysis.node_outliers import (
    LEAST_NODES,
    LEAST_SHARE,
    ROBUST_SDS,
    TO_SIGMA,
    EqualNodes,
    Outlier,
    describe_hardware,
)
from cnnbench.analysis.ratio import group_by
from cnnbench.plain_text import plain
from cnnbench.report import footnotes
from cnnbench.report.model import Cell, Note, Report, make_notes
from cnnbench.report.table_builder import PROCESSOR, ColumnSpec, TableSpec, build_table, figure, left_column, wording

RULES = make_notes(
    "rule",
    (
        f"Outlier: among {LEAST_NODES} or more processors of one model in nodes of one kind (same CPU model, same "
        f"GPU models), one whose time is more than {ROBUST_SDS:g} robust standard deviations "
        f"({TO_SIGMA} x the median absolute deviation of the log times) "
        f"and at least {units.exact_percent(LEAST_SHARE)} from the median.",
        "A node's figure is the median of its processes; of several runs of a job on a node the newest counts.",
    ),
)


class KindLine(NamedTuple):
    """One kind of node, with the median of the fastest kind at the same work."""

    kind: EqualNodes
    fastest_seconds: float


class FarNode(NamedTuple):
    """A processor far from others of its kind."""

    kind: EqualNodes
    outlier: Outlier


def _title_kind(line: KindLine) -> str:
    each, job = line.kind, line.kind.job
    size = f"{units.count(job.size)} x {units.count(job.size)}" if job.size else ""
    timed = "time of the whole job" if job.divided_whole else "time of a step"
    title = " · ".join(filter(None, (naming.work_label(job), size, job.precision, timed)))
    return title + naming.format_protocol(each.protocol)


def _place(each: EqualNodes, device: str) -> str:
    return naming.place_label(each.job.model_copy(update={"device": device}))


def _name_processor(each: EqualNodes, several_builds: bool) -> Cell:
    own = each.device.kind == "cpu"
    place = _place(each, "cpu" if own else each.device.kind)
    others = [naming.processor_name(device) for device in each.machine.devices if (device.kind == "cpu") != own]
    beside = f"in nodes with {' + '.join(dict.fromkeys(others))}" if others else ""
    raw = {
        "processor": each.device.name,
        "threads": each.job.threads,
        "torch": each.torch,
        "workload": each.job.workload,
    }
    build = f"torch {plain(each.torch)}" if several_builds else ""
    return Cell(naming.processor_name(each.device), raw, (place,)).add_details(beside, build)


def _seconds(each: EqualNodes, seconds: float | None) -> str:
    return units.duration(seconds) if each.job.divided_whole else units.short_seconds(seconds)


def _rate(line: KindLine) -> Cell:
    """Show images per second of the median node; those of whole jobs include evaluations."""
    each, job = line.kind, line.kind.job
    if job.workload == "gemm":
        rate = 2 * (job.size or 0) ** 3 / each.median_seconds
        return Cell(f"{units.giga(rate)} GFLOP/s", {"median_flops_per_second": rate})
    images = job.batch_size * ((job.job_steps or 0) if job.divided_whole else 1)
    if not images:
        return Cell(units.NOT_AVAILABLE)
    rate = images / each.median_seconds
    return Cell(f"{units.rate(rate)} img/s", {"median_images_per_second": rate})


def _range(line: KindLine) -> Cell:
    each, first, last = line.kind, line.kind.processors[0], line.kind.processors[-1]
    text = units.span(first.seconds, last.seconds, partial(_seconds, each))
    details = () if first is last else (f"{plain(first.node)} to {plain(last.node)}",)
    raw = {"fastest_seconds": first.seconds, "slowest_seconds": last.seconds}
    return Cell(text, raw | {"fastest_node": first.node, "slowest_node": last.node}, details)


def _name_outliers(line: KindLine) -> Cell:
    far = line.kind.outliers
    judged = len(line.kind.processors) >= LEAST_NODES
    text = _join_names(f"{plain(one.processor.node)} {units.ratio(one.ratio)}" for one in far)
    return Cell(text or ("none" if judged else units.NOT_AVAILABLE), {"outliers": len(far) if judged else None})


_join_names = partial(footnotes.join_names, most=8, separator=", ")


def _read_median(line: KindLine | FarNode) -> str:
    return _seconds(line.kind, line.kind.median_seconds)


KINDS = TableSpec[KindLine](
    "fleet",
    "Kinds of node",
    (
        PROCESSOR,
        figure(
            "nodes",
            "nodes",
            1,
            "kind.nodes",
            units.count,
            details=lambda line: (
                () if len(line.kind.processors) == line.kind.nodes else (f"{len(line.kind.processors)} processors",)
            ),
            further={"processors": lambda line: len(line.kind.processors)},
        ),
        figure(
            "median",
            "median\ntime",
            1,
            _read_median,
            name="",
            further={"median_seconds": "kind.median_seconds", "of_whole_job": "kind.job.divided_whole"},
        ),
        ColumnSpec("rate", "median\nrate", 3, _rate),
        figure(
            "relative",
            "over the\nfastest kind",
            2,
            lambda line: line.fastest_seconds / line.kind.median_seconds,
            units.ratio,
            name="speed_over_fastest_kind",
        ),
        figure("spread", "robust SD\nof nodes", 2, "kind.spread", units.percent, name="robust_sd"),
        ColumnSpec("range", "fastest to\nslowest node", 4, _range),
        left_column("outliers", "outliers", 1, _name_outliers),
    ),
    group=_title_kind,
)
OUTLIERS = TableSpec[FarNode](
    "outliers",
    "Nodes far from others of their kind",
    (
        wording(
            "node",
            "node",
            1,
            "outlier.processor.node",
            plain,
            details=lambda far: (_place(far.kind, far.outlier.processor.device.id),),
            further={"device": "outlier.processor.device.id"},
        ),
        wording(
            "what",
            "work",
            1,
            lambda far: naming.short_name(far.kind.job, size=True),
            name="",
            details=lambda far: (naming.processor_name(far.kind.device),),
            further={"run_id": "outlier.processor.run_id"},
        ),
        figure(
            "time",
            "its time",
            2,
            lambda far: _seconds(far.kind, far.outlier.processor.seconds),
            name="",
            details=lambda far: (f"n={far.outlier.processor.processes}",),
            further={"seconds": "outlier.processor.seconds"},
        ),
        figure(
            "median", "median of\nits kind", 2, _read_median, name="", further={"median_seconds": "kind.median_seconds"}
        ),
        figure("ratio", "over the\nmedian", 1, "outlier.ratio", units.ratio, name="over_median"),
        figure("sds", "robust SDs\naway", 1, "outlier.robust_sds", units.number, name="robust_sds"),
    ),
    group=lambda far: "Outliers by the rule",
)


def build(
    found: Sequence[EqualNodes],
    *,
    failed: Sequence[str] = (),
    warnings: Sequence[str] = (),
    problems: Iterable[str] = (),
) -> Report:
    """Build the report of these nodes. `failed` gives the reason for each failed node; the notes begin with it."""
    several = len({each.torch for each in found}) > 1
    works = group_by(found, attrgetter("job.work_key", "protocol")).values()
    fastest = {id(each): min(like.median_seconds for like in alike) for alike in works for each in alike}
    place = attrgetter("outlier.processor.node", "outlier.processor.device.id", "kind.job.work_key")
    far = sorted((FarNode(each, outlier) for each in found for outlier in each.outliers), key=place)
    tables = (
        build_table(
            replace(KINDS, clock=footnotes.list_clocks(each.job for each in found)),
            [KindLine(each, fastest[id(each)]) for each in found],
            named=lambda line: _name_processor(line.kind, several),
        ),
        build_table(OUTLIERS, far),
    )
    few = sum(len(each.processors) < LEAST_NODES for each in found)
    rows = "1 row has" if few == 1 else f"{few} rows have"
    least = f"{rows} fewer than {LEAST_NODES} such processors: too few to call one an outlier."
    notes = (
        _summary(found, far, failed),
        *make_notes("problem", map(plain, failed)),
        *make_notes("warning", map(plain, warnings)),
        *RULES,
        *([Note("missing", least)] if few else []),
        *footnotes.build_problem_notes(problems),
    )
    return Report(tuple(table for table in tables if table.groups), notes)


def _summary(found: Sequence[EqualNodes], far: Sequence[FarNode], failed: Sequence[str]) -> Note:
    kinds = {describe_hardware(each.machine) for each in found}
    names = {unit.node for each in found for unit in each.processors}
    counts = ((len(names), "node"), (len(kinds), "kind"))
    text = " of ".join(f"{number:,} {one}{'' if number == 1 else 's'}" for number, one in counts) + " with results"
    text += f", {len(failed)} failed" if failed else ""
    far_names = _join_names(map(plain, sorted({each.outlier.processor.node for each in far})))
    return Note("summary", f"{text}; {f'outliers: {far_names}' if far else 'no outlier'}.")

"""Many nodes in one table: each piece of work on each kind of node, the middle node, the spread, and the outliers by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from cnnbench import naming, units
from cnnbench.analysis import node_outliers
from cnnbench.analysis.node_outliers import EqualNodes, Outlier
from cnnbench.report import footnotes
from cnnbench.report.escaping import plain
from cnnbench.report.model import Cell, Column, Line, Note, Report, RowGroup, Table
from cnnbench.schema import PROTOCOL

RULE = Note(
    "rule",
    f"Outlier: among {node_outliers.LEAST_NODES} or more processors of one model in nodes of one kind (same CPU model, same GPU "
    f"models), one whose time is more than {node_outliers.ROBUST_SDS:g} robust standard deviations "
    f"({node_outliers.TO_SIGMA} x the median absolute deviation of the log times) "
    f"and at least {units.exact_percent(node_outliers.LEAST_SHARE)} from the median.",
)
MEDIANS = Note(
    "rule", "A node's figure is the median of its processes; of several runs of a job on a node the newest counts."
)
MOST_NAMES = 8


def build(
    found: Sequence[EqualNodes],
    *,
    failed: Sequence[str] = (),
    warnings: Sequence[str] = (),
    problems: Iterable[str] = (),
) -> Report:
    """The report of these nodes. `failed` says of each node that failed why; it stands first among the notes."""
    tables = [_kinds(found)] if found else []
    far = [(each, outlier) for each in found for outlier in each.outliers]
    tables += [_outliers(far)] if far else []
    all_notes = [
        _summary(found, far, failed),
        *(Note("problem", plain(text)) for text in failed),
        *(Note("warning", plain(text)) for text in warnings),
        RULE,
        MEDIANS,
        *_too_few(found),
        *footnotes.build_problem_notes(sorted(set(problems))),
    ]
    return Report(tuple(tables), tuple(all_notes))


def _kinds(found: Sequence[EqualNodes]) -> Table:
    several = len({each.torch for each in found}) > 1
    columns: list[tuple[Column, Callable[[EqualNodes], Cell]]] = [
        (Column("processor", "processor", "", 1, "left"), lambda each: _processor(each, several)),
        (Column("nodes", "nodes", "", 1), _nodes),
        (Column("median", "median\ntime", "", 1), _median),
        (Column("rate", "median\nrate", "", 3), _rate),
        (Column("relative", "over the\nfastest kind", "", 2), lambda each: _relative(each, found)),
        (Column("spread", "robust SD\nof nodes", "", 2), _spread),
        (Column("range", "fastest to\nslowest node", "", 4), _range),
        (Column("outliers", "outliers", "", 1, "left"), _names),
    ]
    groups: dict[str, list[Line]] = {}
    for each in found:
        job = each.job
        size = () if job.size is None else (f"{units.count(job.size)} x {units.count(job.size)}",)
        timed = "time of the whole job" if each.is_whole_job else "time of a step"
        rule = () if each.protocol == PROTOCOL else (f"protocol {each.protocol}",)
        title = " · ".join((naming.work_label(job), *size, job.precision, timed, *rule))
        groups.setdefault(title, []).append(Line(tuple(cell(each) for _, cell in columns)))
    clocks = "; ".join(footnotes.CLOCKS[name] for name in sorted({each.job.clock for each in found}))
    return Table(
        "fleet",
        "Kinds of node",
        clocks,
        tuple(column for column, _ in columns),
        tuple(RowGroup(title, tuple(lines)) for title, lines in groups.items()),
    )


def _outliers(far: Sequence[tuple[EqualNodes, Outlier]]) -> Table:
    columns = (
        Column("node", "node", "", 1, "left"),
        Column("what", "work", "", 1, "left"),
        Column("time", "its time", "", 2),
        Column("median", "median of\nits kind", "", 2),
        Column("ratio", "over the\nmedian", "", 1),
        Column("sds", "robust SDs\naway", "", 1),
    )
    lines = []
    for each, outlier in sorted(
        far, key=lambda item: (item[1].processor.node, item[1].processor.device.id, item[0].job.work_key)
    ):
        unit = outlier.processor
        away = units.number(outlier.robust_sds)
        lines.append(
            Line(
                (
                    Cell(
                        plain(unit.node), (_place(each, unit.device.id),), {"node": unit.node, "device": unit.device.id}
                    ),
                    Cell(
                        naming.short_name(each.job, size=True),
                        (naming.processor_name(each.device),),
                        {"run_id": unit.run_id},
                    ),
                    Cell(_seconds(each, unit.seconds), (f"n={unit.processes}",), {"seconds": unit.seconds}),
                    Cell(_seconds(each, each.median_seconds), (), {"median_seconds": each.median_seconds}),
                    Cell(units.ratio(outlier.ratio), (), {"over_median": outlier.ratio}),
                    Cell(away, (), {"robust_sds": outlier.robust_sds}),
                )
            )
        )
    return Table(
        "outliers", "Nodes far from their like", "", columns, (RowGroup("Outliers by the rule", tuple(lines)),)
    )


def _summary(found: Sequence[EqualNodes], far: Sequence[tuple[EqualNodes, Outlier]], failed: Sequence[str]) -> Note:
    kinds = {node_outliers.describe_hardware(each.machine) for each in found}
    names = {unit.node for each in found for unit in each.processors}
    text = f"{_count_text(len(names), 'node')} of {_count_text(len(kinds), 'kind')} with results"
    text += f", {len(failed)} failed" if failed else ""
    far_names = sorted({outlier.processor.node for _, outlier in far})
    return Note("summary", f"{text}; {f'outliers: {_join_names(far_names)}' if far_names else 'no outlier'}.")


def _too_few(found: Sequence[EqualNodes]) -> list[Note]:
    few = sum(len(each.processors) < node_outliers.LEAST_NODES for each in found)
    if not few:
        return []
    rows = "1 row has" if few == 1 else f"{few} rows have"
    return [
        Note(
            "missing", f"{rows} fewer than {node_outliers.LEAST_NODES} such processors: too few to call one an outlier."
        )
    ]


def _place(each: EqualNodes, device: str) -> str:
    return naming.place_label(each.job.model_copy(update={"device": device}))


def _processor(each: EqualNodes, several_builds: bool) -> Cell:
    own = each.device.kind == "cpu"
    details = [_place(each, "cpu" if own else each.device.kind)]
    others = [naming.processor_name(device) for device in each.machine.devices if (device.kind == "cpu") != own]
    details += [f"in nodes with {' + '.join(dict.fromkeys(others))}"] if others else []
    details += [f"torch {plain(each.torch)}"] if several_builds else []
    raw = {
        "processor": each.device.name,
        "threads": each.job.threads,
        "torch": each.torch,
        "workload": each.job.workload,
    }
    return Cell(naming.processor_name(each.device), tuple(details), raw)


def _nodes(each: EqualNodes) -> Cell:
    many = len(each.processors)
    details = (f"{many} processors",) if many != each.nodes else ()
    return Cell(units.count(each.nodes), details, {"nodes": each.nodes, "processors": many})


def _median(each: EqualNodes) -> Cell:
    raw = {"median_seconds": each.median_seconds, "of_whole_job": each.is_whole_job}
    return Cell(_seconds(each, each.median_seconds), (), raw)


def _seconds(each: EqualNodes, seconds: float) -> str:
    return units.duration(seconds) if each.is_whole_job else units.short_seconds(seconds)


def _rate(each: EqualNodes) -> Cell:
    """Images a second of the middle node; for whole jobs evaluations are inside."""
    job = each.job
    if job.workload == "gemm":
        rate = 2 * (job.size or 0) ** 3 / each.median_seconds
        return Cell(f"{units.giga(rate)} GFLOP/s", (), {"median_flops_per_second": rate})
    images = job.batch_size * ((job.job_steps or 0) if each.is_whole_job else 1)
    if not images:
        return Cell(units.NOT_AVAILABLE)
    return Cell(
        f"{units.rate(images / each.median_seconds)} img/s",
        (),
        {"median_images_per_second": images / each.median_seconds},
    )


def _relative(each: EqualNodes, found: Sequence[EqualNodes]) -> Cell:
    same = [other for other in found if (other.job.work_key, other.protocol) == (each.job.work_key, each.protocol)]
    best = min(other.median_seconds for other in same)
    return Cell(units.ratio(best / each.median_seconds), (), {"speed_over_fastest_kind": best / each.median_seconds})


def _spread(each: EqualNodes) -> Cell:
    return Cell(units.percent(each.spread), (), {"robust_sd": each.spread})


def _range(each: EqualNodes) -> Cell:
    first, last = each.processors[0], each.processors[-1]
    text = units.span(first.seconds, last.seconds, lambda value: _seconds(each, value or 0.0))
    details = () if len(each.processors) < 2 else (f"{plain(first.node)} to {plain(last.node)}",)
    raw = {"fastest_seconds": first.seconds, "slowest_seconds": last.seconds}
    return Cell(text, details, raw | {"fastest_node": first.node, "slowest_node": last.node})


def _names(each: EqualNodes) -> Cell:
    far = each.outliers
    text = ", ".join(f"{plain(one.processor.node)} {units.ratio(one.ratio)}" for one in far[:MOST_NAMES])
    text += f" and {len(far) - MOST_NAMES} more" if len(far) > MOST_NAMES else ""
    judged = len(each.processors) >= node_outliers.LEAST_NODES
    raw = {"outliers": len(far) if judged else None}
    return Cell(text or ("none" if judged else units.NOT_AVAILABLE), (), raw)


def _join_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(map(plain, names[:MOST_NAMES])) + more


def _count_text(number: int, one: str) -> str:
    return f"{number:,} {one}{'' if number == 1 else 's'}"

"""A page's tables: which there must be, which lines and columns each has, every cell of every line; facts of machines."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter

from cnnbench.schema import Device, RunHeader
from cnnbench.verify import columns, figures, formats, learning, values
from cnnbench.verify.figures import find_figure
from cnnbench.verify.raw_rows import PageValues, RawRow, is_same_text, may_be_called, to_page_text
from cnnbench.verify.values import ValueSubject
from cnnbench.verify.view import MOST_APART, PageView

Lines = Callable[[PageView], Collection[RawRow]]


@dataclass(frozen=True)
class ExpectedTable:
    """Which lines a table has, by their raw rows, and the keys of its columns with blanks between them."""

    lines: Lines
    columns: str
    one_work: bool = False
    """Whether the rows of a group are of equal work but for the precision."""


def _lecture(view: PageView) -> list[RawRow]:
    """The rows of the published job; where there is none all that ended well."""
    same = [row for row in view.training if find_figure(view, row, "speedup_over_reference")]
    return same or [row for row in view.training if row.trials]


def _bounds(view: PageView) -> list[RawRow]:
    found = [row for row in view.training if row.alone]
    return found if any(figures.floors(view, row) for row in found) else []


def _scaling(view: PageView) -> list[RawRow]:
    """Once in each set, of a batch that is shared and of one that is on each rank, that has a row of several ranks."""
    sets = defaultdict(list)
    for row in view.training:
        for scaling in ("strong", "weak") if row.job.copies == 1 else ():
            if row.job.scaling in (None, scaling):
                sets[scaling, view.scaling_work(row, scaling)].append(row)
    return [row for rows in sets.values() if any(each.job.world > 1 for each in rows) for row in rows]


def _each_evaluated(rows: Iterable[RawRow]) -> list[RawRow]:
    return [row for row in rows for _, trial in row.attempts if trial.epoch_evaluations]


def _epochs(view: PageView) -> list[RawRow]:
    curves = {row: learning.accuracy_curves(row) for row in view.training}
    return [row for row in curves for _ in range(min(map(len, curves[row]), default=0))]


def _stops(view: PageView) -> list[RawRow]:
    under_rule = (row for row in view.training if row.job.stop_when_all_right and row.job.steps_per_epoch)
    return _each_evaluated(under_rule) if _epochs(view) else []


def _costs(view: PageView) -> list[RawRow]:
    timed = [row for row in view.training if find_figure(view, row, "job_seconds")]
    return [row for row in timed if find_figure(view, row, "energy_joules_per_image") or view.price(row) is not None]


OPTIONAL: Mapping[str, str] = {"versus": "speedup_over_reference", "pretraining": "pretraining_seconds"}
"""The figures of columns that are missing where no row has them."""
TABLES: Mapping[str, ExpectedTable] = {
    "lecture": ExpectedTable(_lecture, "processor peak ceiling achieved job speedup versus"),
    "training": ExpectedTable(
        attrgetter("training"),
        "processor precision peak ceiling achieved mfu of_ceiling job pretraining speedup versus images host_peak "
        "device_peak accuracy outcome",
        one_work=True,
    ),
    "resources": ExpectedTable(
        lambda view: [row for row in view.training if row.trials],
        "processor precision host_peak device_peak device_reserved device_used activations parameters energy cold_start",
        one_work=True,
    ),
    "tta": ExpectedTable(
        lambda view: [row for row in view.training if row.job.clock == "accuracy"],
        "processor mode target seeds median mean fastest slowest median_steps median_epochs step",
    ),
    "seeds": ExpectedTable(
        lambda view: _each_evaluated(
            row for row in view.training if row.job.clock == "accuracy" and row.job.target is not None
        ),
        "processor mode seed reached seconds steps epochs last",
    ),
    "bounds": ExpectedTable(_bounds, "processor precision step verdict compute bandwidth launch input", one_work=True),
    "ladder": ExpectedTable(
        lambda view: list(view.rungs),
        "processor rung step over_before over_first of_ceiling accuracy outcome why_not",
    ),
    "scaling": ExpectedTable(
        _scaling,
        "processor scaling step images scaled efficiency exchange host_peak device_peak energy cold_start started outcome",
    ),
    "copies": ExpectedTable(
        lambda view: [row for row in view.shown if row.job.copies > 1],
        "processor precision size copies median_copy slowest_copy over_median outcome",
    ),
    "gemm": ExpectedTable(
        lambda view: [row for row in view.shown if row.job.workload == "gemm"],
        "processor precision size achieved ceiling peak products outcome",
    ),
    "cost": ExpectedTable(_costs, "processor job job_energy price cost"),
    "stopping": ExpectedTable(_epochs, "epoch true_accuracy all_right stopped"),
    "stopped": ExpectedTable(_stops, "process stopped_epoch sample true_accuracy"),
    "convergence": ExpectedTable(
        lambda view: [row for row in view.training if learning.find_plain(view, row)],
        "mode seeds mode_accuracy plain_accuracy difference of_medians margin verdict",
    ),
}
"""Every table of figures by its key."""


NOTED = {"lecture", "training", "resources", "bounds", "gemm"}
"""Tables whose lines have all notes of their rows."""
ABSENT = "no GEMM of the same device, precision, threads and allocator in this run"


def find_errors(view: PageView, table: PageValues) -> Iterator[str]:
    """What the table says that the records do not."""
    key, expected = table["key"], TABLES[table["key"]]
    keys = [column["key"] for column in table["columns"]]
    yield from _find_column_errors(view, table, keys)
    found: Counter[RawRow] = Counter()
    for group in table["groups"]:
        subjects = []
        for line in group["lines"]:
            name = line["cells"][0]["text"]
            printed = {name: value for cell in line["cells"] for name, value in cell["values"].items()}
            subject = values.find_subject(view, key, printed, line["rows"])
            if subject is None:
                yield f"{name!r}: no raw record is a row {line['rows']}"
                continue
            subjects.append(subject)
            yield from (f"{name}: {message}" for message in _find_line_errors(subject, keys, line))
        found.update(subject.row for subject in subjects if subject.row is not None)
        yield from _find_group_errors(view, expected, group["title"], subjects)
    wanted = found if view.options.get("accuracy") is not None else Counter(expected.lines(view))
    for row in {**wanted, **found}:
        if wanted[row] != found[row]:
            yield f"{found[row]} lines are of {row.place} of run {row.header.run_id}, there should be {wanted[row]}"


def _find_column_errors(view: PageView, table: PageValues, keys: Sequence[str]) -> Iterator[str]:
    expected = TABLES[table["key"]]
    wanted = expected.columns.split()
    for key, name in OPTIONAL.items():
        if key in wanted and key not in keys and not any(find_figure(view, row, name) for row in expected.lines(view)):
            wanted.remove(key)
    if asked := view.options.get("columns"):  # the first column stays, since it names the row
        wanted = list(dict.fromkeys((wanted[0], *(key for key in asked if key in wanted))))
    if keys != wanted:
        yield f"its columns are {', '.join(keys)}, they should be {', '.join(wanted)}"
    words = {
        "baseline": view.options.get("baseline") or "CPU",
        "currency": view.options.get("currency", ""),
        "sample": f"{view.options.get('sample', 200):,}",
        "year": view.published_cpu.year if view.published_cpu else "",
        "published": view.published_cpu.processor.rpartition(" ")[2] if view.published_cpu else "",
    }
    for column in table["columns"]:
        heading = " ".join(column["title"].replace("-\n", "").split())
        known = columns.find_column(table["key"], column["key"])
        if known is None:
            yield f"no second derivation of column {column['key']}"
        elif (heading, column["unit"]) != (right := (known.heading.format(**words), known.unit.format(**words))):
            yield f"column {column['key']} is headed {heading!r} [{column['unit']}], it is {right[0]!r} [{right[1]}]"


def _find_line_errors(subject: ValueSubject, keys: Sequence[str], line: PageValues) -> Iterator[str]:
    """What each cell of a line has that the records do not, in its values and in its text, and what its notes lack."""
    for key, cell in zip(keys, line["cells"], strict=True):
        column = columns.find_column(subject.place, key)
        wrong = list(values.find_value_errors(cell["values"], partial(values.derive, subject=subject)))
        if column is not None and not wrong:
            wrong = list(columns.find_text_errors(column, subject, cell["text"]))
        yield from (f"{column.heading if column else key}: {message}" for message in wrong)
    if subject.row is not None and subject.place in NOTED:
        yield from _find_note_errors(subject, "; ".join(line["notes"]))


def _find_note_errors(subject: ValueSubject, notes: str) -> Iterator[str]:
    """Why a row that was measured has no measured peak, and the doubt about a best product whose processes differ."""
    row, best = subject.own, subject.view.best_product(subject.own)
    trains, reason, doubt = row.job.workload != "gemm", ABSENT, "the processes of the best matrix product ("
    unusable = best is not None and best.apart > MOST_APART
    if best is not None and unusable:
        size = f"size {best.job.size:,}"
        reason = f"the processes of the best GEMM, {size}, differ by {best.apart:.2f}x, more than"
        doubt += f"{size}, {row.job.precision}) differ by"
    for what, text, needed in (
        ("reason", reason, bool(row.trials) and trains and (best is None or unusable)),
        ("doubt", doubt, bool(row.trials) and unusable and (trains or best is row)),
    ):
        if (text in notes) != needed:
            yield f"its notes {'lack' if needed else 'have'} the {what} of its measured peak: {text!r}"


def _find_group_errors(
    view: PageView, expected: ExpectedTable, title: str, subjects: Sequence[ValueSubject]
) -> Iterator[str]:
    """A title with a number of no row under it, and rows of different work under one title."""
    rows = [subject.plain or subject.own for subject in subjects if subject.row is not None]
    margin, printed = view.options.get("margin"), formats.find_numbers(title)
    known = formats.find_numbers(*(f"{each.year} {each.job_images}" for each in view.published_rows))
    known += [] if margin is None else formats.find_numbers(formats.loss(margin))
    for row in rows:
        if unknown := [each for each in printed if each not in known and each not in row.all_numbers]:
            yield f"the title {title!r} has the numbers {', '.join(unknown)}, which are not of {row.place}"
            break
    works = {(row.job.model_copy(update={"precision": "fp32"}).work_key, row.protocol) for row in rows}
    if expected.one_work and len(works) > 1:
        yield f"under {title!r} are rows of different work"


def _list_facts(header: RunHeader) -> dict[str, object]:
    """What a table of machines says of one by the fact's name, nothing where it is unknown."""
    machine, software = header.machine, header.software
    quota = "" if machine.cgroup_cpu_limit is None else f", quota {machine.cgroup_cpu_limit:g}"
    return {
        "CPU": machine.cpu_name,
        "cores allowed": f"{machine.cores_allowed} of {machine.cores_logical}{quota}",
        "largest clock": machine.cpu_max_clock_hertz and f"{machine.cpu_max_clock_hertz / 1e9:.2f} GHz",
        "governor": machine.governor,
        "turbo": {None: None, True: "yes", False: "no"}[machine.turbo],
        "hypervisor": machine.hypervisor or "none",
        "memory": machine.memory_bytes and formats.size(machine.memory_bytes),
        "memory limit": machine.memory_limit_bytes and formats.size(machine.memory_limit_bytes),
        "accelerators": "; ".join(_accelerator(each) for each in machine.devices if each.kind != "cpu") or "none",
        "system": f"{machine.os}, kernel {machine.kernel}",
        "C library": machine.libc,
        "torch": f"{software.torch} ({software.torch_build})",
        "BLAS": software.blas,
        "oneDNN": software.onednn,
        "cuDNN": software.cudnn,
        "CPU capability": software.cpu_capability,
        "Python": software.python,
        "cnnbench": software.cnnbench,
    }


def _accelerator(device: Device) -> str:
    parts = (
        device.name,
        "" if device.memory_bytes is None else formats.size(device.memory_bytes),
        "" if device.power_limit_watts is None else f"{device.power_limit_watts:.0f} W limit",
        "" if device.driver is None else f"driver {device.driver}",
        "MIG" if device.mig else "",
        "" if device.ecc is None else f"ECC {'on' if device.ecc else 'off'}",
        "" if device.usable else f"not usable: {device.unusable_reason}",
    )
    return ", ".join(filter(None, parts))


def _is_fact(name: str, expected: object, printed: str | None, shared: str) -> bool:
    """Whether a machine may be said to be so, by itself or with the others; a device's name may be a shorter one."""
    text = formats.UNKNOWN if expected in (None, "", ()) else str(expected)
    if printed is None:
        numbers = formats.find_numbers(shared)
        listed = name == "accelerators" and all(each in numbers for each in formats.find_numbers(text))
        return f"{name} {text}; " in f"{shared}; " or listed
    shortened = name == "accelerators" and may_be_called(text, printed.replace("…,", "…"))
    return is_same_text(printed, text) or (shortened and formats.find_numbers(printed) == formats.find_numbers(text))


def find_machine_errors(view: PageView, table: PageValues) -> Iterator[str]:
    """What the table says that the headers do not: side by side, or one machine below the other."""
    titles, (group,) = table["columns"], table["groups"]
    beside = titles[0]["key"] != "machine"
    facts = {}
    for first, *cells in ([to_page_text(cell["text"]) for cell in line["cells"]] for line in group["lines"]):
        for column, text in zip(titles[1:], cells, strict=True):
            facts[(first, to_page_text(column["title"])) if beside else (column["key"], first)] = text
    machines = {to_page_text(name): header for name, header in sorted(view.machines.items())}
    known = {machine: _list_facts(header) for machine, header in machines.items()}
    names = next(iter(known.values()), {})
    for name in names if ("CPU", "") in facts else ():
        marked, texts = facts.pop((name, "")), {text for (fact, _), text in facts.items() if fact == name}
        if (marked == "differs") != (len(texts) > 1):
            yield f"{name} is marked {marked!r}, the machines' texts say otherwise"
    named = [machine for _, machine in facts]
    if not beside:  # where no fact differs, no column has one
        named = [to_page_text(line["cells"][0]["text"]) for line in group["lines"]]
    if (printed := dict.fromkeys(named)).keys() != machines.keys():
        yield f"the machines are {', '.join(printed)}, the records are of {', '.join(machines)}"
    for name in names:
        for machine, header in machines.items():
            there = facts.get((name, machine))
            if not _is_fact(name, known[machine][name], there, "" if beside else group["title"]):
                yield f"{name} of {machine}: {there!r} is not what the header of run {header.run_id} says"

"""Check a page's values: each figure in tables, charts and words is derived again from the ledgers, and so are the tables
that a page must have, their lines, columns and cells, and the facts of machines.

No sentence is parsed: a number in words is accepted if it is a figure of the page's tables, a field of the records and
their machines, or a number of the method itself.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from operator import attrgetter, itemgetter

from cnnbench import workloads
from cnnbench.schema import Device, RunHeader
from cnnbench.verify import charts, columns, figures, formats, learning, values
from cnnbench.verify.figures import find_figure
from cnnbench.verify.formats import find_numbers
from cnnbench.verify.raw_rows import (
    MOST_APART,
    PageValues,
    PageView,
    RawRow,
    cut_text,
    is_same_text,
    mark_boot,
    may_be_called,
    read_boot,
    to_page_text,
)
from cnnbench.verify.values import ENDS, ValueSubject, derive

UNRULED = {"method"}
"""Tables without figures."""
QUOTED = {"problem", "reference", "warning", "doubt"}
"""Kinds of notes that quote a file, a source or a process."""
IN_RESOURCES = {"host_peak", "device_peak"}
"""Columns that the table of resources repeats."""
METHOD = frozenset(find_numbers("0 1 2 3 4 5 6 8 10 40 80 90 95 100 256 300 3600 10000 0.010 0.95 0.98 1.5 10.0"))
"""Numbers of the method, which rules and reasons print whatever the records are."""
CLAIMED = ("job", "versus", "speedup", "of_ceiling", "gemm.achieved", "step", "verdict")
"""The columns that supply the figures of a claim."""


@dataclasses.dataclass(frozen=True)
class ExpectedTable:
    """The raw rows that a table must list, and the keys of its columns with blanks between them."""

    lines: Callable[[PageView], Collection[RawRow]]
    columns: str
    one_work: bool = False
    """True if the rows of a group must do the same work, except for the precision."""


def _lecture(view: PageView) -> list[RawRow]:
    """List the rows of the published job; if there are none, all rows with an `ok` process."""
    return _choose_published_job(view, view.training)


def _choose_published_job(view: PageView, rows: Sequence[RawRow]) -> list[RawRow]:
    same = [row for row in rows if find_figure(view, row, "speedup_over_reference")]
    return same or [row for row in rows if row.trials]


def _first_screen(view: PageView) -> list[RawRow]:
    """Choose a row for each of the four fastest processors: one with an interval, then the one with the most timed steps.

    No row of a disturbed machine is chosen.
    """

    def evidence(row: RawRow) -> tuple[bool, int, str, str]:
        step = find_figure(view, row, "step_seconds")
        sure = step is not None and step.low is not None
        return sure, len(row.trials) * row.timed_steps, row.row_key, row.header.run_id

    def speed(row: RawRow) -> tuple[float, str, str]:
        names = ("speedup_over_reference", "achieved_flops_per_second", "model_flops_per_second")
        known = (each for name in names if (each := find_figure(view, row, name)))
        return next((each.value for each in known), 0.0), row.row_key, row.header.run_id

    fit = [row for row in view.training if not row.disturbed]
    best = {
        (row.header.machine.id, row.job.device, row.job.threads, row.job.precision, row.job.workload): row
        for row in sorted((row for row in _choose_published_job(view, fit) if row.trials), key=evidence)
    }
    return sorted(best.values(), key=speed)[-4:]


def _bounds(view: PageView) -> list[RawRow]:
    found = [row for row in view.training if row.alone]
    return found if any(figures.floors(view, row) for row in found) else []


def _scaling(view: PageView) -> list[RawRow]:
    """List rows with strong scaling and with weak scaling, for each set that has a row of several ranks."""
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


def _learned_seeds(view: PageView) -> list[RawRow]:
    """List each compared row once per seed that it or its plain row learned with."""
    found = []
    for row in view.training:
        if plain := learning.find_plain(view, row):
            found += [row] * len({*learning.right_by_seed(row), *learning.right_by_seed(plain)})
    return found


def _costs(view: PageView) -> list[RawRow]:
    timed = [row for row in view.training if find_figure(view, row, "job_seconds")]
    return [row for row in timed if find_figure(view, row, "energy_joules_per_image") or view.price(row) is not None]


OPTIONAL: Mapping[str, str] = {
    "versus": "speedup_over_reference",
    "pretraining": "pretraining_seconds",
    "model": "model_flops_per_second",
    "r_squared": "r_squared",
}
"""Columns that a table lacks if no row has their figure."""
TABLES: Mapping[str, ExpectedTable] = {
    "lecture": ExpectedTable(_lecture, "processor peak ceiling achieved model job speedup versus"),
    "first_screen": ExpectedTable(_first_screen, "processor job speedup versus achieved model memory"),
    "training": ExpectedTable(
        attrgetter("training"),
        "processor precision peak ceiling achieved model mfu of_ceiling job pretraining speedup versus images host_peak "
        "device_peak accuracy r_squared outcome",
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
    "learned_seeds": ExpectedTable(_learned_seeds, "mode seed of_mode of_plain apart"),
}
"""Every table of figures by its key."""


NOTED = {"lecture", "training", "resources", "bounds", "gemm"}
"""Tables whose lines print all notes of their rows."""
ELSEWHERE = "perhaps another host of the same model"
"""Words beside a speed-up whose baseline ran in a boot that is not known to be the row's own."""
ABSENT = "no GEMM of the same device, precision, threads and allocator in this run"
DISTURBED = "the GEMM of the same device, precision, threads and allocator was measured while the machine was unfit"


def _find_table_errors(view: PageView, table: PageValues) -> Iterator[str]:
    """Find where a table differs from the records."""
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
    wanted = [
        key
        for key in expected.columns.split()
        if key in keys
        or key not in OPTIONAL
        or any(find_figure(view, row, OPTIONAL[key]) for row in expected.lines(view))
    ]
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
        heading = formats.fold(column["title"].replace("-\n", ""))
        known = columns.find_column(table["key"], column["key"])
        if known is None:
            yield f"no second derivation of column {column['key']}"
        elif (heading, column["unit"]) != (right := (known.heading.format(**words), known.unit.format(**words))):
            yield f"column {column['key']} is headed {heading!r} [{column['unit']}], it is {right[0]!r} [{right[1]}]"


def _find_line_errors(subject: ValueSubject, keys: Sequence[str], line: PageValues) -> Iterator[str]:
    """Find where the values and the text of a line's cells, and its notes, differ from the records."""
    for key, cell in zip(keys, line["cells"], strict=True):
        column = columns.find_column(subject.place, key)
        wrong = list(values.find_value_errors(cell["values"], partial(derive, subject=subject)))
        if column is not None and not wrong:
            wrong = list(columns.find_text_errors(column, subject, cell["text"]))
        yield from (f"{column.heading if column else key}: {message}" for message in wrong)
    if subject.row is not None and subject.place in NOTED:
        yield from _find_note_errors(subject, "; ".join(line["notes"]))


def _find_note_errors(subject: ValueSubject, notes: str) -> Iterator[str]:
    """Check that notes give the reason for a missing measured peak, and the doubt about a best product that varies."""
    row, best = subject.own, subject.view.best_product(subject.own)
    absent = DISTURBED if subject.view.has_disturbed_product(row) else ABSENT
    trains, reason, doubt = row.job.workload != "gemm", absent, "the processes of the best matrix product ("
    unusable = best is not None and best.apart > MOST_APART
    if best is not None and unusable:
        size = f"size {best.job.size:,}"
        reason = f"the processes of the best GEMM, {size}, differ by {best.apart:.2f}x, more than"
        doubt += f"{size}, {row.job.precision}) differ by"
    elsewhere = subject.place != "gemm" and subject.view.is_base_elsewhere(row)
    for what, text, needed in (
        ("warning", ELSEWHERE, elsewhere),
        ("reason", reason, bool(row.trials) and trains and (best is None or unusable)),
        ("doubt", doubt, bool(row.trials) and unusable and (trains or best is row)),
    ):
        if (text in notes) != needed:
            yield f"its notes {'lack' if needed else 'have'} the {what} of {text!r}"


def _find_group_errors(
    view: PageView, expected: ExpectedTable, title: str, subjects: Sequence[ValueSubject]
) -> Iterator[str]:
    """Find numbers in a title that belong to no row under it, and rows of different work under one title."""
    rows = [subject.plain or subject.own for subject in subjects if subject.row is not None]
    margin, printed = view.options.get("margin"), find_numbers(title)
    known = find_numbers(*(f"{each.year} {each.job_images}" for each in view.published_rows))
    known += [] if margin is None else find_numbers(formats.loss(margin))
    for row in rows:
        if unknown := [each for each in printed if each not in known and each not in row.all_numbers]:
            yield f"the title {title!r} has the numbers {', '.join(unknown)}, which are not of {row.place}"
            break
    works = {(row.job.model_copy(update={"precision": "fp32"}).work_key, row.protocol) for row in rows}
    if expected.one_work and len(works) > 1:
        yield f"under {title!r} are rows of different work"


def _list_facts(header: RunHeader) -> dict[str, object]:
    """List what a table of machines prints about one machine, by the fact's name; empty if unknown."""
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
        "system": machine.os,
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
    """Check a printed fact of one machine, alone or in a line for all; a device's name may be shortened."""
    text = formats.UNKNOWN if expected in (None, "", ()) else str(expected)
    if printed is None:
        numbers = find_numbers(shared)
        listed = name == "accelerators" and all(each in numbers for each in find_numbers(text))
        return f"{name} {text}; " in f"{shared}; " or listed
    shortened = name == "accelerators" and may_be_called(text, printed.replace("…,", "…"))
    return is_same_text(printed, text) or (shortened and find_numbers(printed) == find_numbers(text))


def _find_machine_errors(view: PageView, table: PageValues) -> Iterator[str]:
    """Find where a table of machines, one per column or one per line, differs from the ledgers' headers."""
    titles, (group,) = table["columns"], table["groups"]
    beside = titles[0]["key"] != "machine"
    heads = [to_page_text(column["title"]) if beside else column["key"] for column in titles[1:]]
    lines = {to_page_text(line["cells"][0]["text"]): line["cells"][1:] for line in group["lines"]}
    facts = {}
    for first, cells in lines.items():
        for head, cell in zip(heads, cells, strict=True):
            facts[(first, head) if beside else (head, first)] = to_page_text(cell["text"])
    # In this order the newest shown run of each machine comes last and is kept.
    headers = sorted((row.header for row in view.shown), key=attrgetter("machine.id", "created_at", "run_id"))
    machines = {to_page_text(header.machine.id): header for header in headers}
    known = {machine: _list_facts(header) for machine, header in machines.items()}
    names = next(iter(known.values()), {})
    for name in names if ("CPU", "") in facts else ():
        marked, texts = facts.pop((name, "")), {text for (fact, _), text in facts.items() if fact == name}
        if (marked == "differs") != (len(texts) > 1):
            yield f"{name} is marked {marked!r}, which does not fit the machines' texts"
    named = list(filter(None, heads)) if beside else list(lines)
    if set(named) != machines.keys():
        yield f"the machines are {', '.join(named)}, the records are of {', '.join(machines)}"
    for name in names:
        for machine, header in machines.items():
            there = facts.get((name, machine))
            if not _is_fact(name, known[machine][name], there, "" if beside else group["title"]):
                yield f"{name} of {machine}: {there!r} differs from the header of run {header.run_id}"


def _find_boot_errors(view: PageView, table: PageValues) -> Iterator[str]:
    """Find where the table of boots, a group per machine id, differs from the ledgers' headers."""
    names = ("boot_id", "host_id", "kernel", "memory_bytes")
    if (keys := [column["key"] for column in table["columns"]]) != [*names, "runs"]:
        yield f"its columns are {', '.join(keys)}"
    wanted = []
    for (machine_id, _), headers in view.boots.items():
        known = dict(zip(names, read_boot(headers[0]), strict=True))
        runs = [header.run_id for header in headers]
        more = f" and {len(runs) - 8} more" if len(runs) > 8 else ""
        texts = [str(known[name] or "unknown") for name in names[:3]] + [f"{known['memory_bytes']:,} bytes"]
        texts.append(formats.with_details(f"{len(runs):,}", [", ".join(runs[:8]) + more]))
        texts = [cut_text(to_page_text(text)) for text in texts]
        wanted.append((cut_text(to_page_text(machine_id)), texts, known | {"runs": len(runs)}))
    printed = []
    for group in table["groups"]:
        for line in group["lines"]:
            stored = {name: value for cell in line["cells"] for name, value in cell["values"].items()}
            texts = [cut_text(to_page_text(cell["text"])) for cell in line["cells"]]
            printed.append((cut_text(to_page_text(group["title"])), texts, stored))
    for line in printed:
        if line not in wanted:
            yield f"{line[0]}: {' | '.join(line[1])!r} is not among the boots of the records"
    for line in wanted:
        if printed.count(line) != 1:
            yield f"{line[0]}: {' | '.join(line[1])!r} is {printed.count(line)} times there"


def each_table(page: PageValues) -> Iterator[PageValues]:
    """List every table of the page."""
    return (table for section in page["sections"] for table in section["tables"])


def each_line(table: PageValues) -> Iterator[PageValues]:
    """List every line of a table."""
    return (line for group in table["groups"] for line in group["lines"])


def each_chart(page: PageValues) -> Iterator[PageValues]:
    """List every chart of the page."""
    return (chart for section in page["sections"] for chart in section["charts"])


def find_errors(view: PageView, page: PageValues) -> Iterator[str]:
    """Find all differences of a page from the ledgers."""
    there = {table["key"]: table for table in each_table(page)}
    for key, table in there.items():
        if key in TABLES:
            yield from (f"table {key}: {each}" for each in _find_table_errors(view, table))
        elif key == "machines":
            yield from (f"table {key}: {each}" for each in _find_machine_errors(view, table))
        elif key == "boots":
            yield from (f"table {key}: {each}" for each in _find_boot_errors(view, table))
        elif key not in UNRULED:
            yield f"table {key}: no second derivation of it"
    if ("boots" in there) != ("machines" in there):
        yield "it has one of the tables of machines and of boots, and lacks the other"
    for key, expected in TABLES.items():
        belongs = page["options"].get("template") == ("first screen" if key == "first_screen" else "full")
        if belongs and key not in there and expected.lines(view):
            yield f"it lacks the table {key}"
    for chart in each_chart(page):
        yield from (f"chart {chart['key']}: {each}" for each in charts.find_errors(view, chart))
    for run, key in page["headline"]["rows"]:
        if (named := view.by_mark.get((run, key))) is not None and named.disturbed:
            yield f"the claim: row {key} of run {run} was measured while the machine was unfit"
    for where, text, numbers in _list_texts(view, page):
        bare = re.sub(r"sha256:[0-9a-f]+", "", text)  # a ledger's digest is compared elsewhere
        if unknown := [each for each in find_numbers(bare) if each not in numbers]:
            yield f"{where}: {', '.join(unknown)} in {text[:120]!r} is not a number of the records"


def _list_texts(view: PageView, page: PageValues) -> Iterator[tuple[str, str, frozenset[str]]]:
    """List a page's sentences, each with its place and the numbers that may be printed there."""
    known, sections = _view_numbers(view) | _page_numbers(view, page), page["sections"]
    row = next((view.by_mark.get((run, key)) for run, key in page["headline"]["rows"]), None)
    claim = known if row is None else _claim_numbers(view, row)
    yield from (("the claim", sentence, claim) for sentence in page["headline"]["sentences"])
    yield from ((f"section {each['key']}", each["lead"], known | _lead_numbers(view)) for each in sections)
    notes = (note for each in (*sections, page) for note in each["notes"])
    yield from (("a note", note["text"], known) for note in notes if note["kind"] not in QUOTED)
    yield from ((f"chart {each['key']}", f"{each['title']} {each['caption']}", known) for each in each_chart(page))
    yield from ((f"table {each['key']}", f"{each['title']} {each['clock']}", known) for each in each_table(page))


def _page_numbers(view: PageView, page: PageValues) -> frozenset[str]:
    """Collect the numbers in the page's tables, and those that may count marks of its charts."""
    asked = view.options.get("sample", 200), round(learning.IMAGES * (view.options.get("accuracy") or 0))
    lines = (line["cells"] for table in each_table(page) for line in each_line(table))
    cells = (f"{cell['text']} {cell['values'].get('peak_origin')}" for line in lines for cell in line)
    most = max((len(chart["data"]) for chart in each_chart(page)), default=0)
    return frozenset(find_numbers(*asked, *range(most + 1), *cells))


@lru_cache(maxsize=64)
def _view_numbers(view: PageView) -> frozenset[str]:
    """Collect every number of the records, their machines and the published rows that a sentence may print."""
    shared = attrgetter("row_key", "header.machine.id")
    runs = Counter(map(shared, view.rows))
    hidden = [n for row in view.shown if (n := runs[shared(row)] - 1)]
    ended = sum((row.ended for row in view.shown), Counter[str]())
    texts = list(map(str, (len(hidden), sum(hidden), *ended.values(), *range(len(view.shown) + 1))))
    for header in {row.header.run_id: row.header for row in view.rows}.values():
        software = f"{header.software.model_dump_json()} {str(header.software.git_commit)[:10]}"
        texts.append(f"{header.machine.model_dump_json()} {software} {header.run_id}")
        texts.append(f"{header.boot_id} {header.host_id} {mark_boot(header)} {header.machine.memory_bytes}")
    for published in view.published_rows:
        printed = f"{(published.printed_flops_per_second or 0) / 1e9:g} {published.job_seconds or 0:.0f}"
        texts.append(f"{published.model_dump_json()} {printed}")
    texts += (text for row in view.shown for text in _list_row_texts(view, row))
    return METHOD.union(find_numbers(*texts), *(row.all_numbers for row in view.shown))


def _list_row_texts(view: PageView, row: RawRow) -> Iterator[str]:
    """List texts with the numbers that sentences may print about a row: its processes, measured peak and FLOPs."""
    yield " ".join(map(str, range(len(row.records) + row.unstarted + 1)))
    yield from (f"{record.outcome.message} {record.job.seed}" for record in row.records)
    tests = [trial.test for _, trial in row.attempts if trial.test and trial.test.images]
    yield from (f"{formats.percent(2)(test.correct / test.images)} {test.after_steps} {test.images}" for test in tests)
    samples = {each.images for _, trial in row.attempts for each in trial.epoch_evaluations if each.images}
    yield from (formats.percent(1)(1.96 * (0.99 * 0.01 / images) ** 0.5) for images in samples)
    yield from (f"{len(row.trials)} {text}" for text in row.disturbed)
    best = view.best_product(row)
    if best is not None:
        yield f"{formats.ratio(best.apart)} {best.apart:.2f} {best.job.size} {MOST_APART}"
    before, step = workloads.pretraining_flops(row.job) if row.workload else 0, row.flops or 0
    yield " ".join(map(formats.giga, (step, before, before + (row.job.job_steps or 0) * step)))


def _claim_numbers(view: PageView, row: RawRow) -> frozenset[str]:
    """Collect the numbers that a claim about one row may print: its cells, its fields, and those of its base."""
    bare = ValueSubject(view, "", row)
    names = [f"{name}{end}" for name in figures.FIGURES for end in ENDS]
    printed = {name: derive(name, bare) for name in (*names, "verdict", "job_kind")}
    subject, published = dataclasses.replace(bare, printed=printed), view.published_cpu
    texts = [f"{view.options.get('baseline')}", *(columns.COLUMNS[key].text(subject) for key in CLAIMED)]
    texts += [f"{each.full_name} {each.place}" for each in (row, view.find_base(row), view.ceiling(row)) if each]
    texts += [f"{published.processor} {published.year}"] if published else []
    return row.numbers.union(find_numbers(*texts))


def _lead_numbers(view: PageView) -> frozenset[str]:
    """Compute the ratios in a section's lead: FLOPS and speed of the fastest published row over the published CPU."""
    base = view.published_cpu
    printed = {
        row: (row.job_seconds, row.printed_flops_per_second)
        for row in view.published_rows
        if row.job_seconds and row.printed_flops_per_second
    }
    if base is None or base not in printed:
        return frozenset()
    (seconds, flops), (fewest, most) = printed[base], min(printed.values(), key=itemgetter(0))
    return frozenset((f"{most / flops:.0f}", f"{seconds / fewest:.0f}"))


def find_shown_errors(full: PageValues, shown: PageValues) -> Iterator[str]:
    """Find where the shown part of a table differs: only whole lines and columns without figures may be left out."""
    whole = {table["key"]: table for table in each_table(full)}
    for table in each_table(shown):
        kept = {column["key"] for column in table["columns"]} | (IN_RESOURCES if "resources" in whole else set())
        lines = list(_list_cells(whole[table["key"]]))
        if gone := {key for line in lines for key, text in line.items() if text not in ("", formats.UNKNOWN)} - kept:
            yield f"table {table['key']}: it leaves out {', '.join(sorted(gone))}, with figures"
        rest = iter(lines)
        for line in _list_cells(table):
            if not any(line.items() <= each.items() for each in rest):
                yield f"table {table['key']}: {' | '.join(line.values())!r} is not one of its lines"
                break


def _list_cells(table: PageValues) -> Iterator[dict[str, str]]:
    """List each line's texts by the column's key."""
    keys = [column["key"] for column in table["columns"]]
    for line in each_line(table):
        yield dict(zip(keys, (cell["text"] for cell in line["cells"]), strict=True))

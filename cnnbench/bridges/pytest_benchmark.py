"""pytest-benchmark's JSON files as rows and as a table: one row per benchmark, with its statistics, machine and commit.

A file is one process, however many rounds it has, so n is 1 and no interval can be drawn; rows say so in `processes`. The
rows are kept apart from ledgers: nothing here turns them into a ledger's processes, and `compare` and the check do not take
them. A column that has the name of one in `process_table.COLUMNS` means the same.

The files of versions 2.5 to 5.3 can be read. They differ in what they lack: no `ops` before 3.1, no `params` and
`extra_info` before 3.0, the processor as `brand`, later `brand_raw`, or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AliasGenerator, AliasPath, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cnnbench import units
from cnnbench.analysis.ratio import group_by
from cnnbench.errors import DataError
from cnnbench.files import explain_refusal
from cnnbench.plain_text import plain
from cnnbench.report.model import Note, Report
from cnnbench.report.render import text
from cnnbench.report.table_builder import TableSpec, build_table, figure, wording
from cnnbench.schema import digest

REMEDY = "make one with `pytest --benchmark-json FILE`, or name one saved under .benchmarks/"


def _dump(value: object) -> str | None:
    if value is None or isinstance(value, dict):
        return json.dumps(value, sort_keys=True) if value else None
    raise ValueError("it should be an object")


def _locate(column: str) -> AliasPath:
    """Find a column's place in a benchmark's object, merged with those of its file."""
    if column.endswith("_seconds") or column in ("rounds", "iterations", "outliers"):
        return AliasPath("stats", column.removesuffix("_seconds"))
    return AliasPath({"tool_version": "version", "created_at": "datetime"}.get(column, column))


Seconds = Annotated[float, Field(ge=0)]
JsonText = Annotated[str | None, BeforeValidator(_dump)]


class IngestedBenchmark(BaseModel):
    """One benchmark of one file. Times are in seconds per round, as pytest-benchmark reports them; unknown is None.

    Other keys are ignored; inf and nan are refused as times. `calls_per_round`, rates, memory, device and threads come from what
    the fixture `cnnbench` wrote into `extra_info`.
    """

    model_config = ConfigDict(
        frozen=True, extra="ignore", allow_inf_nan=False, alias_generator=AliasGenerator(validation_alias=_locate)
    )

    kind: Literal["pytest-benchmark"] = "pytest-benchmark"
    processes: Literal[1] = 1
    source: str
    run_id: str
    """`pytest-benchmark:` and the first digits of the file's SHA-256, which identify the process."""
    tool_version: str | None = None
    created_at: str | None = None
    name: str
    fullname: str
    group: str | None = None
    params: JsonText = None
    rounds: int = Field(ge=1)
    iterations: int = Field(ge=1)
    min_seconds: Seconds
    max_seconds: Seconds
    mean_seconds: Seconds
    stddev_seconds: Seconds
    median_seconds: Seconds
    q1_seconds: Seconds
    q3_seconds: Seconds
    iqr_seconds: Seconds
    outliers: str | None = None
    calls_per_round: int | None
    images_per_second: float | None
    flops_per_second: float | None
    host_peak_bytes: int | None
    device_peak_bytes: int | None
    machine_id: str | None
    processor: str | None
    python: str | None
    torch: str | None
    job_device: str | None
    job_threads: int | None
    commit_id: str | None
    commit_dirty: bool | None
    commit_branch: str | None
    extra_info: JsonText = None
    """The whole object, as JSON."""


COLUMNS = tuple(IngestedBenchmark.model_fields)
_PLACES = {
    "machine_id": "machine_info.cnnbench.machine_id",
    "processor": "extra_info.device_name machine_info.cnnbench.cpu machine_info.cpu.brand_raw machine_info.cpu.brand "
    "machine_info.processor",
    "python": "machine_info.python_version",
    "torch": "extra_info.torch machine_info.cnnbench.torch",
    "job_device": "extra_info.device",
    "job_threads": "extra_info.threads",
    "calls_per_round": "extra_info.calls_per_round",
    "images_per_second": "extra_info.images_per_second",
    "flops_per_second": "extra_info.flops_per_second",
    "host_peak_bytes": "extra_info.host_peak_bytes",
    "device_peak_bytes": "extra_info.device_peak_bytes",
    "commit_id": "commit_info.id",
    "commit_branch": "commit_info.branch",
    "commit_dirty": "commit_info.dirty",
}
"""Where to look for the value of a column, in order; the first of the column's type counts, since files differ in these."""


def read_files(paths: Iterable[Path]) -> tuple[tuple[IngestedBenchmark, ...], tuple[str, ...]]:
    """Read the benchmarks of all files, in their order, and list what was odd: the same file twice counts once.

    Raises DataError for a file that cannot be read, is not from pytest-benchmark, or was exported from ledgers.
    """
    found, problems = [], []
    seen: dict[str, Path] = {}
    for path in paths:
        try:
            with explain_refusal(DataError, f"{path}: cannot read", REMEDY):
                content = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not a text file, so not from pytest-benchmark; {REMEDY}") from error
        key = digest(content)
        if key in seen:
            problems.append(f"{path}: the same run as {seen[key]}; counted once")
            continue
        seen[key] = path
        rows = list(_parse(path, content, key))
        if not rows:
            problems.append(f"{path}: no benchmark in it")
        found.extend(rows)
    return tuple(found), tuple(problems)


def _parse(path: Path, content: str, key: str) -> Iterator[IngestedBenchmark]:
    try:
        file = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a JSON object, so not from pytest-benchmark; {REMEDY}") from error
    if not isinstance(file, dict) or not isinstance(file.get("benchmarks"), list):
        raise DataError(f"{path}: not from pytest-benchmark: it has no list `benchmarks`; {REMEDY}")
    if isinstance(file.get("cnnbench"), dict):
        raise DataError(
            f"{path}: `cnnbench export` made it, its rounds are processes of a ledger; read the ledger with `cnnbench show`"
        )
    identity = {"source": str(path), "run_id": f"pytest-benchmark:{key[:12]}"}
    for number, benchmark in enumerate(file["benchmarks"]):
        whole = {**file, **benchmark} if isinstance(benchmark, dict) else {}
        known = {name: _find_usable(whole, name) for name in _PLACES}
        try:
            yield IngestedBenchmark.model_validate({**whole, **known, **identity} if whole else benchmark)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, ("benchmarks", number, *first["loc"])))
            raise DataError(
                f"{path}: not a valid file of pytest-benchmark: {where}: {first['msg']}; {REMEDY}"
            ) from error


def _find_usable(document: object, column: str) -> object:
    """Find the first text that is not empty, or finite number, among the column's places; None without one."""
    kind, _ = get_args(IngestedBenchmark.model_fields[column].annotation)
    for place in _PLACES[column].split():
        value: Any = document
        for key in place.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        fits = type(value) is kind or (kind is float and type(value) is int)
        if fits and (value != "" if kind is str else abs(value) < float("inf")):
            return value
    return None


RULE = "Each file is one process: n=1, however many rounds it has. Rounds are not independent, so no interval is drawn."
INGESTED = TableSpec[IngestedBenchmark](
    "ingested",
    "pytest-benchmark: one process per file",
    (
        wording("name", "benchmark", 1, "name", plain),
        figure("median", "median", 1, "median_seconds", units.short_seconds, unit="of a round"),
        figure("min", "fastest", 2, "min_seconds", units.short_seconds, unit="round"),
        figure("stddev", "std. dev.", 4, "stddev_seconds", units.short_seconds, unit="of rounds"),
        figure("rounds", "rounds", 3, "rounds", units.count),
        figure("flops", "achieved", 3, "flops_per_second", units.giga, unit="GFLOP/s"),
        figure("images", "images", 4, "images_per_second", units.rate, unit="/s"),
        figure("host_peak", "host peak", 5, "host_peak_bytes", units.data_size),
        wording("device", "device", 5, "job_device", plain),
    ),
    "Clock: pytest-benchmark's, a round from start to stop; each test decides whether it waits for a device.",
)


def build(found: Sequence[IngestedBenchmark], problems: Sequence[str] = ()) -> Report:
    """Make the table: a group per file, with its processor, versions and commit in its title."""
    groups = []
    for members in group_by(found, attrgetter("run_id")).values():
        first = members[0]
        changes = " with changes" if first.commit_dirty else ""
        parts = (
            first.source,
            first.processor or "unknown processor",
            first.torch and f"torch {first.torch}",
            first.commit_id and f"commit {first.commit_id[:10]}{changes}",
            first.created_at,
        )
        groups.append((" · ".join(plain(part) for part in parts if part), members))
    notes = (Note("rule", RULE), *(Note("problem", plain(line)) for line in problems))
    rows = [each.model_dump() for each in found]
    for row in rows:  # as objects, not as text
        row |= {name: row[name] and json.loads(row[name]) for name in ("params", "extra_info")}
    document = {"kind": "pytest-benchmark", "rule": RULE, "benchmarks": rows}
    return Report((build_table(INGESTED, groups=groups),) if groups else (), notes, document)


def as_csv(found: Sequence[IngestedBenchmark]) -> str:
    """Write one line per benchmark under the names in `COLUMNS`; unknown is empty."""
    return text.write_csv([each.model_dump() for each in found], COLUMNS)

"""pytest-benchmark's JSON files as rows: one a benchmark, with the statistics of its rounds, its machine and its commit.

A file is one process, whatever rounds it has, so n is 1 and no interval can be drawn; rows say so in `processes`. They
are values of their own, in a frame of their own: nothing here makes a ledger's process of them, and `compare` and the
check take none. Where a column has the name of one in `process_table.COLUMNS`, it means the same.

Read are the files of versions 2.5 to 5.3, which differ in what they lack: no `ops` before 3.1, no `params` and
`extra_info` before 3.0, the processor as `brand`, later `brand_raw`, or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cnnbench.errors import DataError
from cnnbench.schema import digest

REMEDY = "make one with `pytest --benchmark-json FILE`, or name one saved under .benchmarks/"
Seconds = Annotated[float, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class IngestedBenchmark:
    """One benchmark of one file. Times are seconds of a round, as pytest-benchmark states them; unknown is None.

    `calls_per_round`, rates, memory, device and threads are what the fixture `cnnbench` wrote into `extra_info`.
    """

    kind: Literal["pytest-benchmark"]
    processes: Literal[1]
    source: str
    run_id: str
    """`pytest-benchmark:` and the first digits of the file's SHA-256: the process this is of."""
    tool_version: str | None
    created_at: str | None
    name: str
    fullname: str
    group: str | None
    params: str | None
    """As JSON."""
    rounds: int
    iterations: int
    min_seconds: float
    max_seconds: float
    mean_seconds: float
    stddev_seconds: float
    median_seconds: float
    q1_seconds: float
    q3_seconds: float
    iqr_seconds: float
    outliers: str | None
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
    extra_info: str | None
    """All of it, as JSON."""


COLUMNS = tuple(IngestedBenchmark.__dataclass_fields__)


class _Loose(BaseModel):
    """What is read of a foreign object: other keys are passed over, inf and nan are no times."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Stats(_Loose):
    min: Seconds
    max: Seconds
    mean: Seconds
    stddev: Seconds
    median: Seconds
    q1: Seconds
    q3: Seconds
    iqr: Seconds
    rounds: int = Field(ge=1)
    iterations: int = Field(ge=1)
    outliers: str | None = None


class _Benchmark(_Loose):
    name: str
    fullname: str
    stats: _Stats
    group: str | None = None
    params: dict[str, Any] | None = None
    extra_info: dict[str, Any] | None = None


class _File(_Loose):
    benchmarks: tuple[_Benchmark, ...]
    machine_info: dict[str, Any] | None = None
    commit_info: dict[str, Any] | None = None
    datetime: str | None = None
    version: str | None = None


def read_files(paths: Iterable[Path]) -> tuple[tuple[IngestedBenchmark, ...], tuple[str, ...]]:
    """The benchmarks of all files, in their order, and what was odd: the same file twice counts once.

    Raises DataError for a file that cannot be read, is no pytest-benchmark file, or was exported from ledgers.
    """
    found: list[IngestedBenchmark] = []
    problems: list[str] = []
    seen: dict[str, Path] = {}
    for path in paths:
        text = _text(path)
        key = digest(text)
        if key in seen:
            problems.append(f"{path}: the same run as {seen[key]}; counted once")
            continue
        seen[key] = path
        file = _parse(path, text)
        problems += [f"{path}: no benchmark in it"] if not file.benchmarks else []
        found += [_row(path, key, file, each) for each in file.benchmarks]
    return tuple(found), tuple(problems)


def flatten_benchmarks(found: Sequence[IngestedBenchmark]) -> list[dict[str, object]]:
    """Return the benchmarks' values by the names in `COLUMNS`, one row each."""
    return [{name: getattr(each, name) for name in COLUMNS} for each in found]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot read: {error.strerror}; {REMEDY}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file, so no pytest-benchmark file; {REMEDY}") from error


def _parse(path: Path, text: str) -> _File:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not one JSON object, so no pytest-benchmark file; {REMEDY}") from error
    if not isinstance(document, dict) or not isinstance(document.get("benchmarks"), list):
        raise DataError(f"{path}: no pytest-benchmark file: it has no list `benchmarks`; {REMEDY}")
    if isinstance(document.get("cnnbench"), dict):
        raise DataError(
            f"{path}: `cnnbench export` made it, its rounds are processes of a ledger; read the ledger with `cnnbench show`"
        )
    try:
        return _File.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"{path}: no pytest-benchmark file: {where}: {first['msg']}; {REMEDY}") from error


def _row(path: Path, key: str, file: _File, each: _Benchmark) -> IngestedBenchmark:
    machine, commit, extra = file.machine_info or {}, file.commit_info or {}, each.extra_info or {}
    facts = _mapping(machine.get("cnnbench"))
    cpu = _mapping(machine.get("cpu"))
    stats = each.stats
    return IngestedBenchmark(
        kind="pytest-benchmark",
        processes=1,
        source=str(path),
        run_id=f"pytest-benchmark:{key[:12]}",
        tool_version=file.version,
        created_at=file.datetime,
        name=each.name,
        fullname=each.fullname,
        group=each.group,
        params=_json(each.params),
        rounds=stats.rounds,
        iterations=stats.iterations,
        min_seconds=stats.min,
        max_seconds=stats.max,
        mean_seconds=stats.mean,
        stddev_seconds=stats.stddev,
        median_seconds=stats.median,
        q1_seconds=stats.q1,
        q3_seconds=stats.q3,
        iqr_seconds=stats.iqr,
        outliers=stats.outliers,
        calls_per_round=_read_integer(extra, "calls_per_round"),
        images_per_second=_read_number(extra, "images_per_second"),
        flops_per_second=_read_number(extra, "flops_per_second"),
        host_peak_bytes=_read_integer(extra, "host_peak_bytes"),
        device_peak_bytes=_read_integer(extra, "device_peak_bytes"),
        machine_id=_first_text(facts, "machine_id"),
        processor=_first_text(extra, "device_name", facts, "cpu", cpu, "brand_raw", cpu, "brand", machine, "processor"),
        python=_first_text(machine, "python_version"),
        torch=_first_text(extra, "torch", facts, "torch"),
        job_device=_first_text(extra, "device"),
        job_threads=_read_integer(extra, "threads"),
        commit_id=_first_text(commit, "id"),
        commit_dirty=commit["dirty"] if isinstance(commit.get("dirty"), bool) else None,
        commit_branch=_first_text(commit, "branch"),
        extra_info=_json(each.extra_info),
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _json(value: Mapping[str, Any] | None) -> str | None:
    return json.dumps(value, sort_keys=True) if value else None


def _first_text(*places: Any) -> str | None:
    """The first text that is not empty among places given as object, key, object, key."""
    for values, key in zip(places[::2], places[1::2], strict=True):
        if isinstance(values.get(key), str) and values[key]:
            return str(values[key])
    return None


def _read_number(values: Mapping[str, Any], key: str) -> float | None:
    """What anyone may have written into extra_info, where it is a finite number."""
    value = values.get(key)
    usable = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
    return float(value) if usable and value is not None else None


def _read_integer(values: Mapping[str, Any], key: str) -> int | None:
    value = values.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None

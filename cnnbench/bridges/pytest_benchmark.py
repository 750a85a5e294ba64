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


def flatten_benchmarks(found: Sequence[IngestedBenchmark]) -> list[dict[str, Any]]:
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


_TEXTS: Mapping[str, str] = {
    "machine_id": "machine_info.cnnbench.machine_id",
    "processor": "extra_info.device_name machine_info.cnnbench.cpu machine_info.cpu.brand_raw machine_info.cpu.brand "
    "machine_info.processor",
    "python": "machine_info.python_version",
    "torch": "extra_info.torch machine_info.cnnbench.torch",
    "job_device": "extra_info.device",
    "commit_id": "commit_info.id",
    "commit_branch": "commit_info.branch",
}
"""Where a file has the text of each column: the first place with one counts."""
_WHOLE_NUMBERS = {"job_threads": "threads"} | {
    name: name for name in ("calls_per_round", "host_peak_bytes", "device_peak_bytes")
}
"""Columns of whole numbers and their keys in extra_info, where anyone may have written anything."""


def _row(path: Path, key: str, file: _File, each: _Benchmark) -> IngestedBenchmark:
    document = {"extra_info": each.extra_info, "machine_info": file.machine_info, "commit_info": file.commit_info}
    extra, dirty = each.extra_info or {}, _look_up(document, "commit_info.dirty")
    times = each.stats.model_dump(exclude={"rounds", "iterations", "outliers"})
    found: dict[str, Any] = {
        **{f"{name}_seconds": value for name, value in times.items()},
        **{name: _first_text(document, places.split()) for name, places in _TEXTS.items()},
        **{name: _read_integer(extra.get(there)) for name, there in _WHOLE_NUMBERS.items()},
        **{name: _read_number(extra.get(name)) for name in ("images_per_second", "flops_per_second")},
    }
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
        rounds=each.stats.rounds,
        iterations=each.stats.iterations,
        outliers=each.stats.outliers,
        commit_dirty=dirty if isinstance(dirty, bool) else None,
        extra_info=_json(each.extra_info),
        **found,
    )


def _json(value: Mapping[str, Any] | None) -> str | None:
    return json.dumps(value, sort_keys=True) if value else None


def _look_up(document: object, place: str) -> object:
    """What is at the place, keys joined by dots; None where there is nothing."""
    for key in place.split("."):
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _first_text(document: object, places: Iterable[str]) -> str | None:
    """The first text that is not empty among the places."""
    found = (_look_up(document, place) for place in places)
    return next((value for value in found if isinstance(value, str) and value), None)


def _read_number(value: object) -> float | None:
    """The value where it is a finite number."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
    return float(value) if usable else None  # type: ignore[arg-type]


def _read_integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None

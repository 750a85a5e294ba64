"""Suites: TOML files that declare what to time. A name or path goes in; a `Suite`, or every mistake, comes out.

```toml
description = "One line."
repeats = 3                                       # fresh processes of each job, the unit of replication; a [[job]] may
                                                  # have its own
seed = 1                                          # optional; else drawn at random and recorded

[[job]]
workload = "gemm"
precision = ["fp32", "bf16"]                      # a list is an axis: each value makes a separate job
size = { cpu = [1024, 2048], gpu = [4096, 8192] } # and may differ by device kind
```

In a table by kind, `gpu` is every kind but the CPU, `cuda` serves `rocm` too, and a kind left out has the key's
default; where there is none (a GEMM's size) the job is not planned there.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnbench import workloads
from cnnbench.devices import list_kinds
from cnnbench.errors import SuiteError, WorkloadError
from cnnbench.plain_text import format_value, suggest_nearest
from cnnbench.plan import job_keys
from cnnbench.plan.job_keys import (
    ANY,
    FROM_ELSEWHERE,
    GPU,
    KEYS,
    TOP_KEYS,
    Choices,
    Combination,
    Key,
    Scalar,
)
from cnnbench.plan.overrides import Overrides, apply_overrides, describe_overrides
from cnnbench.schema import NAMES_BELOW_COMMANDS, RENAMED_SUITES, DeviceKind
from cnnbench.workloads import Workload

LARGEST_FILE_BYTES = 1_000_000
TEXT_KEYS = ("name", "description")
DEFAULT_REPEATS = 3


@dataclass(frozen=True)
class JobSpec:
    """One `[[job]]` table, checked: the values of each key."""

    place: str
    workload: str
    choices: Mapping[str, Choices]
    repeats: int = 1

    def list_values(self, kind: DeviceKind) -> dict[str, tuple[Scalar | None, ...]]:
        """List the values of every key that apply to a device kind.

        A plain `threads` applies to the CPU; an accelerator has its own number only from a table that names its kind.
        """
        workload = workloads.get(self.workload)
        wider = {"cpu": (), "rocm": ("cuda", GPU)}.get(kind, (GPU,))
        found = {}
        for name in KEYS:
            choices = self.choices.get(name, {})
            places = (kind, *wider) if name == "threads" and kind != "cpu" else (kind, *wider, ANY)
            chosen = next((choices[place] for place in places if place in choices), None)
            found[name] = chosen or (job_keys.default_value(name, workload),)
        return {**found, "workload": (self.workload,)}

    def combinations(self, kind: DeviceKind) -> tuple[Combination, ...]:
        """List every combination of those values, each once."""
        workload, values = workloads.get(self.workload), self.list_values(kind)
        if workload.kind == "gemm" and values["size"] == (None,):
            return ()
        cells = (dict(zip(values, each, strict=True)) for each in itertools.product(*values.values()))
        found = (job_keys.complete_combination(cell, workload) for cell in cells)
        return tuple({tuple(cell.values()): cell for cell in found}.values())


@dataclass(frozen=True)
class Suite:
    """A suite file, checked."""

    name: str
    description: str
    path: Path
    digest: str
    """SHA-256 of the file's bytes, and of what the command line put in place of them."""
    seed: int | None
    jobs: tuple[JobSpec, ...]

    @property
    def repeats(self) -> range:
        """Return the range of its jobs' processes, from the fewest to the most."""
        counts = [job.repeats for job in self.jobs]
        return range(min(counts), max(counts) + 1)

    def combinations(self, kind: DeviceKind) -> tuple[Combination, ...]:
        """List the combinations of all jobs on a device kind, each once."""
        cells = (cell for job in self.jobs for cell in job.combinations(kind))
        return tuple({tuple(cell.values()): cell for cell in cells}.values())


def suites_dir() -> Path:
    """Find the shipped suites: inside the installed package, else in the source tree beside it."""
    package = Path(__file__).resolve().parents[1]
    shipped = package / "_shipped" / "suites"
    return shipped if shipped.is_dir() else package.parent / "suites"


def suite_names() -> tuple[str, ...]:
    """List the names of the shipped suites, sorted."""
    return tuple(sorted(path.stem for path in suites_dir().glob("*.toml")))


def find_suite(text: str) -> Path:
    """Find the file of a shipped suite, or take the text as a path.

    Raises SuiteError with the names there are.
    """
    names = suite_names()
    if text in names:
        return suites_dir() / f"{text}.toml"
    path = Path(text)
    if path.exists() or len(path.parts) > 1 or path.suffix == ".toml":
        return path
    if text in RENAMED_SUITES:
        raise SuiteError(f"no suite {text!r}; it has been renamed to {RENAMED_SUITES[text]!r}")
    if having := list_suites_with(text):
        raise SuiteError(f"no suite {text!r}; that is a workload, which these suites have: {', '.join(having)}")
    raise SuiteError(
        f"no suite {text!r}; there are {', '.join(names)}, or give the path of a TOML file{suggest_nearest(text, names)}"
    )


def list_suites_with(workload: str) -> list[str]:
    """List the shipped suites with a job of that workload; none for any other name."""
    if workload not in workloads.names():
        return []
    loaded = [load_suite(find_suite(name)) for name in suite_names()]
    return [suite.name for suite in loaded if any(job.workload == workload for job in suite.jobs)]


def load_suite(path: Path, overrides: Overrides | None = None) -> Suite:
    """Load the suite in a file, with values of the command line in place of its own.

    Raises SuiteError with every mistake in it, one per line, and UsageError for a value that no job of it takes.

    A workload given as a Python file, relative to the suite, is run and from then on known by its name.
    """
    content, where = _read(path), str(path)
    try:
        table = tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise SuiteError(f"{path}: not UTF-8 text (byte {error.start}); save the file as UTF-8") from error
    except RecursionError as error:
        raise SuiteError(f"{path}: not a suite: its values are nested too deep") from error
    except ValueError as error:  # TOMLDecodeError with line and column, or an integer of thousands of digits
        raise SuiteError(f"{path}: not TOML: {error}") from error
    if overrides:
        table = apply_overrides(table, overrides, path.parent)
        where = f"{path} with {describe_overrides(overrides)}"
        content += (
            f"\n# {describe_overrides(overrides)}".encode()
        )  # another digest: --resume takes no run of other work
    jobs, job_mistakes = _read_jobs(table.get("job"), path.parent, table.get("repeats", DEFAULT_REPEATS))
    if problems := [*_find_top_mistakes(table, path.stem), *job_mistakes]:
        raise SuiteError("\n".join(f"{where}: {problem}" for problem in problems))
    return Suite(
        name=table.get("name", path.stem),
        description=table.get("description", ""),
        path=path,
        digest=hashlib.sha256(content).hexdigest(),
        seed=table.get("seed"),
        jobs=jobs,
    )


def _read(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise SuiteError(f"{path}: a directory; give one suite file, such as {path / 'quick.toml'}")
        if path.exists() and not path.is_file():
            raise SuiteError(f"{path}: not a regular file")
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise SuiteError(f"{path}: no such file; shipped suites are {', '.join(suite_names())}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise SuiteError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > LARGEST_FILE_BYTES:
        raise SuiteError(f"{path}: larger than {LARGEST_FILE_BYTES:,} bytes; a suite is a page of text")
    return content


def _find_top_mistakes(table: Mapping[str, Any], stem: str) -> list[str]:
    """Find what is wrong above the first [[job]]; `stem`, the file's, is the suite's name if it states none."""
    known, below = (*TEXT_KEYS, *TOP_KEYS, "job"), dict.fromkeys(KEYS, "it belongs under [[job]]")
    unknown = [job_keys.describe_unknown_key(name, known, below) for name in table if name not in known]
    found = [
        (name, "must be a text")
        for name in TEXT_KEYS
        if name in table and (not isinstance(table[name], str) or not table[name].strip())
    ]
    found += [(name, key.find_mistake(table[name]) or "") for name, key in TOP_KEYS.items() if name in table]
    mistakes = unknown + [f"{name} {format_value(table[name])} {wrong}" for name, wrong in found if wrong]
    if (name := table.get("name", stem)) in NAMES_BELOW_COMMANDS:
        mistakes.append(f"name {name!r} is kept for a command; choose another with `name = ...`")
    return mistakes


def _read_jobs(value: object, folder: Path, repeats: int) -> tuple[tuple[JobSpec, ...], list[str]]:
    """Read every usable [[job]] table, and list the mistakes in all of them; `repeats` is for those without their own."""
    if value is None or value == []:
        return (), ["no [[job]]; a suite needs at least one"]
    if not isinstance(value, list):
        return (), ["job must be a list of tables: write [[job]], with two brackets"]
    specs = []
    mistakes: list[str] = []
    for number, table in enumerate(value, start=1):
        spec, wrong = _read_job(f"[[job]] {number}", table, folder, repeats)
        if spec is not None:
            specs.append(spec)
        mistakes += (f"[[job]] {number}: {each}" for each in wrong)
    return tuple(specs), mistakes


def _read_job(place: str, table: object, folder: Path, repeats: int) -> tuple[JobSpec | None, list[str]]:
    if not isinstance(table, dict):
        return None, [f"must be a table, not {format_value(table)}"]
    name, names = table.get("workload"), ", ".join(workloads.names())
    try:
        if "workload" not in table:
            raise WorkloadError(f"workload is missing; choose from {names}")
        if not isinstance(name, str):
            raise WorkloadError(f"workload {format_value(name)} must be one name of {names}")
        workload = workloads.find(name, folder)
    except WorkloadError as error:
        return None, [str(error), *_read_keys(table, KEYS, None)[1]]
    choices, problems = _read_keys(table, job_keys.keys_for(workload), workload)
    repeats = table.get("repeats", repeats)
    spec = JobSpec(place, workload.name, choices, repeats)
    if (wrong := TOP_KEYS["repeats"].find_mistake(repeats)) is not None and "repeats" in table:
        problems.append(f"repeats {format_value(repeats)} {wrong}")
    if workload.kind == "gemm" and "size" not in table:
        problems.append(f"{workload.name} needs size, the side of its square operands")
    if "scaling" in table and "world" not in table:
        problems.append(f"scaling {format_value(table['scaling'])} needs world, the ranks that share the batch")
    return spec, problems or _contradictions(spec)


def _read_keys(
    table: Mapping[str, Any], known: Mapping[str, Key], workload: Workload | None
) -> tuple[dict[str, Choices], list[str]]:
    """Read the choices of every known key, and list the mistakes.

    Without a workload its own words are not checked.
    """
    choices = {}
    problems = []
    for name, value in table.items():
        if name in ("workload", "repeats") or (workload is None and name in ("optimizer", "init")):
            continue
        if name in known:
            choices[name], more = job_keys.read_choices(name, known[name], value)
            problems += more
        elif name in KEYS and workload is not None:
            problems.append(f"{name} {format_value(value)}: {workload.name} takes no {name}")
        else:
            problems.append(job_keys.describe_unknown_key(name, known, FROM_ELSEWHERE))
    return choices, problems


def _contradictions(spec: JobSpec) -> list[str]:
    found: list[str] = []
    for kind in list_kinds():
        count = math.prod(map(len, spec.list_values(kind).values()))  # without unfolding them
        if count > job_keys.MAX_COMBINATIONS:
            return [f"{count:,} combinations on {kind}; a job may unfold into {job_keys.MAX_COMBINATIONS:,} at most"]
        found += (each for cell in spec.combinations(kind) for each in job_keys.find_contradictions(cell))
    return list(dict.fromkeys(found))

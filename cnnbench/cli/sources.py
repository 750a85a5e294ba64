"""Where results come from: the default place, and a name on the command line turned into one side of a comparison.

A name is a path, else `reference` (the published rows that ship), else it is looked up in the results: a machine's id or a
run's, or the beginning of one, or a key MACHINE/DEVICE[/THREADS] such as `box/cuda:0` or `box/cpu/2`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cnnbench.errors import UsageError

if TYPE_CHECKING:
    from cnnbench.analysis.contrast import Side
    from cnnbench.schema import Job
    from cnnbench.store import Ledger, Loaded

DEFAULT_RESULTS = Path("results")
REFERENCE = "reference"
MOST_LISTED = 12
"""Names of a kind that an error lists before it counts the rest."""


@dataclass(frozen=True)
class Source:
    """A side with what was odd in its files, and the final digests of its ledgers by run."""

    side: Side
    problems: tuple[str, ...]
    digests: Mapping[str, str]


@dataclass(frozen=True)
class _Chosen:
    """What a name stands for: some ledgers of those loaded, and which of their jobs."""

    loaded: Loaded
    wanted: Callable[[Job], bool] = field(default=lambda job: True)


class _NoSide(UsageError):
    """One name that stands for nothing; gathered into one error."""


def default_results(command: str = "cnnbench run quick") -> Path:
    """The results directory by the environment, else by the settings, else ./results.

    Raises UsageError where it is not there; `command` is what would make one.
    """
    path, origin = _default()
    if not path.exists():
        from cnnbench.cli.settings import RESULTS_VARIABLE

        said = origin or f"name a path or set {RESULTS_VARIABLE}"
        raise UsageError(f"no results directory {path} ({said}); measure first with `{command}`")
    return path


def results_or_none() -> Path | None:
    """The same where results are not needed: None where nothing names a directory and ./results is not there."""
    path, origin = _default()
    return default_results() if origin or path.exists() else None


def _default() -> tuple[Path, str | None]:
    """The directory and what names it; None where it is only the default."""
    from cnnbench.cli.settings import RESULTS_VARIABLE, results_directory

    if named := os.environ.get(RESULTS_VARIABLE):
        return Path(named), f"{RESULTS_VARIABLE} names it"
    by_settings = results_directory()
    if by_settings is not None:
        return by_settings[0], f"{by_settings[1]} names it"
    return DEFAULT_RESULTS, None


def sides(names: Sequence[str], results: Path | None = None) -> list[Source]:
    """The side that each name stands for; names are looked up in `results` (None: the default place).

    Raises one UsageError for all names that are unknown, ambiguous or empty of results, with what there is.
    """
    from cnnbench import store

    known: Loaded | None = None
    complaints: list[str] = []
    found: list[Source] = []
    for name in names:
        try:
            if name and Path(name).exists():
                chosen = _Chosen(store.load_tree([Path(name)]))
            elif name == REFERENCE:
                chosen = _Chosen(store.load_tree([store.reference_dir()]))
            else:
                known = known or store.load_tree([results or default_results()])
                chosen = _look_up(name, known)
            found.append(_source(name, chosen))
        except _NoSide as error:
            complaints.append(str(error))
    if complaints:
        raise UsageError("\n".join((*complaints, *(_there_are(known) if known is not None else ()))))
    return found


def _source(name: str, chosen: _Chosen) -> Source:
    from cnnbench.analysis import compare, frame
    from cnnbench.analysis.contrast import Side

    ledgers = chosen.loaded.ledgers
    processes, doubles = frame.processes(ledgers)
    comparison = compare.compare((each for each in processes if chosen.wanted(each.job)), chosen.loaded.references)
    if not comparison.rows and not comparison.references:
        reasons = "".join(f"\n  {problem}" for problem in chosen.loaded.problems[:MOST_LISTED])
        raise _NoSide(f"{name}: no results there{reasons}")
    digests = {ledger.header.run_id: ledger.final_digest for ledger in ledgers}
    side = Side(name, comparison.rows, comparison.references)
    return Source(side, (*chosen.loaded.problems, *doubles), digests)


def _look_up(name: str, known: Loaded) -> _Chosen:
    machine, slash, place = name.partition("/")
    if slash:
        return _by_key(name, machine, place, known)
    machines = _beginning(name, (ledger.header.machine.id for ledger in known.ledgers))
    runs = _beginning(name, (ledger.header.run_id for ledger in known.ledgers))
    exact = [each for each in (*machines, *runs) if each == name]
    fitting = exact or [*machines, *runs]
    _one(name, fitting, "path, machine or run")
    return _Chosen(_of(known, lambda ledger: fitting[0] in (ledger.header.machine.id, ledger.header.run_id)))


def _by_key(name: str, machine: str, place: str, known: Loaded) -> _Chosen:
    machines = _beginning(machine, (ledger.header.machine.id for ledger in known.ledgers))
    _one(name, machines, f"path, nor a machine {machine!r}")
    device, _, threads = place.partition("/")
    chosen = _of(known, lambda ledger: ledger.header.machine.id == machines[0])

    def wanted(job: Job) -> bool:
        return job.device == device and threads in ("", str(job.threads))

    if not any(wanted(job) for ledger in chosen.ledgers for job in ledger.header.plan):
        raise _NoSide(f"{name}: no such device or thread count on {machines[0]}")
    return _Chosen(chosen, wanted)


def _beginning(start: str, ids: Iterable[str]) -> list[str]:
    """The id itself, else all that begin so."""
    every = set(ids)
    if start in every:
        return [start]
    return sorted(each for each in every if start and each.startswith(start))


def _one(name: str, fitting: Sequence[str], what: str) -> None:
    if not fitting:
        raise _NoSide(f"{name}: no such {what}")
    if len(fitting) > 1:
        raise _NoSide(f"{name}: ambiguous, it is the beginning of {_some(fitting)}")


def _of(known: Loaded, wanted: Callable[[Ledger], bool]) -> Loaded:
    from cnnbench.store import Loaded

    ledgers = tuple(ledger for ledger in known.ledgers if wanted(ledger))
    return Loaded(ledgers, (), tuple(problem for ledger in ledgers for problem in ledger.problems))


def _there_are(known: Loaded) -> list[str]:
    """All names that could have been given, one kind a line, and the files that could not be read."""
    headers = [ledger.header for ledger in known.ledgers]
    keys = set()
    for header in headers:
        for job in header.plan:
            key = f"{header.machine.id}/{job.device}"
            keys |= {key} if job.threads is None else {key, f"{key}/{job.threads}"}
    kinds = {
        "machines": sorted({header.machine.id for header in headers}),
        "runs": sorted({header.run_id for header in headers}, reverse=True),
        "keys": sorted(keys),
    }
    lines = [f"  {kind}: {_some(names) or 'none'}" for kind, names in kinds.items()]
    return [
        "there are:",
        *lines,
        f"  published rows: {REFERENCE}",
        *(f"  {text}" for text in known.problems[:MOST_LISTED]),
    ]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(names[:MOST_LISTED]) + more

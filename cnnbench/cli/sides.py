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
    from cnnbench.analysis.comparison import ComparisonSide
    from cnnbench.schema import Job
    from cnnbench.store import Ledger, LoadedLedgers

DEFAULT_RESULTS = Path("results")
PUBLISHED = "reference"
MAX_LISTED = 12
"""Names of a kind that an error lists before it counts the rest."""


@dataclass(frozen=True)
class LoadedSide:
    """A side with what was odd in its files, and the final digests of its ledgers by run."""

    side: ComparisonSide
    problems: tuple[str, ...]
    digests: Mapping[str, str]


@dataclass(frozen=True)
class _SideSelection:
    """What a name stands for: some ledgers of those loaded, and which of their jobs."""

    loaded: LoadedLedgers
    wanted: Callable[[Job], bool] = field(default=lambda job: True)


class _UnknownSide(UsageError):
    """One name that stands for nothing; gathered into one error."""


def default_results(command: str = "cnnbench run quick") -> Path:
    """The results directory by the environment, else by the settings, else ./results.

    Raises UsageError where it is not there; `command` is what would make one.
    """
    path, origin = _default_folder()
    if not path.exists():
        from cnnbench.cli.settings import RESULTS_VARIABLE

        said = origin or f"name a path or set {RESULTS_VARIABLE}"
        raise UsageError(f"no results directory {path} ({said}); measure first with `{command}`")
    return path


def results_or_none() -> Path | None:
    """The same where results are not needed: None where nothing names a directory and ./results is not there."""
    path, origin = _default_folder()
    return default_results() if origin or path.exists() else None


def _default_folder() -> tuple[Path, str | None]:
    """The directory and what names it; None where it is only the default."""
    from cnnbench.cli.settings import RESULTS_VARIABLE, results_directory

    if named := os.environ.get(RESULTS_VARIABLE):
        return Path(named), f"{RESULTS_VARIABLE} names it"
    by_settings = results_directory()
    if by_settings is not None:
        return by_settings[0], f"{by_settings[1]} names it"
    return DEFAULT_RESULTS, None


def load_sides(names: Sequence[str], results: Path | None = None) -> list[LoadedSide]:
    """The side that each name stands for; names are looked up in `results` (None: the default place).

    Raises one UsageError for all names that are unknown, ambiguous or empty of results, with what there is.
    """
    from cnnbench import store

    known: LoadedLedgers | None = None
    complaints: list[str] = []
    found: list[LoadedSide] = []
    for name in names:
        try:
            if name and Path(name).exists():
                chosen = _SideSelection(store.load_tree([Path(name)]))
            elif name == PUBLISHED:
                chosen = _SideSelection(store.load_tree([store.find_published_dir()]))
            else:
                known = known or store.load_tree([results or default_results()])
                chosen = _look_up(name, known)
            found.append(_load_side(name, chosen))
        except _UnknownSide as error:
            complaints.append(str(error))
    if complaints:
        raise UsageError("\n".join((*complaints, *(_list_names(known) if known is not None else ()))))
    return found


def _load_side(name: str, chosen: _SideSelection) -> LoadedSide:
    from cnnbench.analysis import process_table, speedup
    from cnnbench.analysis.comparison import ComparisonSide

    ledgers = chosen.loaded.ledgers
    processes, doubles = process_table.read_processes(ledgers)
    comparison = speedup.compute_speedups(
        (each for each in processes if chosen.wanted(each.job)), chosen.loaded.published_rows
    )
    if not comparison.rows and not comparison.published_rows:
        reasons = "".join(f"\n  {problem}" for problem in chosen.loaded.problems[:MAX_LISTED])
        raise _UnknownSide(f"{name}: no results there{reasons}")
    digests = {ledger.header.run_id: ledger.final_digest for ledger in ledgers}
    side = ComparisonSide(name, comparison.rows, comparison.published_rows)
    return LoadedSide(side, (*chosen.loaded.problems, *doubles), digests)


def _look_up(name: str, known: LoadedLedgers) -> _SideSelection:
    machine, slash, place = name.partition("/")
    if slash:
        return _look_up_key(name, machine, place, known)
    machines = _match_ids(name, (ledger.header.machine.id for ledger in known.ledgers))
    runs = _match_ids(name, (ledger.header.run_id for ledger in known.ledgers))
    exact = [each for each in (*machines, *runs) if each == name]
    fitting = exact or [*machines, *runs]
    _require_one(name, fitting, "path, machine or run")
    return _SideSelection(
        _filter_ledgers(known, lambda ledger: fitting[0] in (ledger.header.machine.id, ledger.header.run_id))
    )


def _look_up_key(name: str, machine: str, place: str, known: LoadedLedgers) -> _SideSelection:
    machines = _match_ids(machine, (ledger.header.machine.id for ledger in known.ledgers))
    _require_one(name, machines, f"path, nor a machine {machine!r}")
    device, _, threads = place.partition("/")
    chosen = _filter_ledgers(known, lambda ledger: ledger.header.machine.id == machines[0])

    def wanted(job: Job) -> bool:
        return job.device == device and threads in ("", str(job.threads))

    if not any(wanted(job) for ledger in chosen.ledgers for job in ledger.header.plan):
        raise _UnknownSide(f"{name}: no such device or thread count on {machines[0]}")
    return _SideSelection(chosen, wanted)


def _match_ids(start: str, ids: Iterable[str]) -> list[str]:
    """The id itself, else all that begin so."""
    every = set(ids)
    if start in every:
        return [start]
    return sorted(each for each in every if start and each.startswith(start))


def _require_one(name: str, fitting: Sequence[str], what: str) -> None:
    if not fitting:
        raise _UnknownSide(f"{name}: no such {what}")
    if len(fitting) > 1:
        raise _UnknownSide(f"{name}: ambiguous, it is the beginning of {_shorten_list(fitting)}")


def _filter_ledgers(known: LoadedLedgers, wanted: Callable[[Ledger], bool]) -> LoadedLedgers:
    from cnnbench.store import LoadedLedgers

    ledgers = tuple(ledger for ledger in known.ledgers if wanted(ledger))
    return LoadedLedgers(ledgers, (), tuple(problem for ledger in ledgers for problem in ledger.problems))


def _list_names(known: LoadedLedgers) -> list[str]:
    """All names that could have been given, one kind a line, and the files that could not be read."""
    from cnnbench.naming import place_key

    headers = [ledger.header for ledger in known.ledgers]
    keys = set()
    for header in headers:
        for job in header.plan:
            keys |= {f"{header.machine.id}/{job.device}", place_key(header.machine.id, job)}
    kinds = {
        "machines": sorted({header.machine.id for header in headers}),
        "runs": sorted({header.run_id for header in headers}, reverse=True),
        "keys": sorted(keys),
    }
    lines = [f"  {kind}: {_shorten_list(names) or 'none'}" for kind, names in kinds.items()]
    return [
        "there are:",
        *lines,
        f"  published rows: {PUBLISHED}",
        *(f"  {text}" for text in known.problems[:MAX_LISTED]),
    ]


def _shorten_list(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more

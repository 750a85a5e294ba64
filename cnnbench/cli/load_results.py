"""From paths and names on the command line to ledgers, processes and compared rows: what every command that reads starts from.

A side of a comparison is a path, else `reference` (the published rows that ship), else it is looked up in the results: a
machine's id or a run's, or the beginning of one, or a key MACHINE/DEVICE[/THREADS] such as `box/cuda:0` or `box/cpu/2`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from cnnbench.cli.settings import RESULTS_VARIABLE, results_directory, was_typed
from cnnbench.errors import UsageError

if TYPE_CHECKING:
    from cnnbench.analysis import process_table, rows, speedup
    from cnnbench.analysis.comparison import ComparisonSide
    from cnnbench.report.model import Cell
    from cnnbench.schema import Job
    from cnnbench.store import Ledger, LoadedLedgers


DEFAULT_RESULTS = Path("results")
MAX_LISTED = 12
"""Files, lines or names of a kind that an error lists before it counts the rest."""
PUBLISHED = "reference"


def default_results(command: str = "cnnbench run quick") -> Path:
    """Find the results directory by the environment, else by the settings, else ./results.

    Raises UsageError if it does not exist; `command` would make one.
    """
    path, origin = _default_folder()
    if not path.exists():
        named = f"{origin} names it" if origin else f"name a path or set {RESULTS_VARIABLE}"
        raise UsageError(f"no results directory {path} ({named}); measure first with `{command}`")
    return path


def results_or_none() -> Path | None:
    """Find the results directory if results are optional: None without a named directory or ./results."""
    path, origin = _default_folder()
    return default_results() if origin or path.exists() else None


def _default_folder() -> tuple[Path, object]:
    """Find the directory and what names it (None for the default)."""
    if named := os.environ.get(RESULTS_VARIABLE):
        return Path(named), RESULTS_VARIABLE
    return results_directory() or (DEFAULT_RESULTS, None)


@dataclass(frozen=True)
class Selection:
    """A choice of ledgers under paths, by the options of the same names."""

    machine_id: str | None = None
    run_id: str | None = None
    last: bool = False
    all_runs: bool = False
    baseline: str | None = None
    paths: tuple[Path | str, ...] = ()
    results: Path | None = None

    def find_roots(self, command: str = "cnnbench run quick") -> list[Path]:
        """Find the paths, else the results tree, else the default one.

        PATHS win over a tree that the settings or a variable name. Raises UsageError if both are typed, and if the
        default does not exist, with `command` as the remedy.
        """
        if self.paths and self.results and was_typed("results"):
            raise UsageError(f"--results {self.results} and PATHS say the same; leave one of them out")
        return [Path(path) for path in self.paths] or [self.results or default_results(command)]


@dataclass(frozen=True)
class LoadedResults:
    """The ledgers chosen, their rows compared, and every line or file that could not be used."""

    ledgers: tuple[Ledger, ...]
    comparison: speedup.Comparison
    problems: tuple[str, ...]
    name: str = ""
    """The name that the user gave for a side of a comparison."""
    history: tuple[rows.Row, ...] = ()
    """For a side: rows of all runs known beside it."""

    @property
    def digests(self) -> dict[str, str]:
        """Final digest of each ledger, by run."""
        return {ledger.header.run_id: ledger.final_digest for ledger in self.ledgers}

    @property
    def side(self) -> ComparisonSide:
        """The rows as one side of a comparison, under the name that the user gave."""
        from cnnbench.analysis.comparison import ComparisonSide

        return ComparisonSide(self.name, self.comparison.rows, self.comparison.published_rows, self.history)

    @property
    def processor_cell(self) -> Callable[[rows.Row], Cell]:
        """Name a processor as in these rows: with its machine and its boot if there are several."""
        from cnnbench.analysis.same_host import find_mixed_models
        from cnnbench.report import cells

        rows = self.comparison.rows
        several, mixed = len({row.machine.id for row in rows}) > 1, find_mixed_models(rows)
        return lambda row: cells.processor(row, several_machines=several, mixed_models=mixed)


def load_results(
    selection: Selection, *, published_suffice: bool = True, command: str = "cnnbench run quick"
) -> LoadedResults:
    """Load the rows of the chosen ledgers, with the published rows that ship and those found there.

    Raises UsageError if there is nothing to show, LedgerError for a path that does not exist, ComparisonError for a
    baseline that is not among the rows. With `published_suffice`, published rows alone are enough to show.
    """
    from cnnbench import store
    from cnnbench.analysis import speedup

    found, processes = load_processes(selection, command, required=not published_suffice)
    shipped = store.load_tree([store.find_published_dir()])
    references = tuple(dict.fromkeys((*shipped.published_rows, *found.published_rows)))
    if not processes and not (published_suffice and references):
        runs = (f"{ledger.path}: a run that planned no job and measured none" for ledger in found.ledgers)
        raise no_results_error(selection.find_roots(command), (*found.problems, *runs))
    comparison = speedup.compute_speedups(
        processes, references, all_runs=selection.all_runs, baseline=selection.baseline
    )
    return LoadedResults(found.ledgers, comparison, (*found.problems, *shipped.problems))


def load_processes(
    selection: Selection, command: str = "cnnbench run quick", *, required: bool = True
) -> tuple[LoadedLedgers, tuple[process_table.Process, ...]]:
    """Load the chosen ledgers and their processes. Raises as `load_ledgers` does."""
    from cnnbench.analysis import process_table

    loaded = load_ledgers(selection, command, required=required)
    processes, doubles = process_table.read_processes(loaded.ledgers)
    return replace(loaded, problems=(*loaded.problems, *doubles)), tuple(processes)


def load_ledgers(selection: Selection, command: str = "cnnbench run quick", *, required: bool = True) -> LoadedLedgers:
    """Load the chosen ledgers, with everything else under the paths.

    Raises LedgerError for a path that does not exist, UsageError if ledgers are `required` and none is found.
    """
    from cnnbench import store

    roots = selection.find_roots(command)
    loaded = store.load_tree(roots)
    if required and not loaded.ledgers:
        raise no_results_error(roots, loaded.problems)
    return replace(loaded, ledgers=tuple(select_ledgers(loaded.ledgers, selection)))


def no_results_error(
    paths: Iterable[Path | str],
    problems: Sequence[str],
    what: str = "no results",
    remedy: str = "measure first with `cnnbench run quick`",
) -> UsageError:
    """Make the error for missing results: the first reasons, one per line, and what to do."""
    from cnnbench.report.escaping import plain

    where = ", ".join(map(str, paths)) or "the results"
    reasons = [plain(problem) for problem in problems[:MAX_LISTED]]
    reasons += [f"and {len(problems) - MAX_LISTED} more"] if len(problems) > MAX_LISTED else []
    return UsageError("\n  ".join((f"{what} in {where}; {remedy}", *reasons)))


def select_ledgers(ledgers: Sequence[Ledger], selection: Selection) -> list[Ledger]:
    """Select the ledgers asked for. Raises UsageError, with all known names, for a name that fits none."""
    chosen = list(ledgers)
    for kind, start, read_id in (
        ("machine", selection.machine_id, attrgetter("header.machine.id")),
        ("run", selection.run_id, attrgetter("header.run_id")),
    ):
        known = sorted({read_id(each) for each in chosen})
        chosen = [each for each in chosen if read_id(each).startswith(start or "")]
        if start is not None and not chosen:
            raise UsageError(f"--{kind} {start}: no such {kind}; there are: {', '.join(known)}")
    if selection.last and chosen:
        when = attrgetter("header.created_at", "header.run_id")
        newest = max(map(when, chosen))
        chosen = [each for each in chosen if when(each) == newest]
    return chosen


class _UnknownSide(UsageError):
    """A name that fits nothing; all such names are collected into one error."""


def load_sides(names: Sequence[str], results: Path | None = None) -> list[LoadedResults]:
    """Load the side that each name means; names are looked up in `results` (None: the default place).

    The first side also has the rows of all runs there and on both sides, which show how much runs differ. Raises one
    UsageError for all names that are unknown, ambiguous or without results, with the names that exist.
    """
    from cnnbench import store

    known = None
    complaints, found = [], []
    for name in names:
        try:
            if name and Path(name).exists():
                found.append(_load_side(name, store.load_tree([Path(name)])))
            elif name == PUBLISHED:
                found.append(_load_side(name, store.load_tree([store.find_published_dir()])))
            else:
                known = known or store.load_tree([results or default_results()])
                found.append(_load_side(name, *_look_up(name, known)))
        except _UnknownSide as error:
            complaints.append(str(error))
    if complaints:
        raise UsageError("\n".join((*complaints, *(_list_names(known) if known is not None else ()))))
    place = results or _default_folder()[0]
    known = known or (store.load_tree([place]) if place.exists() else None)
    further = known.ledgers if known is not None else ()
    history = _load_history([*further, *(ledger for side in found for ledger in side.ledgers)])
    return [replace(side, history=history if side is found[0] else ()) for side in found]


def _load_history(ledgers: Iterable[Ledger]) -> tuple[rows.Row, ...]:
    """Load the rows of every run, each run once."""
    from cnnbench.analysis import process_table, speedup

    once = {(ledger.header.machine.id, ledger.header.run_id): ledger for ledger in ledgers}
    processes, _ = process_table.read_processes(tuple(once.values()))
    return speedup.compute_speedups(processes, all_runs=True).rows


def _load_side(name: str, loaded: LoadedLedgers, wanted: Callable[[Job], bool] = lambda job: True) -> LoadedResults:
    from cnnbench.analysis import process_table, speedup

    processes, doubles = process_table.read_processes(loaded.ledgers)
    comparison = speedup.compute_speedups((each for each in processes if wanted(each.job)), loaded.published_rows)
    if not comparison.rows and not comparison.published_rows:
        reasons = "".join(f"\n  {problem}" for problem in loaded.problems[:MAX_LISTED])
        raise _UnknownSide(f"{name}: no results there{reasons}")
    return LoadedResults(loaded.ledgers, comparison, (*loaded.problems, *doubles), name)


def _look_up(name: str, known: LoadedLedgers) -> tuple[LoadedLedgers, Callable[[Job], bool]]:
    """Find the ledgers of the machine or run that the name begins, and the jobs of a key MACHINE/DEVICE[/THREADS]."""
    from cnnbench.store import LoadedLedgers

    start, slash, place = name.partition("/")
    device, _, threads = place.partition("/")
    ids = sorted({ledger.header.machine.id for ledger in known.ledgers})
    if not slash:
        ids += sorted({ledger.header.run_id for ledger in known.ledgers})
    fitting = [start] if start in ids else [each for each in ids if start and each.startswith(start)]
    if not fitting:
        raise _UnknownSide(f"{name}: no such path{f', nor a machine {start!r}' if slash else ', machine or run'}")
    if len(fitting) > 1:
        raise _UnknownSide(f"{name}: ambiguous, it is the beginning of {_shorten_list(fitting)}")

    def wanted(job: Job) -> bool:
        return not slash or (job.device == device and threads in ("", str(job.threads)))

    ledgers = tuple(each for each in known.ledgers if fitting[0] in (each.header.machine.id, each.header.run_id))
    if slash and not any(wanted(job) for ledger in ledgers for job in ledger.header.plan):
        raise _UnknownSide(f"{name}: no such device or thread count on {fitting[0]}")
    return LoadedLedgers(ledgers, (), tuple(problem for ledger in ledgers for problem in ledger.problems)), wanted


def _list_names(known: LoadedLedgers) -> list[str]:
    """List all names that could have been given, one kind per line, and the files that could not be read."""
    from cnnbench.naming import place_key

    headers = [ledger.header for ledger in known.ledgers]
    places = {(header.machine.id, job) for header in headers for job in header.plan}
    keys = sorted({key for id_, job in places for key in (f"{id_}/{job.device}", place_key(id_, job))})
    return [
        "there are:",
        f"  machines: {_shorten_list(sorted({header.machine.id for header in headers}))}",
        f"  runs: {_shorten_list(sorted({header.run_id for header in headers}, reverse=True))}",
        f"  keys: {_shorten_list(keys)}",
        f"  published rows: {PUBLISHED}",
        *(f"  {text}" for text in known.problems[:MAX_LISTED]),
    ]


def _shorten_list(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more or "none"

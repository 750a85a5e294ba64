"""From paths on the command line to ledgers, processes and compared rows: what every command that reads results starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cnnbench.cli.sides import default_results
from cnnbench.errors import UsageError

if TYPE_CHECKING:
    from cnnbench.analysis.process_table import Process
    from cnnbench.analysis.rows import Row
    from cnnbench.analysis.speedup import Comparison
    from cnnbench.report.model import Cell
    from cnnbench.schema import PublishedRow
    from cnnbench.store import Ledger, LoadedLedgers


MAX_REASONS = 12
"""Files and lines that a refusal names before it counts the rest."""


@dataclass(frozen=True)
class Selection:
    """Which of the ledgers under which paths, by the options of the same names."""

    machine_id: str | None = None
    run_id: str | None = None
    last: bool = False
    all_runs: bool = False
    baseline: str | None = None
    paths: tuple[Path | str, ...] = ()

    def find_roots(self, command: str = "cnnbench run quick") -> list[Path]:
        """The paths, else the default results. Raises UsageError where those are not there, with `command` to make some."""
        return [Path(path) for path in self.paths] or [default_results(command)]


@dataclass(frozen=True)
class LoadedResults:
    """The ledgers chosen, their rows compared, and every line or file that could not be used."""

    ledgers: tuple[Ledger, ...]
    comparison: Comparison
    problems: tuple[str, ...]

    @property
    def digests(self) -> dict[str, str]:
        """Final digest of each ledger by run."""
        return {ledger.header.run_id: ledger.final_digest for ledger in self.ledgers}

    @property
    def processor_cell(self) -> Callable[[Row], Cell]:
        """How a processor is named beside these rows: with its machine where there are several."""
        from cnnbench.report import cells

        several = len({row.machine.id for row in self.comparison.rows}) > 1
        return lambda row: cells.processor(row, several_machines=several, all_runs=False)


class LoadedProcesses(NamedTuple):
    """The ledgers chosen, their processes, every line or file that could not be used, and the published rows beside them."""

    ledgers: tuple[Ledger, ...]
    processes: tuple[Process, ...]
    problems: tuple[str, ...]
    published_rows: tuple[PublishedRow, ...]


def load_results(
    selection: Selection, *, published_suffice: bool = True, command: str = "cnnbench run quick"
) -> LoadedResults:
    """The rows of the ledgers chosen, with the published ones that ship and those found there.

    Raises UsageError where there is nothing to show, LedgerError where a path does not exist, ComparisonError where the
    baseline asked for is none of the rows. `published_suffice`: published rows alone are something to show.
    """
    from cnnbench import store
    from cnnbench.analysis import speedup

    found = load_processes(selection, command, required=not published_suffice)
    shipped = store.load_tree([store.find_published_dir()])
    references = tuple(dict.fromkeys((*shipped.published_rows, *found.published_rows)))
    if not found.processes and not (published_suffice and references):
        runs = [f"{ledger.path}: a run that planned no job and measured none" for ledger in found.ledgers]
        raise no_results_error(selection.find_roots(command), (*found.problems, *runs))
    comparison = speedup.compute_speedups(
        found.processes, references, all_runs=selection.all_runs, baseline=selection.baseline
    )
    return LoadedResults(found.ledgers, comparison, (*found.problems, *shipped.problems))


def load_processes(
    selection: Selection, command: str = "cnnbench run quick", *, required: bool = True
) -> LoadedProcesses:
    """The processes of the ledgers chosen. Raises as `load_ledgers` does."""
    from cnnbench.analysis import process_table

    loaded = load_ledgers(selection, command, required=required)
    processes, doubles = process_table.read_processes(loaded.ledgers)
    return LoadedProcesses(loaded.ledgers, tuple(processes), (*loaded.problems, *doubles), loaded.published_rows)


def load_ledgers(selection: Selection, command: str = "cnnbench run quick", *, required: bool = True) -> LoadedLedgers:
    """The ledgers chosen, with what else is under the paths.

    Raises LedgerError where a path does not exist, UsageError where there is no ledger at all, unless none is `required`.
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
    """What is not there, the first reasons one a line, and what to do."""
    from cnnbench.report.escaping import plain

    where = ", ".join(map(str, paths)) or "the results"
    reasons = [plain(problem) for problem in problems[:MAX_REASONS]]
    reasons += [f"and {len(problems) - MAX_REASONS} more"] if len(problems) > MAX_REASONS else []
    return UsageError("\n  ".join((f"{what} in {where}; {remedy}", *reasons)))


def select_ledgers(ledgers: Sequence[Ledger], selection: Selection) -> list[Ledger]:
    """The ledgers asked for. Raises UsageError, with those there are, where a name fits none."""
    chosen = _select_by_id(ledgers, "machine", selection.machine_id, lambda each: each.header.machine.id)
    chosen = _select_by_id(chosen, "run", selection.run_id, lambda each: each.header.run_id)
    if selection.last and chosen:
        newest = max((each.header.created_at, each.header.run_id) for each in chosen)
        chosen = [each for each in chosen if (each.header.created_at, each.header.run_id) == newest]
    return chosen


def _select_by_id(
    ledgers: Sequence[Ledger], kind: str, start: str | None, read_id: Callable[[Ledger], str]
) -> list[Ledger]:
    """The ledgers whose id begins so; all where nothing is asked for."""
    chosen = [each for each in ledgers if read_id(each).startswith(start or "")]
    if start is not None and not chosen:
        known = ", ".join(sorted({read_id(each) for each in ledgers}))
        raise UsageError(f"--{kind} {start}: no such {kind}; there are: {known}")
    return chosen

"""From paths on the command line to compared rows: what `show` and `report` both start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnnbench.errors import UsageError

if TYPE_CHECKING:
    from cnnbench.analysis.speedup import Comparison
    from cnnbench.schema import PublishedRow
    from cnnbench.store import Ledger


MAX_REASONS = 12
"""Files and lines that a refusal names before it counts the rest."""


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


@dataclass(frozen=True)
class Selection:
    """Which of the ledgers, by the flags of the same names."""

    machine_id: str | None = None
    run_id: str | None = None
    last: bool = False
    all_runs: bool = False
    baseline: str | None = None


def load_results(roots: Sequence[Path], selection: Selection, *, published_suffice: bool) -> LoadedResults:
    """The rows of the ledgers under the roots, with the published ones that ship and those found there.

    Raises UsageError where there is nothing to show, LedgerError where a path does not exist, ComparisonError where the
    baseline asked for is none of the rows. `references_suffice`: published rows alone are something to show.
    """
    from cnnbench import store

    loaded = store.load_tree(roots)
    shipped = store.load_tree([store.find_published_dir()])
    references = tuple(dict.fromkeys((*shipped.published_rows, *loaded.published_rows)))
    suffice = published_suffice and bool(references)
    if not loaded.ledgers and not suffice:
        raise _no_results_error(roots, loaded.problems)
    ledgers = select_ledgers(loaded.ledgers, selection)
    if not any(ledger.header.plan or ledger.records for ledger in ledgers) and not suffice:
        runs = [f"{ledger.path}: a run that planned no job and measured none" for ledger in ledgers]
        raise _no_results_error(roots, (*loaded.problems, *runs))
    return compare_ledgers(ledgers, references, (*loaded.problems, *shipped.problems), selection)


def compare_ledgers(
    ledgers: Sequence[Ledger], published_rows: Sequence[PublishedRow], problems: Sequence[str], selection: Selection
) -> LoadedResults:
    """The rows of these ledgers. Raises ComparisonError where the baseline asked for is none of them."""
    from cnnbench.analysis import process_table, speedup

    processes, doubles = process_table.read_processes(ledgers)
    comparison = speedup.compute_speedups(
        processes, published_rows, all_runs=selection.all_runs, baseline=selection.baseline
    )
    return LoadedResults(tuple(ledgers), comparison, (*problems, *doubles))


def _no_results_error(roots: Sequence[Path], problems: Sequence[str]) -> UsageError:
    """No results there, the first reasons one a line, and what to do."""
    from cnnbench.report.escaping import plain

    reasons = [plain(problem) for problem in problems[:MAX_REASONS]]
    reasons += [f"and {len(problems) - MAX_REASONS} more"] if len(problems) > MAX_REASONS else []
    where = ", ".join(map(str, roots))
    return UsageError("\n  ".join((f"no results in {where}; measure first with `cnnbench run quick`", *reasons)))


def select_ledgers(ledgers: Sequence[Ledger], selection: Selection) -> list[Ledger]:
    """The ledgers asked for. Raises UsageError, with those there are, where a name fits none."""
    chosen = list(ledgers)
    if selection.machine_id is not None:
        chosen = [each for each in chosen if each.header.machine.id.startswith(selection.machine_id)]
        if not chosen:
            known = sorted({each.header.machine.id for each in ledgers})
            raise UsageError(f"--machine {selection.machine_id}: no such machine; there are: {', '.join(known)}")
    if selection.run_id is not None:
        among = chosen
        chosen = [each for each in among if each.header.run_id.startswith(selection.run_id)]
        if not chosen:
            known = sorted({each.header.run_id for each in among})
            raise UsageError(f"--run {selection.run_id}: no such run; there are: {', '.join(known)}")
    if selection.last and chosen:
        newest = max((each.header.created_at, each.header.run_id) for each in chosen)
        chosen = [each for each in chosen if (each.header.created_at, each.header.run_id) == newest]
    return chosen

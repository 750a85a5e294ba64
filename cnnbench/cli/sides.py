"""Where results come from: the default place, and a name on the command line turned into one side of a comparison.

A name is a path, else `reference` (the published rows that ship), else it is looked up in the results: a machine's id or a
run's, or the beginning of one, or a key MACHINE/DEVICE[/THREADS] such as `box/cuda:0` or `box/cpu/2`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnnbench.errors import UsageError

if TYPE_CHECKING:
    from cnnbench.analysis.comparison import ComparisonSide
    from cnnbench.schema import Job
    from cnnbench.store import LoadedLedgers

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
    return found


def _load_side(name: str, loaded: LoadedLedgers, wanted: Callable[[Job], bool] = lambda job: True) -> LoadedSide:
    from cnnbench.analysis import process_table, speedup
    from cnnbench.analysis.comparison import ComparisonSide

    processes, doubles = process_table.read_processes(loaded.ledgers)
    comparison = speedup.compute_speedups((each for each in processes if wanted(each.job)), loaded.published_rows)
    if not comparison.rows and not comparison.published_rows:
        reasons = "".join(f"\n  {problem}" for problem in loaded.problems[:MAX_LISTED])
        raise _UnknownSide(f"{name}: no results there{reasons}")
    digests = {ledger.header.run_id: ledger.final_digest for ledger in loaded.ledgers}
    side = ComparisonSide(name, comparison.rows, comparison.published_rows)
    return LoadedSide(side, (*loaded.problems, *doubles), digests)


def _look_up(name: str, known: LoadedLedgers) -> tuple[LoadedLedgers, Callable[[Job], bool]]:
    """The ledgers of the machine or run that the name begins, and which of their jobs a key MACHINE/DEVICE[/THREADS] means."""
    from cnnbench.store import LoadedLedgers

    start, slash, place = name.partition("/")
    device, _, threads = place.partition("/")
    headers = [ledger.header for ledger in known.ledgers]
    fitting = _match_ids(
        start, [each.machine.id for each in headers], [] if slash else [each.run_id for each in headers]
    )
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


def _match_ids(start: str, *kinds: Sequence[str]) -> list[str]:
    """The id itself, else all that begin so, kind by kind."""
    if any(start in ids for ids in kinds):
        return [start]
    return [each for ids in kinds for each in sorted(set(ids)) if start and each.startswith(start)]


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

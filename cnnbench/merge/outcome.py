"""What became of each run, and of all of them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cnnbench.errors import ExitCode, LedgerError

Kind = Literal["run", "reference"]
MergeStatus = Literal["brought", "longer", "there", "conflict", "alive", "refused"]
"""brought: new in the tree; longer: took the place of a shorter copy; there: the tree has it all. Left out are: conflict
(two copies part), alive (its run is still going on), refused (no ledger, unreadable, or without a place).
"""


@dataclass(frozen=True)
class Entry:
    """What became of one run, or of one file of published rows. `sources` begins with the copy that was chosen."""

    status: MergeStatus
    kind: Kind | None
    target: Path | None
    sources: tuple[Path, ...]
    records: int = 0
    """A run's records, or a reference's rows, that are in the tree now; 0 where it was left out."""
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    """Lines of the chosen copy that no reader can use; it is copied as it is."""


@dataclass(frozen=True)
class MergeResult:
    """What became of everything under the sources, in an order that does not depend on theirs."""

    results: Path
    entries: tuple[Entry, ...]
    empty: tuple[Path, ...] = ()
    """Sources without a single *.jsonl."""

    def count(self, *statuses: MergeStatus, kind: Kind | None = None) -> int:
        """How many entries have one of the statuses (and the kind)."""
        return sum(each.status in statuses and kind in (None, each.kind) for each in self.entries)

    @property
    def records(self) -> int:
        """Records of the runs that are in the tree now."""
        return sum(each.records for each in self.entries if each.kind == "run")

    @property
    def exit_code(self) -> ExitCode:
        """The first that holds of: two copies differ, a file cannot be used, a run that still goes on is missing."""
        if self.count("conflict"):
            return ExitCode.FINDING
        if self.count("refused"):
            return ExitCode.USAGE
        return ExitCode.JOB_FAILED if self.count("alive") else ExitCode.DONE


class LiveRunError(LedgerError):
    """A run still holds its ledger."""


class ChangedError(LedgerError):
    """Somebody else wrote at the target since it was read."""


def make_left_out_entry(
    error: LedgerError, sources: Sequence[Path], kind: Kind | None = None, target: Path | None = None
) -> Entry:
    """The entry of what was not brought, with the error as its reason: `alive` for a live run, else `refused`."""
    status: MergeStatus = "alive" if isinstance(error, LiveRunError) else "refused"
    return Entry(status, kind, target, tuple(sources), notes=(str(error),))

"""Copies of one run: read while nobody goes on with them, weighed by whole lines, the longest written where nothing is lost."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from cnnbench import files, store
from cnnbench.errors import FileError, LedgerError
from cnnbench.merge.outcome import ChangedError, Entry, Kind, LiveRunError, MergeStatus, make_left_out_entry

MOST_FIELDS, LONGEST_FIELD = 5, 40
"""Of two lines that differ, how many of their fields are named, and by how many letters: a line may hold anything."""


@dataclass(frozen=True)
class LedgerCopy:
    """One content, the sources that have it, and what a reader makes of it."""

    content: bytes
    path: Path
    """Where to look at it: its place in the results, or the first of the sources."""
    sources: tuple[Path, ...]
    resident: bool
    """Whether it is somewhere in the results already."""
    in_place: bool
    records: int
    problems: tuple[str, ...]

    @cached_property
    def lines(self) -> tuple[bytes, ...]:
        """What a reader can use: a last line without its end counts where it is a whole JSON object."""
        *lines, last = self.content.split(b"\n")
        return tuple(lines) if self.torn or not last else (*lines, last)

    @cached_property
    def torn(self) -> bytes:
        """The part of a line at the end; empty where there is none."""
        last = self.content.rpartition(b"\n")[2]
        return b"" if _object(last) else last

    @property
    def rank(self) -> tuple[int, int, bytes]:
        """The longest copy has most lines; among equals it is the same one whatever the order."""
        return len(self.lines), len(self.content), self.content

    def is_prefix_of(self, other: LedgerCopy) -> bool:
        """Whether the other copy has all these lines, and then perhaps more."""
        return self.lines == other.lines[: len(self.lines)]

    def suffices_for(self, longest: LedgerCopy) -> bool:
        """Whether it has as many lines, and is not the very same bytes cut short."""
        cut = self is not longest and longest.content.startswith(self.content)
        return len(self.lines) == len(longest.lines) and not cut


def gather_copies(
    kind: Kind, paths: Sequence[Path], inside: Collection[Path], target: Path
) -> tuple[list[LedgerCopy], list[Entry]]:
    """The different contents of the sources and of what is at the target, and the sources that will not do.

    Raises LedgerError where there is something at the target that cannot be read.
    """
    there = read(target, held=False) if target.exists() else None
    by_content: dict[bytes, list[Path]] = {} if there is None else {there: []}
    left_out: list[Entry] = []
    for path in paths:
        try:
            by_content.setdefault(read(path, held=path not in inside), []).append(path)
        except LedgerError as error:
            left_out.append(make_left_out_entry(error, (path,)))
    copies: list[LedgerCopy] = []
    for content, found in by_content.items():
        in_place = content == there
        resident = in_place or any(path in inside for path in found)
        path = target if in_place else found[0]
        try:
            records, problems = _count_records(kind, path, content, target)
        except LedgerError as error:
            if not resident:
                left_out.append(make_left_out_entry(error, found, kind, target))
                continue
            records, problems = 0, (str(error),)
        copies.append(LedgerCopy(content, path, tuple(found), resident, in_place, records, problems))
    return copies, left_out


def _count_records(kind: Kind, path: Path, content: bytes, target: Path) -> tuple[int, tuple[str, ...]]:
    """How many records (or rows) the content has, and which of its lines cannot be used.

    Raises LedgerError for rows that cannot be read, and for what is not one run, the target's.
    """
    if kind == "reference":
        return len(store.parse_published_rows(path, content)), ()
    ledger = store.parse(path, content)
    headers = [n for n, line in enumerate(content.split(b"\n"), 1) if _is_header(line)]
    if len(headers) > 1:
        raise LedgerError(f"{path}: not one run: line {headers[1]} is another header; split the file there")
    if (ledger.header.machine.id, ledger.header.run_id) != (target.parent.name, target.stem):
        raise LedgerError(f"{path}: another run than it was; merge again")
    return len(ledger.records), ledger.problems


def _is_header(line: bytes) -> bool:
    """Whether the line is a run's header. Reading a line as JSON is most of what a merge costs, so only those are read that
    can be one: with the word as it stands or, if somebody wrote it so, in escapes.
    """
    return (b'"run"' in line or b"\\u" in line) and (_object(line) or {}).get("kind") == "run"


def choose_copy(
    kind: Kind, target: Path, copies: Sequence[LedgerCopy], published: dict[bytes, Path]
) -> tuple[LedgerCopy, Entry]:
    """The copy that has all, and what is to become of it; a conflict where none has."""
    longest = max(copies, key=lambda copy: copy.rank)
    chosen = next((copy for copy in copies if copy.resident and copy.suffices_for(longest)), longest)
    others = [copy for copy in copies if copy is not chosen]
    sources = tuple(path for copy in (chosen, *others) for path in copy.sources)
    differences = tuple(_describe_difference(longest, copy) for copy in copies if not copy.is_prefix_of(longest))
    if differences:
        return chosen, Entry("conflict", kind, target, sources, notes=differences)
    notes = [_describe_shortfall(copy, chosen) for copy in others]
    status: MergeStatus = "longer" if any(copy.in_place for copy in others) else "brought"
    if chosen.resident:
        status = "there"
    elif kind == "reference" and (same := published.get(digest_content(chosen.content))) is not None:
        status, notes = "there", [*notes, f"{same} has the same rows"]
    return chosen, Entry(status, kind, target, sources, chosen.records, tuple(notes), chosen.problems)


def _describe_difference(one: LedgerCopy, other: LedgerCopy) -> str:
    """`a.jsonl and b.jsonl differ from line 3 on (outcome, process_seconds)`."""
    pairs = enumerate(zip(one.lines, other.lines, strict=False), start=1)
    number, (mine, theirs) = next((number, pair) for number, pair in pairs if pair[0] != pair[1])
    a, b = _object(mine), _object(theirs)
    if a is None or b is None:
        how = "one is no JSON object" if (a is None) != (b is None) else "both are no JSON objects"
    else:
        names = sorted(name[:LONGEST_FIELD] for name in {*a, *b} if a.get(name) != b.get(name))
        how = ", ".join(names[:MOST_FIELDS]) + (" and more" if len(names) > MOST_FIELDS else "")
    return f"{one.path} and {other.path} differ from line {number} on ({how or 'only in how it is written'})"


def _describe_shortfall(copy: LedgerCopy, chosen: LedgerCopy) -> str:
    """`b.jsonl has the first 3 of the 5 lines, then a torn one (40 bytes, no record)`."""
    total = len(chosen.lines)
    text = f"{copy.path} has {'the same' if len(copy.lines) == total else f'the first {len(copy.lines)} of the'} {total} lines"
    if copy.torn:
        lost = "" if chosen.content.startswith(copy.content) else ", left out here"
        text += f", then a torn one ({len(copy.torn):,} bytes, no record{lost})"
    return text


def digest_content(content: bytes) -> bytes:
    """SHA-256: what two files of published rows share where they hold the same."""
    return hashlib.sha256(content).digest()


def _object(line: bytes) -> dict[str, object] | None:
    return store.parse_line(line.decode(errors="replace"))


def first_line(path: Path, *, held: bool) -> bytes:
    """The first line that is not blank: a folder may hold other people's *.jsonl of any size."""
    with files.explain_refusal(LedgerError, f"{path}: cannot read"), _open(path, held=held) as file:
        return next((line for line in file if line != b"\n"), b"")


def read(path: Path, *, held: bool) -> bytes:
    """The whole file, where `held` under a shared lock. Raises LedgerError, for a live run LiveRunError."""
    with files.explain_refusal(LedgerError, f"{path}: cannot read"), _open(path, held=held) as file:
        return file.read()


def _open(path: Path, *, held: bool) -> BinaryIO:
    """Open the file, `held` so that no run goes on with it while it is open. Raises OSError, for a live run LiveRunError."""
    try:
        return files.open_unchanging(path) if held else path.open("rb")
    except BlockingIOError as error:
        raise LiveRunError(
            f"{path}: its run or one of its workers is still alive; merge again when it has ended"
        ) from error


def write(target: Path, content: bytes, before: bytes | None) -> None:
    """The whole file in its place and on disk, or nothing. `before` is what may be replaced; None where nothing may.

    Raises ChangedError or LiveRunError where that is not so any more, FileError where it cannot be written.
    """
    refused = files.explain_refusal(FileError, f"{target}: cannot write", "choose another place with -o DIR")
    with _hold_unchanged(target, before), refused:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            files.write_file(target, content, replace=before is not None)
        except FileExistsError as error:
            raise ChangedError(f"{target}: appeared while merging; merge again") from error


def check_target(target: Path, before: bytes | None) -> None:
    """Raises what `write` would for what is at the target now: ChangedError, LiveRunError or LedgerError. Writes nothing."""
    with _hold_unchanged(target, before):
        pass


@contextmanager
def _hold_unchanged(target: Path, before: bytes | None) -> Iterator[None]:
    """Nobody goes on with the file meanwhile, and it is what it was. Raises ChangedError, LiveRunError or LedgerError."""
    if before is None:
        yield
        return
    with files.explain_refusal(LedgerError, f"{target}: cannot read"):
        file = _open(target, held=True)
    with file:
        with files.explain_refusal(LedgerError, f"{target}: cannot read"):
            if file.read() != before or not os.path.samestat(os.fstat(file.fileno()), target.stat()):
                raise ChangedError(f"{target}: changed while merging; merge again")
        yield

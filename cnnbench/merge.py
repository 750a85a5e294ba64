"""Merges ledgers of many machines into one tree: new ones are copied byte for byte, differing ones are reported and
kept.

Files and folders of `*.jsonl` go in, as `cnnbench run` leaves them on each machine; what became of each run comes out.
A run's place is `results/<machine_id>/<run_id>.jsonl`, by its header; published rows go to `results/reference/`. Copies
of one run are compared by whole lines: if one continues the other (a resumed run, a torn last line), the longer one has
all that the shorter one has and takes its place; if they differ, neither is touched. All copies of a run are compared
together, so the order in which folders are named does not matter. Ids come out of the files and are not trusted: one
that cannot be a plain name has no place in the tree. Sources are only read, and only while no run writes to them.
"""

from __future__ import annotations

import os
import reprlib
from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Literal

from cnnbench import files, store
from cnnbench.errors import ExitCode, FileError, LedgerError

PUBLISHED_FOLDER = "reference"
LONGEST_NAME_BYTES = 200
"""Longest name taken from a file: file systems allow 255 bytes, and `.jsonl` is added."""
MOST_FIELDS, LONGEST_FIELD = 5, 40
"""How many of the fields that differ between two lines are named, and with how many letters: a line may hold anything.
"""
Kind = Literal["run", "reference"]
MergeStatus = Literal["brought", "longer", "there", "conflict", "alive", "refused"]
"""brought: new in the tree; longer: replaced a shorter copy; there: the tree has it all. Left out are: conflict (two
copies differ), alive (its run has not ended), refused (not a ledger, unreadable, or without a place).
"""


@dataclass(frozen=True)
class Entry:
    """What became of one run, or of one file of published rows. `sources` begins with the copy that was chosen."""

    status: MergeStatus
    kind: Kind | None
    target: Path | None
    sources: tuple[Path, ...]
    records: int = 0
    """A run's records, or a reference's rows, that are in the tree now; 0 if it was left out."""
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    """Lines of the chosen copy that cannot be used; they are copied unchanged."""


@dataclass(frozen=True)
class MergeResult:
    """What became of everything under the sources, in an order that does not depend on theirs."""

    results: Path
    entries: tuple[Entry, ...]
    empty: tuple[Path, ...] = ()
    """Sources without a single *.jsonl."""

    def count(self, *statuses: MergeStatus, kind: Kind | None = None) -> int:
        """Count the entries that have one of the statuses (and the kind)."""
        return sum(each.status in statuses and kind in (None, each.kind) for each in self.entries)

    @property
    def records(self) -> int:
        """Records of the runs that are in the tree now."""
        return sum(each.records for each in self.entries if each.kind == "run")

    @property
    def exit_code(self) -> ExitCode:
        """The first that applies: two copies differ, a file cannot be used, a run that has not ended is missing."""
        if self.count("conflict"):
            return ExitCode.FINDING
        if self.count("refused"):
            return ExitCode.USAGE
        return ExitCode.JOB_FAILED if self.count("alive") else ExitCode.DONE


class LiveRunError(LedgerError):
    """A run still holds its ledger."""


class ChangedError(LedgerError):
    """Another process has written to the target since it was read."""


@dataclass(frozen=True)
class LedgerCopy:
    """One content, the sources that have it, and its records and problems."""

    content: bytes
    path: Path
    """The path to report: its place in the results, or the first of the sources."""
    sources: tuple[Path, ...]
    resident: bool
    """Whether it is somewhere in the results already."""
    in_place: bool
    records: int
    problems: tuple[str, ...]

    @cached_property
    def lines(self) -> tuple[bytes, ...]:
        """The usable lines: a last line without its end counts if it is a whole JSON object."""
        *lines, last = self.content.split(b"\n")
        return tuple(lines) if self.torn or not last else (*lines, last)

    @cached_property
    def torn(self) -> bytes:
        """The incomplete line at the end; empty if there is none."""
        last = self.content.rpartition(b"\n")[2]
        return b"" if _parse_line(last) else last


def _parse_line(line: bytes) -> dict[str, object] | None:
    return store.parse_line(line.decode(errors="replace"))


def merge(sources: Sequence[Path], results: Path, *, dry_run: bool = False) -> MergeResult:
    """Merge every ledger and every file of published rows under the sources into the tree `results`.

    With `dry_run` nothing is written and the answer is the same: live runs are detected too. Raises LedgerError if a
    source does not exist, before anything is written; and if a file cannot be written, with everything merged until
    then whole and in its place.
    """
    paths, unusable, empty = _find_files(sources)
    inside = {path for path in paths if path.resolve().is_relative_to(results.resolve())}
    entries = [Entry("refused", None, None, (path,), notes=(why,)) for path, why in sorted(unusable.items())]
    destinations = defaultdict(list)
    for path in paths:
        try:
            destinations[_find_destination(path, results, held=path not in inside)].append(path)
        except LedgerError as error:
            entries.append(_make_left_out_entry(error, (path,)))
    needed = any(kind == "reference" for kind, _ in destinations)
    there = sorted((results / PUBLISHED_FOLDER).glob("*.jsonl"), reverse=True) if needed else ()
    published = {_read(path, held=False): path for path in there}
    for (kind, target), same in sorted(destinations.items()):
        entries += _place(kind, target, same, inside, published, dry_run=dry_run)
    return MergeResult(results, tuple(entries), empty)


def _find_files(sources: Sequence[Path]) -> tuple[list[Path], dict[Path, str], tuple[Path, ...]]:
    """Find the files, each once; also what cannot be read, and why, and the sources that hold none."""
    missing = sorted({str(root) for root in sources if not root.exists()})
    if missing:
        raise LedgerError(f"{', '.join(missing)}: no such file or directory; nothing was merged")
    found: dict[Path, Path] = {}
    unusable = {}
    empty = set()

    def note(error: OSError) -> None:
        unusable[Path(error.filename)] = f"{error.filename}: cannot look into it: {error.strerror}"

    for root in sources:
        paths = [root]
        if root.is_dir():
            walked = os.walk(root, onerror=note)  # Path.rglob silently skips folders that may not be read
            paths = [Path(folder, name) for folder, _, names in walked for name in names if name.endswith(".jsonl")]
        if not paths:
            empty.add(root)
        for path in paths:
            if path.is_file():
                real = path.resolve()
                found[real] = min(path, found.get(real, path))
            else:
                unusable[path] = f"{path}: not a regular file, or a link that leads nowhere"
    return sorted(found.values()), unusable, tuple(sorted(empty))


def _find_destination(path: Path, results: Path, *, held: bool) -> tuple[Kind, Path]:
    """Find what the file is and where it belongs, by its first line.

    Raises LedgerError if it has no place.
    """
    # The first line that is not blank: a folder may hold other people's *.jsonl of any size.
    with files.explain_refusal(LedgerError, f"{path}: cannot read"), _open(path, held=held) as file:
        first = next((line for line in file if line != b"\n"), b"")
    if store.is_published_row(first):
        return "reference", results / PUBLISHED_FOLDER / _check_plain_name(path, "file name", path.name)
    header = store.parse(path, first).header
    machine_id = _check_plain_name(path, "machine id", header.machine.id)
    if machine_id.casefold() == PUBLISHED_FOLDER:
        raise LedgerError(f"{path}: machine id {machine_id!r} is the name of the published rows' folder; not copied")
    return "run", results / machine_id / f"{_check_plain_name(path, 'run id', header.run_id)}.jsonl"


def _check_plain_name(path: Path, what: str, name: str) -> str:
    """Return the name if it is one printable part of a path. Raises LedgerError if it is not."""
    fits = name.isprintable() and len(name.encode()) <= LONGEST_NAME_BYTES  # printable first: a surrogate has no bytes
    if not fits or not name or name[0] in ".-" or "/" in name or "\\" in name:
        raise LedgerError(f"{path}: {what} {reprlib.repr(name)} cannot be the name of a file here; not copied")
    return name


def _make_left_out_entry(
    error: LedgerError, sources: Sequence[Path], kind: Kind | None = None, target: Path | None = None
) -> Entry:
    """Make the entry of a left-out file, with the error as its reason: `alive` for a live run, else `refused`."""
    status: MergeStatus = "alive" if isinstance(error, LiveRunError) else "refused"
    return Entry(status, kind, target, tuple(sources), notes=(str(error),))


def _place(
    kind: Kind,
    target: Path,
    paths: Sequence[Path],
    inside: Collection[Path],
    published: dict[bytes, Path],
    *,
    dry_run: bool,
) -> list[Entry]:
    """Compare all copies of one run, and bring the longest to its place."""
    try:
        copies, left_out = _gather_copies(kind, paths, inside, target)
    except LedgerError as error:
        return [_make_left_out_entry(error, paths, kind, target)]
    if not copies:
        return left_out
    chosen, entry = _choose_copy(kind, target, copies, published)
    if entry.status in ("brought", "longer"):
        before = next((copy.content for copy in copies if copy.in_place), None)
        try:
            _bring(target, chosen.content, before, dry_run=dry_run)
        except (LiveRunError, ChangedError) as error:
            return [*left_out, _make_left_out_entry(error, entry.sources, kind, target)]
        if kind == "reference":
            published[chosen.content] = target
    return [*left_out, entry]


def _gather_copies(
    kind: Kind, paths: Sequence[Path], inside: Collection[Path], target: Path
) -> tuple[list[LedgerCopy], list[Entry]]:
    """Group the sources and the target by content; also list the sources that cannot be used.

    Raises LedgerError if there is something at the target that cannot be read.
    """
    there = _read(target, held=False) if target.exists() else None
    by_content: dict[bytes, list[Path]] = {} if there is None else {there: []}
    left_out = []
    for path in paths:
        try:
            by_content.setdefault(_read(path, held=path not in inside), []).append(path)
        except LedgerError as error:
            left_out.append(_make_left_out_entry(error, (path,)))
    copies = []
    for content, found in by_content.items():
        in_place = content == there
        resident = in_place or any(path in inside for path in found)
        path = target if in_place else found[0]
        try:
            records, problems = _count_records(kind, path, content, target)
        except LedgerError as error:
            if not resident:
                left_out.append(_make_left_out_entry(error, found, kind, target))
                continue
            records, problems = 0, (str(error),)
        copies.append(LedgerCopy(content, path, tuple(found), resident, in_place, records, problems))
    return copies, left_out


def _count_records(kind: Kind, path: Path, content: bytes, target: Path) -> tuple[int, tuple[str, ...]]:
    """Count the records (or rows) of the content, and list the lines that cannot be used.

    Raises LedgerError for rows that cannot be read, and for anything but one run, the target's.
    """
    if kind == "reference":
        return len(store.parse_published_rows(path, content)), ()
    ledger = store.parse(path, content)
    # Parsing lines as JSON is most of a merge's cost, so only possible headers are parsed: those with the word itself
    # or with escapes, which may spell it.
    headers = [
        number
        for number, line in enumerate(content.split(b"\n"), 1)
        if (b'"run"' in line or b"\\u" in line) and (_parse_line(line) or {}).get("kind") == "run"
    ]
    if len(headers) > 1:
        raise LedgerError(f"{path}: not one run: line {headers[1]} is another header; split the file there")
    if (ledger.header.machine.id, ledger.header.run_id) != (target.parent.name, target.stem):
        raise LedgerError(f"{path}: became another run while merging; merge again")
    return len(ledger.records), ledger.problems


def _choose_copy(
    kind: Kind, target: Path, copies: Sequence[LedgerCopy], published: dict[bytes, Path]
) -> tuple[LedgerCopy, Entry]:
    """Choose the copy that has all records, and decide what happens to it.

    It is a conflict if no copy has all.
    """
    # The longest has most lines; among equals the choice does not depend on the order.
    longest = max(copies, key=lambda copy: (len(copy.lines), len(copy.content), copy.content))
    # A copy in the results is kept if it has as many lines and is not the same bytes cut short.
    as_long = (copy for copy in copies if copy.resident and len(copy.lines) == len(longest.lines))
    chosen = next(
        (copy for copy in as_long if copy is longest or not longest.content.startswith(copy.content)), longest
    )
    others = [copy for copy in copies if copy is not chosen]
    sources = tuple(path for copy in (chosen, *others) for path in copy.sources)
    unlike = [copy for copy in copies if copy.lines != longest.lines[: len(copy.lines)]]
    if unlike:
        differences = tuple(_describe_difference(longest, copy) for copy in unlike)
        return chosen, Entry("conflict", kind, target, sources, notes=differences)
    notes = [_describe_shortfall(copy, chosen) for copy in others]
    status: MergeStatus = "longer" if any(copy.in_place for copy in others) else "brought"
    if chosen.resident:
        status = "there"
    elif kind == "reference" and (same := published.get(chosen.content)) is not None:
        status, notes = "there", [*notes, f"{same} has the same rows"]
    return chosen, Entry(status, kind, target, sources, chosen.records, tuple(notes), chosen.problems)


def _describe_difference(one: LedgerCopy, other: LedgerCopy) -> str:
    """Describe the difference: `a.jsonl and b.jsonl differ from line 3 on (outcome, process_seconds)`."""
    pairs = enumerate(zip(one.lines, other.lines, strict=False), start=1)
    number, (mine, theirs) = next((number, pair) for number, pair in pairs if pair[0] != pair[1])
    a, b = _parse_line(mine), _parse_line(theirs)
    if a is None or b is None:
        how = "one is not a JSON object" if (a is None) != (b is None) else "neither is a JSON object"
    else:
        names = sorted(name[:LONGEST_FIELD] for name in {*a, *b} if a.get(name) != b.get(name))
        how = ", ".join(names[:MOST_FIELDS]) + (" and more" if len(names) > MOST_FIELDS else "")
    return f"{one.path} and {other.path} differ from line {number} on ({how or 'only in how it is written'})"


def _describe_shortfall(copy: LedgerCopy, chosen: LedgerCopy) -> str:
    """Describe what a copy lacks: `b.jsonl has the first 3 of the 5 lines, then a torn one (40 bytes, no record)`."""
    total = len(chosen.lines)
    text = f"{copy.path} has {'the same' if len(copy.lines) == total else f'the first {len(copy.lines)} of the'} {total} lines"
    if copy.torn:
        lost = "" if chosen.content.startswith(copy.content) else ", left out here"
        text += f", then a torn one ({len(copy.torn):,} bytes, no record{lost})"
    return text


def _read(path: Path, *, held: bool) -> bytes:
    """Read the whole file, with `held` under a shared lock.

    Raises LedgerError, and LiveRunError for a live run.
    """
    with files.explain_refusal(LedgerError, f"{path}: cannot read"), _open(path, held=held) as file:
        return file.read()


def _open(path: Path, *, held: bool) -> BinaryIO:
    """Open the file; with `held` no run can write to it while it is open.

    Raises OSError, and LiveRunError for a live run.
    """
    try:
        return files.open_unchanging(path) if held else path.open("rb")
    except BlockingIOError as error:
        raise LiveRunError(
            f"{path}: its run or one of its workers is still alive; merge again when it has ended"
        ) from error


def _bring(target: Path, content: bytes, before: bytes | None, *, dry_run: bool) -> None:
    """Bring the whole file to its place and to disk, or nothing.

    What is there is locked meanwhile and must be unchanged. `before` is what was there (None: nothing). Raises
    ChangedError if it has changed, LiveRunError or LedgerError if it cannot be read, and FileError if the file cannot
    be written.
    """
    with ExitStack() as held:
        if before is not None:
            with files.explain_refusal(LedgerError, f"{target}: cannot read"):
                file = held.enter_context(_open(target, held=True))
                if file.read() != before or not os.path.samestat(os.fstat(file.fileno()), target.stat()):
                    raise ChangedError(f"{target}: changed while merging; merge again")
        if dry_run:
            return
        with files.explain_refusal(FileError, f"{target}: cannot write", "choose another place with --results DIR"):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                files.write_file(target, content, replace=before is not None)
            except FileExistsError as error:
                raise ChangedError(f"{target}: appeared while merging; merge again") from error

"""Ledgers of many machines into one tree: what is new is copied byte for byte, what differs is named and left alone.

In go files and folders of `*.jsonl`, as `cnnbench run` leaves them on each machine; out comes what became of each run.
A run's place is `results/<machine_id>/<run_id>.jsonl`, by its header; published rows go to `results/reference/`. Copies
of one run are compared by whole lines: where one goes on from the other (a resumed run, a torn last line) the longer one
has all that the shorter one has and takes its place; where they part, neither is touched. All copies of a run are weighed
together, so the order in which folders are named decides nothing. Ids come out of the files and are not trusted: one that
cannot be a plain name has no place in the tree. Sources are only read.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import reprlib
import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from cnnbench import store
from cnnbench.errors import ExitCode, LedgerError

Kind = Literal["run", "reference"]
Status = Literal["brought", "longer", "there", "conflict", "alive", "refused"]
"""brought: new in the tree; longer: took the place of a shorter copy; there: the tree has it all. Left out are: conflict
(two copies part), alive (its run is still going on), refused (no ledger, unreadable, or without a place).
"""
REFERENCE = "reference"
LONGEST_NAME_BYTES = 200
"""Of a name out of a file: file systems end at 255 bytes, and `.jsonl` is to be added."""
NO_HARD_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
MOST_FIELDS, LONGEST_FIELD = 5, 40
"""Of two lines that differ, how many of their fields are named, and by how many letters: a line may hold anything."""


@dataclass(frozen=True)
class Entry:
    """What became of one run, or of one file of published rows. `sources` begins with the copy that was chosen."""

    status: Status
    kind: Kind | None
    target: Path | None
    sources: tuple[Path, ...]
    records: int = 0
    """A run's records, or a reference's rows, that are in the tree now; 0 where it was left out."""
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    """Lines of the chosen copy that no reader can use; it is copied as it is."""


@dataclass(frozen=True)
class Merged:
    """What became of everything under the sources, in an order that does not depend on theirs."""

    results: Path
    entries: tuple[Entry, ...]
    empty: tuple[Path, ...] = ()
    """Sources without a single *.jsonl."""

    def count(self, *statuses: Status, kind: Kind | None = None) -> int:
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


class _AliveError(LedgerError):
    """A run still holds its ledger."""


class _ChangedError(LedgerError):
    """Somebody else wrote at the target since it was read."""


class _Place(NamedTuple):
    """Where a file belongs under the results."""

    kind: Kind
    folder: str
    name: str


@dataclass(frozen=True)
class _Copy:
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

    def begins(self, other: _Copy) -> bool:
        """Whether the other copy has all these lines, and then perhaps more."""
        return self.lines == other.lines[: len(self.lines)]

    def will_do_for(self, longest: _Copy) -> bool:
        """Whether it has as many lines, and is not the very same bytes cut short."""
        cut = self is not longest and longest.content.startswith(self.content)
        return len(self.lines) == len(longest.lines) and not cut


def merge(sources: Sequence[Path], results: Path, *, dry_run: bool = False) -> Merged:
    """Bring every ledger and every file of published rows under the sources into the tree `results`.

    With `dry_run` nothing is written and the answer is the same. Raises LedgerError where a source does not exist, before
    anything is written; and where a file cannot be written, with what was brought until then whole and in its place.
    """
    files, unusable, empty = _find(sources)
    tree = results.resolve()
    inside = {path for path in files if path.resolve().is_relative_to(tree)}
    entries = [Entry("refused", None, None, (path,), notes=(why,)) for path, why in unusable]
    places: dict[_Place, list[Path]] = {}
    for path in files:
        try:
            places.setdefault(_place(path, held=path not in inside), []).append(path)
        except LedgerError as error:
            entries.append(_left_out(error, (path,)))
    published = _published(results / REFERENCE) if any(place.kind == "reference" for place in places) else {}
    for place, paths in sorted(places.items()):
        entries.extend(_settle(place, paths, inside, results, published, dry_run=dry_run))
    return Merged(results, tuple(entries), empty)


def _find(sources: Sequence[Path]) -> tuple[list[Path], list[tuple[Path, str]], tuple[Path, ...]]:
    """The files, each once; what cannot be looked at, and why; the sources that hold none."""
    missing = sorted({str(root) for root in sources if not root.exists()})
    if missing:
        raise LedgerError(f"{', '.join(missing)}: no such file or directory; nothing was merged")
    found: dict[Path, Path] = {}
    unusable: dict[Path, str] = {}
    empty: set[Path] = set()
    for root in sources:
        paths = _walk(root, unusable) if root.is_dir() else [root]
        if not paths:
            empty.add(root)
        for path in paths:
            if path.is_file():
                real = path.resolve()
                found[real] = min(path, found.get(real, path))
            else:
                unusable[path] = f"{path}: no regular file, or a link that leads nowhere"
    return sorted(found.values()), sorted(unusable.items()), tuple(sorted(empty))


def _walk(root: Path, unusable: dict[Path, str]) -> list[Path]:
    """Every *.jsonl under a folder. Not Path.rglob: it passes over folders that may not be read without a word."""

    def note(error: OSError) -> None:
        unusable[Path(error.filename)] = f"{error.filename}: cannot look into it: {error.strerror}"

    found = os.walk(root, onerror=note)
    return [Path(folder, name) for folder, _, names in found for name in names if name.endswith(".jsonl")]


def _place(path: Path, *, held: bool) -> _Place:
    """Where the file belongs, by its first line. Raises LedgerError where it belongs nowhere."""
    first = _first_line(path, held=held)
    if store.is_reference(first):
        return _Place("reference", REFERENCE, _plain(path, "file name", path.name))
    header = store.parse(path, first).header
    machine_id = _plain(path, "machine id", header.machine.id)
    if machine_id.casefold() == REFERENCE:
        raise LedgerError(f"{path}: machine id {machine_id!r} is the name of the published rows' folder; not copied")
    return _Place("run", machine_id, f"{_plain(path, 'run id', header.run_id)}.jsonl")


def _plain(path: Path, what: str, name: str) -> str:
    """The name, if it is one part of a path and shows as what it is. Raises LedgerError where it is not."""
    fits = name.isprintable() and len(name.encode()) <= LONGEST_NAME_BYTES  # printable first: a surrogate has no bytes
    if not fits or not name or name[0] in ".-" or "/" in name or "\\" in name:
        raise LedgerError(f"{path}: {what} {reprlib.repr(name)} cannot be the name of a file here; not copied")
    return name


def _settle(
    place: _Place,
    paths: Sequence[Path],
    inside: Collection[Path],
    results: Path,
    published: dict[bytes, Path],
    *,
    dry_run: bool,
) -> list[Entry]:
    """What becomes of all copies of one run: weighed, and the longest brought to its place."""
    target = results / place.folder / place.name
    try:
        copies, left_out = _copies(place.kind, paths, inside, target)
    except LedgerError as error:
        return [_left_out(error, paths, place.kind, target)]
    if not copies:
        return left_out
    chosen, entry = _weigh(place.kind, target, copies, published)
    if entry.status in ("brought", "longer"):
        try:
            if not dry_run:
                _write(target, chosen.content, next((copy.content for copy in copies if copy.in_place), None))
        except (_AliveError, _ChangedError) as error:
            return [*left_out, _left_out(error, entry.sources, place.kind, target)]
        if place.kind == "reference":
            published[_digest(chosen.content)] = target
    return [*left_out, entry]


def _copies(
    kind: Kind, paths: Sequence[Path], inside: Collection[Path], target: Path
) -> tuple[list[_Copy], list[Entry]]:
    """The different contents of the sources and of what is at the target, and the sources that will not do.

    Raises LedgerError where there is something at the target that cannot be read.
    """
    there = _read(target, held=False) if target.exists() else None
    by_content: dict[bytes, list[Path]] = {} if there is None else {there: []}
    left_out: list[Entry] = []
    for path in paths:
        try:
            by_content.setdefault(_read(path, held=path not in inside), []).append(path)
        except LedgerError as error:
            left_out.append(_left_out(error, (path,)))
    copies: list[_Copy] = []
    for content, found in by_content.items():
        in_place = content == there
        resident = in_place or any(path in inside for path in found)
        path = target if in_place else found[0]
        try:
            records, problems = _judge(kind, path, content, target)
        except LedgerError as error:
            if not resident:
                left_out.append(_left_out(error, found, kind, target))
                continue
            records, problems = 0, (str(error),)
        copies.append(_Copy(content, path, tuple(found), resident, in_place, records, problems))
    return copies, left_out


def _judge(kind: Kind, path: Path, content: bytes, target: Path) -> tuple[int, tuple[str, ...]]:
    """How many records (or rows) the content has, and which of its lines cannot be used.

    Raises LedgerError for rows that cannot be read, and for what is not one run, the target's.
    """
    if kind == "reference":
        return len(store.parse_references(path, content)), ()
    ledger = store.parse(path, content)
    headers = [n for n, line in enumerate(content.split(b"\n"), 1) if (_object(line) or {}).get("kind") == "run"]
    if len(headers) > 1:
        raise LedgerError(f"{path}: not one run: line {headers[1]} is another header; split the file there")
    if (ledger.header.machine.id, ledger.header.run_id) != (target.parent.name, target.stem):
        raise LedgerError(f"{path}: another run than it was; merge again")
    return len(ledger.records), ledger.problems


def _weigh(kind: Kind, target: Path, copies: Sequence[_Copy], published: dict[bytes, Path]) -> tuple[_Copy, Entry]:
    """The copy that has all, and what is to become of it; a conflict where none has."""
    longest = max(copies, key=lambda copy: copy.rank)
    chosen = next((copy for copy in copies if copy.resident and copy.will_do_for(longest)), longest)
    others = [copy for copy in copies if copy is not chosen]
    sources = tuple(path for copy in (chosen, *others) for path in copy.sources)
    partings = tuple(_parting(longest, copy) for copy in copies if not copy.begins(longest))
    if partings:
        return chosen, Entry("conflict", kind, target, sources, notes=partings)
    notes = [_shortfall(copy, chosen) for copy in others]
    status: Status = "longer" if any(copy.in_place for copy in others) else "brought"
    if chosen.resident:
        status = "there"
    elif kind == "reference" and (same := published.get(_digest(chosen.content))) is not None:
        status, notes = "there", [*notes, f"{same} has the same rows"]
    return chosen, Entry(status, kind, target, sources, chosen.records, tuple(notes), chosen.problems)


def _parting(one: _Copy, other: _Copy) -> str:
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


def _shortfall(copy: _Copy, chosen: _Copy) -> str:
    """`b.jsonl has the first 3 of the 5 lines, then a torn one (40 bytes, no record)`."""
    of = len(chosen.lines)
    text = (
        f"{copy.path} has {'the same' if len(copy.lines) == of else f'the first {len(copy.lines)} of the'} {of} lines"
    )
    if copy.torn:
        lost = "" if chosen.content.startswith(copy.content) else ", left out here"
        text += f", then a torn one ({len(copy.torn):,} bytes, no record{lost})"
    return text


def _left_out(
    error: LedgerError, sources: Sequence[Path], kind: Kind | None = None, target: Path | None = None
) -> Entry:
    status: Status = "alive" if isinstance(error, _AliveError) else "refused"
    return Entry(status, kind, target, tuple(sources), notes=(str(error),))


def _published(folder: Path) -> dict[bytes, Path]:
    """The files of published rows there are already, by what they hold."""
    return {_digest(_read(path, held=False)): path for path in sorted(folder.glob("*.jsonl"), reverse=True)}


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _object(line: bytes) -> dict[str, object] | None:
    return store.parse_line(line.decode(errors="replace"))


def _first_line(path: Path, *, held: bool) -> bytes:
    """The first line that is not blank: a folder may hold other people's *.jsonl of any size."""
    with _reading(path, held=held) as file:
        return next((line for line in file if line != b"\n"), b"")


def _read(path: Path, *, held: bool) -> bytes:
    with _reading(path, held=held) as file:
        return file.read()


@contextmanager
def _reading(path: Path, *, held: bool) -> Iterator[BinaryIO]:
    """The file, `held` so that no run goes on with it meanwhile. Raises LedgerError, for a live run _AliveError."""
    try:
        with path.open("rb") as file:
            if held:
                _hold(path, file)
            yield file
    except OSError as error:
        raise LedgerError(f"{path}: cannot read: {error.strerror}") from error


def _hold(path: Path, file: BinaryIO) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _AliveError(
            f"{path}: its run or one of its workers is still alive; merge again when it has ended"
        ) from error
    except OSError:
        return  # a file system without locks, where no run can hold one either


def _write(target: Path, content: bytes, before: bytes | None) -> None:
    """The whole file in its place and on disk, or nothing. `before` is what may be replaced; None where nothing may.

    Raises _ChangedError or _AliveError where that is not so any more, LedgerError where it cannot be written.
    """
    temporary = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if before is None:
                _put_new(temporary, target)
            else:
                _put_over(temporary, target, before)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise LedgerError(f"{target}: cannot write: {error.strerror}; choose another place with -o DIR") from error
    _sync_folder(target.parent)


def _put_new(temporary: Path, target: Path) -> None:
    try:
        target.hardlink_to(temporary)  # fails where there is something, which a rename would overwrite
        return
    except FileExistsError as error:
        raise _ChangedError(f"{target}: appeared while merging; merge again") from error
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
    if target.exists():
        raise _ChangedError(f"{target}: appeared while merging; merge again")
    temporary.rename(target)


def _put_over(temporary: Path, target: Path, before: bytes) -> None:
    with target.open("rb") as file:
        _hold(target, file)
        if file.read() != before or not os.path.samestat(os.fstat(file.fileno()), target.stat()):
            raise _ChangedError(f"{target}: changed while merging; merge again")
        temporary.replace(target)


def _sync_folder(folder: Path) -> None:
    """The new name on disk too; some file systems cannot, and have the file all the same."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)

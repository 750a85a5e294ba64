"""Ledgers of many machines into one tree: what is new is copied byte for byte, what differs is named and left alone.

In go files and folders of `*.jsonl`, as `cnnbench run` leaves them on each machine; out comes what became of each run.
A run's place is `results/<machine_id>/<run_id>.jsonl`, by its header; published rows go to `results/reference/`. Copies
of one run are compared by whole lines: where one goes on from the other (a resumed run, a torn last line) the longer one
has all that the shorter one has and takes its place; where they part, neither is touched. All copies of a run are weighed
together, so the order in which folders are named decides nothing. Ids come out of the files and are not trusted: one that
cannot be a plain name has no place in the tree. Sources are only read.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from cnnbench import store
from cnnbench.errors import LedgerError
from cnnbench.merge.copies import check_target, choose_copy, digest_content, first_line, gather_copies, read, write
from cnnbench.merge.outcome import ChangedError, Entry, Kind, LiveRunError, MergeResult, make_left_out_entry

PUBLISHED_FOLDER = "reference"
LONGEST_NAME_BYTES = 200
"""Of a name out of a file: file systems end at 255 bytes, and `.jsonl` is to be added."""


class _Destination(NamedTuple):
    """Where a file belongs under the results."""

    kind: Kind
    folder: str
    name: str


def merge(sources: Sequence[Path], results: Path, *, dry_run: bool = False) -> MergeResult:
    """Bring every ledger and every file of published rows under the sources into the tree `results`.

    With `dry_run` nothing is written and the answer is the same: live runs are asked after too. Raises LedgerError where a
    source does not exist, before anything is written; and where a file cannot be written, with what was brought until then
    whole and in its place.
    """
    files, unusable, empty = _find(sources)
    tree = results.resolve()
    inside = {path for path in files if path.resolve().is_relative_to(tree)}
    entries = [Entry("refused", None, None, (path,), notes=(why,)) for path, why in unusable]
    destinations: dict[_Destination, list[Path]] = {}
    for path in files:
        try:
            destinations.setdefault(_find_destination(path, held=path not in inside), []).append(path)
        except LedgerError as error:
            entries.append(make_left_out_entry(error, (path,)))
    needed = any(place.kind == "reference" for place in destinations)
    there = sorted((results / PUBLISHED_FOLDER).glob("*.jsonl"), reverse=True) if needed else ()
    published = {digest_content(read(path, held=False)): path for path in there}
    for destination, paths in sorted(destinations.items()):
        entries.extend(_place(destination, paths, inside, results, published, dry_run=dry_run))
    return MergeResult(results, tuple(entries), empty)


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


def _find_destination(path: Path, *, held: bool) -> _Destination:
    """Where the file belongs, by its first line. Raises LedgerError where it belongs nowhere."""
    first = first_line(path, held=held)
    if store.is_published_row(first):
        return _Destination("reference", PUBLISHED_FOLDER, _check_plain_name(path, "file name", path.name))
    header = store.parse(path, first).header
    machine_id = _check_plain_name(path, "machine id", header.machine.id)
    if machine_id.casefold() == PUBLISHED_FOLDER:
        raise LedgerError(f"{path}: machine id {machine_id!r} is the name of the published rows' folder; not copied")
    return _Destination("run", machine_id, f"{_check_plain_name(path, 'run id', header.run_id)}.jsonl")


def _check_plain_name(path: Path, what: str, name: str) -> str:
    """The name, if it is one part of a path and shows as what it is. Raises LedgerError where it is not."""
    fits = name.isprintable() and len(name.encode()) <= LONGEST_NAME_BYTES  # printable first: a surrogate has no bytes
    if not fits or not name or name[0] in ".-" or "/" in name or "\\" in name:
        raise LedgerError(f"{path}: {what} {reprlib.repr(name)} cannot be the name of a file here; not copied")
    return name


def _place(
    destination: _Destination,
    paths: Sequence[Path],
    inside: Collection[Path],
    results: Path,
    published: dict[bytes, Path],
    *,
    dry_run: bool,
) -> list[Entry]:
    """What becomes of all copies of one run: weighed, and the longest brought to its place."""
    target = results / destination.folder / destination.name
    try:
        copies, left_out = gather_copies(destination.kind, paths, inside, target)
    except LedgerError as error:
        return [make_left_out_entry(error, paths, destination.kind, target)]
    if not copies:
        return left_out
    chosen, entry = choose_copy(destination.kind, target, copies, published)
    if entry.status in ("brought", "longer"):
        before = next((copy.content for copy in copies if copy.in_place), None)
        try:
            if dry_run:
                check_target(target, before)
            else:
                write(target, chosen.content, before)
        except (LiveRunError, ChangedError) as error:
            return [*left_out, make_left_out_entry(error, entry.sources, destination.kind, target)]
        if destination.kind == "reference":
            published[digest_content(chosen.content)] = target
    return [*left_out, entry]

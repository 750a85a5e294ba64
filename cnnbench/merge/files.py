"""Reading while no run goes on with a ledger, and writing where nothing is overwritten that was not looked at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cnnbench import files
from cnnbench.errors import FileError, LedgerError
from cnnbench.merge.outcome import ChangedError, LiveRunError


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

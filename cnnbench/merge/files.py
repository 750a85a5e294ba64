"""Reading under a shared lock, and writing whole files that overwrite nothing that was not looked at."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cnnbench.errors import LedgerError
from cnnbench.merge.outcome import ChangedError, LiveRunError

NO_HARD_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


def first_line(path: Path, *, held: bool) -> bytes:
    """The first line that is not blank: a folder may hold other people's *.jsonl of any size."""
    with _open_locked(path, held=held) as file:
        return next((line for line in file if line != b"\n"), b"")


def read(path: Path, *, held: bool) -> bytes:
    """The whole file, where `held` under a shared lock. Raises LedgerError, for a live run AliveError."""
    with _open_locked(path, held=held) as file:
        return file.read()


@contextmanager
def _open_locked(path: Path, *, held: bool) -> Iterator[BinaryIO]:
    """The file, `held` so that no run goes on with it meanwhile. Raises LedgerError, for a live run AliveError."""
    try:
        with path.open("rb") as file:
            if held:
                _lock_shared(path, file)
            yield file
    except OSError as error:
        raise LedgerError(f"{path}: cannot read: {error.strerror}") from error


def _lock_shared(path: Path, file: BinaryIO) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise LiveRunError(
            f"{path}: its run or one of its workers is still alive; merge again when it has ended"
        ) from error
    except OSError:
        return  # a file system without locks, where no run can hold one either


def write(target: Path, content: bytes, before: bytes | None) -> None:
    """The whole file in its place and on disk, or nothing. `before` is what may be replaced; None where nothing may.

    Raises ChangedError or AliveError where that is not so any more, LedgerError where it cannot be written.
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
                _replace_old(temporary, target, before)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise LedgerError(f"{target}: cannot write: {error.strerror}; choose another place with -o DIR") from error
    _sync_folder(target.parent)


def check_target(target: Path, before: bytes | None) -> None:
    """Raises what `write` would for what is at the target now: ChangedError, AliveError or LedgerError. Writes nothing."""
    if before is not None:
        try:
            with _lock_unchanged(target, before):
                pass
        except OSError as error:
            raise LedgerError(f"{target}: cannot read: {error.strerror}") from error


def _put_new(temporary: Path, target: Path) -> None:
    try:
        target.hardlink_to(temporary)  # fails where there is something, which a rename would overwrite
        return
    except FileExistsError as error:
        raise ChangedError(f"{target}: appeared while merging; merge again") from error
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
    if target.exists():
        raise ChangedError(f"{target}: appeared while merging; merge again")
    temporary.rename(target)


def _replace_old(temporary: Path, target: Path, before: bytes) -> None:
    with _lock_unchanged(target, before):
        temporary.replace(target)


@contextmanager
def _lock_unchanged(target: Path, before: bytes) -> Iterator[None]:
    """Nobody goes on with the file meanwhile, and it is what it was. Raises AliveError or ChangedError."""
    with target.open("rb") as file:
        _lock_shared(target, file)
        if file.read() != before or not os.path.samestat(os.fstat(file.fileno()), target.stat()):
            raise ChangedError(f"{target}: changed while merging; merge again")
        yield


def _sync_folder(folder: Path) -> None:
    """The new name on disk too; some file systems cannot, and have the file all the same."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)

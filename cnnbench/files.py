"""The only module that writes files and takes locks; a file is written whole or not at all.

A file is written beside its destination, brought to disk and renamed, so a process that is killed in the middle leaves
the old file or the new one (`staged`, `write_file`). A ledger grows by whole lines under a lock instead (`LockedFile`).
A full disk, a read-only file system or a missing folder is one error with the file, the system's own words and what to
do (`explain_refusal`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, ClassVar, Self

from cnnbench.errors import CnnbenchError, FileError, LedgerError

NO_HARD_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


class NoLocksError(OSError):
    """The file system has no locks (some mounts of NFS and Lustre)."""


@contextmanager
def explain_refusal(error: type[CnnbenchError], what: str, remedy: str = "") -> Iterator[None]:
    """Raise an OSError again as `error`: `{what}: No space left on device; {remedy}`."""
    try:
        yield
    except OSError as refused:
        raise error("; ".join(filter(None, (f"{what}: {refused.strerror or refused}", remedy)))) from refused


def save_file(path: Path, content: str | bytes, *, make_folder: bool = False) -> None:
    """Write a file that the user asked for. Raises FileError if it cannot be written."""
    with explain_refusal(FileError, f"{path}: cannot write", "choose another place"):
        write_file(path, content, make_folder=make_folder)


def write_file(
    path: Path, content: str | bytes, *, make_folder: bool = False, durable: bool = True, replace: bool = True
) -> None:
    """Write the file whole: the old file stays until all of the new one is on disk.

    Raises OSError, as `staged` does. A `durable` file survives a crash of the machine; what one process passes to
    another need not.
    """
    data = content.encode() if isinstance(content, str) else content
    if replace and path.exists() and not path.is_file():  # /dev/stdout, a pipe: nothing to replace
        path.write_bytes(data)
        return
    place = (
        path.resolve() if replace and path.is_symlink() else path
    )  # the target of a link is written, and the link stays
    if make_folder:
        place.parent.mkdir(parents=True, exist_ok=True)
    with staged(place, durable=durable, replace=replace) as partial:
        partial.write_bytes(data)


@contextmanager
def staged(path: Path, *, name: str | None = None, durable: bool = True, replace: bool = True) -> Iterator[Path]:
    """Yield a path beside `path` for a file or folder, which takes its place at the end.

    If the block fails, the file or folder is removed. Its name is `name` until then, or random. Raises OSError; without
    `replace`, FileExistsError if something is at `path`.
    """
    partial = path.with_name(name or f".{secrets.token_hex(8)}.part")
    try:
        yield partial
        if path.is_file():
            shutil.copymode(path, partial)
        if durable and partial.is_file():
            _sync(partial)
        if replace:
            partial.replace(path)
        else:
            _put_new(partial, path)
        if durable:
            with suppress(OSError):  # some file systems cannot sync a folder, but have the file
                _sync(path.parent)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Bring a file's content, or a folder's names, to disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put_new(partial: Path, path: Path) -> None:
    try:
        path.hardlink_to(partial)  # fails if the path exists, where a rename would overwrite it
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        if path.exists():
            raise FileExistsError(errno.EEXIST, "File exists", str(path)) from error
        partial.rename(path)


def append_text(path: Path, text: str) -> None:
    """Add text to a file that several programs write. Raises OSError."""
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def save_elsewhere(name: str, content: str) -> Path | None:
    """Save content that could not be saved in its own place, in the first of these folders that can.

    None if none can.
    """
    for folder in (Path(tempfile.gettempdir()), Path.home(), Path.cwd()):
        with suppress(OSError):
            write_file(folder / name, content)
            return folder / name
    return None


def make_output_folder(option: str, wanted: Path) -> None:
    """Make the folder that an option names.

    Raises FileError if it cannot be made, or nothing can be written in it.
    """
    with explain_refusal(FileError, f"{option} {wanted}: cannot be made", "choose another place"):
        wanted.mkdir(parents=True, exist_ok=True)
    if not os.access(wanted, os.W_OK | os.X_OK):
        raise FileError(f"{option} {wanted}: cannot be written; choose another place")


class LockedFile:
    """A file that grows by whole lines, with an exclusive lock held by every process that inherits the descriptor."""

    held: ClassVar[str] = "another process writes it; wait for it or end it"
    """The message if another process holds the lock."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Lock the open file, or close it and raise LedgerError."""
        self.path, self.descriptor = path, descriptor
        try:
            _take_lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.close()
            no_locks = f"cannot be locked: {error.strerror}; choose a file system with locks (flock) with --results DIR"
            raise LedgerError(f"{path}: {no_locks if isinstance(error, NoLocksError) else self.held}") from error

    @classmethod
    def create(cls, path: Path) -> Self:
        """Create and lock a file that must not exist yet.

        Raises LedgerError; then no part of it is left.
        """
        with explain_refusal(LedgerError, f"{path}: cannot write results there", "choose another place"):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            return cls(path, descriptor)
        except BaseException:
            path.unlink()
            raise

    @classmethod
    def reopen(cls, path: Path) -> Self:
        """Open and lock a file to resume it.

        Raises LedgerError if it does not exist, or another process still holds it.
        """
        with explain_refusal(LedgerError, f"{path}: cannot resume"):
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        return cls(path, descriptor)

    def append_line(self, text: str) -> None:
        """Append one line and bring it to disk.

        Raises OSError (a full disk, for example), leaving no part of it.
        """
        data = text.encode() + b"\n"
        size = os.fstat(self.descriptor).st_size
        try:
            written = 0
            while written < len(data):
                written += os.write(self.descriptor, data[written:])
            os.fsync(self.descriptor)
        except OSError:
            os.ftruncate(self.descriptor, size)
            raise

    def end_line(self) -> None:
        """End a last line that was torn by a power failure, so that the next one begins on its own line."""
        if not self.path.read_bytes().endswith(b"\n"):
            os.write(self.descriptor, b"\n")

    def drop_torn_line(self) -> bytes:
        """Cut off a last line that was torn; returns the lines that are left."""
        whole, newline, _ = self.path.read_bytes().rpartition(b"\n")
        os.ftruncate(self.descriptor, len(whole + newline))
        return whole

    def close(self) -> None:
        """Release the lock; a process that inherited it keeps its own share."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_unchanging(path: Path) -> BinaryIO:
    """Open a file for reading that nobody writes while it is open.

    Raises BlockingIOError if somebody does, else OSError.
    """
    file = path.open("rb")
    try:
        _take_lock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except NoLocksError:  # then nobody can hold one either
        pass
    except BlockingIOError:
        file.close()
        raise
    return file


@contextmanager
def wait_for_lock(path: Path) -> Iterator[None]:
    """Hold the exclusive lock of a file (created if missing) or folder; wait for another holder.

    Raises FileError.
    """
    with explain_refusal(FileError, f"{path}: cannot write", "choose another place"):
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o644)
    try:
        with suppress(NoLocksError):  # then the user must not run two commands at once
            _take_lock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _take_lock(descriptor: int, how: int) -> None:
    """Take the lock.

    Raises BlockingIOError if another process holds it, NoLocksError if the file system has none.
    """
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        raise
    except OSError as error:
        raise NoLocksError(error.errno, error.strerror) from error

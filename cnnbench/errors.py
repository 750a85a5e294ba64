"""Every error cnnbench raises on purpose, each with the exit code of the command.

A message states what happened, where, and what to do. Only `cnnbench.cli` prints them.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Self


class ExitCode(IntEnum):
    """The one table of exit codes, the same for every command; docs/commands.md repeats the meanings."""

    meaning: str

    def __new__(cls, value: int, meaning: str = "") -> Self:
        """Make a number that carries its meaning."""
        code = int.__new__(cls, value)
        code._value_, code.meaning = value, meaning
        return code

    DONE = 0, "done (passed, improved)"
    FINDING = (
        1,
        "a finding: a regression was confirmed, an audit disagrees, two copies of a run differ, a mode learns worse, "
        "a node differs from its equals",
    )
    USAGE = 2, "wrong usage or invalid input: an unknown name, a broken file, a place that cannot be written"
    UNFIT = 3, "not comparable, or a machine (or a device asked for) unfit for measuring"
    INCONCLUSIVE = 4, "inconclusive"
    JOB_FAILED = (
        5,
        "a job failed, missed its target or is missing (`merge`: a run still going on was left out; `cluster`: Slurm or a "
        "node did not do what was asked)",
    )
    INTERNAL_ERROR = 70, "an error in cnnbench itself; run again with `-v` for its traceback, and report it"
    INTERRUPTED = 130, "interrupted"
    BROKEN_PIPE = 141, "the reader of the output closed it, as in `cnnbench show \\| head`"


class CnnbenchError(Exception):
    """Base of all errors raised on purpose; `exit_code` is the exit code of the process."""

    exit_code: ExitCode = ExitCode.USAGE


class UsageError(CnnbenchError):
    """A flag, an environment variable or a name on the command line is wrong."""


class SuiteError(CnnbenchError):
    """A suite file is missing or wrong; the message lists every mistake in it, one per line."""


class WorkloadError(CnnbenchError):
    """A workload is unknown, or cannot do what was asked of it."""


class DataError(CnnbenchError):
    """A data file is missing, truncated or corrupt, or its content does not match its name."""


class FileError(CnnbenchError):
    """A file cannot be written: the disk is full, its folder is missing or read-only."""


class LedgerError(CnnbenchError):
    """A ledger cannot be read, written, locked or understood."""


class DeviceError(CnnbenchError):
    """A requested device is missing, or is present but cannot be used."""

    exit_code = ExitCode.UNFIT


class ComparisonError(CnnbenchError):
    """Two things that do not measure the same work were to be compared."""

    exit_code = ExitCode.UNFIT


class UnfitError(CnnbenchError):
    """The machine disturbs measurements too much, or too often, to give a result."""

    exit_code = ExitCode.UNFIT


class WorkerError(CnnbenchError):
    """A worker process failed, and trying again did not help."""

    exit_code = ExitCode.JOB_FAILED


class ClusterError(CnnbenchError):
    """Slurm, or a node, did not do what was asked of it; the message quotes it."""

    exit_code = ExitCode.JOB_FAILED


class UnsupportedError(CnnbenchError):
    """This device or build of torch cannot do this job; recorded as `unsupported`, with the reason."""


class DivergedError(CnnbenchError):
    """The loss became NaN or did not fall; recorded as `diverged`."""


def summarize_error(error: BaseException) -> str:
    """Describe an error as a reason in one line, its type first."""
    text = error.msg if isinstance(error, SyntaxError) else str(error)  # its str() repeats the file
    return f"{type(error).__name__}: {next(iter(text.strip().splitlines()), 'no reason given')[:300]}"


def is_out_of_memory(error: BaseException) -> bool:
    """Check for an error that torch or an allocator reports as out of memory."""
    words = ("out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc")
    return isinstance(error, MemoryError) or any(each in str(error).lower() for each in words)

"""A workload in one file of the user's: `my_net.py`, or `my_net.py:NAME` where its value is not called WORKLOAD.

A text that ends so goes in, the workload comes out, or one error with the file and the line. The file's code is run: here,
to plan, and again in every worker. Its version is a number made of the file's bytes, whatever it says itself: a changed
file is another workload, and its results share no row with those of before.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import sys
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from cnnbench.errors import WorkloadError
from cnnbench.workloads.base import Workload
from cnnbench.workloads.validation import find_problems

VALUE = "WORKLOAD"
LARGEST_FILE_BYTES = 1_000_000
VERSION_DIGITS = 8
"""Hexadecimal digits of the SHA-256 that make the version: two files of one name have the same with probability 2^-32."""
_TEXT = re.compile(r"(?P<path>.+\.py)(?::(?P<value>\w+))?", re.DOTALL)


@dataclass(frozen=True)
class WorkloadFile:
    """A file and the workload found in it."""

    path: Path
    """Absolute."""
    value: str
    sha256: str
    workload: Workload

    @property
    def text(self) -> str:
        """What finds it again from anywhere: `/home/me/my_net.py:WORKLOAD`."""
        return f"{self.path}:{self.value}"


def is_file(text: str) -> bool:
    """Whether the text names a file rather than a workload known by name."""
    return _TEXT.fullmatch(text) is not None


def load(text: str, folder: Path) -> WorkloadFile:
    """Run the file, a relative path starting at `folder`. Raises WorkloadError with the file, and the line where it is known."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise WorkloadError(f"workload {text!r}: write the path of a Python file, or my_net.py:NAME")
    path, value = folder / match["path"], match["value"] or VALUE
    source = _read(path)
    digest = hashlib.sha256(source).hexdigest()
    module = _run(path.resolve(), path, source, digest)
    workload = _find(module, path, value)
    if wrong := find_problems(workload):
        raise WorkloadError(f"{path}: {value}: {'; '.join(wrong)}")
    version = int(digest[:VERSION_DIGITS], 16) or 1
    return WorkloadFile(path.resolve(), value, digest, replace(workload, version=version))


def _read(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise WorkloadError(f"{path}: a directory; name one Python file")
        if path.exists() and not path.is_file():
            raise WorkloadError(f"{path}: not a regular file")
        with path.open("rb") as file:
            source = file.read(LARGEST_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise WorkloadError(f"{path}: no such file (a path in a suite is relative to the suite)") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise WorkloadError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(source) > LARGEST_FILE_BYTES:
        raise WorkloadError(f"{path}: larger than {LARGEST_FILE_BYTES:,} bytes; a workload is a page of code")
    return source


def _run(path: Path, shown: Path, source: bytes, digest: str) -> ModuleType:
    """The module these very bytes make; what they print goes to standard error. One run a process, however often asked."""
    name = f"cnnbench_workload_{digest}"
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(path):
        return known
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses and pickle look a class's module up there
    try:
        with contextlib.redirect_stdout(sys.stderr):
            exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        line = _line(error, path)
        place = shown if line is None else f"{shown}:{line}"
        raise WorkloadError(f"{place}: {type(error).__name__}: {_describe_error(error)}{_hint(error)}") from error
    return module


def _line(error: BaseException, path: Path) -> int | None:
    """Where in the file it went wrong: the place of a syntax error, else the last line of the file on the way to it."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno for frame in reversed(frames) if frame.filename == str(path)), None)


def _describe_error(error: BaseException) -> str:
    words = error.msg if isinstance(error, SyntaxError) else str(error)
    return next(iter(words.strip().splitlines()), "no reason given")[:300]


def _hint(error: BaseException) -> str:
    if isinstance(error, ImportError):
        return "; install it; a workload of several files makes a package (docs/own-workload.md)"
    return ""


def _find(module: ModuleType, path: Path, value: str) -> Workload:
    missing = object()
    found = getattr(module, value, missing)
    if isinstance(found, Workload):
        return found
    others = [name for name, each in vars(module).items() if isinstance(each, Workload)]
    hint = f"; there is {', '.join(others)}: write {path.name}:{others[0]}" if others else ""
    if found is missing:
        raise WorkloadError(f"{path}: no {value} in it{hint or f'; write {value} = Workload(...)'}")
    raise WorkloadError(f"{path}: {value} is {_kind(found)}, not a cnnbench.workloads.Workload{hint}")


def _kind(value: object) -> str:
    name = type(value).__name__
    return f"an {name}" if name[0].lower() in "aeiou" else f"a {name}"

"""Processes as tests see them. Any may end while it is looked at, or be a zombie: each answer here survives that."""

from __future__ import annotations

import contextlib
from multiprocessing import resource_tracker
from pathlib import Path

import psutil

TASKS = Path("/proc/self/task")


def lives(pid: int) -> bool:
    """Return whether the process runs: one that has ended and is not yet waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def command_line(process: psutil.Process) -> list[str]:
    """Return the words it was started with; none where it has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def descendants(pid: int, word: str, *, recursive: bool = True) -> list[psutil.Process]:
    """Return the living processes below this one whose command line has the word."""
    found: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error):
        found = psutil.Process(pid).children(recursive=recursive)
    return [each for each in found if word in command_line(each)]


def children() -> set[int]:
    """Return the ids of this process's children, living or not yet waited for, but for multiprocessing's own tracker."""
    return _listed() - {getattr(resource_tracker._resource_tracker, "_pid", None)}


def _listed() -> set[int]:
    """Read the kernel's list for each thread, in microseconds; where it keeps none, walk all processes."""
    found: set[int] = set()
    try:
        lists = [thread / "children" for thread in TASKS.iterdir()]
        for path in lists:
            with contextlib.suppress(ProcessLookupError):  # a thread that ended meanwhile
                found.update(map(int, path.read_text().split()))
    except FileNotFoundError:
        return {child.pid for child in psutil.Process().children()}
    return found


def describe(pid: int) -> str:
    """Return the process's id, state and command line, as far as it is still there."""
    try:
        process = psutil.Process(pid)
        return f"process {pid} ({process.status()}) {' '.join(command_line(process))}".rstrip()
    except psutil.Error:
        return f"process {pid} (gone)"

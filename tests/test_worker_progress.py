"""What a worker says of itself: at most once a second while it counts, and memory only in what it says anyway."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cnnbench.engine import process as room
from cnnbench.engine.process import ProgressWriter, resident_bytes


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def said(read_end: int) -> list[dict[str, object]]:
    return [json.loads(line) for line in os.read(read_end, 65536).splitlines()]


def test_memory_is_read_when_a_message_goes_and_never_between(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand steps in two and a half seconds are four messages (the first, two a second apart, the last), so four reads."""
    now = [0]
    reads: list[int] = []
    monkeypatch.setattr(room.time, "perf_counter_ns", lambda: now[0])
    progress = ProgressWriter(pipe[1])
    progress.sizes["device_bytes"] = lambda: reads.append(1) or len(reads)  # type: ignore[func-returns-value]
    progress.phase("timed", 1000)
    for done in range(1, 1001):
        now[0] += 2_500_000
        progress.count(done)
    first, *counted = said(pipe[0])
    assert (first["phase"], first["total"], first["device_bytes"]) == ("timed", 1000, 1)
    assert [(message["done"], message["device_bytes"]) for message in counted] == [
        (1, 2),
        (401, 3),
        (801, 4),
        (1000, 5),
    ]
    assert all(isinstance(message["host_bytes"], int) for message in counted)
    assert len(reads) == 5


def test_what_cannot_be_read_is_left_out(pipe: tuple[int, int], tmp_path: Path) -> None:
    progress = ProgressWriter(pipe[1])
    progress.sizes["device_bytes"] = lambda: None
    progress.phase("build")
    (message,) = said(pipe[0])
    assert "device_bytes" not in message
    assert resident_bytes(tmp_path) is None
    (tmp_path / "statm").write_text("junk")
    assert resident_bytes(tmp_path) is None


def test_nobody_who_reads_costs_nothing() -> None:
    """Without progress no memory is read either."""

    def refuse() -> int:
        raise AssertionError("read")

    progress = ProgressWriter(None)
    progress.sizes["device_bytes"] = refuse
    progress.phase("timed", 10)
    progress.count(10)


def test_resident_bytes_are_what_the_system_says(tmp_path: Path) -> None:
    if psutil.LINUX:
        assert resident_bytes() == pytest.approx(psutil.Process().memory_info().rss, rel=0.05)
    (tmp_path / "statm").write_text("500 300 100 1 0 200 0\n")
    assert resident_bytes(tmp_path) == 300 * os.sysconf("SC_PAGE_SIZE")

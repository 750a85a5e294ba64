"""The ledger keeps what it was given: torn lines, two writers, a full disk, a lock that outlives the writer."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from cnnbench import store
from cnnbench.errors import LedgerError
from cnnbench.schema import SCHEMA, Job, Machine, Outcome, Record, RunHeader, Software, digest

MACHINE = Machine(
    id="box-1", cpu_name="Box", cores_logical=2, cores_allowed=2, memory_bytes=2**33, os="Linux", kernel="6"
)
SOFTWARE = Software(cnnbench="0", python="3", torch="2", torch_build="cpu", numpy="2")
JOB = Job(workload="gemm", workload_version=1, size=8)


def header(run_id: str = "run-a", jobs: int = 3) -> RunHeader:
    plan = tuple(JOB.model_copy(update={"round": n, "seed": n}) for n in range(jobs))
    return RunHeader(
        run_id=run_id, created_at="2026-01-01T00:00:00+00:00", suites={"s": "0"}, seed=1, machine=MACHINE,
        software=SOFTWARE, plan=plan,
    )  # fmt: skip


def record(index: int, run_id: str = "run-a", **changes: object) -> Record:
    return Record(
        run_id=run_id, machine_id="box-1", index=index, started_at="2026-01-01T00:00:00+00:00", process_seconds=1.0,
        job=JOB, outcome=Outcome(status="ok"), **changes,
    )  # fmt: skip


def write(directory: Path, records: int = 3) -> Path:
    with store.create(directory, header()) as writer:
        for index in range(records):
            writer.append(record(index))
        return writer.path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert path == tmp_path / "box-1" / "run-a.jsonl"
    ledger = store.load(path)
    assert ledger.header == header()
    assert [r.index for r in ledger.records] == [0, 1, 2]
    assert ledger.problems == ()
    assert ledger.final_digest == digest(path.read_text().splitlines()[-1])


@pytest.mark.parametrize("cut", [1, 40, 200])
def test_a_torn_last_line_costs_that_line_and_says_so(tmp_path: Path, cut: int) -> None:
    """However much of it is left; and the run goes on after it."""
    path = write(tmp_path)
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    path.write_bytes(whole[: last + cut])
    ledger = store.load(path)
    assert [r.index for r in ledger.records] == [0, 1]
    assert len(ledger.problems) == 1
    assert "torn last line" in ledger.problems[0]
    writer, _ = store.reopen(path)
    with writer:
        writer.append(record(2))
    again = store.load(path)
    assert [r.index for r in again.records] == [0, 1, 2]
    assert not any("digest" in problem for problem in again.problems)
    assert whole[:last] in path.read_bytes()


@pytest.mark.parametrize("line", [0, 1, 2])
def test_a_changed_or_missing_line_breaks_the_chain(tmp_path: Path, line: int) -> None:
    """Each record carries the digest of the line before it; header included."""
    path = write(tmp_path)
    lines = path.read_text().splitlines()
    edited = [*lines[:line], lines[line].replace("2026", "2027", 1), *lines[line + 1 :]]
    path.write_text("\n".join(edited) + "\n")
    assert any("digest chain broken" in problem for problem in store.load(path).problems)
    if line:
        path.write_text("\n".join([*lines[:line], *lines[line + 1 :]]) + "\n")
        assert any("digest chain broken" in problem for problem in store.load(path).problems)


def _append_many(directory: Path, run_id: str) -> None:
    with store.create(directory, header(run_id)) as writer:
        for index in range(50):
            writer.append(record(index, run_id))


def test_two_runs_at_once_neither_mix_nor_lose_lines(tmp_path: Path) -> None:
    names = [f"run-{n}" for n in range(4)]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_append_many, args=(tmp_path, name)) for name in names]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    loaded = store.load_tree([tmp_path])
    assert loaded.problems == ()
    assert {ledger.header.run_id: len(ledger.records) for ledger in loaded.ledgers} == dict.fromkeys(names, 50)
    assert all(r.run_id == ledger.header.run_id for ledger in loaded.ledgers for r in ledger.records)


def test_run_ids_of_one_second_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "datetime", SimpleNamespace(now=lambda zone: datetime(2026, 1, 2, 3, 4, 5, tzinfo=zone)))
    ids = {store.new_run_id() for _ in range(20)}
    assert len(ids) == 20
    assert all(re.fullmatch(r"20260102T030405Z-[0-9a-f]{8}", each) for each in ids)  # 32 random bits: see its docstring


def test_a_second_writer_is_refused_while_the_first_or_its_worker_lives(tmp_path: Path) -> None:
    """The lock is inherited: it is free only when the last holder is gone."""
    writer = store.create(tmp_path, header())
    with pytest.raises(LedgerError, match="still alive"):
        store.reopen(writer.path)
    worker = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, pass_fds=(writer.descriptor,)
    )
    writer.close()
    with pytest.raises(LedgerError, match="still alive"):
        store.reopen(writer.path)
    assert worker.stdin is not None
    worker.stdin.close()
    worker.wait()
    store.reopen(writer.path)[0].close()


def test_a_full_disk_is_one_clear_error_and_leaves_no_half_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes 30 bytes more and then no more."""
    writer = store.create(tmp_path, header())
    writer.append(record(0))
    before, real, calls = writer.path.read_bytes(), os.write, []

    def full(descriptor: int, data: bytes) -> int:
        calls.append(1)
        if len(calls) == 1:
            return real(descriptor, data[:30])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with writer, pytest.raises(LedgerError, match="No space left"):
        writer.append(record(1))
    assert writer.path.read_bytes() == before


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_a_ledger_that_cannot_be_begun_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full as its header goes there: no empty file, which every reader would complain of, and nothing held open."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = open_files()
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(LedgerError, match="cannot write results there: No space left on device; choose another place"):
        store.create(tmp_path, header())
    monkeypatch.undo()
    assert list((tmp_path / "box-1").iterdir()) == []
    assert open_files() == before


def test_a_file_system_without_locks_is_called_that_and_no_live_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a new run and for one gone on with, which stays as it was."""
    path = write(tmp_path / "there")
    content, before = path.read_bytes(), open_files()

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    for begin in (lambda: store.create(tmp_path / "new", header()), lambda: store.reopen(path)):
        with pytest.raises(LedgerError, match="cannot be locked: No locks available; choose a file system") as caught:
            begin()
        assert "alive" not in str(caught.value)
    assert list((tmp_path / "new" / "box-1").iterdir()) == []
    assert path.read_bytes() == content
    assert open_files() == before


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(LedgerError, match=r"choose another place"):
        store.create(blocked, header())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no readable run header"),
        (b"\x00\xff\xfe\n", "not a JSON line"),
        (b"[" * 100_000 + b"\n", "not a JSON line"),
        (b'{"kind": "run", "seed": NaN}\n', "not a JSON line"),
        (b'{"kind": "run", "seed": 1e999}\n', "not a JSON line"),
        (b'{"kind": "run", "seed": ' + b"9" * 19 + b"}\n", "not a JSON line"),
        (b'{"kind": "run"}\n', "newer than this cnnbench"),
        (f'{{"kind": "run", "schema_version": {SCHEMA + 1}}}\n'.encode(), "newer than this cnnbench"),
        (f'{{"kind": "run", "schema_version": {SCHEMA}}}\n'.encode(), "field run_id"),
    ],
)
def test_what_is_no_ledger_is_said_and_the_others_are_read(tmp_path: Path, content: bytes, words: str) -> None:
    good = write(tmp_path)
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(content)
    with pytest.raises(LedgerError, match=words):
        store.load(bad)
    loaded = store.load_tree([tmp_path])
    assert [ledger.path for ledger in loaded.ledgers] == [good]
    assert len(loaded.problems) == 1
    assert str(bad) in loaded.problems[0]


def test_a_path_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no such file"):
        store.load_tree([tmp_path / "nothing"])


def test_half_a_character_is_read_as_one_that_can_be_written() -> None:
    """Whole ones, and a backslash that only looks like one, stay."""
    line = r'{"a": "\ud83d\ude00 \ud83d \\ud800"}'
    assert store.parse_line(line) == {"a": "\N{GRINNING FACE} \N{REPLACEMENT CHARACTER} \\ud800"}


def test_the_values_of_a_ledger_share_one_set_of_their_fields_names(tmp_path: Path) -> None:
    """A set for each value would be half of a ledger's memory; a copy with a changed field stays independent of it."""
    first, second, _ = store.load(write(tmp_path)).records
    assert first.job.__pydantic_fields_set__ is second.job.__pydantic_fields_set__
    changed = first.model_copy(update={"index": 7})
    assert changed != first
    assert changed.__pydantic_fields_set__ is not first.__pydantic_fields_set__

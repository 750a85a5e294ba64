"""What is written is whole or not there: one module writes, whoever is killed leaves old or new, and a full disk is one error."""

from __future__ import annotations

import ast
import errno
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import builders as b
import pytest
from import_graph import read_sources

import cnnbench
from cnnbench import files, store
from cnnbench.cli.main import run_cli
from cnnbench.errors import ExitCode, FileError, LedgerError
from cnnbench.runner import run as room
from cnnbench.runner.launch import LaunchOptions, WorkerExit
from cnnbench.schema import Outcome, Record

ROOT = Path(__file__).parents[1]
SOURCES = read_sources(Path(cnnbench.__file__).parent)
APART = {
    "bootstrap": "it runs before anything is installed, and imports the standard library alone",
    "cli.main": "/dev/null, where the output goes that nobody reads any more",
    "cluster.node_job": "what `cnnbench run` prints on a node: a log that grows",
    "data.download": "pieces as they come go into a staged file, which is verified before it takes its name",
    "engine.distributed.launcher": "a pipe between processes: nothing of it is on disk",
    "engine.distributed.rank": "the other end of that pipe",
    "engine.process": "a pipe to the parent, and a switch of the kernel in /proc",
    "engine.paired_worker": "a pipe to the parent",
    "runner.revisions": "links between the folders of a check, exchanged in one step",
    "runner.launch": "what a worker prints, in a folder that is gone with it",
}
"""Modules that open what is no file to keep, each with the reason."""
WRITING_CALLS = {
    "write_text",
    "write_bytes",
    "hardlink_to",
    "rename",
    "touch",
    "fsync",
    "ftruncate",
    "flock",
    "lockf",
} | {*("mkstemp", "NamedTemporaryFile", "copyfile", "copy2", "copymode", "symlink")}
WRITING_FLAGS = {"O_WRONLY", "O_RDWR", "O_APPEND", "O_CREAT"}


def find_writes(tree: ast.Module) -> Iterator[str]:
    """Every call that opens a file for writing, puts one in place or takes a lock."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in WRITING_FLAGS:
            yield node.attr
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        modes = [
            each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)
        ]
        module = ast.unparse(node.func).rpartition(".")[0]
        opened = name == "open" and any(
            re.fullmatch(r"[rwaxbt+]{1,3}", mode) and set(mode) & set("wax+") for mode in modes
        )
        moved = name == "replace" and len(node.args) == 1 and not node.keywords  # a path's: a text's has two arguments
        by_os = module == "os" and name in ("write", "replace", "rename", "link")
        if name in WRITING_CALLS or opened or moved or by_os:
            yield ast.unparse(node)


def test_one_module_writes_files_and_takes_locks() -> None:
    found = {module: list(find_writes(tree)) for module, tree in SOURCES.items()}
    assert len(found["files"]) > 10
    assert {module for module, writes in found.items() if writes} == {"files", *APART}


@pytest.mark.parametrize(
    "line",
    [
        "open(path, 'w')",
        "path.open('ab')",
        "gzip.open(path, mode='wb')",
        "path.write_text('x')",
        "os.replace(one, other)",
        "one.replace(other)",
        "os.open(path, os.O_RDWR | os.O_CREAT)",
        "fcntl.flock(file, fcntl.LOCK_EX)",
        "tempfile.mkstemp()",
    ],
)
def test_a_planted_write_is_found(line: str) -> None:
    assert list(find_writes(ast.parse(line)))
    assert not list(find_writes(ast.parse("open(path); text.replace('a', 'b'); replace(job, seed=1); path.open('rb')")))


OLD, NEW = b"old" * 10_000, b"new" * 50_000
KILL = """
import os, resource, signal, sys
from pathlib import Path
from cnnbench import files, store
from cnnbench.schema import Record
moment, path, new = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]).read_bytes()
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
if moment == "half written":
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), resource.RLIM_INFINITY))
else:
    setattr(os, moment, die)
if path.suffix == ".jsonl":
    with store.reopen(path)[0] as writer:
        writer.append(Record.model_validate_json(new))
else:
    files.save_file(path, new)
"""


def kill(moment: str, path: Path, new: Path, limit: int) -> int:
    """Write `new` in a process that is killed at the moment; `half written`: by the kernel, at so many bytes of a file."""
    return subprocess.run([sys.executable, "-c", KILL, moment, path, new, str(limit)], check=False).returncode


@pytest.mark.parametrize("moment", ["half written", "fsync", "replace", "unlink"])
def test_killed_at_any_moment_a_write_leaves_the_old_file_or_the_new_one(tmp_path: Path, moment: str) -> None:
    path, new = tmp_path / "out" / "page.html", tmp_path / "new"
    path.parent.mkdir()
    path.write_bytes(OLD)
    new.write_bytes(NEW)
    assert kill(moment, path, new, 70_000) < 0
    assert path.read_bytes() == (NEW if moment == "unlink" else OLD)
    files.save_file(path, NEW)
    assert path.read_bytes() == NEW


@pytest.mark.parametrize("moment", ["half written", "fsync"])
def test_killed_at_any_moment_a_ledger_has_every_record_before(tmp_path: Path, moment: str) -> None:
    """A torn last line is one problem; the run goes on behind it."""
    run = b.ledger([b.record(b.cnn_job(), index=0)], unstarted=[b.cnn_job(round=1, seed=2)])
    path, new = b.write(tmp_path / "results", run), tmp_path / "new"
    record = b.record(b.cnn_job(round=1, seed=2), index=1)
    new.write_text(record.model_dump_json())
    before = path.read_bytes()
    assert kill(moment, path, new, len(before) + 200) < 0
    assert path.read_bytes().startswith(before)
    with store.reopen(path)[0] as writer:
        writer.append(record)
    found = store.load(path)
    assert found.records[0].job == run.records[0].job
    assert found.records[-1].job == record.job
    assert len(found.problems) == (moment == "half written")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "page.html"
    path.write_bytes(OLD)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="cannot write: No space left on device; choose another place"):
        files.save_file(path, NEW)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"page.html": OLD}


def test_a_file_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_bytes(OLD)
    path.chmod(0o600)
    files.save_file(path, NEW)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (NEW, 0o600)


def test_a_link_stays_a_link_to_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "page.html")
    for content in (OLD, NEW):
        files.save_file(tmp_path / "link", content)
        assert (tmp_path / "page.html").read_bytes() == content
    assert (tmp_path / "link").is_symlink()


def test_what_is_no_file_is_written_through(tmp_path: Path) -> None:
    """A pipe or /dev/stdout has nothing to replace."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        files.save_file(pipe, b"text")
        assert reader.communicate()[0] == b"text"
    assert pipe.is_fifo()


def test_what_is_staged_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    """A file or a folder that other code writes."""
    for whole in (True, False):
        try:
            with files.staged(tmp_path / f"run-{whole}") as partial:
                partial.mkdir()
                (partial / "events").write_text("x")
                assert whole
        except AssertionError:
            pass
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == [
        "run-True",
        "run-True/events",
    ]


def test_a_new_name_is_never_taken_from_another(tmp_path: Path) -> None:
    path = tmp_path / "r1.jsonl"
    path.write_bytes(OLD)
    with pytest.raises(FileExistsError), files.staged(path, replace=False) as partial:
        partial.write_bytes(NEW)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"r1.jsonl": OLD}


COMMANDS = {
    "show": ["show", "results", "-o", "out.txt"],
    "report": ["report", "results", "-o", "out.md"],
    "report folder": ["report", "results", "--template", "lecture", "--static", "-o", "out"],
    "compare": ["compare", "results", "results", "-o", "out.txt"],
    "history": ["history", "results", "-o", "out.csv"],
    "export": ["export", "results", "--to", "csv", "-o", "out.csv"],
    "explain": ["explain", "mnist-cnn", "-o", "out.txt"],
    "merge": ["merge", "results", "--results", "out"],
    "stopping": ["learning", "stopping", "--accuracy", "0.99", "-o", "out.txt"],
    "baseline": ["check", "baseline", "save", "main", "results"],
}


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_a_full_disk_is_one_error_of_every_command_that_writes(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, one line with the file, the system's words and what to do; nothing is left that was not there."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    b.write(tmp_path / "results", b.ledger(b.repeats(b.cnn_job(), [0.02, 0.021, 0.022])))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CNNBENCH_RESULTS", raising=False)
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    monkeypatch.setattr(os, "fsync", full)
    assert run_cli(["--no-settings", *arguments]) == ExitCode.USAGE
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert re.search(r": cannot write: No space left on device; choose another place", errors[0])
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before


def test_a_record_that_no_place_can_take_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the ledger's disk, the temporary folder, home and this folder are all full: nothing measured is lost."""
    header = b.header(unstarted=[b.cnn_job()])
    outcome = Outcome(status="ok", trial=b.trial(b.cnn_job()))
    with store.create(tmp_path, header) as writer:

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def launched(*_: object) -> WorkerExit:
            monkeypatch.setattr(os, "fsync", full)
            return WorkerExit(outcome, 9.0, 0.1, {})

        listener = type("Listener", (), dict.fromkeys(("on_start", "on_message", "on_finish"), lambda *_: None))()
        pending = room.list_pending_jobs(header, ())
        with pytest.raises(LedgerError) as caught:
            room.execute(writer, header, pending, LaunchOptions(), listener, launcher=launched)
    first, second, record = str(caught.value).splitlines()
    assert "No space left on device" in first
    assert second.endswith("cannot be saved elsewhere either; here it is:")
    assert Record.model_validate(json.loads(record)).outcome.trial == outcome.trial


def test_every_exit_code_is_in_the_table_of_the_documents() -> None:
    """`errors.ExitCode` is the table; docs/commands.md has its numbers and words."""
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    table = "".join(f"| {code.value} | {code.meaning} |\n" for code in sorted(ExitCode))
    assert f"| code | meaning |\n|---|---|\n{table}" in page


def test_killed_is_what_the_test_thinks_it_is(tmp_path: Path) -> None:
    """A file that is half written when the kernel ends the process is on disk, under a name that nobody reads."""
    new = tmp_path / "new"
    new.write_bytes(NEW)
    (tmp_path / "out").mkdir()
    assert kill("half written", tmp_path / "out" / "x", new, 70_000) == -signal.SIGXFSZ
    (left,) = (tmp_path / "out").iterdir()
    assert (left.name[0], left.suffix, left.stat().st_size) == (".", ".part", 70_000)


def test_a_lock_on_a_file_system_without_locks_is_called_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(LedgerError, match="cannot be locked: No locks available"):
        files.LockedFile.create(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    with files.wait_for_lock(tmp_path / "lock"):
        pass

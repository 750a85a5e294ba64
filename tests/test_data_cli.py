"""`cnnbench data`: answers on standard output, progress on standard error, a flag beats the environment beats the cache."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from data_builders import CONTENTS, install_small_set, small_contents
from rich.console import Console

from cnnbench.cli.support import data
from cnnbench.cli.this_process import show_download
from cnnbench.data import download, mnist
from cnnbench.errors import CnnbenchError, ExitCode


@pytest.fixture
def small(monkeypatch) -> tuple[mnist.IdxFile, ...]:
    return install_small_set(monkeypatch)


@pytest.fixture
def folder(small, tmp_path) -> Path:
    directory = tmp_path / "given"
    directory.mkdir()
    for name in CONTENTS:
        (directory / f"{name}.gz").write_bytes(gzip.compress(small_contents(name)))
    return directory


def invoke(tmp_path: Path, *arguments: str, **environment: str) -> Result:
    variables = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "CNNBENCH_DATA": None, **environment}
    return CliRunner().invoke(data, list(arguments), env=variables)


def test_where_prints_the_directory_and_who_named_it(folder, tmp_path):
    cache = tmp_path / "cache" / "cnnbench" / "mnist"
    given = str(folder)
    assert invoke(tmp_path, "where", "--data-dir", given).stdout == f"{given}\tflag\n"
    assert invoke(tmp_path, "where", CNNBENCH_DATA=given).stdout == f"{given}\tenv\n"
    assert invoke(tmp_path, "where", "--data-dir", given, CNNBENCH_DATA="/nowhere").stdout == f"{given}\tflag\n"
    cache.parent.mkdir(parents=True)
    folder.rename(cache)
    assert invoke(tmp_path, "where").stdout == f"{cache}\tcache\n"


def test_where_without_mnist_is_an_error_with_a_remedy(small, tmp_path):
    result = invoke(tmp_path, "where")
    assert isinstance(result.exception, CnnbenchError)
    assert result.exception.exit_code == ExitCode.USAGE
    assert "run `cnnbench data fetch`" in str(result.exception)
    assert result.stdout == ""


def test_verify_prints_each_files_digest(folder, small, tmp_path):
    result = invoke(tmp_path, "verify", "--data-dir", str(folder))
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [f"{file.sha256}  {folder / file.name}.gz  OK" for file in small]


def test_verify_names_every_wrong_and_missing_file(folder, tmp_path):
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(b"junk")
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    result = invoke(tmp_path, "verify", CNNBENCH_DATA=str(folder))
    assert [line.rpartition("  ")[2] for line in result.stdout.splitlines()] == ["OK", "BAD", "OK", "BAD"]
    assert isinstance(result.exception, CnnbenchError)
    assert "train-labels-idx1-ubyte.gz: is truncated or corrupt" in str(result.exception)
    assert "has no t10k-labels-idx1-ubyte or" in str(result.exception)


def test_fetch_prints_the_directory_it_filled_and_progress_apart(folder, small, tmp_path, monkeypatch):
    def copy(directory: Path, *, on_progress) -> None:
        on_progress("train-images-idx3-ubyte", 0, 10)
        on_progress("train-images-idx3-ubyte", 10, 10)

    monkeypatch.setattr(download, "fetch", copy)
    result = invoke(tmp_path, "fetch")
    assert result.stdout == f"{tmp_path / 'cache' / 'cnnbench' / 'mnist'}\n"
    assert result.stderr == "downloading train-images-idx3-ubyte\n"
    assert invoke(tmp_path, "fetch", CNNBENCH_DATA=str(folder)).stdout == f"{folder}\n"


def test_a_complete_directory_is_fetched_without_a_word(folder, tmp_path):
    result = invoke(tmp_path, "fetch", "--data-dir", str(folder))
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{folder}\n", "")


def test_bars_are_for_terminals_and_quiet_says_nothing():
    def show(*, terminal: bool, quiet: bool) -> str:
        stream = io.StringIO()
        console = Console(file=stream, force_terminal=terminal, width=100)
        with show_download(console, quiet=quiet) as on_progress:
            on_progress("train-images-idx3-ubyte", 0, None)
            on_progress("train-images-idx3-ubyte", 1_000, 1_000)
        return stream.getvalue()

    assert "\x1b[" in show(terminal=True, quiet=False)
    assert show(terminal=False, quiet=False) == "downloading train-images-idx3-ubyte\n"
    assert show(terminal=True, quiet=True) == show(terminal=False, quiet=True) == ""


def test_importing_the_commands_brings_nothing_heavy():
    code = (
        "import sys; import cnnbench.cli.support;"
        "assert not {'numpy', 'torch', 'pandas', 'rich', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

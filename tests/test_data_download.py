"""Downloading MNIST: what is kept is right, what fails is said, nothing is overwritten, and giving up takes seconds."""

from __future__ import annotations

import gzip
import io
import os
import threading
from collections.abc import Callable
from http.client import IncompleteRead
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest
from data_builders import CONTENTS, install_small_set, small_contents

from cnnbench import data
from cnnbench.data import download, mnist
from cnnbench.errors import DataError

MIRRORS = ("https://one.test/", "https://two.test/")
ARCHIVES = {f"{name}.gz": gzip.compress(small_contents(name)) for name in CONTENTS}


class Reply(io.BytesIO):
    """A mirror's answer; `breaks` raises instead of the end."""

    def __init__(self, body: bytes, *, length: str | None = None, breaks: BaseException | None = None) -> None:
        super().__init__(body)
        self.headers = {} if length is None else {"Content-Length": length}
        self._breaks = breaks

    def read(self, amount: int | None = -1, /) -> bytes:
        piece = super().read(amount)
        if not piece and self._breaks is not None:
            raise self._breaks
        return piece


class Mirrors:
    """An opener that answers each request by `answer(url, number)` and remembers the URLs."""

    def __init__(self, answer: Callable[[str, int], Reply]) -> None:
        self.answer, self.urls = answer, []

    def __call__(self, url: str, timeout_seconds: float) -> Reply:
        self.urls.append(url)
        return self.answer(url, len(self.urls))


def archive(url: str) -> bytes:
    return ARCHIVES[url.rpartition("/")[2]]


def serve(url: str, number: int) -> Reply:
    return Reply(archive(url), length=str(len(archive(url))))


def unreachable(url: str, number: int) -> Reply:
    raise URLError(OSError(101, "Network is unreachable"))


@pytest.fixture(autouse=True)
def small(monkeypatch) -> tuple[mnist.IdxFile, ...]:
    return install_small_set(monkeypatch)


def fetch(directory: Path, opener: Mirrors, **more) -> None:
    download.fetch(directory, mirrors=MIRRORS, opener=opener, pause=lambda seconds: None, **more)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_four_files_come_and_are_kept_readable(tmp_path):
    directory = tmp_path / "deep" / "cache"
    mirrors = Mirrors(serve)
    fetch(directory, mirrors)
    assert names(directory) == sorted(ARCHIVES)
    assert mirrors.urls == [f"{MIRRORS[0]}{name}.gz" for name in CONTENTS]
    assert all((directory / name).stat().st_mode & 0o777 == 0o644 for name in ARCHIVES)
    data.find(data.MnistDirectory("flag", directory))


def test_what_is_there_and_right_is_not_fetched_again(tmp_path):
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(small_contents("t10k-labels-idx1-ubyte"))
    mirrors = Mirrors(serve)
    fetch(tmp_path, mirrors)
    assert len(mirrors.urls) == 3
    fetch(tmp_path, mirrors)
    assert len(mirrors.urls) == 3


def test_progress_counts_every_byte_and_ends_at_the_total(tmp_path):
    heard: dict[str, list[tuple[int, int | None]]] = {}
    fetch(
        tmp_path, Mirrors(serve), on_progress=lambda name, done, total: heard.setdefault(name, []).append((done, total))
    )
    assert list(heard) == list(CONTENTS)
    for name, calls in heard.items():
        size = len(ARCHIVES[f"{name}.gz"])
        assert calls[0] == (0, size)
        assert calls[-1] == (size, size)


FAULTS = {
    "unreachable": (unreachable, "Network is unreachable"),
    "not there": (lambda url, n: raise_(HTTPError(url, 404, "Not Found", None, None)), "HTTP Error 404: Not Found"),
    "timed out": (lambda url, n: raise_(TimeoutError("timed out")), "timed out"),
    "broke off": (lambda url, n: Reply(archive(url)[:20], breaks=ConnectionResetError(104, "reset")), "broke off"),
    "incomplete": (lambda url, n: Reply(b"", breaks=IncompleteRead(b"", 9)), "broke off: IncompleteRead"),
    "ended early": (lambda url, n: Reply(archive(url)[:-9]), "truncated or corrupt"),
    "a login page": (lambda url, n: Reply(b"<html>log in</html>", length="19"), "truncated or corrupt"),
    "wrong contents": (lambda url, n: Reply(gzip.compress(b"other")), "magic number"),
    "nothing": (lambda url, n: Reply(b""), "is empty"),
    "endless": (lambda url, n: Reply(bytes(download.LARGEST_BYTES + 1)), "more than 16,777,216 bytes"),
    "bad address": (lambda url, n: raise_(ValueError("unknown url type")), "unknown url type"),
}


def raise_(error: Exception) -> Reply:
    raise error


@pytest.mark.parametrize("fault", FAULTS)
def test_after_one_mirrors_fault_the_next_one_serves(tmp_path, fault):
    broken, _ = FAULTS[fault]
    mirrors = Mirrors(lambda url, number: broken(url, number) if url.startswith(MIRRORS[0]) else serve(url, number))
    fetch(tmp_path, mirrors)
    assert names(tmp_path) == sorted(ARCHIVES)
    data.find(data.MnistDirectory("flag", tmp_path))


@pytest.mark.parametrize("fault", FAULTS)
def test_when_every_mirror_fails_the_error_says_why_and_no_file_is_left(tmp_path, fault):
    broken, reason = FAULTS[fault]
    mirrors = Mirrors(broken)
    with pytest.raises(download.DataUnavailableError) as caught:
        fetch(tmp_path, mirrors)
    message = str(caught.value)
    assert message.startswith("train-images-idx3-ubyte.gz: could not be downloaded")
    assert all(f"{mirror}: " in message for mirror in MIRRORS)
    assert reason in message
    assert "delete or move" not in message
    assert "--data-dir" in message
    assert names(tmp_path) == []
    assert len(mirrors.urls) == download.ROUNDS * len(MIRRORS)


def test_a_second_round_follows_after_a_pause(tmp_path):
    pauses = []
    mirrors = Mirrors(lambda url, number: serve(url, number) if number >= 3 else unreachable(url, number))
    download.fetch(tmp_path, mirrors=MIRRORS, opener=mirrors, pause=pauses.append)
    assert names(tmp_path) == sorted(ARCHIVES)
    assert pauses == [download.PAUSE_SECONDS]


def test_an_interrupted_download_leaves_no_file_and_goes_on_where_it_was(tmp_path):
    def interrupted(url: str, number: int) -> Reply:
        return serve(url, number) if number == 1 else Reply(archive(url)[:10], breaks=KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path, Mirrors(interrupted))
    assert names(tmp_path) == ["train-images-idx3-ubyte.gz"]
    mirrors = Mirrors(serve)
    fetch(tmp_path, mirrors)
    assert len(mirrors.urls) == 3


def test_a_mirror_that_never_answers_costs_its_share_of_seconds_only(tmp_path, monkeypatch):
    """The opener blocks as a name lookup behind a firewall does, where no socket timeout reaches."""
    monkeypatch.setattr(download, "ANSWER_SECONDS", 0.05)
    end = threading.Event()
    try:
        with pytest.raises(download.DataUnavailableError, match=r"no answer within 0\.05 s"):
            fetch(tmp_path, Mirrors(lambda url, number: end.wait() and serve(url, number)))
        assert not end.is_set()  # it gave up on an opener that still blocks
    finally:
        end.set()


def test_giving_up_takes_at_most_twenty_seconds_by_construction():
    attempts = download.ROUNDS * len(download.MIRRORS)
    assert attempts * download.ANSWER_SECONDS + (download.ROUNDS - 1) * download.PAUSE_SECONDS <= 20


def test_a_full_or_read_only_directory_is_named(tmp_path, monkeypatch):
    def refuse(*arguments: object, **named: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(
        download.DataUnavailableError, match=r"cannot be stored here \(Read-only file system\)"
    ) as caught:
        fetch(tmp_path, Mirrors(serve))
    assert str(tmp_path) in str(caught.value)


def test_a_full_disk_leaves_no_partial_file(tmp_path, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(download.DataUnavailableError, match="No space left on device"):
        fetch(tmp_path, Mirrors(serve))
    assert names(tmp_path) == []


def test_two_fetches_at_once_leave_one_right_set(tmp_path):
    errors = []

    def run() -> None:
        try:
            fetch(tmp_path, Mirrors(serve))
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert names(tmp_path) == sorted(ARCHIVES)
    data.find(data.MnistDirectory("flag", tmp_path))


def resolve(kind, monkeypatch, opener: Mirrors, cache: Path, **more) -> data.ResolvedData:
    monkeypatch.setattr(
        data, "fetch", lambda directory, *, on_progress=None: fetch(directory, opener, on_progress=on_progress)
    )
    return data.resolve(kind, **{"named": None, "cache_dir": cache, **more})


@pytest.mark.parametrize("kind", ["auto", "mnist"])
def test_an_empty_cache_is_filled_once_and_used_after(tmp_path, monkeypatch, kind):
    mirrors = Mirrors(serve)
    assert resolve(kind, monkeypatch, mirrors, tmp_path) == data.ResolvedData("mnist", tmp_path, None)
    assert resolve(kind, monkeypatch, mirrors, tmp_path, download=False) == data.ResolvedData("mnist", tmp_path, None)
    assert len(mirrors.urls) == 4


def test_offline_auto_takes_synthetic_digits_and_says_so(tmp_path, monkeypatch):
    resolved = resolve("auto", monkeypatch, Mirrors(unreachable), tmp_path)
    assert (resolved.kind, resolved.directory) == ("synthetic", None)
    assert "SYNTHETIC" in resolved.note
    assert "Network is unreachable" in resolved.note
    assert "\n" not in resolved.note


def test_offline_mnist_is_an_error_with_a_remedy(tmp_path, monkeypatch):
    with pytest.raises(download.DataUnavailableError, match="cnnbench data fetch"):
        resolve("mnist", monkeypatch, Mirrors(unreachable), tmp_path)


@pytest.mark.parametrize("kind", ["auto", "mnist"])
def test_without_leave_to_download_no_mirror_is_asked(tmp_path, monkeypatch, kind):
    mirrors = Mirrors(serve)
    if kind == "mnist":
        with pytest.raises(download.DataUnavailableError, match="the download was not allowed"):
            resolve(kind, monkeypatch, mirrors, tmp_path, download=False)
    else:
        resolved = resolve(kind, monkeypatch, mirrors, tmp_path, download=False)
        assert resolved.kind == "synthetic"
        assert "is not available" not in resolved.note, "it was not tried"
        assert str(tmp_path) in resolved.note
    assert mirrors.urls == []


def test_a_named_directory_without_mnist_is_never_filled_or_replaced(tmp_path, monkeypatch):
    mirrors = Mirrors(serve)
    for origin in ("flag", "env"):
        with pytest.raises(DataError, match="does not hold MNIST"):
            resolve("auto", monkeypatch, mirrors, tmp_path / "cache", named=data.MnistDirectory(origin, tmp_path))
    assert mirrors.urls == []


def test_synthetic_looks_nowhere(tmp_path, monkeypatch):
    (tmp_path / "train-images-idx3-ubyte").write_text("junk")
    mirrors = Mirrors(serve)
    assert resolve("synthetic", monkeypatch, mirrors, tmp_path) == data.ResolvedData("synthetic", None, None)
    assert mirrors.urls == []

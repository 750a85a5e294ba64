"""The download of MNIST: four gzipped files from public mirrors, each verified by contents before it is kept.

A file that is already there and right is left alone, one that is there and wrong is never overwritten (Fashion-MNIST
has the same file names). A download goes to a temporary file in the same directory, is verified, and only then takes
its name, so that no interruption leaves a file that looks complete.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import URLError

from cnnbench import files
from cnnbench.data import mnist
from cnnbench.errors import DataError

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
"""PyTorch's mirror (torchvision.datasets.MNIST) and the Common Visual Data Foundation's (TensorFlow Datasets)."""

ROUNDS = 2
"""Times each mirror is tried for a file."""
ANSWER_SECONDS = 4.0
"""Limit for a mirror to answer, name lookup and every address included, and for each read after that. A firewall that
drops packets costs 2 rounds x 2 mirrors x 4 s + 1 s pause = 17 s."""
PAUSE_SECONDS = 1.0
LARGEST_BYTES = 1 << 24
"""Limit on an archive. The largest true one has 9.9 MB; a server that sends more is not a mirror."""


class DataUnavailableError(DataError):
    """MNIST is not on this machine and could not be downloaded; no file that was found is wrong."""


Opener = Callable[[str, float], HTTPResponse]
"""Opens a URL with a timeout in seconds for each network operation; raises OSError or HTTPException."""
OnDownloadProgress = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes that have come and the bytes expected (None where the mirror does not say)."""


def open_url(url: str, timeout_seconds: float) -> HTTPResponse:
    """Open the URL with urllib and the proxies that its documentation names: the default opener."""
    request = urllib.request.Request(url, headers={"User-Agent": "cnnbench"})
    response: HTTPResponse = urllib.request.urlopen(request, timeout=timeout_seconds)
    return response


def fetch(
    directory: Path,
    *,
    on_progress: OnDownloadProgress | None = None,
    mirrors: Sequence[str] = MIRRORS,
    opener: Opener = open_url,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Download the files that the directory lacks; afterwards it holds MNIST, verified.

    Raises DataUnavailableError if no mirror serves a file (after 17 s where nothing answers; there is no limit while
    bytes flow) or the directory cannot be written, DataError where a file already there is not MNIST's.
    """
    progress = on_progress or (lambda name, done_bytes, total_bytes: None)
    lacking = []
    for file in mnist.FILES:
        path = mnist.locate_file(directory, file)
        if path is None:
            lacking.append(file)
        else:
            mnist.read_verified(path, file)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for file in lacking:
            _fetch_file(directory, file, progress, mirrors, opener, pause)
    except OSError as error:
        raise DataUnavailableError(
            f"{directory}: MNIST cannot be stored here ({error.strerror or error}); "
            "name a directory that can be written with --data-dir"
        ) from error


def _fetch_file(
    directory: Path,
    file: mnist.IdxFile,
    on_progress: OnDownloadProgress,
    mirrors: Sequence[str],
    opener: Opener,
    pause: Callable[[float], None],
) -> None:
    """Try the mirrors in turn; what went wrong with each is in the error's text."""
    failures = []
    for attempt, mirror in enumerate([*mirrors] * ROUNDS):
        if attempt and attempt % len(mirrors) == 0:
            pause(PAUSE_SECONDS)
        unverified = f".{file.name}.{secrets.token_hex(8)}.gz"
        try:
            with files.staged(directory / f"{file.name}.gz", name=unverified) as partial:
                _download(f"{mirror}{file.name}.gz", file.name, partial, on_progress, opener)
                mnist.read_verified(partial, file)
            return
        except (_MirrorError, DataError) as error:
            # The name of a file that goes and the remedy for one that stays are left out.
            reason = str(error).removeprefix(f"{directory / unverified}: ").partition("; delete or move")[0]
            failures.append(f"{mirror}: {reason}")
    raise DataUnavailableError(
        f"{file.name}.gz: could not be downloaded ({'; '.join(dict.fromkeys(failures))}); connect to the network and "
        "run `cnnbench data fetch`, or name a directory that holds MNIST's four IDX files with --data-dir"
    )


class _MirrorError(Exception):
    """This mirror failed; the next may do better."""


def _download(url: str, name: str, partial: Path, on_progress: OnDownloadProgress, opener: Opener) -> None:
    """Write what the URL serves. Raises _MirrorError for every failure of the network or the mirror."""
    done_bytes = 0
    with partial.open("xb") as archive, contextlib.closing(_open_in_time(opener, url)) as response:
        length = response.headers.get("Content-Length") or ""
        total_bytes = int(length) if length.isdecimal() else None
        on_progress(name, 0, total_bytes)
        while piece := _read_piece(response):
            done_bytes += len(piece)
            if done_bytes > LARGEST_BYTES:
                raise _MirrorError(f"gives more than {LARGEST_BYTES:,} bytes, which no MNIST file has")
            archive.write(piece)
            on_progress(name, done_bytes, total_bytes)


def _open_in_time(opener: Opener, url: str) -> HTTPResponse:
    """Open the URL and return the response. Raises _MirrorError after `ANSWER_SECONDS`.

    A socket's timeout does not cover the name lookup and starts again for each address of a name, so the opener runs in
    a thread that is abandoned when it is late; a late response is closed.
    """
    answer: queue.SimpleQueue[HTTPResponse | Exception] = queue.SimpleQueue()
    late = threading.Event()

    def ask() -> None:
        try:
            response = opener(url, ANSWER_SECONDS)
        except (OSError, HTTPException, ValueError) as error:
            answer.put(error)
            return
        if late.is_set():
            response.close()
        answer.put(response)

    threading.Thread(target=ask, name="cnnbench-mirror", daemon=True).start()
    try:
        response = answer.get(timeout=ANSWER_SECONDS)
    except queue.Empty:
        late.set()
        raise _MirrorError(f"no answer within {ANSWER_SECONDS:g} s") from None
    if isinstance(response, Exception):
        cause = response.reason if type(response) is URLError else response
        raise _MirrorError(str(cause) or type(cause).__name__) from response
    return response


def _read_piece(response: HTTPResponse) -> bytes:
    try:
        return response.read(1 << 16)
    except (OSError, HTTPException) as error:
        raise _MirrorError(f"broke off: {str(error) or type(error).__name__}") from error

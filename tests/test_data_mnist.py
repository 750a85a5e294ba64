"""MNIST's files: only MNIST gets in, whatever is wrong is named with its remedy, and nothing falls back from it."""

from __future__ import annotations

import gzip
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data_builders import CONTENTS, install_small_set, small_contents
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnnbench import data
from cnnbench.data import download, mnist
from cnnbench.errors import DataError, ExitCode


@pytest.fixture
def small(monkeypatch) -> tuple[mnist.IdxFile, ...]:
    return install_small_set(monkeypatch)


@pytest.fixture
def folder(small, tmp_path) -> Path:
    """The small data set on disk, two files gzipped and two plain."""
    for place, file in enumerate(small):
        contents = small_contents(file.name)
        if place % 2:
            (tmp_path / file.name).write_bytes(contents)
        else:
            (tmp_path / f"{file.name}.gz").write_bytes(gzip.compress(contents))
    return tmp_path


@pytest.fixture
def real() -> Path:
    """The real MNIST; only read."""
    directory = os.environ.get("CNNBENCH_DATA")
    if not directory:
        pytest.skip("CNNBENCH_DATA names no directory of the real MNIST")
    return Path(directory)


def test_the_real_mnist_has_the_published_contents(real):
    """Sizes from LeCun's page; TensorFlow's `mnist.train.labels` begins 7 3 4 6 1, the sixth thousand of the file."""
    loaded = data.load("mnist", "train-55000", real)
    assert loaded.train_images.shape == (55_000, 28, 28)
    assert loaded.test_images.shape == (10_000, 28, 28)
    assert loaded.train_labels[:5].tolist() == [7, 3, 4, 6, 1]
    assert loaded.test_labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert (loaded.kind, loaded.source) == ("mnist", str(real))
    whole = data.load("mnist", "train-60000", real)
    assert whole.train_images.shape == (60_000, 28, 28)
    assert np.bincount(whole.train_labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.array_equal(whole.train_images[5_000:], loaded.train_images)
    assert np.array_equal(whole.train_labels[5_000:], loaded.train_labels)


def test_plain_and_gzipped_files_give_the_arrays_written(folder, small):
    loaded = data.load("mnist", "train-60000", folder)
    for array, file in zip(
        (loaded.train_images, loaded.train_labels, loaded.test_images, loaded.test_labels), small, strict=True
    ):
        header = 4 + 4 * len(file.shape)
        assert array.tobytes() == small_contents(file.name)[header:]
        assert array.shape == file.shape
        assert array.dtype == np.uint8
        assert array.flags.writeable  # torch.from_numpy warns about an array that is not


def test_the_held_out_images_are_the_first(folder, monkeypatch):
    monkeypatch.setattr(data, "VALIDATION_IMAGES", 5)
    whole = data.load("mnist", "train-60000", folder)
    part = data.load("mnist", "train-55000", folder)
    assert np.array_equal(part.train_images, whole.train_images[5:])
    assert np.array_equal(part.train_labels, whole.train_labels[5:])
    assert np.array_equal(part.test_images, whole.test_images)


def break_file(folder: Path, name: str, contents: bytes) -> Path:
    for old in (folder / name, folder / f"{name}.gz"):
        old.unlink(missing_ok=True)
    path = folder / (f"{name}.gz" if contents[:2] == b"\x1f\x8b" else name)
    path.write_bytes(contents)
    return path


def flip(contents: bytes, place: int) -> bytes:
    return contents[:place] + bytes([contents[place] ^ 1]) + contents[place + 1 :]


GOOD = small_contents("train-images-idx3-ubyte")
BROKEN = {
    "empty": (b"", "is empty"),
    "empty archive": (gzip.compress(b""), "is empty"),
    "truncated archive": (gzip.compress(GOOD)[:-30], "truncated or corrupt"),
    "archive without its last byte": (gzip.compress(GOOD)[:-1], "truncated or corrupt"),
    "no archive under .gz": (b"\x1f\x8b<html>log in to the hotel's network</html>", "truncated or corrupt"),
    "damaged archive": (flip(gzip.compress(GOOD), 60), "corrupt"),
    "truncated plain file": (GOOD[:-1], "is truncated: 207 bytes of 208"),
    "header alone": (GOOD[:7], "is truncated"),
    "a byte too many": (GOOD + b"\0", "longer than the 208 bytes"),
    "bomb": (gzip.compress(GOOD + bytes(50_000_000)), "longer than the 208 bytes"),
    "labels under an image name": (small_contents("train-labels-idx1-ubyte"), "magic number 0x00000801"),
    "little-endian magic": (b"\3\x08\0\0" + GOOD[4:], "magic number 0x03080000, not the 0x00000803"),
    "other dimensions": (GOOD[:8] + bytes([0, 0, 0, 2, 0, 0, 0, 8]) + GOOD[16:], r"dimensions \[12, 2, 8\]"),
    "another data set": (GOOD[:16] + bytes(192), "another data set under the same file names"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_wrong_file_is_named_with_its_remedy(folder, case):
    """By `load`, `verify`, `find` and `resolve` alike, in a named directory and in the cache; never synthetic digits."""
    contents, what = BROKEN[case]
    path = break_file(folder, "train-images-idx3-ubyte", contents)
    attempts = (
        lambda: data.load("mnist", "train-60000", folder),
        lambda: data.find(data.MnistDirectory("flag", folder)),
        lambda: data.find(data.MnistDirectory("cache", folder)),
        lambda: data.resolve("auto", named=data.MnistDirectory("env", folder), cache_dir=folder / "none"),
        lambda: data.resolve("auto", named=None, cache_dir=folder),
        lambda: download.fetch(folder, opener=never_called),
    )
    for attempt in attempts:
        with pytest.raises(DataError, match=what) as caught:
            attempt()
        assert not isinstance(caught.value, download.DataUnavailableError)
        assert str(path) in str(caught.value)
        assert f"cnnbench data fetch --data-dir {folder}" in str(caught.value)
        assert caught.value.exit_code == ExitCode.USAGE


def never_called(url: str, timeout_seconds: float):
    raise AssertionError(f"{url} was asked for")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, len(GOOD) - 1), bit=st.integers(0, 7), packed=st.booleans())
def test_no_flipped_bit_gets_through(folder, place, bit, packed):
    flipped = GOOD[:place] + bytes([GOOD[place] ^ 1 << bit]) + GOOD[place + 1 :]
    break_file(folder, "train-images-idx3-ubyte", gzip.compress(flipped) if packed else flipped)
    with pytest.raises(DataError, match="train-images-idx3-ubyte"):
        data.load("mnist", "train-60000", folder)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=st.binary(max_size=300))
def test_no_junk_gets_through(folder, junk):
    break_file(folder, "train-images-idx3-ubyte", junk)
    with pytest.raises(DataError, match="train-images-idx3-ubyte"):
        data.load("mnist", "train-60000", folder)


@pytest.mark.parametrize("lost", CONTENTS)
def test_a_named_directory_lacking_one_file_says_which(folder, lost):
    for path in folder.glob(f"{lost}*"):
        path.unlink()
    for origin, name in (("flag", "--data-dir"), ("env", "CNNBENCH_DATA")):
        with pytest.raises(DataError, match=lost) as caught:
            data.find(data.MnistDirectory(origin, folder))
        assert f"{folder} ({name})" in str(caught.value)
        assert "cnnbench data fetch" in str(caught.value)
    assert data.find(data.MnistDirectory("cache", folder)) is None
    with pytest.raises(DataError, match=lost):
        data.load("mnist", "train-60000", folder)


def test_a_cache_lacking_one_file_still_rejects_a_wrong_one(folder):
    (folder / "t10k-labels-idx1-ubyte").unlink()
    break_file(folder, "train-labels-idx1-ubyte", b"junk")
    with pytest.raises(DataError, match="train-labels-idx1-ubyte"):
        data.find(data.MnistDirectory("cache", folder))


def test_a_named_directory_that_is_absent_is_an_error_and_an_absent_cache_is_not(small, tmp_path):
    with pytest.raises(DataError, match="does not hold MNIST"):
        data.find(data.MnistDirectory("flag", tmp_path / "absent"))
    assert data.find(data.MnistDirectory("cache", tmp_path / "absent")) is None


@pytest.mark.parametrize("origin", ["flag", "env", "cache"])
def test_a_file_where_a_directory_should_be_is_an_error(small, tmp_path, origin):
    file = tmp_path / "mnist"
    file.write_text("")
    with pytest.raises(DataError, match="is a file, not a directory"):
        data.find(data.MnistDirectory(origin, file))


def test_a_directory_under_a_files_name_is_an_error(folder):
    (folder / "t10k-labels-idx1-ubyte").unlink()
    (folder / "t10k-labels-idx1-ubyte").mkdir()
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte: cannot be read \(Is a directory\)"):
        data.find(data.MnistDirectory("flag", folder))


def test_an_unreadable_file_is_an_error(folder, monkeypatch):
    """Permissions are faked, since root may read everything."""

    def refuse(self: Path, *arguments: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte: cannot be read \(Permission denied\)"):
        mnist.read_file(folder, mnist.TRAIN_LABELS)
    monkeypatch.setattr(Path, "exists", refuse)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\); check its permissions"):
        data.find(data.MnistDirectory("cache", folder))


def test_the_first_directory_named_wins(folder, tmp_path_factory):
    """What is named is not replaced by a cache that has it; `cnnbench data where` says which name wins."""
    absent = tmp_path_factory.mktemp("empty")
    for origin in ("flag", "env", "settings"):
        found = data.resolve("mnist", named=data.MnistDirectory(origin, folder), cache_dir=absent)
        assert found == data.ResolvedData("mnist", folder)
    assert data.resolve("mnist", named=None, cache_dir=folder) == data.ResolvedData("mnist", folder)
    assert data.find(data.MnistDirectory("cache", absent)) is None
    with pytest.raises(DataError, match="--data-dir"):
        data.resolve("mnist", named=data.MnistDirectory("flag", absent), cache_dir=folder)


def test_the_hash_decides_not_the_name(folder, small):
    """Right size and header with the hash of something else: rejected, so the digest is really compared."""
    with pytest.raises(DataError, match="SHA-256"):
        mnist.read_file(folder, replace(small[0], sha256="0" * 64))


def test_unknown_kinds_and_splits_are_named(folder):
    with pytest.raises(DataError, match="'random'; choose mnist or synthetic"):
        data.load("random", "train-60000", None)
    with pytest.raises(DataError, match="'train-50000' is not one of train-55000, train-60000"):
        data.load("mnist", "train-50000", folder)
    with pytest.raises(DataError, match="without a directory"):
        data.load("mnist", "train-60000", None)


def test_the_cache_follows_the_platforms_rules():
    """XDG Base Directory Specification: an absolute XDG_CACHE_HOME wins, a relative or empty one is ignored."""
    home = {"HOME": "/home/ada"}
    assert data.default_cache_dir(home, "linux") == Path("/home/ada/.cache/cnnbench/mnist")
    assert data.default_cache_dir(home, "darwin") == Path("/home/ada/Library/Caches/cnnbench/mnist")
    assert data.default_cache_dir({**home, "XDG_CACHE_HOME": "/big"}, "darwin") == Path("/big/cnnbench/mnist")
    for ignored in ("", "relative"):
        assert data.default_cache_dir({**home, "XDG_CACHE_HOME": ignored}, "linux").is_relative_to("/home/ada/.cache")
    with pytest.raises(DataError, match="HOME is not set"):
        data.default_cache_dir({}, "linux")

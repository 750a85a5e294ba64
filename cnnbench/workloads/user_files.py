"""A workload from outside: one of the user's files, or another package's value, and every mistake in it as text.

A text such as `my_net.py`, or `my_net.py:NAME` for a value not called WORKLOAD, gives the workload, or one error with
the file and the line. The file's code is run here, to plan, and again in every worker. Its version is a number made
from the file's bytes, whatever it declares: a changed file is another workload, and its results never share a row with
earlier ones. Types inside cnnbench are trusted; a value from outside is checked, since dataclasses check nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import get_args

from cnnbench.errors import WorkloadError, summarize_error
from cnnbench.schema import NAMES_BELOW_COMMANDS
from cnnbench.workloads import flops
from cnnbench.workloads.base import DEFAULT_INIT, INITS, OPTIMIZERS, Workload
from cnnbench.workloads.flops import Counts

VALUE = "WORKLOAD"
LARGEST_FILE_BYTES = 1_000_000
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
        """The file and the value's name: `/home/me/my_net.py:WORKLOAD`."""
        return f"{self.path}:{self.value}"


def is_file(text: str) -> bool:
    """Tell whether the text names a file rather than a known workload."""
    return _TEXT.fullmatch(text) is not None


def load(text: str, folder: Path) -> WorkloadFile:
    """Run the file, a relative path starting at `folder`. Raises WorkloadError with file and, if known, line."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise WorkloadError(f"workload {text!r}: write the path of a Python file, or my_net.py:NAME")
    path, value = folder / match["path"], match["value"] or VALUE
    source = _read(path)
    digest = hashlib.sha256(source).hexdigest()
    workload = _find(_run(path.resolve(), path, source, digest), path, value)
    if wrong := find_problems(workload):
        raise WorkloadError(f"{path}: {value}: {'; '.join(wrong)}")
    version = int(digest[:8], 16) or 1  # two files of one name have the same with probability 2^-32
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
    """Run these bytes as a module, once per process; what they print goes to standard error."""
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
        # Where in the file it went wrong: the last line of the file on the way to it, or the place of a syntax error.
        frames = [*traceback.extract_tb(error.__traceback__), *([error] if isinstance(error, SyntaxError) else [])]
        lines = [each.lineno for each in frames if each.filename == str(path) and each.lineno]
        place = f"{shown}:{lines[-1]}" if lines else shown
        package = "; install it; a workload of several files makes a package (docs/own-workload.md)"
        hint = package if isinstance(error, ImportError) else ""
        raise WorkloadError(f"{place}: {summarize_error(error)}{hint}") from error
    return module


def _find(module: ModuleType, path: Path, value: str) -> Workload:
    missing = object()
    found = getattr(module, value, missing)
    if isinstance(found, Workload):
        return found
    others = [name for name, each in vars(module).items() if isinstance(each, Workload)]
    hint = f"; there is {', '.join(others)}: write {path.name}:{others[0]}" if others else ""
    if found is missing:
        raise WorkloadError(f"{path}: no {value} in it{hint or f'; write {value} = Workload(...)'}")
    kind = type(found).__name__
    article = "an" if kind[0].lower() in "aeiou" else "a"
    raise WorkloadError(f"{path}: {value} is {article} {kind}, not a cnnbench.workloads.Workload{hint}")


DIGITS_SHAPE, DIGITS_CLASSES = (1, 28, 28), 10
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""A name that also fits a row's label, a folder's name and a filter's text."""
_PLACES = ("parameters", "forward", "training", "activations")


def find_problems(workload: Workload) -> list[str]:
    """List all mistakes, each naming the field and its allowed values; empty for a valid workload."""
    return [
        *(text for holds, text in _list_rules(workload) if not holds),
        *_check_choices(workload),
        *_check_network(workload),
    ]


def _list_rules(workload: Workload) -> tuple[tuple[object, str], ...]:
    """List whether each rule holds, and the message if it does not."""
    name, version, title = workload.name, workload.version, workload.title
    shape, classes, dataset = workload.input_shape, workload.classes, workload.dataset
    digits = f"{DIGITS_SHAPE} and {DIGITS_CLASSES} classes"
    return (
        (
            isinstance(name, str) and NAME.fullmatch(name),
            f"name {name!r} must be up to 64 letters, digits, dots, hyphens and underscores",
        ),
        (name not in NAMES_BELOW_COMMANDS, f"name {name!r} is kept for a command; choose another"),
        (_is_whole(version), f"version {version!r} must be a whole number from 1 on"),
        (
            isinstance(title, str) and title.strip() and title.isprintable(),
            f"title {title!r} must be a line of text",
        ),
        (workload.kind == "training", f"kind {workload.kind!r} must be 'training'"),
        (
            isinstance(shape, tuple) and shape and all(map(_is_whole, shape)),
            f"input_shape {shape!r} must be a tuple of whole numbers, such as {DIGITS_SHAPE}",
        ),
        (_is_whole(classes, 2), f"classes {classes!r} must be a whole number from 2 on"),
        (dataset in ("mnist", "random"), f"dataset {dataset!r} must be 'mnist' or 'random'"),
        (workload.loss == "cross-entropy", f"loss {workload.loss!r} must be 'cross-entropy'"),
        (
            dataset != "mnist" or (shape, classes) == (DIGITS_SHAPE, DIGITS_CLASSES),
            f"dataset 'mnist' has input_shape {digits}, not {shape!r} and {classes!r}",
        ),
    )


def _check_choices(workload: Workload) -> Iterator[str]:
    inits = (*INITS, DEFAULT_INIT) if workload.network is not None else INITS
    for field, known in (("optimizers", OPTIMIZERS), ("inits", inits)):
        given = getattr(workload, field)
        if not isinstance(given, tuple) or not given:
            yield f"{field} {given!r} must be a tuple of one or more of {', '.join(known)}"
        elif strange := [each for each in given if each not in known]:
            yield f"{field} {strange[0]!r} is not one of {', '.join(known)}"
    for name, rate in dict(workload.learning_rates).items():
        if name not in OPTIMIZERS:
            yield f"learning_rates {name!r} is not one of {', '.join(OPTIMIZERS)}"
        elif not isinstance(rate, int | float) or not 0 < rate < 1e6:
            yield f"learning_rates {name!r}: {rate!r} must be a number above 0"


def _check_network(workload: Workload) -> Iterator[str]:
    if (workload.network is None) == (not workload.layers):
        yield "give either layers or network, one of the two"
    elif workload.network is None:
        if workload.declared is not None:
            yield "declared goes with network; layers count themselves"
        else:
            yield from _check_layers(workload)
    else:
        if not callable(workload.network):
            yield f"network {workload.network!r} must be a function that makes a torch module"
        if workload.pretraining is not None:
            yield "pretraining needs layers: it trains the dense ones one by one"
        if not isinstance(workload.declared, Counts):
            yield f"network needs declared = Counts({', '.join(f'{place}=...' for place in _PLACES)})"
            return
        for place in _PLACES:
            count = getattr(workload.declared, place)
            if not _is_whole(count):
                yield f"declared.{place} {count!r} must be a whole number from 1 on"


def _check_layers(workload: Workload) -> Iterator[str]:
    strange = [each for each in workload.layers if not isinstance(each, get_args(flops.Layer))]
    if strange:
        yield f"layers: {strange[0]!r} is not a layer of cnnbench.workloads.flops"
        return
    try:
        counts = flops.count_layers(workload.layers, workload.input_shape)
    except (IndexError, TypeError, ZeroDivisionError, WorkloadError) as error:
        yield f"layers do not fit input_shape {workload.input_shape!r}: {error}"
        return
    if counts[-1].output != (workload.classes,):
        yield f"layers give {counts[-1].output}, classes {workload.classes!r} needs ({workload.classes!r},)"
    if workload.pretraining is not None and not workload.hidden:
        yield "pretraining needs a hidden dense layer"


def _is_whole(value: object, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least

"""The ledger: append, load, upgrade, survive a torn last line.

A run owns one file, `results/<machine_id>/<run_id>.jsonl`: created once and never rewritten, one JSON line for the run
and one for each process, on disk (fsync) before the next process starts. Two runs never share a file. The writer holds
an exclusive lock (flock) on it, and every worker inherits the locked descriptor, so the lock is free only when the run
*and* its last worker are gone, which is what `--resume` needs. Each line carries the SHA-256 of the line before it, so
a careless edit is noticed (a forgery is not: whoever rewrites a whole file can rewrite the digests too).
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from cnnbench import workloads
from cnnbench.errors import LedgerError
from cnnbench.files import LockedFile, explain_refusal
from cnnbench.schema import PublishedRow, Record, RunHeader, describe_first_problem, digest, upgrade

_Line = TypeVar("_Line", bound=BaseModel)


@dataclass(frozen=True)
class Ledger:
    """One run as read from disk. `problems` lists every line that could not be used and every break of the digest
    chain.
    """

    path: Path
    header: RunHeader
    records: tuple[Record, ...]
    problems: tuple[str, ...] = ()
    final_digest: str = ""


@dataclass(frozen=True)
class LoadedLedgers:
    """Everything found under some paths."""

    ledgers: tuple[Ledger, ...]
    published_rows: tuple[PublishedRow, ...]
    problems: tuple[str, ...]


def new_run_id() -> str:
    """Make a run id: UTC date and time with eight random hexadecimal digits, so that names sort by time.

    Two of 100 runs begun in one second share an id once in 870,000 times (100 x 99 / 2 / 2^32). Equal nodes share a
    folder, so only the id distinguishes their runs.
    """
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def format_now() -> str:
    """Format the time now in UTC, to the second, as in every record."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def find_published_dir() -> Path:
    """Find the folder of the shipped reference rows: in the installed package, else in the source tree."""
    package = Path(__file__).parent
    shipped = package / "_shipped" / "reference"
    return shipped if shipped.is_dir() else package.parent / "results" / "reference"


class Writer(LockedFile):
    """The one writer of a ledger, holding its lock until closed."""

    held = "this run or one of its workers is still alive; wait for it or end it, then --resume"
    last_digest: str | None = None

    def append(self, line: BaseModel) -> str:
        """Write one line and bring it to disk; returns its text.

        Raises LedgerError (a full disk), leaving no part of it.
        """
        cannot, remedy = "write results there", "choose another place with --results DIR"
        if isinstance(line, Record):
            line = line.model_copy(update={"prev": self.last_digest})
            cannot, remedy = "append a record", "free space there and --resume"
        text = line.model_dump_json()
        with explain_refusal(LedgerError, f"{self.path}: cannot {cannot}", remedy):
            self.append_line(text)
        self.last_digest = digest(text)
        return text


def create(directory: Path, header: RunHeader) -> Writer:
    """Create the ledger `directory/<machine_id>/<run_id>.jsonl` with its header line.

    Raises LedgerError if it cannot be made; then no part of it is left.
    """
    writer = Writer.create(directory / header.machine.id / f"{header.run_id}.jsonl")
    try:
        writer.append(header)
    except BaseException:
        with writer, suppress(OSError):
            writer.path.unlink()
        raise
    return writer


def reopen(path: Path) -> tuple[Writer, Ledger]:
    """Read the ledger and open a writer to resume it.

    A torn last line is closed off, not removed. Raises LedgerError if another run, or a worker of an earlier one, still
    holds it, or it cannot be read.
    """
    writer = Writer.reopen(path)
    try:
        ledger = load(path)
        writer.end_line()
    except BaseException:
        writer.close()
        raise
    writer.last_digest = ledger.final_digest
    return writer, ledger


def load(path: Path) -> Ledger:
    """Read one ledger.

    Lines that cannot be used become `problems`; raises LedgerError if there is no usable header. The workloads
    described in its header are registered, so that its records can be understood; see `workloads.register_from_ledger`.
    """
    return parse(path, _read(path))


def parse(path: Path, content: bytes) -> Ledger:
    """Parse the bytes of a ledger as `load` does; the path is used only in messages."""
    problems = []
    header: RunHeader | None = None
    records = []
    previous: str | None = None
    for number, text, complete in _lines(content):
        where, raw = f"{path}:{number}", parse_line(text)
        try:
            if raw is None:
                why = "not a JSON line" if complete else "torn last line"
                raise LedgerError(f"{where}: {why}: one record lost")
            if raw.get("kind") == "run":
                header = _validate(RunHeader, raw, where)
            elif raw.get("kind") == "record":
                records.append(_validate(Record, raw, where))
                if records[-1].prev != previous:
                    raise LedgerError(f"{where}: digest chain broken: the line before it was changed, added or removed")
            else:
                raise LedgerError(f"{where}: neither a run nor a record: kind {raw.get('kind')!r}")
        except LedgerError as error:
            problems.append(str(error))
        previous = digest(text)
    if header is None:
        detail = f" ({problems[0]})" if problems else ""
        raise LedgerError(f"{path}: not a cnnbench ledger: no readable run header{detail}")
    workloads.register_from_ledger(header.workloads)
    return Ledger(path, header, tuple(records), tuple(problems), previous or "")


def load_tree(paths: Sequence[Path]) -> LoadedLedgers:
    """Load every ledger and reference row under the paths (files, or directories searched for *.jsonl), in a fixed
    order.

    A file that is not a ledger becomes a problem; a path that does not exist raises LedgerError.
    """
    ledgers = []
    references: list[PublishedRow] = []
    problems: list[str] = []
    for path in sorted({file for root in paths for file in _files(root)}):
        try:
            content = _read(path)
            if is_published_row(content):
                references.extend(parse_published_rows(path, content))
            else:
                ledger = parse(path, content)
                ledgers.append(ledger)
                problems.extend(ledger.problems)
        except LedgerError as error:
            problems.append(str(error))
    return LoadedLedgers(tuple(ledgers), tuple(references), tuple(problems))


def parse_published_rows(path: Path, content: bytes) -> tuple[PublishedRow, ...]:
    """Parse the published rows of a file. Raises LedgerError at the first line that is not one."""
    return tuple(
        _validate(PublishedRow, parse_line(text) or {}, f"{path}:{number}") for number, text, _ in _lines(content)
    )


def _files(root: Path) -> list[Path]:
    if root.is_dir():
        return [path for path in root.rglob("*.jsonl") if path.is_file()]
    if not root.exists():
        raise LedgerError(f"{root}: no such file or directory; measure first with `cnnbench run quick`")
    return [root]


def _read(path: Path) -> bytes:
    with explain_refusal(LedgerError, f"{path}: cannot read"):
        return path.read_bytes()


def _lines(content: bytes) -> Iterator[tuple[int, str, bool]]:
    """Yield line number, text and whether the line was ended; blank lines are skipped."""
    parts = content.split(b"\n")
    for number, part in enumerate(parts, start=1):
        if part:
            yield number, part.decode(errors="replace"), number < len(parts)


def is_published_row(content: bytes) -> bool:
    """Check that the first line is a published row rather than a run's header."""
    first = next((text for _, text, _ in _lines(content)), "")
    return (parse_line(first) or {}).get("kind") == "reference"


def parse_line(text: str) -> dict[str, Any] | None:
    r"""Parse the JSON object of a line.

    None if it is not one (torn, for instance), or has a number that we never write. Those are NaN, inf and integers of
    more than 63 bits. Half a character (`\ud800`), which cannot be stored as text, becomes U+FFFD.
    """
    try:
        value = json.loads(text, parse_constant=_parse_finite, parse_float=_parse_finite, parse_int=_parse_whole)
        if "\\ud" in text.lower():
            whole = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            value = json.loads(whole)
    except (ValueError, RecursionError):  # RecursionError: junk nested deeper than any line that cnnbench writes
        return None
    return value if isinstance(value, dict) else None


def _parse_whole(text: str) -> int:
    value = int(text)
    if abs(value) >= 2**63:
        raise ValueError(text)
    return value


def _parse_finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _validate(model: type[_Line], raw: dict[str, Any], where: str) -> _Line:
    try:
        return model.model_validate(upgrade(raw))
    except ValidationError as error:
        raise LedgerError(f"{where}: field {describe_first_problem(error)}") from error
    except ValueError as error:
        raise LedgerError(f"{where}: {error}") from error

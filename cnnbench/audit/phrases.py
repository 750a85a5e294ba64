"""Numbers in words: a heading, a label, what a chart says in one sentence. Every number there must be one that is known."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

from cnnbench.audit import printed
from cnnbench.audit.printed import Kind
from cnnbench.audit.raw import RawRow, shown
from cnnbench.schema import Job

Values = Callable[[RawRow], tuple[object, ...]]

N = r"([\d,]+)"
_SEVERAL: tuple[tuple[str, Values], ...] = (
    (rf"{N} x {N} = {N} steps", lambda row: (row.job.epochs, row.job.steps_per_epoch, row.job.job_steps)),
    (rf"{N} blocks of {N} steps after {N} warm-up", lambda row: (row.job.blocks, *_blocks(row.job))),
    (rf"warm-up {N}, blocks {N} x {N}", lambda row: (row.job.warmup_steps, row.job.blocks, row.job.block_steps)),
    (r"\bepochs (\S+) x (\S+)", lambda row: (row.job.epochs, row.job.steps_per_epoch)),
    (r"\bto ([\d.]+) %", lambda row: (f"{100 * row.job.target:g}" if row.job.target else None,)),
    (rf"\bevery {N} steps", lambda row: (row.job.evaluate_every,)),
)
_SINGLE: tuple[tuple[str, Values], ...] = (
    (rf"{N} test images after each epoch", lambda row: (row.job.epoch_eval_images,)),
    (rf"{N} images", lambda row: ((row.job.split or "").removeprefix("train-"),)),
    (rf"\bbatch {N}", lambda row: (row.job.batch_size,)),
    (rf"{N} threads?\b", lambda row: (row.job.threads,)),
    (rf"{N} ranks\b", lambda row: (row.job.world,)),
    (rf"{N} copies\b", lambda row: (row.job.copies,)),
    (rf"{N} nodes\b", lambda row: (row.job.nodes,)),
    (rf"{N} a rank\b", lambda row: (row.job.batch_size // row.job.world,)),
    (rf"\bgemm {N}", lambda row: (row.job.size,)),
    (rf"\bsize {N}", lambda row: (row.job.size,)),
    (rf"{N} further forward", lambda row: (row.job.extra_forwards,)),
    (rf"{N} workers", lambda row: (row.job.loader_workers,)),
    (rf"\bprotocol {N}", lambda row: (row.protocol,)),
    (rf"\bv{N}\b", lambda row: (row.job.workload_version,)),
    (rf"{N} steps", lambda row: (row.timed_steps,)),
)
PHRASES = tuple((re.compile(pattern), values) for pattern, values in (*_SEVERAL, *_SINGLE))
"""What is said of a job in numbers, and the fields it must be; phrases that contain another come before it."""
_DIGITS = re.compile(r"\d[\d.,]*")


def _blocks(job: Job) -> tuple[int, int]:
    return job.block_steps, job.warmup_steps


def wrong_of(text: str, row: RawRow, names: Iterable[str] = ()) -> Iterator[str]:
    """What the text says of the row that is not so, and each number that no rule accounts for. Names may have any."""
    job = row.job
    phrases, rest = _taken_apart(without(text, names))
    for said, numbers, values in phrases:
        right = tuple(str(value) for value in values(row))
        if numbers != right:
            yield f"says {said!r}, from the records it is {', '.join(right)}"
    own = (job.device, job.workload, job.recipe or "", job.optimizer or "", job.init or "", job.precision)
    yield from unknown(without(rest, own))


@lru_cache(maxsize=4096)
def _taken_apart(text: str) -> tuple[tuple[tuple[str, tuple[str, ...], Values], ...], str]:
    """Its phrases, each with its numbers and what they must be, and what is left of it."""
    found = []
    for pattern, values in PHRASES:
        if phrase := pattern.search(text):
            found.append((phrase.group(), tuple(each.replace(",", "") for each in phrase.groups()), values))
            text = f"{text[: phrase.start()]} {text[phrase.end() :]}"
    return tuple(found), text


def without(text: str, names: Iterable[str]) -> str:
    """The text without the names, each once."""
    for name in names:
        if shown(name):
            text = text.replace(shown(name), " ", 1)
    return text


def unknown(text: str) -> Iterator[str]:
    """Every number in a text that should have none left."""
    for found in _DIGITS.finditer(text):
        yield f"no rule to check the number {found.group()!r} in it"


Token = str | tuple[Kind, float]
"""Words that must follow, or a number that must."""


def wrong_in_order(text: str, tokens: Iterable[Token]) -> Iterator[str]:
    """Where a sentence departs from words and numbers in this order; between them it may say anything without a number."""
    position = 0
    for token in tokens:
        if isinstance(token, str):
            start = text.find(token, position)
            if start < 0:
                yield f"does not say {token!r} where it should"
                return
            end = start + len(token)
        else:
            found = re.compile(printed.NUMBER).search(text, position)
            if found is None:
                yield f"has no number where {token[1]:.6g} should be"
                return
            start, end = found.span()
            yield from _wrong_number(found.group(), *token)
        yield from unknown(text[position:start])
        position = end
    yield from unknown(text[position:])


def _wrong_number(digits: str, kind: Kind, value: float) -> Iterator[str]:
    unit = {"percent": " %", "ratio": "x"}.get(kind, "")
    if not printed.number(kind, digits + unit).fits(value):
        yield f"says {digits!r}, from the records it is {value:.6g}"

"""Numbers in words: a heading, a label, what a chart says in one sentence. Every number there must be one that is known."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

from cnnbench.schema import Job
from cnnbench.verify import number_parser
from cnnbench.verify.number_parser import NumberKind
from cnnbench.verify.raw_rows import RawRow, to_page_text

JobValues = Callable[[RawRow], tuple[object, ...]]

NUMBER_GROUP = r"([\d,]+)"
_SEVERAL: tuple[tuple[str, JobValues], ...] = (
    (
        rf"{NUMBER_GROUP} x {NUMBER_GROUP} = {NUMBER_GROUP} steps",
        lambda row: (row.job.epochs, row.job.steps_per_epoch, row.job.job_steps),
    ),
    (
        rf"{NUMBER_GROUP} blocks of {NUMBER_GROUP} steps after {NUMBER_GROUP} warm-up",
        lambda row: (row.job.blocks, *_blocks(row.job)),
    ),
    (
        rf"warm-up {NUMBER_GROUP}, blocks {NUMBER_GROUP} x {NUMBER_GROUP}",
        lambda row: (row.job.warmup_steps, row.job.blocks, row.job.block_steps),
    ),
    (r"\bepochs (\S+) x (\S+)", lambda row: (row.job.epochs, row.job.steps_per_epoch)),
    (r"\bto ([\d.]+) %", lambda row: (f"{100 * row.job.target:g}" if row.job.target else None,)),
    (rf"\bevery {NUMBER_GROUP} steps", lambda row: (row.job.evaluate_every,)),
)
_SINGLE: tuple[tuple[str, JobValues], ...] = (
    (rf"{NUMBER_GROUP} test images after each epoch", lambda row: (row.job.epoch_eval_images,)),
    (rf"{NUMBER_GROUP} images", lambda row: ((row.job.split or "").removeprefix("train-"),)),
    (rf"\bbatch {NUMBER_GROUP}", lambda row: (row.job.batch_size,)),
    (rf"{NUMBER_GROUP} threads?\b", lambda row: (row.job.threads,)),
    (rf"{NUMBER_GROUP} ranks\b", lambda row: (row.job.world,)),
    (rf"{NUMBER_GROUP} copies\b", lambda row: (row.job.copies,)),
    (rf"{NUMBER_GROUP} nodes\b", lambda row: (row.job.nodes,)),
    (rf"{NUMBER_GROUP} a rank\b", lambda row: (row.job.batch_size // row.job.world,)),
    (rf"\bgemm {NUMBER_GROUP}", lambda row: (row.job.size,)),
    (rf"\bsize {NUMBER_GROUP}", lambda row: (row.job.size,)),
    (rf"{NUMBER_GROUP} further forward", lambda row: (row.job.extra_forwards,)),
    (rf"{NUMBER_GROUP} workers", lambda row: (row.job.loader_workers,)),
    (rf"\bprotocol {NUMBER_GROUP}", lambda row: (row.protocol,)),
    (rf"\bv{NUMBER_GROUP}\b", lambda row: (row.job.workload_version,)),
    (rf"{NUMBER_GROUP} steps", lambda row: (row.timed_steps,)),
)
PHRASES = tuple((re.compile(pattern), values) for pattern, values in (*_SEVERAL, *_SINGLE))
"""What is said of a job in numbers, and the fields it must be; phrases that contain another come before it."""
_DIGITS = re.compile(r"\d[\d.,]*")


def _blocks(job: Job) -> tuple[int, int]:
    return job.block_steps, job.warmup_steps


def find_phrase_errors(text: str, row: RawRow, names: Iterable[str] = ()) -> Iterator[str]:
    """What the text says of the row that is not so, and each number that no rule accounts for. Names may have any."""
    job = row.job
    phrases, rest = _split_phrases(remove_names(text, names))
    for reported, numbers, values in phrases:
        right = tuple(str(value) for value in values(row))
        if numbers != right:
            yield f"says {reported!r}, from the records it is {', '.join(right)}"
    own = (job.device, job.workload, job.recipe or "", job.optimizer or "", job.init or "", job.precision)
    yield from find_unknown_numbers(remove_names(rest, own))


@lru_cache(maxsize=4096)
def _split_phrases(text: str) -> tuple[tuple[tuple[str, tuple[str, ...], JobValues], ...], str]:
    """Its phrases, each with its numbers and what they must be, and what is left of it."""
    found = []
    for pattern, values in PHRASES:
        if phrase := pattern.search(text):
            found.append((phrase.group(), tuple(each.replace(",", "") for each in phrase.groups()), values))
            text = f"{text[: phrase.start()]} {text[phrase.end() :]}"
    return tuple(found), text


def remove_names(text: str, names: Iterable[str]) -> str:
    """The text without the names, each once."""
    for name in names:
        if to_page_text(name):
            text = text.replace(to_page_text(name), " ", 1)
    return text


def find_unknown_numbers(text: str) -> Iterator[str]:
    """Every number in a text that should have none left."""
    for found in _DIGITS.finditer(text):
        yield f"no rule to check the number {found.group()!r} in it"


Token = str | tuple[NumberKind, float]
"""Words that must follow, or a number that must."""


def find_order_errors(text: str, tokens: Iterable[Token]) -> Iterator[str]:
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
            found = re.compile(number_parser.NUMBER).search(text, position)
            if found is None:
                yield f"has no number where {token[1]:.6g} should be"
                return
            start, end = found.span()
            yield from _find_number_errors(found.group(), *token)
        yield from find_unknown_numbers(text[position:start])
        position = end
    yield from find_unknown_numbers(text[position:])


def _find_number_errors(digits: str, kind: NumberKind, value: float) -> Iterator[str]:
    unit = {"percent": " %", "ratio": "x"}.get(kind, "")
    if not number_parser.parse_number(kind, digits + unit).fits(value):
        yield f"says {digits!r}, from the records it is {value:.6g}"

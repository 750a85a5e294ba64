"""Slow tests: which are left out of a run, how many there are of each kind, and the line that says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Counted:
    """What was collected: how many tests, how many slow ones of each kind, and whether those are left out."""

    found: int
    slow: dict[str, int]
    left_out: bool


COUNTED = pytest.StashKey[Counted]()


def wants_slow(config: pytest.Config) -> bool:
    """Return whether slow tests run: with --all, with a -m that decides by itself, and where files or tests are named."""
    named = any(".py" in word for word in config.args)
    return bool(config.option.all or config.option.markexpr or named)


def is_slow(item: pytest.Item) -> bool:
    """Return whether the test has the mark."""
    return item.get_closest_marker("slow") is not None


def count_slow(items: Iterable[pytest.Item]) -> dict[str, int]:
    """Count the slow tests by what makes them slow, the word that their mark must give. Raises UsageError."""
    kinds: Counter[str] = Counter()
    for item in items:
        if (mark := item.get_closest_marker("slow")) is not None:
            if not mark.args:
                raise pytest.UsageError(f"{item.nodeid}: say what makes it slow, as in mark.slow('real workers')")
            kinds[mark.args[0]] += 1
    return dict(kinds)


def describe(counted: Counted) -> str:
    """Say how many tests of which kinds were left out, and the word that runs them."""
    kinds = sorted(counted.slow.items(), key=lambda each: (-each[1], each[0]))
    total, listed = sum(counted.slow.values()), ", ".join(f"{count} {kind}" for kind, count in kinds)
    share = f"{total / counted.found:.1%}"
    return f"left out: {total} slow tests of {counted.found} ({share}: {listed}); --all runs them too"

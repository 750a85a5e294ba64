"""Printed text back to numbers: a cell's value, interval, n and whatever else it says, with how finely each was printed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

NumberKind = Literal["giga", "duration", "ratio", "percent", "size", "time", "energy", "number", "watts", "clock"]

SCALES = {
    "giga": {"": 1e9},
    "ratio": {"x": 1.0},
    "percent": {"%": 0.01},
    "size": {"B": 1.0, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40},
    "time": {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0},
    "energy": {"nJ": 1e-9, "uJ": 1e-6, "mJ": 1e-3, "J": 1.0, "kJ": 1e3},
    "number": {"": 1.0},
    "watts": {"W": 1.0},
    "clock": {"GHz": 1e9},
}
NUMBER = r"\d[\d.,]*(?:e[+-]?\d+)?"
_NUMBER = re.compile(NUMBER)
_INTERVAL = re.compile(rf"((?:\d+:)*{NUMBER})–((?:\d+:)*{NUMBER})(?: ?[%x])?")
_N = re.compile(r"n=(\d+)")


@dataclass(frozen=True)
class Number:
    """A value as printed, and half a unit of its last digit: any true value within that prints the same."""

    value: float
    tolerance: float

    def fits(self, value: float) -> bool:
        """Whether that value, rounded as this one was, prints so."""
        return abs(self.value - value) <= self.tolerance * 1.001 + abs(value) * 1e-9


@dataclass(frozen=True)
class ParsedCell:
    """A cell read back; `parse_number` is None where it says n/a or nothing. `marked`: a ~ stands before it."""

    text: str
    number: Number | None
    low: Number | None = None
    high: Number | None = None
    n: int | None = None
    details: tuple[str, ...] = ()
    """What stands in the brackets besides interval and n."""
    marked: bool = False


def parse_cell(kind: NumberKind, text: str) -> ParsedCell:
    """The cell's numbers. Raises ValueError for text that is no figure of that kind."""
    main, _, details = text.strip().partition(" (")
    parts = re.split(r"; |, (?=n=)", details.removesuffix(")")) if details else []
    marked, main = main.startswith("~"), main.removeprefix("~").strip()
    if main in ("", "n/a"):
        return ParsedCell(text, None, details=tuple(parts), marked=marked)
    low = high = None
    n: int | None = None
    beside: list[str] = []
    for part in parts:
        if (found := _INTERVAL.fullmatch(part)) and low is None:
            low, high = _parse_interval(kind, main, *found.groups())
        elif (counted := _N.fullmatch(part)) and n is None:
            n = int(counted.group(1))
        else:
            beside.append(part)
    return ParsedCell(text, parse_number(kind, main), low, high, n, tuple(beside), marked)


def _parse_interval(kind: NumberKind, main: str, first: str, second: str) -> tuple[Number, Number]:
    """Both ends of an interval in the unit of the figure; `0:00:41.6–44.8` says what both share once."""
    if kind == "duration":
        second = second if ":" in second else f"{first.rpartition(':')[0]}:{second}"
        return parse_number(kind, first), parse_number(kind, second)
    unit = _NUMBER.sub("", main, count=1).strip()
    return parse_number(kind, f"{first} {unit}"), parse_number(kind, f"{second} {unit}")


def parse_number(kind: NumberKind, text: str) -> Number:
    """One number with its unit. Raises ValueError for anything else, of another unit for instance."""
    if kind == "duration":
        hours, minutes, seconds = text.strip().split(":")
        decimals = len(seconds.partition(".")[2])
        return Number(int(hours) * 3600 + int(minutes) * 60 + float(seconds), 0.5 * 10.0**-decimals)
    found = _NUMBER.match(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no number")
    digits, unit = found.group().rstrip(".,"), text.strip()[found.end() :].strip()
    scales = SCALES[kind]
    if unit not in scales:
        raise ValueError(f"{text!r}: the unit {unit!r} is not one of {', '.join(scales)}")
    bare = digits.replace(",", "")
    mantissa, _, exponent = bare.partition("e")
    finest = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    return Number(float(bare) * scales[unit], 0.5 * finest * scales[unit])

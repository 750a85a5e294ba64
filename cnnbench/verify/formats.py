"""Numbers to text as a page should print them, written a second time: a difference from `units` is a finding."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

UNKNOWN = "n/a"
FormatNumber = Callable[[float], str]
_PREFIXES = ((1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "u"), (1e-9, "n"))
_NUMBER = re.compile(r"\d[\d.,]*")


def _with_prefix(value: float, unit: str) -> str:
    """Write three significant figures with the largest prefix that leaves a digit before the point."""
    scale, prefix = next((each for each in _PREFIXES if abs(value) >= 0.9995 * each[0]), _PREFIXES[-1])
    return f"{value / scale:.3g} {prefix}{unit}"


def seconds(value: float) -> str:
    """Write a duration with its prefix, whole seconds from 1,000 on."""
    return f"{value:,.0f} s" if abs(value) >= 999.5 else _with_prefix(value, "s")


def joules(value: float) -> str:
    """Write an energy with its prefix."""
    return _with_prefix(value, "J")


def duration(value: float) -> str:
    """Write hours, minutes and seconds; below ten minutes with tenths."""
    decimals = int(round(value * 10) < 6000)
    rounded = round(value * 10) / 10 if decimals else float(round(value))
    minutes, rest = divmod(rounded, 60)
    width = 4 if decimals else 2
    return f"{int(minutes) // 60}:{int(minutes) % 60:02d}:{rest:0{width}.{decimals}f}"


def giga(value: float) -> str:
    """Write billions without a unit: whole from 1,000 on, one decimal from ten on, else three figures."""
    number = value / 1e9
    return f"{number:,.0f}" if number >= 999.95 else f"{number:.1f}" if number >= 9.995 else f"{number:.3g}"


def size(value: float) -> str:
    """Write bytes with a binary prefix."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = next((n for n in range(4) if abs(value) < 1024.0 ** (n + 1)), 4)
    number = value / 1024.0**power
    return f"{number:.0f} {units[power]}" if power == 0 or number >= 100 else f"{number:.3g} {units[power]}"


def ratio(value: float) -> str:
    """Write a ratio: whole from 100 on, else two decimals, below a tenth two figures."""
    return f"{value:.2g}x" if value < 0.0995 else f"{value:,.0f}x" if value >= 99.995 else f"{value:.2f}x"


def whole_from(limit: float) -> FormatNumber:
    """Make the rule that writes three figures below the limit and whole numbers from it on."""
    return lambda value: count(value) if value >= limit else f"{value:.3g}"


count, rate, number = "{:,.0f}".format, whole_from(99.95), whole_from(999.5)


def percent(digits: int) -> FormatNumber:
    """Make the rule that writes a share as a percentage with so many decimals."""
    return lambda value: f"{100 * value:.{digits}f} %"


def chance(value: float) -> str:
    """Write a probability, never rounded to 0 or to 1."""
    text = percent(2)(value)
    return "<0.01 %" if value > 0 and text == "0.00 %" else ">99.99 %" if value < 1 and text == "100.00 %" else text


def points(value: float) -> str:
    """Write a difference of shares in percentage points with its sign."""
    return f"{round(100 * value, 3) + 0.0:+.3f} pp"


def loss(value: float) -> str:
    """Write a size in percentage points without a plus sign."""
    return points(value).removeprefix("+")


UNITS: Mapping[str, FormatNumber] = {
    "gflops": giga,
    "flops_per_second": giga,
    "images_per_second": rate,
    "bytes": size,
    "joules": joules,
    "job_seconds": duration,
    "seconds_to_target": number,
    "epochs_to_target": number,
    "seconds": seconds,
    **dict.fromkeys(("speed", "allows", "over_median"), ratio),
    "share_of_measured": percent(0),
    **dict.fromkeys(("mfu", "efficiency", "exchange"), percent(1)),
    "_sd": loss,
    "mode_accuracy": percent(3),
    "plain_accuracy": percent(3),
    **dict.fromkeys(("accuracy", "r_squared"), percent(2)),
    "chance": chance,
    "cost": lambda value: f"{value:,.4g}",
    "price": lambda value: f"{value:,.12g}",
    "difference": points,
    "loss_allowed": loss,
}
"""The format of a value by a part of its name, since names carry units; the first that fits. Other values are counts."""


def find_format(name: str) -> FormatNumber:
    """Find the format of the value with that name."""
    return next((text for part, text in UNITS.items() if part in name), count)


def span(low: float, high: float, text: FormatNumber) -> str:
    """Write both ends of an interval; a unit they share is printed once."""
    first, last = text(low), text(high)
    if text is points:
        return f"{first.removesuffix(' pp')} to {last}"
    if ":" in first and first.rpartition(":")[0] == last.rpartition(":")[0]:
        last = last.rpartition(":")[2]
    unit = next((unit for unit in (" %", "x") if first.endswith(unit) and last.endswith(unit)), "")
    return f"{first.removesuffix(unit)}–{last}"


def with_details(text: str, details: Sequence[str]) -> str:
    """Write a cell's text and details in one line."""
    return f"{text} ({'; '.join(details)})" if details else text


def fold(text: str) -> str:
    """Fold blanks and line ends into one blank between words."""
    return " ".join(text.split())


def find_numbers(*texts: object) -> list[str]:
    """Find every number in these texts, without thousands separators."""
    return [each.rstrip(".,").replace(",", "") for each in _NUMBER.findall(" ".join(map(str, texts)))]

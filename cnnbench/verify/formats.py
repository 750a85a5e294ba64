"""Numbers to text as a page should print them, written a second time: what does not agree with `units` is a finding."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

UNKNOWN = "n/a"
FormatNumber = Callable[[float], str]
_PREFIXES = ((1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "u"), (1e-9, "n"))
_NUMBER = re.compile(r"\d[\d.,]*")


def _with_prefix(value: float, unit: str) -> str:
    """Three significant figures with the largest prefix that leaves one before the point."""
    scale, prefix = next((each for each in _PREFIXES if abs(value) >= 0.9995 * each[0]), _PREFIXES[-1])
    return f"{value / scale:.3g} {prefix}{unit}"


def seconds(value: float) -> str:
    """A duration with its prefix, whole seconds from 1,000 on."""
    return f"{value:,.0f} s" if abs(value) >= 999.5 else _with_prefix(value, "s")


def joules(value: float) -> str:
    """Energy with its prefix."""
    return _with_prefix(value, "J")


def duration(value: float) -> str:
    """Hours, minutes and seconds; below ten minutes with a tenth."""
    decimals = int(round(value * 10) < 6000)
    rounded = round(value * 10) / 10 if decimals else float(round(value))
    minutes, rest = divmod(rounded, 60)
    width = 4 if decimals else 2
    return f"{int(minutes) // 60}:{int(minutes) % 60:02d}:{rest:0{width}.{decimals}f}"


def giga(value: float) -> str:
    """Thousand millions without the unit: four figures, at least three below ten."""
    number = value / 1e9
    return f"{number:,.0f}" if number >= 999.95 else f"{number:.1f}" if number >= 9.995 else f"{number:.3g}"


def size(value: float) -> str:
    """Bytes with a binary prefix."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = next((n for n in range(4) if abs(value) < 1024.0 ** (n + 1)), 4)
    number = value / 1024.0**power
    return f"{number:.0f} {units[power]}" if power == 0 or number >= 100 else f"{number:.3g} {units[power]}"


def ratio(value: float) -> str:
    """Times as much: whole from 100 on, two decimals, two figures below a tenth."""
    return f"{value:.2g}x" if value < 0.0995 else f"{value:,.0f}x" if value >= 99.995 else f"{value:.2f}x"


def whole_from(limit: float) -> FormatNumber:
    """Three figures, from the limit on all of them."""
    return lambda value: count(value) if value >= limit else f"{value:.3g}"


count, rate, number = "{:,.0f}".format, whole_from(99.95), whole_from(999.5)


def percent(digits: int) -> FormatNumber:
    """A share with so many decimals."""
    return lambda value: f"{100 * value:.{digits}f} %"


def chance(value: float) -> str:
    """A probability, which is rounded neither to 0 nor to 1."""
    text = percent(2)(value)
    return "<0.01 %" if value > 0 and text == "0.00 %" else ">99.99 %" if value < 1 and text == "100.00 %" else text


def points(value: float) -> str:
    """A difference of shares with its sign."""
    return f"{round(100 * value, 3) + 0.0:+.3f} pp"


def loss(value: float) -> str:
    """A size in points, without a sign."""
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
    "accuracy": percent(2),
    "chance": chance,
    "cost": lambda value: f"{value:,.4g}",
    "price": lambda value: f"{value:,.12g}",
    "difference": points,
    "loss_allowed": loss,
}
"""How a value is written by a part of its name, which has its unit; the first that fits. Others are counts."""


def find_format(name: str) -> FormatNumber:
    """How the value of that name is written."""
    return next((text for part, text in UNITS.items() if part in name), count)


def span(low: float, high: float, text: FormatNumber) -> str:
    """Both ends of an interval; what they share is printed once."""
    first, last = text(low), text(high)
    if text is points:
        return f"{first.removesuffix(' pp')} to {last}"
    if ":" in first and first.rpartition(":")[0] == last.rpartition(":")[0]:
        last = last.rpartition(":")[2]
    unit = next((unit for unit in (" %", "x") if first.endswith(unit) and last.endswith(unit)), "")
    return f"{first.removesuffix(unit)}–{last}"


def with_details(text: str, details: Sequence[str]) -> str:
    """A cell in one line."""
    return f"{text} ({'; '.join(details)})" if details else text


def fold(text: str) -> str:
    """The text with one blank between its words."""
    return " ".join(text.split())


def find_numbers(*texts: object) -> list[str]:
    """Every number in these texts, without separators."""
    return [each.rstrip(".,").replace(",", "") for each in _NUMBER.findall(" ".join(map(str, texts)))]

"""Formats numbers as text: the only place where SI values are converted for people. Unknown is always `n/a`."""

from __future__ import annotations

from collections.abc import Callable

NOT_AVAILABLE = "n/a"


def duration(seconds: float | None) -> str:
    """Format a clock time as h:mm:ss, rounded to the second: 6331 -> `1:45:31`.

    Below ten minutes 327 -> `0:05:27.0`.
    """
    if seconds is None:
        return NOT_AVAILABLE
    tenths = round(seconds * 10)
    if tenths < 6000:
        minutes, rest = divmod(tenths, 600)
        return f"0:{minutes:02d}:{rest // 10:02d}.{rest % 10}"
    whole = round(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


def short_seconds(seconds: float | None) -> str:
    """Format a duration with a suitable prefix: `43.1 ms`, `5.2 us`, `12.0 s`."""
    if seconds is None:
        return NOT_AVAILABLE
    if abs(seconds) >= 999.5:
        return f"{seconds:,.0f} s"
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if abs(seconds) >= 0.9995 * scale:  # 999.7 us rounds to 1 ms, not to 1e+03 us
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def joules(value: float | None) -> str:
    """Format an energy with a suitable prefix: `12.3 mJ`, `4.5 kJ`."""
    if value is None:
        return NOT_AVAILABLE
    for scale, unit in ((1e3, "kJ"), (1.0, "J"), (1e-3, "mJ"), (1e-6, "uJ")):
        if abs(value) >= 0.9995 * scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-9:.3g} nJ"


def giga(flops_per_second: float | None) -> str:
    """Format a rate in GFLOP/s without its unit: four significant figures, thousands separated (`66,908`)."""
    if flops_per_second is None:
        return NOT_AVAILABLE
    value = flops_per_second / 1e9
    if value >= 999.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.3g}"


def data_size(size: int | None) -> str:
    """Format bytes with a binary prefix: `1.2 GiB`, `227 KiB`."""
    if size is None:
        return NOT_AVAILABLE
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024 or unit == "TiB":
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.3g} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def count(value: float | None) -> str:
    """Format a whole number with separators: `1,378,698`."""
    return NOT_AVAILABLE if value is None else f"{value:,.0f}"


def rate(per_second: float | None) -> str:
    """Format a rate such as images/s without its unit: whole from 100 up (`1,912`), three significant figures below."""
    if per_second is None:
        return NOT_AVAILABLE
    return f"{per_second:,.0f}" if per_second >= 99.95 else f"{per_second:.3g}"


def ratio(value: float | None) -> str:
    """Format a speed-up: `19.36x`, `0.98x`, `264x`, `43,442x`, `0.0042x`."""
    if value is None:
        return NOT_AVAILABLE
    if value < 0.0995:
        return f"{value:.2g}x"
    return f"{value:,.0f}x" if value >= 99.995 else f"{value:.2f}x"


def span(low: float, high: float, text: Callable[[float | None], str]) -> str:
    """Format an interval, with what both ends share only once: `0.98–1.04x`, `97.20–97.80 %`, `0:00:41.6–44.8`."""
    lower, upper = text(low), text(high)
    if ":" in lower and lower.rpartition(":")[0] == upper.rpartition(":")[0]:
        upper = upper.rpartition(":")[2]
    for unit in (" %", "x"):
        if lower.endswith(unit) and upper.endswith(unit):
            lower = lower.removesuffix(unit)
    return f"{lower}–{upper}"


def exact_percent(fraction: float) -> str:
    """Format a share that somebody chose, with as many digits as it has: 0.99 -> `99 %`, 0.985 -> `98.5 %`."""
    return f"{100 * fraction:g} %"


def number(value: float | None) -> str:
    """Format a number without its unit: three significant figures (`35.2`), whole and with separators from 1,000 up."""
    if value is None:
        return NOT_AVAILABLE
    return f"{value:,.0f}" if value >= 999.5 else f"{value:.3g}"


def percent(fraction: float | None, digits: int = 2) -> str:
    """Format a fraction as percent: 0.992 -> `99.20 %`."""
    return NOT_AVAILABLE if fraction is None else f"{100 * fraction:.{digits}f} %"


def chance(share: float | None) -> str:
    """Format a probability as percent, never rounded to certainty: `19.73 %`, `<0.01 %`, `>99.99 %`.

    Only 0 and 1 are exact.
    """
    text = percent(share)
    if share is not None and share > 0 and text == percent(0.0):
        return "<0.01 %"
    return ">99.99 %" if share is not None and share < 1 and text == percent(1.0) else text


def points(share: float | None, *, signed: bool = True) -> str:
    """Format a difference of shares in percentage points: -0.00031 -> `-0.031 pp`.

    A size without sign: `0.100 pp`.
    """
    if share is None:
        return NOT_AVAILABLE
    value = round(100 * share, 3) + 0.0  # -0.0 has a sign and no meaning
    return f"{value:+.3f} pp" if signed else f"{value:.3f} pp"


def points_span(low: float, high: float) -> str:
    """Format an interval of differences with one unit: `-0.070 to +0.008 pp`."""
    return f"{points(low).removesuffix(' pp')} to {points(high)}"

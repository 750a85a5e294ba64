"""Numbers to text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnbench import units


@pytest.mark.parametrize(
    "text",
    [
        units.duration,
        units.short_seconds,
        units.giga,
        units.data_size,
        units.count,
        units.rate,
        units.chance,
        units.points,
        units.ratio,
        units.percent,
    ],
)
def test_unknown_prints_not_available_everywhere(text):
    assert text(None) == "n/a"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (6331, "1:45:31"),
        (327, "0:05:27.0"),
        (0, "0:00:00.0"),
        (599.94, "0:09:59.9"),
        (599.96, "0:10:00"),
        (3599.6, "1:00:00"),
        (360_000, "100:00:00"),
    ],
)
def test_a_duration_reads_as_a_clock_and_never_shows_sixty_seconds(seconds, text):
    assert units.duration(seconds) == text


@given(st.floats(0, 1e6))
def test_a_duration_reads_back_within_its_rounding(seconds):
    """The text parsed as h:mm:ss is the value within half of the last digit shown."""
    hours, minutes, rest = units.duration(seconds).split(":")
    assert int(minutes) < 60
    assert float(rest) < 60
    parsed = int(hours) * 3600 + int(minutes) * 60 + float(rest)
    assert abs(parsed - seconds) <= (0.0501 if "." in rest else 0.5)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0431, "43.1 ms"),
        (5.2e-6, "5.2 us"),
        (12, "12 s"),
        (999.7e-6, "1 ms"),
        (0.9996, "1 s"),
        (1234, "1,234 s"),
        (3e-9, "3 ns"),
    ],
)
def test_a_short_duration_takes_the_prefix_that_suits_it(seconds, text):
    assert units.short_seconds(seconds) == text


@given(st.floats(1e-9, 1e5))
def test_short_durations_never_fall_into_exponents(seconds):
    assert "e" not in units.short_seconds(seconds)


@pytest.mark.parametrize(
    ("rate", "text"),
    [(45.0786e9, "45.1"), (66_908e9, "66,908"), (999.96e9, "1,000"), (9.996e9, "10.0"), (1.234e9, "1.23")],
)
def test_rates_in_gflops(rate, text):
    assert units.giga(rate) == text


@pytest.mark.parametrize(("size", "text"), [(227_116, "222 KiB"), (0, "0 B"), (1023, "1023 B"), (2**30, "1 GiB")])
def test_bytes_take_a_binary_prefix(size, text):
    assert units.data_size(size) == text


@pytest.mark.parametrize(("value", "text"), [(1912.4, "1,912"), (99.96, "100"), (3.14159, "3.14")])
def test_rates_keep_three_figures(value, text):
    assert units.rate(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (19.3609, "19.36x"),
        (1, "1.00x"),
        (264.4, "264x"),
        (99.996, "100x"),
        (43_442.4, "43,442x"),
        (0.0042, "0.0042x"),
    ],
)
def test_ratios(value, text):
    assert units.ratio(value) == text


@pytest.mark.parametrize(
    ("low", "high", "text", "span"),
    [
        (0.98, 1.04, units.ratio, "0.98–1.04x"),
        (0.972, 0.978, units.percent, "97.20–97.80 %"),
        (2921, 3380, units.duration, "0:48:41–0:56:20"),
        (41.6, 44.8, units.duration, "0:00:41.6–44.8"),
        (118, 123, units.duration, "0:01:58.0–0:02:03.0"),
        (170.2e9, 181.1e9, units.giga, "170.2–181.1"),
    ],
)
def test_a_span_says_once_what_both_ends_share(low, high, text, span):
    assert units.span(low, high, text) == span


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.19735, "19.73 %"),
        (0.0, "0.00 %"),
        (1.0, "100.00 %"),
        (4e-5, "<0.01 %"),
        (1e-300, "<0.01 %"),
        (0.99997, ">99.99 %"),
        (0.9999, "99.99 %"),
    ],
)
def test_a_chance_is_never_rounded_to_certainty(share, text):
    assert units.chance(share) == text


@pytest.mark.parametrize(
    ("share", "text"), [(-0.00031, "-0.031 pp"), (0.001, "+0.100 pp"), (-1e-9, "+0.000 pp"), (0.0, "+0.000 pp")]
)
def test_differences_of_shares_are_points_with_a_sign(share, text):
    assert units.points(share) == text


def test_a_size_in_points_has_no_sign_and_a_span_its_unit_once():
    assert units.points(0.001, signed=False) == "0.100 pp"
    assert units.points_span(-0.0007, 0.00008) == "-0.070 to +0.008 pp"

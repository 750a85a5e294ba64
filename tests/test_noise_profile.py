"""The noise profile: spreads from closed forms, what it recommends, and when it is refused."""

from __future__ import annotations

import math
import random
import statistics
from datetime import UTC, datetime
from pathlib import Path

import pytest
from builders import machine
from pair_builders import ROUNDS, block, header, run

from cnnbench.cli.calibrate import format_profile
from cnnbench.errors import ComparisonError, LedgerError
from cnnbench.paired_protocol import PairRecord
from cnnbench.regression.design import make_check_plan
from cnnbench.regression.noise_profile import (
    MEDIAN_ERROR,
    NoiseProfile,
    explain_insensitivity,
    load_profile,
    profile_path,
    profile_recording,
)

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def recorded(count: int = 40, spread: float = 0.01, seed: int = 1) -> list[PairRecord]:
    source = random.Random(seed)
    return [block(number, {0: source.gauss(0, spread), 1: source.gauss(0, spread / 2)}) for number in range(count)]


def profile(blocks: list[PairRecord] | None = None) -> NoiseProfile:
    blocks = recorded() if blocks is None else blocks
    return profile_recording(header(), blocks, holds_days=30)


def test_the_spread_is_the_standard_deviation_of_d_and_the_tolerance_three_of_them() -> None:
    blocks = recorded()
    made = profile(blocks)
    d = [math.log(each.head[0].step_seconds[0][0] / 0.01) for each in blocks]
    assert made.jobs["mnist-cnn/cpu"].spread == pytest.approx(statistics.stdev(d))
    assert made.worst_spread == made.jobs["mnist-cnn/cpu"].spread
    assert made.recommended_tolerance == pytest.approx(3 * made.worst_spread, abs=1e-3)
    assert made.recommended_tolerance >= 3 * made.worst_spread
    assert made.detectable[-1].blocks == 16
    assert made.detectable[-1].effect is not None
    assert made.detectable[0].effect is not None
    assert made.detectable[0].effect > made.detectable[-1].effect > made.tolerance


def test_what_rounds_explain_is_told_from_what_pairs_do() -> None:
    """Rounds that alternate by +-e about a block's own d: the scatter by MAD is 1.4826 e, the median's error follows."""
    blocks = []
    for number, own in enumerate((-0.02, 0.02) * 5):
        rounds = [0.01 * math.exp(own + sign * 0.003) for sign in (1, -1) * (ROUNDS // 2)]
        blocks.append(block(number).model_copy(update={"head": {0: run(rounds), 1: run(rounds)}}))
    noise = profile(blocks).jobs["mnist-cnn/cpu"]
    assert noise.within_spread == pytest.approx(1.4826 * 0.003, rel=1e-6)
    assert noise.within_error == pytest.approx(MEDIAN_ERROR * 1.4826 * 0.003 / math.sqrt(ROUNDS))
    assert noise.between_spread == pytest.approx(math.sqrt(noise.spread**2 - (noise.within_error or 0) ** 2))


def test_no_number_of_rounds_helps_where_pairs_differ_by_themselves() -> None:
    """0.02 between pairs is more than a third of log 1.05; 0.003 from rounds alone is removed by more of them."""
    assert profile(recorded(spread=0.02)).recommended_rounds is None
    assert profile(recorded(spread=0.001)).recommended_rounds == 10


def test_checks_replayed_from_a_recording_with_fresh_signs_do_not_alarm() -> None:
    """1,000 unchanged checks from 40 blocks of sigma_d = 1 %: no REGRESSED, and twice the tolerance is always found."""
    unchanged, twice = profile().replayed
    assert (unchanged.effect, unchanged.checks, unchanged.regressed) == (0.0, 1000, 0)
    assert unchanged.passed == 1000
    assert twice.effect == pytest.approx(0.1)
    assert twice.regressed == 1000
    assert twice.median_blocks == 8


def test_where_twice_the_tolerance_cannot_be_seen_the_check_is_advisory() -> None:
    """By the design's table sigma_d of tau / 2 is enough and sigma_d of tau is not; 6 blocks alone never suspect."""
    assert explain_insensitivity(profile(), make_check_plan(0.05)) is None
    assert "raise --tolerance" in (explain_insensitivity(profile(recorded(spread=0.06)), make_check_plan(0.05)) or "")
    assert "no slowdown" in (explain_insensitivity(profile(), make_check_plan(0.05, 6)) or "")


def test_a_profile_is_for_its_machine_its_suite_and_its_time(tmp_path: Path) -> None:
    path = profile_path(tmp_path, "box", "regression")
    assert path == tmp_path / "box" / "noise" / "regression.json"
    path.parent.mkdir(parents=True)
    path.write_text(profile().model_dump_json())
    suite = header().suite_digest
    assert load_profile(path, machine(), suite, NOW) == profile()
    with pytest.raises(ComparisonError, match="another machine, testbox-0a1b; this is other"):
        load_profile(path, machine("other"), suite, NOW)
    with pytest.raises(ComparisonError, match="expired on 2026-03-31"):
        load_profile(path, machine(), suite, datetime(2026, 4, 1, tzinfo=UTC))
    with pytest.raises(ComparisonError, match="before it was changed"):
        load_profile(path, machine(), "1" * 64, NOW)
    path.write_text("{}")
    with pytest.raises(LedgerError, match="not a noise profile"):
        load_profile(path, machine(), suite, NOW)


def test_the_profile_in_words_says_what_would_be_found() -> None:
    lines = "\n".join(format_profile(profile()))
    for words in (
        "mnist-cnn/cpu: sigma_d",
        "as low as",
        "at most 16 blocks: a slowdown of",
        "0 regressed, 1000 passed",
    ):
        assert words in lines


def test_the_profile_in_words_has_the_figures_of_the_profile() -> None:
    """Tolerances and slowdowns are fractions, spreads of d its standard deviation: none is turned into another."""
    made = profile()
    lines = "\n".join(format_profile(made))
    for words in (
        f"sigma_d {100 * made.worst_spread:.2f} % ",
        f"as low as {100 * made.recommended_tolerance:.1f} % (3 sigma_d)",
        "a third of 5.0 %",
        f"at most 16 blocks: a slowdown of {100 * (made.detectable[-1].effect or 0):.2f} % is found in 80 % of checks at 5.0 %",
        "fresh signs, 10.0 % slower: 1000 regressed",
    ):
        assert words in lines

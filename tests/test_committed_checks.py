"""What is committed under results/ of checks and calibrations: verdicts, profiles and pictures follow from the raw blocks."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest

from cnnbench.cli.calibrate import make_curve
from cnnbench.cli.main import run_cli
from cnnbench.regression import check_record
from cnnbench.regression.blocks import median_ratio
from cnnbench.regression.noise_profile import NoiseProfile, profile_recording
from cnnbench.report import chart_images

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"


def holds_a_check(path: Path) -> bool:
    document = json.loads(path.read_bytes())
    return isinstance(document, dict) and document.get("header", {}).get("kind") == "check"


CHECKS = [path for path in sorted(RESULTS.glob("*/checks/**/*.json")) if holds_a_check(path)]
BLOCKS = sorted(RESULTS.glob("*/noise/*-blocks.json"))
PICTURES = [
    path
    for path in sorted((*ROOT.glob("docs/*.svg"), *ROOT.glob("docs/*.png")))
    if b'"chart":"detectable"' in path.read_bytes()
]


def each(paths: list[Path], what: str) -> Any:
    """A parameter a file; where none is committed, one that is skipped and says so."""
    absent = pytest.param(None, marks=pytest.mark.skip(reason=f"no {what} is committed"), id="none")
    return pytest.mark.parametrize(
        "path", [pytest.param(path, id=str(path.relative_to(ROOT))) for path in paths] or [absent]
    )


@each(CHECKS, "record of a check under results/*/checks")
def test_a_committed_verdict_replays_to_the_same_words_bytes_and_exit_code(
    path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Twice, and against the verdict that the file holds."""
    stored = check_record.load_record(path).ending
    said = set()
    for name in ("first.json", "second.json"):
        assert run_cli(["check", "replay", str(path), "-o", str(tmp_path / name)]) == stored.exit_code
        said.add(capfd.readouterr().out)
        assert (tmp_path / name).read_bytes() == path.read_bytes()
    (words,) = said
    lines = stored.lines or (f"{stored.outcome.upper()}: {stored.problem}",)
    assert words == "".join(f"{line}\n" for line in lines)


@each(BLOCKS, "recording of a calibration under results/*/noise")
def test_a_committed_profile_follows_from_its_blocks(path: Path) -> None:
    """In all but the dates, which --expires shapes; floats to 12 digits, since their last ones are the library's."""
    beside = path.with_name(f"{path.name.removesuffix('-blocks.json')}.json")
    stored = NoiseProfile.model_validate_json(beside.read_bytes())
    record = check_record.load_record(path)
    made = profile_recording(record.header, record.blocks, 30)
    dates = {"created_at", "expires_at"}
    assert rounded(made.model_dump(exclude=dates)) == rounded(stored.model_dump(exclude=dates))


@each(BLOCKS, "recording of a calibration under results/*/noise")
def test_checks_replayed_from_a_committed_recording_never_regress(path: Path) -> None:
    """1,000 unchanged checks drawn from its blocks with fresh signs."""
    record = check_record.load_record(path)
    unchanged = profile_recording(record.header, record.blocks, 30).replayed[0]
    assert (unchanged.effect, unchanged.checks, unchanged.regressed) == (0.0, 1000, 0)


@each(PICTURES, "picture of a calibration under docs")
def test_a_committed_picture_shows_a_committed_recording(path: Path) -> None:
    """The data it carries are those of one of them, at the tolerance that was recorded."""
    records = map(check_record.load_record, BLOCKS)
    digests = {
        chart_images.data_digest(
            make_curve(profile_recording(record.header, record.blocks, 30), record.header.plan)
        ): name
        for name, record in zip(BLOCKS, records, strict=True)
    }
    content = path.read_bytes() if path.suffix == ".png" else path.read_text(encoding="utf-8")
    assert chart_images.stored_digest(content) in digests


def test_an_injected_share_differs_between_the_states_of_a_machine_as_the_page_says() -> None:
    """The same amount in every block of the selftest with 10 %: by the step of base, below 22 ms or above 25."""
    record = check_record.load_record(RESULTS / "amd-epyc-74ec4b79" / "checks" / "selftest-tau5-10.json")
    fast, slow = [], []
    for block in record.blocks:
        ratio = math.expm1(median_ratio(block.base[0], block.head[0], record.header.mode))
        (fast if statistics.median(block.base[0].turn_seconds) < 0.022 else slow).append(ratio)
    assert (len(fast), len(slow)) == (20, 3)
    assert 0.08 < statistics.median(fast) < 0.09
    assert sum(0.08 <= ratio <= 0.095 for ratio in fast) > len(fast) / 2
    assert round(max(slow), 3) == 0.063


def rounded(value: Any) -> Any:
    """The same with floats of 12 significant digits."""
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each) for each in value]
    return float(f"{value:.12g}") if isinstance(value, float) else value

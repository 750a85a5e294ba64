"""The script that compares loss curves: what a line says, that it gives no doubt, and that the published page is current."""

from __future__ import annotations

import math
import random
from pathlib import Path
from unittest.mock import patch

import builders as b
import learning_builders as lb
import loss_curves
import pytest
import report_builders
from click.testing import CliRunner
from loss_curves import compare_curves, describe_epochs

from cnnbench.errors import ExitCode, UsageError

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "docs" / "studies" / "loss-curves.md"


def call(*arguments: object) -> str:
    done = CliRunner().invoke(loss_curves.loss_curves, [*map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == ExitCode.DONE  # one mode's loss is higher, its accuracy is not: a hint, no finding
    return done.stdout


def cells(page: str) -> dict[str, list[str]]:
    """The cells of each line by its mode."""
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    return {line[1]: line for line in lines}


class TestCommand:
    @pytest.fixture
    def rows(self, tmp_path):
        return cells(call(report_builders.write(tmp_path / "results", [lb.curved()])))

    def test_every_mode_beside_its_plain_row_has_a_verdict(self, rows):
        told = {mode: row[4] for mode, row in rows.items() if mode not in ("mode", "---")}
        assert told == {
            "nhwc": "indistinguishable",
            "bf16": "differs; higher in epochs 2 to 3",
            "fp16": "differs; lower in epochs 1, 3",
            "compiled": "too few seeds",
        }

    def test_the_line_says_p_the_ratio_and_what_it_would_see(self, rows):
        assert rows["bf16"][5:] == ["0.0078", "1.34x", "1.13x"]
        assert rows["compiled"][3:] == ["1 and 8", "too few seeds", "n/a", "n/a", "n/a"]

    def test_a_curve_gives_no_doubt(self):
        assert "learns-worse" not in {doubt.code for row in lb.rows_of(lb.curved()) for doubt in row.doubts}

    def test_a_curve_that_differs_in_no_single_epoch_says_so(self):
        """Eight pairs, each epoch's difference of the wrong sign in two others."""
        stream = random.Random(0)
        for _ in range(400):
            logs = {seed: [stream.gauss(0.45, 1) for _ in range(6)] for seed in range(8)}
            with patch.object(loss_curves, "_find_detectable", lambda sample: None):
                found = compare_curves(
                    {seed: tuple(each) for seed, each in logs.items()}, dict.fromkeys(logs, (0.0,) * 6)
                )
            if found.verdict == "differs" and not (*found.higher, *found.lower):
                break
        else:
            pytest.fail("no such curve was drawn")
        assert found.ratio is not None
        assert math.log(found.ratio) > 0
        assert list(describe_epochs(found)) == ["higher over all epochs, in none alone"]

    def test_ledgers_without_a_mode_are_one_clear_error(self, tmp_path):
        b.write(tmp_path, b.ledger(b.repeats(b.cnn_job(), [0.01] * 3)))
        with pytest.raises(UsageError, match="no mode beside its plain row in"):
            call(tmp_path)


def test_the_published_page_is_what_the_committed_ledgers_say(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    made = tmp_path / "page.md"
    call("results", "-o", made)
    command = f"results -o {made}"
    assert made.read_text().replace(command, "results -o docs/studies/loss-curves.md") == PUBLISHED.read_text()

"""The column of loss curves beside the accuracy's verdict: what it says, and that it gives no doubt and no exit code."""

from __future__ import annotations

import json
import math
import random
from unittest.mock import patch

import builders as b
import learning_builders as lb
import pytest
import report_builders
from click.testing import CliRunner

from cnnbench.analysis import loss_curves
from cnnbench.analysis.loss_curves import compare_curves
from cnnbench.cli.audit import Rendered
from cnnbench.cli.learning import converge as command
from cnnbench.errors import ExitCode
from cnnbench.verify import audit


class TestCommand:
    @pytest.fixture
    def rows(self, tmp_path):
        results = report_builders.write(tmp_path / "results", [lb.curved()])
        done = CliRunner().invoke(command, [str(results), "--format", "json"])
        assert done.exit_code == ExitCode.DONE  # one mode's loss is higher, its accuracy is not: a hint, no finding
        return {row["mode"]: row for row in json.loads(done.stdout)["tables"][0]["rows"]}

    def test_every_verdict_stands_beside_the_accuracy_s(self, rows):
        told = {mode: (row["curve"], row["epochs_higher"], row["epochs_lower"]) for mode, row in rows.items()}
        assert told == {
            "nhwc": ("indistinguishable", None, None),
            "bf16": ("differs", "2 to 3", None),
            "fp16": ("differs", None, "1, 3"),
            "compiled": ("too few seeds", None, None),
        }
        assert {row["verdict"] for row in rows.values()} == {"learns as well"}

    def test_the_cell_says_p_the_ratio_and_what_it_would_see(self, rows):
        assert rows["bf16"]["curve_text"] == "differs (higher in epochs 2 to 3; p=0.0078; 1.34x; would see 1.13x)"
        assert rows["compiled"]["curve_text"] == "too few seeds (1 and 8)"

    def test_a_curve_gives_no_doubt(self):
        assert "learns-worse" not in {doubt.code for row in lb.rows_of(lb.curved()) for doubt in row.doubts}

    def test_a_curve_that_differs_in_no_single_epoch_says_so(self, tmp_path):
        """Eight pairs, each epoch's difference of the wrong sign in two others."""
        stream = random.Random(0)
        plain = dict.fromkeys(range(8), (0.5,) * 6)
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
        mode = {seed: tuple(0.5 * math.exp(each) for each in curve) for seed, curve in logs.items()}
        records = [*lb.with_losses(plain, epochs=6), *lb.with_losses(mode, start=8, epochs=6, layout="nhwc")]
        results = report_builders.write(tmp_path / "results", [b.ledger(records)])
        target = tmp_path / "table.md"
        CliRunner().invoke(command, [str(results), "--format", "markdown", "-o", str(target)])
        assert "differs (higher over all epochs, in none alone; p=0.0" in target.read_text()
        assert audit([tmp_path], report_builders.REFERENCES, Rendered).disagreements == ()

"""The study of false alarms and its script: every rule meets every noise, a seed gives one page, a missed target exits 1."""

from __future__ import annotations

import json
from pathlib import Path

import builders as b
import false_alarm_study as studies
import pytest
from click.testing import CliRunner
from false_alarm_page import from_json, render_study, to_json
from false_alarm_study import EFFECTS, run_study
from false_alarms import false_alarms as command
from noise_models import NOISE_MODELS, make_trace
from other_tools import OTHER_TOOLS

from cnnbench.errors import ExitCode, LedgerError
from cnnbench.report import chart_images

PUBLISHED = Path(__file__).parents[1] / "docs" / "studies" / "false-alarms.md"


@pytest.fixture(scope="module")
def small():
    trace = make_trace("trace 1", [[1.0, 1.1, 1.2], [1.05, 1.0, 1.1], [1.3, 1.2, 1.3]], "three processes")
    return run_study(seed=3, checks=100, traces=[trace])


def test_every_rule_meets_every_noise(small):
    noises = [*(model.name for model in NOISE_MODELS), "trace 1"]
    assert [rates.noise for rates in small.ours] == noises
    assert [(r.noise, r.peer) for r in small.peers] == [(noise, peer.name) for noise in noises for peer in OTHER_TOOLS]
    page = render_study(small, "how")
    for name in (
        *noises,
        *(peer.name for peer in OTHER_TOOLS),
        *(peer.source for peer in OTHER_TOOLS),
        "three processes",
    ):
        assert name in page


def test_every_check_is_counted_once(small):
    for rates in small.ours:
        for ended in (rates.suite, rates.boundary, *rates.single):
            assert ended.passed + ended.regressed + ended.inconclusive == ended.checks == 100
    for rates in small.peers:
        assert [share.of for share in rates.single] == [600] * len(EFFECTS)
        assert rates.suite.of == 100
        assert rates.single[0].share <= rates.suite.share or rates.suite.hits == 100


def test_tables_are_rectangular(small):
    for block in render_study(small, "how").split("\n\n"):
        if block.startswith("|"):
            assert len({line.replace("\\|", "").count("|") for line in block.splitlines()}) == 1


def test_the_same_seed_gives_the_same_counts(small):
    assert to_json(run_study(seed=3, checks=100), "")["power"] == to_json(small, "")["power"]
    assert run_study(seed=3, checks=100).ours == small.ours[:-1]
    assert run_study(seed=4, checks=100).ours != small.ours[:-1]


def test_the_command_writes_the_page_and_the_counts_beside_it(tmp_path):
    page = tmp_path / "page.md"
    result = CliRunner().invoke(command, ["--checks", "100", "--seed", "3", "-o", str(page)])
    assert result.exit_code == ExitCode.DONE, result.output
    assert "](page.svg)" in page.read_text()
    assert chart_images.stored_digest(page.with_suffix(".svg").read_text()) is not None
    counts = json.loads(page.with_suffix(".json").read_text())
    assert counts["plan"]["tolerance"] == 0.05
    assert counts["ours"][0]["suite"]["checks"] == 100
    assert f"python docs/studies/false_alarms.py --seed 3 --checks 100 -o {page}" in page.read_text()


def test_a_missed_target_is_a_finding(monkeypatch, small):
    assert all(target.met for target in small.targets)
    monkeypatch.setattr(studies, "MIN_POWER", 1.01)
    result = CliRunner().invoke(command, ["--checks", "100"])
    assert result.exit_code == ExitCode.FINDING
    assert "**no**" in result.stdout


@pytest.mark.parametrize("name", ["page.json", "page.svg"])
def test_the_counts_may_not_overwrite_the_page(name):
    result = CliRunner().invoke(command, ["-o", name])
    assert "beside the page" in str(result.exception)


def test_counts_read_back_are_the_proof_they_were_written_from(small):
    assert from_json(json.dumps(to_json(small, "how"))) == (small, "how")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"command": 1}', "nul", '{"command": "x", "seed": "y"}'])
def test_a_file_that_holds_no_counts_is_named(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    result = CliRunner().invoke(command, ["--from", str(path)])
    assert isinstance(result.exception, LedgerError)
    assert str(path) in str(result.exception)


def test_reading_counts_takes_nothing_that_a_simulation_takes():
    result = CliRunner().invoke(command, ["--from", str(PUBLISHED.with_suffix(".json")), "--seed", "2"])
    assert "leave out --seed" in str(result.exception)


def test_training_rows_of_ledgers_become_traces(tmp_path):
    records = [*b.repeats(b.cnn_job(), [0.02, 0.021, 0.022]), *b.repeats(b.gemm_job(), [0.01] * 3)]
    b.write(tmp_path, b.ledger(records, run_id="r1"))
    b.write(tmp_path, b.ledger(b.repeats(b.cnn_job(), [0.02] * 2), run_id="r2"))
    result = CliRunner().invoke(command, ["--checks", "100", "--traces", str(tmp_path)])
    assert "trace 1: mnist-cnn b128 on cpu, threads 8, 3 processes of 15 blocks of 10 steps, run r1." in result.stdout
    assert "trace 2" not in result.stdout


def test_the_published_page_is_whole():
    """Of 20,000 checks, with its targets met; its counts lie beside it."""
    counts = json.loads(PUBLISHED.with_suffix(".json").read_text(encoding="utf-8"))
    assert counts["checks"] == 20_000
    assert all(target["met"] for target in counts["targets"])
    assert [each["wanted"] in PUBLISHED.read_text(encoding="utf-8") for each in counts["targets"]] == [True] * 3


def test_the_published_page_and_figure_are_what_its_counts_say(tmp_path):
    page = tmp_path / PUBLISHED.name
    result = CliRunner().invoke(command, ["--from", str(PUBLISHED.with_suffix(".json")), "-o", str(page)])
    assert result.exit_code == ExitCode.DONE, result.output
    for ending in (".md", ".json"):
        assert page.with_suffix(ending).read_bytes() == PUBLISHED.with_suffix(ending).read_bytes()
    made, published = (each.with_suffix(".svg").read_text(encoding="utf-8") for each in (page, PUBLISHED))
    assert chart_images.stored_digest(made) == chart_images.stored_digest(published)

"""What the lecture's slides print beside what is right, and its conclusion about two networks rightly."""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import builders as b
import pytest
from format_readers import github, seen
from said import as_json, printed, refused

import cnnbench
from cnnbench import workloads
from cnnbench.cli.main import run_cli
from cnnbench.errors import ExitCode
from cnnbench.report import explain as words
from cnnbench.schema import Evaluation, Job, Record
from cnnbench.workloads import explanation
from cnnbench.workloads.lecture_slides import CONCLUSION_WORKLOADS, SLIDES, STATEMENTS, Slide

MEMORY_SLIDE = [
    ("input 28x28x1", "784", "784", "0", "0"),
    ("conv-32 28x28x32", "25k", "25,088", "288", "288"),
    ("pool 14x14x32", "6k", "6,272", "0", "0"),
    ("conv-64 14x14x64", "12k", "12,544", "576", "18,432"),
    ("pool 7x7x64", "3k", "3,136", "0", "0"),
    ("conv-128 7x7x128", "6k", "6,272", "1,152", "73,728"),
    ("pool 4x4x128", "2k", "2,048", "0", "0"),
    ("FC 2048", "2k", "2,048", "4,194,304", "4,194,304"),
    ("FC 10", "10", "10", "20,480", "20,480"),
    ("total", "n/a", "58,202", "4,216,800", "4,307,232"),
    ("total, bytes", "n/a", "232,808", "n/a", "17,228,928"),
]
"""lecture.md, section 2: activations printed and right, weights printed and right."""
MLP_SLIDE = [
    ("input 28x28x1", "784", "784", "0", "0"),
    ("hidden layer 256", "784*256", "256", "[256,28x28+1]", "200,960"),
    ("output 10", "10", "10", "[10,256+1]", "2,570"),
    ("total", "n/a", "1,050", "203,530", "203,530"),
    ("total, bytes", "805,992", "4,200", "n/a", "814,120"),
]


def cells(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[list[str]]:
    """The first table's rows as Markdown has them, unescaped."""
    page = printed(capsys, *arguments, "--format", "markdown")
    table = itertools.takewhile(lambda line: line.startswith("|"), page.splitlines()[4:])
    return [[seen(github(cell)) for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in list(table)[2:]]


@pytest.mark.parametrize(("name", "wanted"), [("mnist-cnn-2048", MEMORY_SLIDE), ("mlp-1", MLP_SLIDE)])
def test_the_slide_stands_beside_what_is_right(
    name: str, wanted: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = cells(capsys, "explain", name, "--slide")
    assert [tuple(row[:5]) for row in rows] == wanted


@pytest.mark.parametrize(
    ("name", "marked"),
    [
        ("mnist-cnn-2048", ["conv-64 14x14x64", "conv-128 7x7x128", "total"]),
        ("mlp-1", ["hidden layer 256", "total, bytes"]),
    ],
)
def test_each_erratum_is_marked_and_its_reason_given_below(
    name: str, marked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = cells(capsys, "explain", name, "--slide")
    assert [row[0] for row in rows if row[5]] == marked
    assert [row[5] for row in rows if row[5]] == [f"[{number}]" for number in range(1, len(marked) + 1)]
    text = printed(capsys, "explain", name, "--slide")
    for number, row in enumerate(marked, 1):
        assert f"- [{number}] {row}, " in text


def test_the_reasons_have_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(printed(capsys, "explain", "mnist-cnn-2048", "--slide").split())
    assert "printed 576, right 18,432 (17,856 too few): 3*3*1*64 forgets the 32 input channels" in text
    assert "printed 1,152, right 73,728 (72,576 too few): 3*3*1*128 forgets the 64 input channels" in text
    assert "printed 4,216,800, right 4,307,232 (90,432 too few)" in text
    assert "1,280,000 (dense 625) and 6,250 (dense 10)" in text
    text = " ".join(printed(capsys, "explain", "mlp-1", "--slide").split())
    assert "printed 784*256 = 200,704, right 256" in text
    assert "printed 805,992, right 4,200" in text


@pytest.mark.parametrize("slide", SLIDES.values(), ids=lambda slide: slide.workload)
def test_what_has_a_reason_is_wrong_and_nothing_else(slide: Slide) -> None:
    """A figure shortened to thousands is right where the right one has so many whole thousands."""
    for row in words.list_slide_rows(explanation.explain(workloads.get(slide.workload)), slide):
        for held in row:
            if held.printed is not None:
                shortened = held.printed.text.endswith("k")
                right = held.right // 1000 * 1000 if shortened else held.right
                assert (held.printed.value != right) == bool(held.printed.reason), held


def test_the_printed_totals_are_the_sums_of_what_is_printed() -> None:
    """4,216,800 is the slide's own sum, and 805,992 its own four times (784 + 784*256 + 10)."""
    small, large = (SLIDES[name] for name in CONCLUSION_WORKLOADS)
    assert sum(row.parameters.value for row in large.rows) == large.parameters.value == 4_216_800
    assert small.activation_bytes is not None
    assert 4 * sum(row.activations.value for row in small.rows) == small.activation_bytes.value == 805_992


def test_json_has_the_slide_beside_the_layers(capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, "explain", "mnist-cnn-2048", "--slide")
    assert found["layers"] == as_json(capsys, "explain", "mnist-cnn-2048")["layers"]
    total = found["slide"]["rows"][-2]
    assert (total["activations"]["printed"], total["activations"]["right"]) == (None, 58_202)
    assert (total["parameters"]["printed_value"], total["parameters"]["right"]) == (4_216_800, 4_307_232)
    assert total["parameters"]["erratum"]
    assert found["total"]["activation_bytes"] == 232_808


def test_vgg_won_localisation_in_2014(capsys: pytest.CaptureFixture[str]) -> None:
    """Simonyan and Zisserman, 2015: "the first and the second places in the localisation and classification tracks"."""
    text = " ".join(printed(capsys, "explain", "vgg16", "--slide").split())
    for words_of_it in (
        "ImageNet 2013 winner",
        "ILSVRC 2014: second in classification, first in localisation",
        "GoogLeNet",
    ):
        assert words_of_it in text
    found = as_json(capsys, "explain", "vgg16", "--slide")
    assert found["slide"]["printed"] == "ImageNet 2013 winner"
    assert found["slide"]["right"].startswith("ILSVRC 2014")
    documented = (Path(__file__).parents[1] / "docs" / "explain.md").read_text(encoding="utf-8")
    assert STATEMENTS["vgg16"].right in " ".join(documented.split())


def test_a_workload_without_a_slide_is_one_error(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "explain", "softmax", "--slide")
    assert all(name in said for name in ("vgg16", "mlp-1", "mnist-cnn-2048"))
    assert "choose one of them" in refused(capsys, "explain", "mlp-1", "mnist-cnn-2048", "--slide", "--compare")


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without results."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def compared(capsys: pytest.CaptureFixture[str], *arguments: str):
    return as_json(capsys, "explain", "--compare", *arguments)


@pytest.mark.usefixtures("nowhere")
def test_the_conclusion_rightly(capsys: pytest.CaptureFixture[str]) -> None:
    """lecture.md: 55x the activations, 21x the parameters, 57x the forward FLOPs; the slide's 5 is 4,216,800 / 805,992."""
    found = compared(capsys, "mlp-1", "mnist-cnn-2048")
    small, large = found["workloads"]
    assert large["ratios"] == pytest.approx(
        {
            "activations": 58_202 / 1050,
            "parameters": 4_307_232 / 203_530,
            "forward_flops": 23_331_840 / 406_528,
            "training_flops": 69_543_936 / 818_176,
        }
    )
    assert [int(large["ratios"][name]) for name in ("activations", "parameters", "forward_flops")] == [55, 21, 57]
    assert set(small["ratios"].values()) == {1.0}
    assert (small["slide_accuracy"], large["slide_accuracy"]) == ("~92 %", "100 %")
    assert found["conclusion"]["printed_memory_ratio"] == pytest.approx(4_216_800 / 805_992)
    text = " ".join(printed(capsys, "explain", "--compare", "mlp-1", "mnist-cnn-2048").split())
    for said in ("55.43x", "21.16x", "57.39x", "accuracy +8 %, memory x5", "4,216,800 / 805,992 = 5.23x"):
        assert said in text


@pytest.mark.usefixtures("nowhere")
def test_the_conclusion_is_of_its_two_networks_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert compared(capsys, "mlp-1", "mnist-cnn")["conclusion"] is None
    assert compared(capsys, "mnist-cnn-2048", "mlp-1")["conclusion"] is None
    assert compared(capsys, "mlp-1", "softmax", "mnist-cnn-2048")["conclusion"] is not None


@pytest.mark.usefixtures("nowhere")
def test_an_accuracy_nobody_measured_is_not_available(capsys: pytest.CaptureFixture[str]) -> None:
    """It says what to run: a suite that has the workload; random images have nothing to be right about."""
    found = compared(capsys, "mnist-cnn", "vgg16")["workloads"]
    assert [each["accuracy"] for each in found] == [None, None]
    suite = re.fullmatch(r"not measured here; run `cnnbench run (\S+)`", found[0]["accuracy_missing"])
    assert suite is not None
    assert "random images" in found[1]["accuracy_missing"]
    text = printed(capsys, "explain", "--compare", "mnist-cnn", "vgg16")
    assert f"mnist-cnn: accuracy n/a (not measured here; run `cnnbench run {suite.group(1)}`)" in text


def trained(correct: int, index: int, **fields: object) -> Record:
    test = Evaluation(after_steps=150, images=10_000, correct=correct, seconds=1.0)
    job: Job = b.cnn_job(**({"workload": "mnist-cnn-2048", "seed": index} | fields))
    return b.record(job, test=test, index=index)


def test_the_accuracy_is_the_best_on_record_of_the_real_digits(
    nowhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither of drawn digits, nor of another version, pooling or function, nor of a process that ended badly."""
    records = [
        trained(9_900, 0),
        trained(9_931, 1),
        trained(9_920, 2, batch_size=64),
        trained(9_999, 3, data="synthetic"),
        trained(9_998, 4, workload_version=99),
        trained(9_997, 5, pool="average"),
        trained(9_996, 6, activation="sigmoid"),
        b.record(b.cnn_job(workload="mnist-cnn-2048", seed=7), index=7, status="oom"),
    ]
    b.write(nowhere / "elsewhere", b.ledger(records))
    small, large = compared(capsys, "mlp-1", "mnist-cnn-2048", "--results", "elsewhere")["workloads"]
    assert small["accuracy"] is None
    best = large["accuracy"]
    assert (best["share"], best["best_of_processes"], best["after_steps"]) == (0.9931, 3, 150)
    assert best["low"] < 0.9931 < best["high"]
    text = printed(capsys, "explain", "--compare", "mlp-1", "mnist-cnn-2048", "--results", "elsewhere")
    assert "99.31 %" in text
    assert "best of 3" in text


def test_results_are_looked_for_as_every_command_does(
    nowhere: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """./results where it is there; what is named must be there."""
    b.write(nowhere / "results", b.ledger([trained(9_900, 0)]))
    assert compared(capsys, "mlp-1", "mnist-cnn-2048")["workloads"][1]["accuracy"]["share"] == 0.99
    monkeypatch.setenv("CNNBENCH_RESULTS", "nosuch")
    assert "no results directory nosuch" in refused(capsys, "explain", "--compare", "mlp-1", "mnist-cnn-2048")
    assert "nowhere" in refused(capsys, "explain", "--compare", "mlp-1", "mlp-5", "--results", "nowhere")


def test_too_few_or_the_same_twice_is_one_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert "two or more different" in refused(capsys, "explain", "--compare", "mlp-1")
    assert "two or more different" in refused(capsys, "explain", "--compare", "mlp-1", "mlp-1")
    assert "no layers" in refused(capsys, "explain", "--compare", "mlp-1", "gemm")


@pytest.mark.parametrize("form", ["markdown", "latex", "table"])
@pytest.mark.usefixtures("nowhere")
def test_every_format_of_a_comparison_has_the_ratios(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "explain", "--compare", "mlp-1", "mnist-cnn-2048", "--format", form)
    assert all(figure in text for figure in ("55.43x", "21.16x", "57.39x", "4,307,232", "203,530"))


DOCUMENT = Path(cnnbench.__file__).parents[1] / "docs" / "explain.md"


@pytest.mark.parametrize("block", re.findall(r"```\n(\$ cnnbench .*?)```", DOCUMENT.read_text(), re.DOTALL))
@pytest.mark.usefixtures("nowhere")
def test_the_documents_output_is_true(
    block: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command of docs/explain.md prints what stands below it; after a line of three dots the rest is left out."""
    monkeypatch.setenv("COLUMNS", "100")
    line, _, shown = block.partition("\n")
    assert run_cli(shlex.split(line)[2:]) == ExitCode.DONE
    wanted, dots, _ = shown.partition("...\n")
    out = capsys.readouterr().out
    assert out.startswith(wanted) if dots else out == wanted

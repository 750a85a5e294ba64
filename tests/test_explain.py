"""A network layer by layer: lecture.md's tables to the last digit, torch's own modules, and sums that equal their totals."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from format_readers import github, read_latex, seen
from said import as_json, printed, refused
from test_latex import compiled, needs_pdflatex

from cnnbench import workloads
from cnnbench.cli.main import run_cli
from cnnbench.errors import ExitCode
from cnnbench.report import explain as words
from cnnbench.report.render import text
from cnnbench.workloads import explanation, flops
from cnnbench.workloads.base import Workload, build_network

TRAINING = [w for w in map(workloads.get, workloads.names()) if w.kind == "training"]
every_network = pytest.mark.parametrize("workload", TRAINING, ids=lambda w: w.name)


@pytest.mark.parametrize(
    ("name", "weights", "biases", "forward", "training"),
    [
        ("softmax", [7840], [10], 15_680, 31_360),
        ("mlp-1", [256 * 784, 2560], [256, 10], 406_528, 818_176),
        ("mlp-5", [256 * 784, 65_536, 65_536, 65_536, 2560], [256] * 4 + [10], 799_744, 1_997_824),
        ("mnist-cnn", [288, 18_432, 73_728, 1_280_000, 6250], [0] * 5, 17_474_772, 51_972_732),
        ("mnist-cnn-2048", [288, 18_432, 73_728, 4_194_304, 20_480], [0] * 5, 23_331_840, 69_543_936),
    ],
)
def test_the_lectures_networks(
    name: str,
    weights: list[int],
    biases: list[int],
    forward: int,
    training: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """lecture.md, section 2, recomputed there by hand."""
    found = as_json(capsys, "explain", name)
    weighted = [layer for layer in found["layers"] if layer["parameters"]]
    assert [layer["weights"] for layer in weighted] == weights
    assert [layer["biases"] for layer in weighted] == biases
    total = found["total"]
    assert total["parameters"] == sum(weights) + sum(biases)
    assert (total["forward_flops"], total["training_flops"]) == (forward, training)


def test_vgg16(capsys: pytest.CaptureFixture[str]) -> None:
    """Simonyan and Zisserman's 138 million, and the FLOPs of lecture.md; five pools take 224 to 7."""
    found = as_json(capsys, "explain", "vgg16")
    total = found["total"]
    assert total["parameters"] == 138_357_544
    assert (total["forward_flops"], total["training_flops"]) == (30_940_528_640, 92_648_177_664)
    # 64+64+128+128+3*256+6*512 channels, 2*4096+1000 outputs: a bias each
    assert total["biases"] == 64 * 2 + 128 * 2 + 256 * 3 + 512 * 6 + 4096 * 2 + 1000
    pools = [layer["output_shape"] for layer in found["layers"] if layer["layer"] == "max pool 2x2"]
    assert pools == [[64, 112, 112], [128, 56, 56], [256, 28, 28], [512, 14, 14], [512, 7, 7]]


def test_the_lectures_cnn_in_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    """56,779 values = 227,116 bytes with FC 625, the input included."""
    found = as_json(capsys, "explain", "mnist-cnn")
    assert (found["total"]["activations"], found["total"]["activation_bytes"]) == (56_779, 227_116)
    assert found["total"]["parameter_bytes"] == 4 * 1_378_698
    assert [layer["activations"] for layer in found["layers"] if layer["activations"]] == [
        *(784, 25_088, 6272, 12_544, 3136, 6272, 2048, 625, 10),
    ]


@every_network
def test_every_row_is_a_layer_as_counted_and_as_torch_has_it(workload: Workload) -> None:
    """One row a layer after the input; counts are `count_layers`'; weights, biases and shapes are torch's modules'."""
    found = explanation.explain(workload)
    counts = flops.count_layers(workload.layers, workload.input_shape)
    with torch.device("meta"):
        net = build_network(workload.layers, workload.input_shape)
        values = torch.empty(2, *workload.input_shape)
    assert found.layers[0].output == workload.input_shape
    for row, count, module in zip(found.layers[1:], counts, net, strict=True):
        assert (row.parameters, row.activations) == (count.parameters, count.activations)
        assert (row.forward_flops, row.training_flops) == (count.forward_flops, count.training_flops)
        own = {name: parameter.numel() for name, parameter in module.named_parameters()}
        assert (row.weights, row.biases) == (own.get("weight", 0), own.get("bias", 0))
        values = module(values)
        assert tuple(values.shape[1:]) == row.output


@every_network
def test_the_rows_add_up_to_the_totals(workload: Workload) -> None:
    found = explanation.explain(workload)
    assert found.total.activation_bytes == workload.activation_bytes_per_image
    assert found.total.parameters == workload.parameters
    assert found.total.forward_flops == workload.flops_forward_per_image
    assert found.total.training_flops == workload.flops_training_per_image
    for name in ("activations", "weights", "biases", "forward_flops", "training_flops", "parameter_bytes"):
        assert sum(getattr(layer, name) for layer in found.layers) == getattr(found.total, name)


@every_network
def test_the_sides_lead_to_the_shapes(workload: Workload) -> None:
    """Every convolution and pool says how its side follows, and it follows."""
    found = explanation.explain(workload)
    for layer, row in zip(workload.layers, found.layers[1:], strict=True):
        has_sides = isinstance(layer, (flops.Conv2d, *flops.Pools))
        assert bool(row.sides) == has_sides
        assert {side.output for side in row.sides} == (set(row.output[1:]) if has_sides else set())


def test_a_picture_that_is_no_square_has_two_sides() -> None:
    oblong = replace(workloads.get("mnist-cnn"), name="oblong", input_shape=(1, 28, 20))
    pools = [layer for layer in explanation.explain(oblong).layers if layer.label == "max pool 2x2"]
    assert [[side.output for side in pool.sides] for pool in pools] == [[14, 10], [7, 5], [4, 3]]
    table = words.build(explanation.explain(oblong)).tables[1]
    assert [line.cells[0].text for line in table.groups[0].lines][:2] == [
        "conv 3x3, 32, height",
        "conv 3x3, 32, width",
    ]


def test_pretraining_is_shown_layer_by_layer(capsys: pytest.CaptureFixture[str]) -> None:
    """10ah for each layer's autoencoder, and 2ah for each layer below it."""
    own = [10 * 784 * 256, 10 * 256 * 256, 10 * 256 * 256, 10 * 256 * 256]
    below = [0, 2 * 784 * 256, 2 * 784 * 256 + 2 * 256 * 256, 2 * 784 * 256 + 4 * 256 * 256]
    found = as_json(capsys, "explain", "mlp-5-pretrained")["pretraining"]
    assert [layer["own_flops"] for layer in found["layers"]] == own
    assert [layer["below_flops"] for layer in found["layers"]] == below
    assert [layer["total_flops"] for layer in found["layers"]] == list(
        workloads.get("mlp-5-pretrained").flops_pretraining_per_image
    )
    assert found["flops_per_example_and_epoch"] == sum(own) + sum(below) == 5_570_560
    text = " ".join(printed(capsys, "explain", "mlp-5-pretrained").split())
    assert "5,570,560" in text
    assert "11,141,120 FLOPs before training" in text  # twice: two epochs
    assert as_json(capsys, "explain", "mlp-5")["pretraining"] is None


def test_the_table_spells_the_arithmetic_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the layer's own numbers, on a terminal of 80 columns too; the one sentence on what is counted is there."""
    monkeypatch.setenv("COLUMNS", "80")
    text = printed(capsys, "explain", "mnist-cnn")
    assert max(map(len, text.splitlines())) <= 80
    for worked_out in ("floor((28 - 3 + 2*1) / 1) + 1 = 28", "ceil(28 / 2) = 14", "ceil(7 / 2) = 4"):
        assert worked_out in text
    total = next(line.split() for line in text.splitlines() if line.startswith("total"))
    assert total == ["total", "56,779", "1,378,698", "0", "17,474,772", "51,972,732"]
    assert "FLOPs: 2 for each multiply-accumulate" in text
    assert "Left out at 80 columns: bytes of activations, bytes of parameters." in text
    assert "and so does --format markdown, latex or json." in " ".join(text.split())


@every_network
def test_every_format_has_every_layer(workload: Workload, capsys: pytest.CaptureFixture[str]) -> None:
    """A row a layer in Markdown and LaTeX, with as many cells as there are columns, and the totals in each."""
    rows = len(workload.layers) + 2  # and the input, and the total
    page = printed(capsys, "explain", workload.name, "--format", "markdown")
    first = list(itertools.takewhile(lambda line: line.startswith("|"), page.splitlines()[4:]))
    assert len(first) == rows + 2
    assert len({line.count("|") for line in first}) == 1
    assert "cnnbench page sha256" not in page
    source = printed(capsys, "explain", workload.name, "--format", "latex")
    tabular = re.findall(r"\\begin\{tabular\}\{@\{\}([lr]+)@\{\}\}\n(.*?)\\end\{tabular\}", source, re.DOTALL)
    for spec, body in tabular:
        lines = [line.removesuffix(r" \\") for line in body.splitlines() if line.endswith(r" \\")]
        assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in lines} == {len(spec)}
        for line in lines:
            read_latex(line.replace(" & ", " "))
    for figure in (workload.parameters, workload.flops_training_per_image):
        assert f"{figure:,}" in seen(github(page))
        assert f"{figure:,}" in source


def test_a_name_with_mark_up_is_shown_as_text() -> None:
    odd = replace(workloads.get("mnist-cnn"), name="<b>|x", title="$y$ \\input{z} [w](http://v)")
    found = explanation.explain(odd)
    report = words.build(found)
    page = github(text.render(report, "markdown"))
    assert "<b>" not in page
    assert "<a " not in page
    assert "<b>|x" in seen(page)
    assert r"\input{z}" not in text.render(report, "latex")
    assert json.loads(text.render(report, "json"))["workload"] == "<b>|x"


@needs_pdflatex
def test_the_latex_compiles(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    log = compiled(tmp_path, printed(capsys, "explain", "vgg16", "--format", "latex"))
    assert re.findall(r"Overfull \\[hv]box \(([1-9][\d.]*)pt", log) == []


def test_what_cannot_be_explained_is_one_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert "2 x n^3 FLOPs" in refused(capsys, "explain", "gemm")
    assert "mnist-cnn-2048" in refused(capsys, "explain", "resnet")
    assert "takes one workload, not 2; --compare" in refused(capsys, "explain", "mlp-1", "mlp-5")
    refused(capsys, "explain")


def test_it_may_go_into_a_file(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.json"
    assert run_cli(["explain", "mlp-1", "--format", "json", "-o", str(path)]) == ExitCode.DONE
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"wrote {path}\n")
    assert json.loads(path.read_text())["total"]["parameters"] == 203_530


def test_a_network_of_another_package_is_explained_as_ours_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its layers are all it takes; a bias for each channel and output, and an average pool's side as a maximum's."""
    layers = (flops.Conv2d(8, 5, bias=True), flops.Sigmoid(), flops.AvgPool2d(3), flops.Flatten(), flops.Dense(4))
    theirs = replace(workloads.get("mnist-cnn"), name="theirs", layers=layers, input_shape=(3, 10, 10))
    monkeypatch.setattr(workloads, "_registry", lambda: {"theirs": workloads._Installed(theirs, "another")})
    found = as_json(capsys, "explain", "theirs")
    assert [layer["layer"] for layer in found["layers"]] == [
        *("input", "conv 5x5, 8", "sigmoid", "average pool 3x3", "flatten", "dense 4"),
    ]
    assert (found["total"]["weights"], found["total"]["biases"]) == (3 * 5 * 5 * 8 + 8 * 4 * 4 * 4, 8)
    assert [side["worked_out"] for layer in found["layers"] for side in layer["sides"]] == [
        *("floor((10 - 5 + 2*2) / 1) + 1 = 10", "ceil(10 / 3) = 4"),
    ]
    assert "theirs" in refused(capsys, "explain", "theirs", "--slide")


def test_a_file_of_the_users_is_explained_and_torch_modules_have_their_totals(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The examples of docs/own-workload.md: layers one by one, or what the network declares of itself."""
    folder = Path(__file__).parents[1] / "examples" / "own_workload"
    assert run_cli(["explain", str(folder / "my_net.py"), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["workload"] == "my-net"
    assert run_cli(["explain", str(folder / "cnnbench_lenet5.py")]) == 0
    said = capsys.readouterr().out
    assert "torch modules, as declared" in said
    assert "61,706 parameters: weights and biases together: torch modules give no separate counts" in " ".join(
        said.split()
    )
    workloads.forget_files()

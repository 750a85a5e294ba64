"""The lecture's first day: points drawn from a seed, three networks, their losses and gradients against closed forms."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import torch
from audit_builders import Made
from builders import header, ledger, record

from cnnbench import data, workloads
from cnnbench.analysis import doubts
from cnnbench.data import points
from cnnbench.engine.batches import TrainingSetup
from cnnbench.engine.training import Training
from cnnbench.errors import WorkloadError
from cnnbench.plan.suite import find_suite, load_suite
from cnnbench.schema import Fit, Job, Record
from cnnbench.workloads import torch_counts

CPU = torch.device("cpu")
NAMES = ("linear-regression", "logistic-regression", "perceptron")


def few(name: str, train: int = 400, test: int = 300) -> data.Dataset:
    return data.Dataset("points", *points.generate(workloads.get(name).dataset, train=train, test=test), source="few")


def training(name: str, *, dataset: data.Dataset | None = None, **changes: object) -> Training:
    workload, dataset = workloads.get(name), dataset or few(name)
    fields: dict[str, object] = {"batch_size": len(dataset.train_labels), "seed": 3, "init": workload.default_init}
    asked = Job(
        workload=name, workload_version=1, optimizer="sgd", data="points", split="train-55000", **fields | changes
    )  # fmt: skip
    return Training(TrainingSetup(asked, workload, dataset, CPU))


def test_the_same_seed_gives_the_same_bytes() -> None:
    """SHA-256 of all sets; another means that a value changed, and VERSION has to rise."""
    drawn = hashlib.sha256()
    for name in points.SETS:
        for each in points.generate(name, train=1_000, test=100):
            drawn.update(each.tobytes())
    assert drawn.hexdigest() == "74081c4f14de68deff1b6c74c39c8456e377c445cc6ce9045ce43ca81b8d9786"


def test_points_have_the_moments_they_are_declared_with() -> None:
    """Within five standard errors of 60,000 draws."""
    x, y, *_ = points.generate("line")
    error = 5 / np.sqrt(len(y))
    assert abs(x.mean()) < error / np.sqrt(3)
    noise = y - points.SLOPE * x[:, 0] - points.INTERCEPT
    assert abs(noise.mean()) < error * points.LINE_NOISE
    assert abs(noise.std() / points.LINE_NOISE - 1) < error
    inputs, classes, *_ = points.generate("two-classes")
    for label, centre in ((0, -1), (1, 1)):
        one = inputs[classes == label]
        assert abs(one - centre).mean() < 2 * points.CLASS_NOISE
        assert np.abs(one.mean(axis=0) - centre).max() < 2 * error * points.CLASS_NOISE
        assert abs(one.std() / points.CLASS_NOISE - 1) < error


@pytest.mark.parametrize(
    ("name", "parameters", "forward", "trained"), [*zip(NAMES, (2, 3, 33), (2, 4, 48), (4, 8, 112), strict=True)]
)
def test_the_layers_give_the_counts_and_torch_agrees(name: str, parameters: int, forward: int, trained: int) -> None:
    workload = workloads.get(name)
    counts = workload.counts
    assert (counts.parameters, counts.forward, counts.training) == (parameters, forward, trained)
    assert torch_counts.count_network(workload.make_network(), workload.input_shape, 1) == counts


def test_gradient_descent_on_a_line_ends_at_the_normal_equations() -> None:
    dataset = few("linear-regression")
    run = training("linear-regression", dataset=dataset)
    run.steps(300)
    design = np.column_stack([dataset.train_images[:, 0], np.ones(400)]).astype(np.float64)
    slope, intercept = np.linalg.solve(design.T @ design, design.T @ dataset.train_labels)
    weight, bias = (each.item() for each in run.network.parameters())
    assert (weight, bias) == pytest.approx((slope, intercept), abs=1e-5)
    # Its fit is the closed form's too.
    error, variance = run.measure_fit()
    wanted = dataset.test_labels.astype(np.float64)
    residual = wanted - slope * dataset.test_images[:, 0] - intercept
    assert error == pytest.approx(np.mean(residual**2), rel=1e-4)
    assert variance == pytest.approx(np.var(wanted), rel=1e-9)


def test_the_gradient_of_one_neuron_is_the_mean_of_p_less_y_times_x() -> None:
    dataset = few("logistic-regression")
    run = training("logistic-regression", dataset=dataset)
    (weight, bias), x, y = run.network.parameters(), dataset.train_images, dataset.train_labels
    p = 1 / (1 + np.exp(-(x @ weight.detach().numpy().T + bias.item())[:, 0]))
    by_weight, by_bias = run.gradients(*map(torch.from_numpy, (x, y)))
    assert by_weight.numpy()[0] == pytest.approx(((p - y)[:, None] * x).mean(axis=0), abs=1e-6)
    assert by_bias.item() == pytest.approx((p - y).mean(), abs=1e-6)
    run.step()
    assert run.loss() == pytest.approx(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)), abs=1e-6)


def test_backpropagation_through_the_hidden_layer_is_as_by_hand() -> None:
    """o = v h + c, h = s(W x + b): the error (p - y) / n goes back as d = (p - y) v h (1 - h) / n."""
    dataset = few("perceptron")
    run = training("perceptron", dataset=dataset)
    w, b, v, c = (each.detach().double().numpy() for each in run.network.parameters())
    x, y = dataset.train_images.astype(np.float64), dataset.train_labels
    h = 1 / (1 + np.exp(-(x @ w.T + b)))
    error = (1 / (1 + np.exp(-(h @ v[0] + c[0]))) - y)[:, None] / len(y)
    back = error * v * h * (1 - h)
    byhand = (back.T @ x, back.sum(axis=0), error.T @ h, error.sum(axis=0))
    found = run.gradients(*map(torch.from_numpy, (dataset.train_images, y)))
    for torchs, mine in zip(found, byhand, strict=True):
        assert torchs.numpy() == pytest.approx(mine, abs=1e-6)


def test_accuracy_counts_the_right_side_of_the_boundary() -> None:
    dataset = few("logistic-regression")
    run = training("logistic-regression", dataset=dataset)
    with torch.no_grad():
        for parameter, value in zip(run.network.parameters(), ([[1.0, 1.0]], [0.0]), strict=True):
            parameter.copy_(torch.tensor(value))
    right = int(((dataset.test_images.sum(axis=1) > 0) == dataset.test_labels).sum())
    assert run.count_correct() == (right, 300)


def test_a_regression_has_a_fit_and_no_accuracy() -> None:
    with pytest.raises(WorkloadError, match="no classes"):
        training("linear-regression").count_correct()
    assert Fit(after_steps=1, examples=2, mean_squared_error=0.25, target_variance=1.0).r_squared == 0.75


def test_bands_are_around_what_the_best_rule_reaches() -> None:
    """The best rule knows how the points are drawn: its R^2, or its share of points on the right side, is a closed form."""
    phi = NormalDist().cdf
    signal = points.SLOPE**2 / 3
    wrong = phi(-1 / points.XOR_NOISE)
    best = (
        signal / (signal + points.LINE_NOISE**2),
        phi(2**0.5 / points.CLASS_NOISE),
        1 - 2 * wrong * (1 - wrong),
    )
    for name, share in zip(NAMES, best, strict=True):
        (band,) = workloads.get(name).bands
        assert band.low < share < band.high
        assert band.high - band.low < 0.02


def test_the_suites_jobs_train_long_enough_for_their_bands() -> None:
    for cell in load_suite(find_suite("first-day")).combinations("cpu"):
        steps = int(cell["blocks"] or 0) * int(cell["block_steps"] or 0)
        (band,) = workloads.get(str(cell["workload"])).bands
        assert band.holds_for(steps, int(cell["batch_size"] or 0), str(cell["order"]))
        assert cell["data"] == "points"


def fitted(errors: tuple[float, ...]) -> list[Record]:
    """Processes of `linear-regression`, one per mean squared error, their targets of variance 1."""
    asked = Job(
        workload="linear-regression", workload_version=1, optimizer="sgd", init="normal-0.01", data="points",
        split="train-55000", batch_size=55_000, threads=8,
    )  # fmt: skip
    made = []
    for number, error in enumerate(errors):
        each = asked.model_copy(update={"round": number, "seed": number})
        fit = Fit(after_steps=150, examples=10_000, mean_squared_error=error, target_variance=1.0)
        made.append(record(each, index=number, parameters=2, fit=fit, test=None, accuracy_data=None))
    return made


def test_a_page_prints_the_mean_r_squared_and_the_audit_derives_it_again() -> None:
    """1 - (0.04 + 0.05 + 0.06) / 3 = 95.00 %, half-width t(2) x 0.01 / sqrt(3) = 2.48 points."""
    made = Made(outputs=["page.md", "page.html"], ledgers=[ledger(fitted((0.04, 0.05, 0.06)))])
    text = made.text("page.md")
    assert "95.00 %" in text
    assert "92.52–97.48 %" in text
    assert made.findings() == []
    changed = made.text("page.md").replace("95.00 %", "95.10 %")
    assert made.findings({"page.md": changed}) != []


def test_a_fit_outside_the_band_is_doubted() -> None:
    """95 % is in the band of 94.5 to 95.4 %, 90 % is below it."""
    inside, below = fitted((0.05, 0.10))

    def codes(one: Record) -> set[str]:
        return {each.code for each in doubts.find_record_doubts(header([one]), one)}

    assert codes(below) - codes(inside) == {"low-accuracy"}


@pytest.mark.slow("real workers")
def test_the_suite_runs_and_show_report_and_audit_agree(tmp_path: Path) -> None:
    def run(*arguments: object) -> str:
        command = [sys.executable, "-m", "cnnbench", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    results, page = tmp_path / "results", tmp_path / "page.html"
    run("run", "first-day", "--repeats", 1, "--results", results)
    assert "R²" in run("show", results, "--all")
    run("report", results, "-o", page)
    run("audit", results, page)

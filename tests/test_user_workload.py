"""Workloads that are not cnnbench's own: a file that a suite names, another package's entry point, and their counts."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import builders as b
import numpy as np
import pytest
import torch
from torch import nn

from cnnbench import store, workloads
from cnnbench.analysis import process_table
from cnnbench.cli.main import run_cli
from cnnbench.data import Dataset
from cnnbench.devices.nvml import NvmlResult
from cnnbench.engine import build
from cnnbench.engine.batches import TrainingSetup
from cnnbench.engine.training import Training
from cnnbench.errors import ExitCode, SuiteError, WorkloadError
from cnnbench.machine import inventory
from cnnbench.plan.suite import load_suite
from cnnbench.runner import run as room
from cnnbench.runner.launch import WorkerExit
from cnnbench.schema import Job, Outcome, WorkerInput, WorkloadFacts
from cnnbench.workloads import DEFAULT_INIT, Counts, Workload, flops
from cnnbench.workloads.torch_counts import count_network
from cnnbench.workloads.user_files import find_problems

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "own_workload"
CPU = torch.device("cpu")
NET = (EXAMPLE / "my_net.py").read_text(encoding="utf-8")
SUITE = """
description = "mine"
[[job]]
workload = "my_net.py"
data = "synthetic"
batch_size = 50
warmup_steps = 2
blocks = 2
block_steps = 3
"""
REGISTRY = workloads._registry
LENET = Counts(parameters=61_706, forward=833_040, training=2_263_920, activations=8_878)
"""LeNet-5 by hand: maps x (side^2 x inputs + 1) parameters; 2 x outputs x inputs FLOPs; training 3 x forward - 235,200."""


def lenet() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)),
    )


MINE = Workload(
    name="lenet",
    version=1,
    title="a network of torch modules",
    kind="training",
    input_shape=(1, 28, 28),
    classes=10,
    optimizers=("rmsprop",),
    inits=(DEFAULT_INIT, "xavier"),
    network=lenet,
    declared=LENET,
)


@pytest.fixture(autouse=True)
def _nothing_known_before_or_after() -> Iterator[None]:
    def forget() -> None:
        workloads.forget_files()
        workloads._FROM_LEDGERS.clear()
        REGISTRY.cache_clear()

    forget()
    yield
    forget()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_net.py").write_text(NET)
    (tmp_path / "s.toml").write_text(SUITE)
    return tmp_path


def job(**changes: object) -> Job:
    known = {
        "workload": "lenet",
        "workload_version": 1,
        "optimizer": "rmsprop",
        "init": DEFAULT_INIT,
        "split": "train-55000",
    }
    return Job(**(known | {"data": "synthetic", "batch_size": 16} | changes))


# A file


def test_a_suite_names_a_file_beside_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path is relative to the suite, wherever one stands; from then on the workload has its name."""
    monkeypatch.chdir("/")
    suite = load_suite(folder / "s.toml")
    assert suite.jobs[0].workload == "my-net"
    (cell,) = suite.combinations("cpu")
    assert (cell["optimizer"], cell["init"], cell["batch_size"]) == ("rmsprop", "xavier", 50)
    found = workloads.file_of("my-net")
    assert found is not None
    assert found.path == (folder / "my_net.py").resolve()
    assert workloads.get("my-net").parameters == 8 * 26 + 10 * (8 * 14 * 14 + 1)
    assert workloads.source_of("my-net") == "my_net.py"


def test_layers_of_a_file_give_its_axes(folder: Path) -> None:
    """Pooling and activation can be varied; a product's side cannot."""
    (folder / "s.toml").write_text(SUITE + 'pool = ["max", "average"]\nactivation = "sigmoid"\n')
    assert len(load_suite(folder / "s.toml").combinations("cpu")) == 2
    (folder / "s.toml").write_text(SUITE + "size = 5\n")
    with pytest.raises(SuiteError, match="my-net takes no size"):
        load_suite(folder / "s.toml")


def test_a_value_of_another_name_is_named_after_a_colon(folder: Path) -> None:
    (folder / "my_net.py").write_text(NET.replace("WORKLOAD =", "SMALL ="))
    assert workloads.find("my_net.py:SMALL", folder).name == "my-net"
    with pytest.raises(WorkloadError) as caught:
        workloads.find("my_net.py", folder)
    path = folder / "my_net.py"
    assert str(caught.value) == f"{path}: no WORKLOAD in it; there is SMALL: write my_net.py:SMALL"


def test_the_version_is_the_bytes_so_another_file_has_another_row(folder: Path) -> None:
    """A comment more is another key; the same bytes elsewhere are the same."""
    first = workloads.find("my_net.py", folder)
    workloads.forget_files()
    (folder / "copy").mkdir()
    shutil.copy(folder / "my_net.py", folder / "copy" / "my_net.py")
    assert workloads.find("copy/my_net.py", folder).version == first.version
    workloads.forget_files()
    (folder / "my_net.py").write_text(NET + "# another\n")
    second = workloads.find("my_net.py", folder)
    assert second.version != first.version
    keys = {job(workload="my-net", workload_version=each.version).row_key for each in (first, second)}
    assert len(keys) == 2


def test_a_file_is_run_once_a_process_and_leaves_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """However often a suite names it; what it prints is not data, and no cache is written beside it."""
    (folder / "my_net.py").write_text(NET + "print('run')\n")
    (folder / "s.toml").write_text(SUITE + SUITE.partition("[[job]]")[1] + SUITE.partition("[[job]]")[2])
    load_suite(folder / "s.toml")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "run\n")
    assert sorted(path.name for path in folder.iterdir()) == ["my_net.py", "s.toml"]


BAD = {
    "missing": (None, "{path}: no such file (a path in a suite is relative to the suite)"),
    "no value": ("x = 1\n", "{path}: no WORKLOAD in it; write WORKLOAD = Workload(...)"),
    "not one": ("WORKLOAD = {}\n", "{path}: WORKLOAD is a dict, not a cnnbench.workloads.Workload"),
    "syntax": ("import os\nWORKLOAD = (\n", "{path}:2: SyntaxError: '(' was never closed"),
    "own error": ("def f():\n    return 1 / 0\n\nf()\n", "{path}:2: ZeroDivisionError: division by zero"),
    "import": (
        "import nosuchpackage\n",
        "{path}:1: ModuleNotFoundError: No module named 'nosuchpackage'; install it; a workload of several files makes a "
        "package (docs/own-workload.md)",
    ),
    "exit": ("import sys\nsys.exit(3)\n", "{path}:2: SystemExit: 3"),
    "name exists": (
        NET.replace('"my-net"', '"mnist-cnn"'),
        "{resolved}: a workload named 'mnist-cnn' exists already (cnnbench); choose another name",
    ),
    "two mistakes": (
        NET.replace('("xavier",)', '("orthogonal",)').replace('"my-net"', '"my net"'),
        "{path}: WORKLOAD: name 'my net' must be up to 64 letters, digits, dots, hyphens and underscores; inits 'orthogonal' "
        "is not one of truncated-0.1, normal-0.01, normal-0.1, normal-1, xavier",
    ),
}


@pytest.mark.parametrize("mistake", BAD)
def test_a_mistake_in_a_file_is_one_error_with_its_place(
    folder: Path, mistake: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2 before anything runs: file, line where there is one, and the reason; as text, not as a traceback."""
    text, expected = BAD[mistake]
    path = folder / "my_net.py"
    path.unlink() if text is None else path.write_text(text)
    message = expected.format(path=path, resolved=path.resolve())
    with pytest.raises(WorkloadError) as caught:
        workloads.find("my_net.py", folder)
    assert str(caught.value) == message
    for command in (["run", str(folder / "s.toml"), "-d", "cpu"], ["validate", str(folder / "s.toml")]):
        assert run_cli(command) == ExitCode.USAGE
        captured = capsys.readouterr()
        assert captured.err == f"error: {folder / 's.toml'}: [[job]] 1: {message}\n"
        assert captured.out == ""


def test_a_folder_or_a_pipe_is_no_file(folder: Path) -> None:
    (folder / "d.py").mkdir()
    with pytest.raises(WorkloadError, match="a directory; name one Python file"):
        workloads.find("d.py", folder)
    os.mkfifo(folder / "p.py")
    with pytest.raises(WorkloadError, match="not a regular file"):
        workloads.find("p.py", folder)


def test_two_files_of_one_name_go_into_no_run_together(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each by itself is right, and `validate` says so of both."""
    (folder / "other").mkdir()
    shutil.copy(folder / "s.toml", folder / "other" / "s.toml")
    (folder / "other" / "my_net.py").write_text(NET + "# another\n")
    suites = [str(folder / "s.toml"), str(folder / "other" / "s.toml")]
    assert run_cli(["validate", *suites]) == 0
    workloads.forget_files()
    assert run_cli(["run", *suites, "-d", "cpu"]) == ExitCode.USAGE
    assert "has a workload named 'my-net' too" in capsys.readouterr().err


def test_a_paired_check_takes_no_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["check", str(folder / "s.toml"), "--base-set", "threads=1"]) == ExitCode.USAGE
    assert "a paired check knows workloads by name alone" in capsys.readouterr().err


# What a value may be

WRONG = [
    ({"name": "a/b"}, "name 'a/b' must be"),
    ({"name": 7}, "name 7 must be"),
    ({"version": 0}, "version 0 must be"),
    ({"version": True}, "version True must be"),
    ({"title": "two\nlines"}, "title 'two\\nlines' must be a line of text"),
    ({"title": "\x1b[31mred"}, "must be a line of text"),
    ({"kind": "gemm"}, "kind 'gemm' must be 'training'"),
    ({"optimizers": ()}, "optimizers () must be a tuple of one or more"),
    ({"optimizers": "adam"}, "optimizers 'adam' must be a tuple"),
    ({"optimizers": ("lion",)}, "optimizers 'lion' is not one of sgd"),
    ({"learning_rates": {"adam": 0}}, "learning_rates 'adam': 0 must be"),
    ({"learning_rates": {"lion": 0.1}}, "learning_rates 'lion' is not one of"),
    ({"input_shape": (28, 28)}, "dataset 'mnist' has input_shape (1, 28, 28)"),
    ({"input_shape": (1, -28, 28)}, "input_shape (1, -28, 28) must be"),
    ({"classes": 1}, "classes 1 must be"),
    ({"dataset": "cifar"}, "dataset 'cifar' must be"),
    ({"network": None}, "give either layers or network"),
    ({"layers": (flops.Flatten(), flops.Dense(10))}, "give either layers or network"),
    ({"network": 3}, "network 3 must be a function"),
    ({"declared": None}, "network needs declared = Counts("),
    ({"declared": dataclasses.replace(LENET, training=1.5)}, "declared.training 1.5 must be a whole number"),
    ({"declared": dataclasses.replace(LENET, parameters=0)}, "declared.parameters 0 must be"),
    ({"pretraining": 1}, "pretraining needs layers"),
]
LAYERED = dataclasses.replace(
    MINE, network=None, declared=None, inits=("xavier",), layers=(flops.Flatten(), flops.Dense(10))
)
WRONG_LAYERS = [
    ({"inits": (DEFAULT_INIT,)}, "inits 'own' is not one of"),
    ({"declared": LENET}, "declared goes with network"),
    ({"layers": (flops.Flatten(), flops.Dense(9))}, "layers give (9,), classes 10 needs (10,)"),
    ({"layers": (flops.Dense(10), flops.Conv2d(3))}, "layers do not fit input_shape"),
    ({"layers": (flops.Flatten(), "dense")}, "layers: 'dense' is not a layer of cnnbench.workloads.flops"),
]


@pytest.mark.parametrize(
    ("workload", "changes", "complaint"),
    [(MINE, *each) for each in WRONG] + [(LAYERED, *each) for each in WRONG_LAYERS],
    ids=lambda each: ",".join(each) if isinstance(each, dict) else None,
)
def test_what_cannot_be_is_named(workload: Workload, changes: dict[str, object], complaint: str) -> None:
    found = find_problems(dataclasses.replace(workload, **changes))
    assert any(complaint in each for each in found), found


def test_what_can_be_has_no_complaint() -> None:
    """Those above as they are, and every one of cnnbench's own for softmax, the only loss that a user's network may have."""
    ours = [each for each in map(workloads.get, workloads.names()) if each.kind == "training" and each.classes > 2]
    assert [find_problems(each) for each in (MINE, LAYERED, *ours)] == [[]] * (len(ours) + 2)


# Counts


@pytest.mark.parametrize("name", [name for name in workloads.names() if name != "gemm"])
def test_torch_counts_what_the_layers_give(name: str) -> None:
    """Parameters, FLOPs both ways and activations of each own workload, without computing a value: VGG-16 in a moment."""
    workload = workloads.get(name)
    found = count_network(workload.make_network, workload.input_shape, workload.outputs)
    declared = workload.parameters, workload.flops_forward_per_image, workload.flops_training_per_image
    assert (found.parameters, found.forward, found.training) == declared
    assert found.activations * 4 == workload.activation_bytes_per_image
    assert found.convolves == workload.convolves


def test_torch_counts_lenet_as_it_is_counted_by_hand() -> None:
    assert count_network(lenet, (1, 28, 28), 10) == LENET


def test_a_network_that_wants_values_is_counted_on_the_cpu() -> None:
    """Its forward pass looks at a number, which the meta device has not."""

    class Choosy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(784, 10)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            assert images.sum().item() == 0
            return self.dense(images.flatten(1))

    found = count_network(Choosy, (1, 28, 28), 10)
    assert (found.parameters, found.forward, found.training) == (7_850, 15_680, 31_360)
    assert not found.convolves


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 9)), r"give \(2, 9\), not \(2, 10\)"),
        (lambda: nn.Linear(5, 10), "cannot be made or run: RuntimeError"),
        (lambda: 5, "network made int, not a torch.nn.Module"),
        (lambda: 1 / 0, "cannot be made or run: ZeroDivisionError"),
    ],
)
def test_a_network_that_does_not_do_its_work_is_refused(make, complaint: str) -> None:
    with pytest.raises(WorkloadError, match=complaint):
        count_network(make, (1, 28, 28), 10)


def test_a_network_that_is_there_is_counted_without_touching_it() -> None:
    network = lenet()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert count_network(network, (1, 28, 28), 10) == LENET
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.device == CPU and parameter.grad is None for parameter in network.parameters())


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch):
    """Make a workload known as another package's is."""

    def make(workload: Workload) -> None:
        found = {**workloads._registry(), workload.name: workloads._Installed(workload, "a test")}
        monkeypatch.setattr(workloads, "_registry", lambda: found)

    return make


def training(workload: Workload, **changes: object) -> Training:
    images = np.random.default_rng(0).integers(0, 255, size=(64, 28, 28), dtype=np.uint8)
    labels = (np.arange(64) % 10).astype(np.uint8)
    digits = Dataset("synthetic", images, labels, images, labels, source="noise")
    return Training(TrainingSetup(job(workload=workload.name, **changes), workload, digits, CPU))


def test_a_wrong_declaration_is_refused_with_both_figures(known) -> None:
    """What was forgotten: the biases of the convolutions, and that the first layer needs no gradient of its input."""
    wrong = dataclasses.replace(MINE, declared=dataclasses.replace(LENET, parameters=61_684, training=2_499_120))
    known(wrong)
    with pytest.raises(WorkloadError) as caught:
        build.verify_counts(job(), training(wrong))
    assert str(caught.value) == (
        "lenet: declared are 61,684 parameters, the network has 61,706; "
        "declared are 2,499,120 training FLOPs per image, torch counts 2,263,920"
    )
    known(MINE)
    assert build.verify_counts(job(), training(MINE)) == {}


def test_the_worker_refuses_a_file_that_is_another_now(folder: Path) -> None:
    """Planned with other bytes than the worker finds."""
    planned = workloads.find("my_net.py", folder)
    file = workloads.file_of("my-net")
    assert file is not None
    mine = job(workload="my-net", workload_version=planned.version, init="xavier")
    envelope = WorkerInput(job=mine, outcome_path="x", parent_pid=1, spawn_monotonic_ns=0, workload_file=file.text)
    build.load_workload_file(envelope)
    assert build.verify_counts(mine, training(planned, init="xavier")) == {
        "workload_file": f"my_net.py sha256:{file.sha256}"
    }
    (folder / "my_net.py").write_text(NET + "# another\n")
    with pytest.raises(WorkloadError, match=r"my_net\.py changed since the run was planned"):
        build.load_workload_file(envelope)


# Weights


def test_own_weights_follow_the_jobs_seed_and_nothing_else() -> None:
    """The same seed, the same weights, whatever was drawn before; and nobody else's random numbers are moved."""

    def weights(seed: int) -> torch.Tensor:
        network = MINE.build(DEFAULT_INIT, seed)
        return torch.cat([each.detach().flatten() for each in network.parameters()])

    torch.manual_seed(0)
    first = weights(7)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), drawn)
    assert torch.equal(weights(7), first)
    assert not torch.equal(weights(8), first)
    # torch's own: uniform within 1 / sqrt(inputs), 25 for the first convolution of 5x5
    assert 0.9 / 5 < first[:150].abs().max() <= 1 / 5


def test_an_init_of_ours_draws_the_weights_anew() -> None:
    """Glorot's limit for 400 inputs and 120 outputs is sqrt(6 / 520); biases are 0."""
    network = MINE.build("xavier", 7)
    dense = next(module for module in network.modules() if isinstance(module, nn.Linear))
    assert dense.weight.abs().max().item() == pytest.approx(math.sqrt(6 / 520), rel=0.01)
    assert dense.bias.abs().max() == 0


def test_warm_up_leaves_no_trace_in_buffers() -> None:
    """A batch normalisation's running mean goes back to its start with the weights."""

    def make() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784), nn.Linear(784, 10))

    workload = dataclasses.replace(MINE, network=make, declared=count_network(make, (1, 28, 28), 10))
    timed = training(workload)
    before = {name: value.clone() for name, value in timed.network.state_dict().items()}
    for _ in range(3):
        timed.step()
    assert not torch.equal(timed.network.state_dict()["1.running_mean"], before["1.running_mean"])
    timed.reset()
    assert all(torch.equal(value, before[name]) for name, value in timed.network.state_dict().items())


class OwnMean(nn.Module):
    """Keeps a running mean by putting a new tensor in its buffer's place."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.mean = 0.9 * self.mean + 0.1 * images.mean().detach()
        return images


def test_warm_up_leaves_no_trace_in_a_buffer_that_a_module_replaces() -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Flatten(), OwnMean(), nn.Linear(784, 10))

    workload = dataclasses.replace(MINE, network=make, declared=count_network(make, (1, 28, 28), 10))
    timed = training(workload)
    timed.step()
    assert timed.network.state_dict()["1.mean"] != 0
    timed.reset()
    assert timed.network.state_dict()["1.mean"] == 0


# Another package


def point(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    """One entry point of a package with that text as its module."""
    (tmp_path / "cnnbench_test_package.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("cnnbench_test_package", None)
    found = EntryPoint("mine", "cnnbench_test_package:WORKLOAD", "cnnbench.workloads")
    monkeypatch.setattr(workloads, "entry_points", lambda group: [found])


def test_an_entry_point_is_listed_with_its_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    point(monkeypatch, tmp_path, NET)
    assert run_cli(["list", "workloads", "--json"]) == 0
    (entry,) = [each for each in json.loads(capsys.readouterr().out)["workloads"] if each["name"] == "my-net"]
    assert (entry["source"], entry["version"]) == ("cnnbench_test_package", 1)
    assert run_cli(["list", "workloads"]) == 0
    assert "training image; from cnnbench_test_package)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "import nosuchpackage\n",
            "ModuleNotFoundError: No module named 'nosuchpackage'; fix or uninstall that package",
        ),
        ("x = 1\n", "AttributeError"),
        ("WORKLOAD = 5\n", "expected a cnnbench.workloads.Workload, got int"),
        (NET.replace('"my-net"', '"gemm"'), "a workload named 'gemm' exists already; uninstall one of the two"),
        (NET.replace("version=1", "version=-1"), "version -1 must be a whole number from 1 on"),
    ],
)
def test_a_broken_package_is_one_error_that_names_its_entry_point(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    point(monkeypatch, tmp_path, text)
    assert run_cli(["list"]) == ExitCode.USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: entry point mine = cnnbench_test_package:WORKLOAD of cnnbench_test_package: ")
    assert complaint in line


# Reading


def launch(job: Job, options: object, on_progress: object) -> WorkerExit:
    return WorkerExit(Outcome(status="ok", trial=b.trial(job, parameters=15_898)), 100.0, 0.0, {})


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    found = inventory.Inventory(b.machine(), b.software(), NvmlResult(), ())
    monkeypatch.setattr(inventory, "take_inventory", lambda **_: found)
    monkeypatch.setattr(room, "execute", functools.partial(room.execute, launcher=launch))
    monkeypatch.chdir(folder)
    return folder


def test_a_ledger_is_understood_where_the_file_is_not(faked: Path) -> None:
    """FLOP/s from the header's counts: 50 images of (2 x conv + 3 x dense) FLOPs in 10 ms. Two versions side by side."""
    assert run_cli(["run", "s.toml", "-d", "cpu", "--results", "r", "-r", "1"]) == 0
    workloads.forget_files()
    (faked / "my_net.py").write_text(NET.replace("Conv2d(8", "Conv2d(16"))
    assert run_cli(["run", "s.toml", "-d", "cpu", "--results", "r", "-r", "1"]) in (0, 5)
    workloads.forget_files()
    workloads._FROM_LEDGERS.clear()
    assert "my-net" not in workloads.names()
    ledgers = [store.load(path) for path in sorted((faked / "r").rglob("*.jsonl"))]
    first = next(each for each in ledgers if each.header.workloads["my-net"].parameters == 15_898)
    facts = first.header.workloads["my-net"]
    convolution, dense = 2 * 8 * 25 * 784, 2 * 1_568 * 10
    assert facts.flops_training_per_image == 2 * convolution + 3 * dense
    assert facts.source == "my_net.py"
    assert facts.version == int((facts.sha256 or "")[:8], 16)
    assert "/" not in facts.source
    processes, _ = process_table.read_processes([first])
    found = processes[0].metrics
    assert found is not None
    assert found.values["flops_per_second"] == pytest.approx(50 * (2 * convolution + 3 * dense) / 0.01)
    versions = {each.header.workloads["my-net"].version for each in ledgers}
    assert len(versions) == 2
    assert {workloads.get("my-net", version).version for version in versions} == versions
    with pytest.raises(WorkloadError, match="known from a ledger only"):
        workloads.get("my-net").make_network()


def test_a_ledger_changes_none_of_cnnbenchs_own() -> None:
    """Whatever its header claims of them; and a header describes none of them."""
    assert workloads.collect_header_facts(["mnist-cnn", "gemm"]) == {}
    claimed = WorkloadFacts(
        version=99,
        title="x",
        input_shape=(1, 28, 28),
        classes=10,
        parameters=1,
        flops_forward_per_image=1,
        flops_training_per_image=1,
        activations_per_image=1,
        source="nobody",
    )
    workloads.register_from_ledger({"mnist-cnn": claimed})
    assert workloads.get("mnist-cnn", 99).parameters == 1_378_698


def test_a_run_does_not_go_on_with_another_file(faked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--resume` after a change: the rest of the plan would be other work under the same name."""
    stopped = functools.partial(room.execute.func, launcher=_stop)  # type: ignore[attr-defined]
    whole = room.execute
    room.execute = stopped
    assert run_cli(["run", "s.toml", "-d", "cpu", "--results", "r"]) == ExitCode.INTERRUPTED
    room.execute = whole
    workloads.forget_files()
    (faked / "my_net.py").write_text(NET + "# another\n")
    capsys.readouterr()
    assert run_cli(["run", "s.toml", "-d", "cpu", "--results", "r", "--resume"]) == ExitCode.USAGE
    assert "my-net (my_net.py) changed since run" in capsys.readouterr().err


def _stop(*_: object) -> WorkerExit:
    raise KeyboardInterrupt


# The worked example


def test_the_page_shows_the_example_as_it_is() -> None:
    page = (ROOT / "docs" / "own-workload.md").read_text(encoding="utf-8")
    for name in ("my_net.py", "my_suite.toml"):
        assert (EXAMPLE / name).read_text(encoding="utf-8") in page
    module = (EXAMPLE / "cnnbench_lenet5.py").read_text(encoding="utf-8")
    assert (
        module.partition("    network=make,\n")[1] + module.partition("    network=make,\n")[2].removesuffix(")\n")
        in page
    )


def command(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    line = [sys.executable, "-m", "cnnbench", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=400, check=False, env=environment)


TINY = """
description = "tiny"
repeats = 1
[[job]]
workload = "{workload}"
data = "synthetic"
batch_size = 32
warmup_steps = 3
blocks = 3
block_steps = 5
"""


@pytest.mark.slow("real workers")
def test_the_example_package_is_installed_listed_and_benchmarked(tmp_path: Path) -> None:
    """pip builds it offline with the back end that is there; its figures are found again where it is not installed."""
    site, source = tmp_path / "site", tmp_path / "source"
    shutil.copytree(EXAMPLE, source)
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet")
    pip = [sys.executable, "-m", "pip", "install", *options, "--target", str(site), str(source)]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}

    listed = json.loads(command("list", "--json", **found).stdout)["workloads"]
    (entry,) = [each for each in listed if each["name"] == "lenet-5"]
    assert (entry["source"], entry["parameters"]) == ("cnnbench-lenet5 1.0.0", 61_706)
    assert command("validate", EXAMPLE / "lenet5.toml", EXAMPLE / "my_suite.toml", **found).returncode == 0

    suite, results = tmp_path / "tiny.toml", tmp_path / "results"
    suite.write_text(TINY.format(workload="lenet-5"))
    done = command("run", suite, "-d", "cpu", "--results", results, "--json", **found)
    (path,) = results.rglob("*.jsonl")
    ledger = store.load(path)
    (record,) = ledger.records
    assert record.outcome.trial is not None, (record.outcome, done.stderr)
    assert record.outcome.trial.parameters == 61_706
    assert (record.job.optimizer, record.job.init, record.job.workload_version) == ("rmsprop", "own", 1)
    facts = ledger.header.workloads["lenet-5"]
    assert (facts.source, facts.sha256, facts.flops_training_per_image) == ("cnnbench-lenet5 1.0.0", None, 2_263_920)
    without = command("show", results, "--format", "json")
    assert without.returncode == 0, without.stderr
    assert json.loads(without.stdout) == json.loads(done.stdout)


@pytest.mark.slow("real workers")
def test_a_file_is_benchmarked_and_a_wrong_declaration_ends_its_job(tmp_path: Path) -> None:
    """The worker runs the file too; what it declares wrongly is a crashed job with both figures, exit 5."""
    shutil.copy(EXAMPLE / "my_net.py", tmp_path / "my_net.py")
    (tmp_path / "mine.toml").write_text(TINY.format(workload="my_net.py"))
    command("run", tmp_path / "mine.toml", "-d", "cpu", "--results", tmp_path / "r")
    (path,) = (tmp_path / "r").rglob("*.jsonl")
    (record,) = store.load(path).records
    assert record.outcome.trial is not None, record.outcome
    digest = store.load(path).header.workloads["my-net"].sha256
    assert record.outcome.trial.settings["workload_file"] == f"my_net.py sha256:{digest}"
    assert str(tmp_path) not in path.read_text()

    text = (EXAMPLE / "cnnbench_lenet5.py").read_text(encoding="utf-8").replace("forward=833_040", "forward=833_041")
    (tmp_path / "wrong.py").write_text(text)
    (tmp_path / "wrong.toml").write_text(TINY.format(workload="wrong.py"))
    done = command("run", tmp_path / "wrong.toml", "-d", "cpu", "--results", tmp_path / "w")
    assert done.returncode == ExitCode.JOB_FAILED
    assert "declared are 833,041 forward FLOPs per image, torch counts 833,040" in done.stderr

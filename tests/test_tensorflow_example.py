"""The example that trains the CNN by TensorFlow and by torch in turns: the same network, and arguments that are checked."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
import torch

from cnnbench import workloads
from cnnbench.engine.optim import DECAY, EPSILON, LEARNING_RATE
from cnnbench.workloads.flops import Dropout

SCRIPT = Path(__file__).parents[1] / "examples" / "tensorflow" / "then_and_now.py"
CNN = workloads.get("mnist-cnn")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("then_and_now", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def few(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script with 512 made-up digits."""
    monkeypatch.delenv("CNNBENCH_DATA", raising=False)
    monkeypatch.setattr(script, "IMAGES", 512)
    return script


def test_the_network_is_the_workloads(script: ModuleType) -> None:
    """Weights by shape, other orders of axes aside; parameters and FLOPs are counted in another way."""
    shapes = [tuple(each.shape) for each in CNN.make_network().parameters()]
    theirs = [(*shape[::-1][:2], *shape[:2]) if len(shape) == 4 else shape[::-1] for shape in script.weight_shapes()]
    assert theirs == shapes
    assert script.count_parameters() == CNN.parameters == 1_378_698
    assert script.count_flops() == CNN.flops_training_per_image == 51_972_732


def test_the_recipe_is_the_workloads(script: ModuleType) -> None:
    keeps = [each.keep for each in CNN.layers if isinstance(each, Dropout)]
    assert keeps == [script.KEEP_POOL] * 3 + [script.KEEP_DENSE]
    assert (script.RATE, script.DECAY, script.EPSILON) == (LEARNING_RATE, DECAY, EPSILON)
    assert script.STEPS_OF_THE_JOB == 100 * (script.IMAGES // script.BATCH)


def test_torchs_side_learns(few: ModuleType) -> None:
    torch_threads = torch.get_num_threads()
    try:
        step, version, parameters = few.build_torch_step(1, torch_threads)
        losses = [step() for _ in range(12)]
    finally:
        torch.set_num_threads(torch_threads)
    assert (version, parameters) == (torch.__version__, CNN.parameters)
    assert sum(losses[-3:]) < sum(losses[:3])


def test_tensorflows_update_is_torchs(few: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without dropout and from the same weights both libraries have the same losses for some steps."""
    tensorflow = pytest.importorskip("tensorflow", reason="TensorFlow is optional")
    monkeypatch.setattr(few, "KEEP_POOL", 1.0)
    monkeypatch.setattr(few, "KEEP_DENSE", 1.0)
    given = [torch.nn.init.trunc_normal_(torch.empty(shape), std=0.1) for shape in few.weight_shapes()]
    drawn = iter(given)
    monkeypatch.setattr(
        tensorflow.random, "truncated_normal", lambda *_, **__: tensorflow.constant(next(drawn).numpy())
    )
    theirs, _, parameters = few.build_tensorflow_step(1, 1)
    network = CNN.make_network().eval()
    with torch.no_grad():
        for parameter, weight in zip(network.parameters(), given, strict=True):
            if weight.dim() == 4:
                parameter.copy_(weight.permute(3, 2, 0, 1))
            elif weight.shape[0] == 2048:  # flattened by channel in torch, by place in TensorFlow
                parameter.copy_(weight.reshape(4, 4, 128, 625).permute(3, 2, 0, 1).reshape(625, 2048))
            else:
                parameter.copy_(weight.T)
    built = argparse.Namespace(train=lambda: network)
    monkeypatch.setattr(workloads, "get", lambda _: argparse.Namespace(build=lambda *_: built))
    ours, _, _ = few.build_torch_step(1, torch.get_num_threads())
    assert parameters == CNN.parameters
    assert [theirs() for _ in range(3)] == pytest.approx([ours() for _ in range(3)], rel=2e-3)


def test_a_coin_orders_the_rounds(script: ModuleType) -> None:
    """Of 400 fair coins between 160 and 240 show either side, within 4 standard deviations; the seed fixes them."""
    orders = script.order_rounds(400, 1)
    assert orders == script.order_rounds(400, 1)
    assert 160 <= Counter(orders)[script.LIBRARIES] <= 240
    assert {tuple(sorted(each)) for each in orders} == {script.LIBRARIES}


def test_the_summary_pairs_the_libraries_by_round(script: ModuleType) -> None:
    """A machine that is twice as slow in one round changes the medians and not the ratio."""
    rounds = [
        {"tensorflow": 0.03, "torch": 0.02},
        {"tensorflow": 0.06, "torch": 0.04},
        {"tensorflow": 0.06, "torch": 0.04},
    ]
    found = script.summarise(rounds)
    assert found["tensorflow_over_torch"] == pytest.approx(1.5)
    assert found["torch_step_seconds"] == 0.04
    assert found["torch_job_seconds"] == pytest.approx(42_900 * 0.04)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--rounds", "0"], "--rounds"), (["--threads", "x"], "--threads"), (["--worker", "jax"], "--worker")],
)
def test_a_wrong_argument_ends_with_2_and_names_it(
    script: ModuleType, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        script.parse_arguments(arguments)
    assert error.value.code == 2
    assert words in capsys.readouterr().err


def test_a_library_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    """A Python that fails: its last line, its name, exit 1 and no traceback of the script."""
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'ModuleNotFoundError: No module named torch' >&2\nexit 1\n")
    broken.chmod(0o755)
    begin = f"import sys, runpy; sys.argv[0] = {str(SCRIPT)!r}; sys.executable = {str(broken)!r}"
    program = f"{begin}; runpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", program, "--rounds", "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "No module named torch" in done.stderr
    assert "Traceback" not in done.stderr

"""Every way of computing a step: it learns, it is what its label says, and warm-up leaves no trace."""

from __future__ import annotations

import pytest
import torch
from test_training import CPU, dataset, job

from cnnbench import workloads
from cnnbench.devices import backend
from cnnbench.engine import compute_mode
from cnnbench.engine.batches import TrainingSetup
from cnnbench.engine.build import build
from cnnbench.engine.compute_mode import ComputeMode
from cnnbench.engine.paired_job import count_work, first_losses
from cnnbench.engine.training import Inference, Training
from cnnbench.errors import UnsupportedError

MODES = [
    {"precision": "bf16"},
    # Without convolutions: a CPU's library may compute those of fp16 by a plain loop, 3 s a step.
    {"precision": "fp16", "name": "mlp-1"},
    {"layout": "nhwc"},
    {"precision": "bf16", "layout": "nhwc"},
    {"pool": "average"},
    {"activation": "sigmoid", "init": "xavier"},
    {"optimizer": "sgd"},
    {"optimizer": "momentum"},
    {"optimizer": "adam"},
]


def training(name: str = "mnist-cnn", **changes: object) -> Training:
    workload = workloads.get(name)
    known = {"workload": name, "optimizer": workload.default_optimizer, "init": workload.default_init}
    it = job(**(known | changes))
    return Training(TrainingSetup(it, workload.with_variant(it.pool, it.activation), dataset(), CPU))


def weights(run: Training) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in run.network.parameters()])


def test_a_job_is_built_with_its_own_pooling_and_activation() -> None:
    """Both kinds have the same counts, so nothing later would tell that a label is wrong."""
    it = job(pool="average", activation="sigmoid", init="xavier")
    run = build(it, None, backend("cpu").attach(threads=1))
    assert isinstance(run, Training)
    kinds = {type(module) for module in run.network.modules()}
    assert {torch.nn.AvgPool2d, torch.nn.Sigmoid} <= kinds
    assert not {torch.nn.MaxPool2d, torch.nn.ReLU} & kinds


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: "-".join(map(str, mode.values())))
def test_the_loss_falls_in_every_mode(mode: dict[str, object]) -> None:
    """Mean of the last ten losses below the mean of the first ten."""
    run = training(**mode)
    losses = []
    for _ in range(60):
        run.step()
        losses.append(run.loss() or 0.0)
    assert sum(losses[-10:]) < sum(losses[:10])


@pytest.mark.parametrize(
    ("name", "steps"),
    [("softmax", 80), ("mlp-1", 80), ("mlp-5", 80), ("mlp-5-xavier-dropout", 80), ("mnist-cnn-2048", 40)],
)
def test_the_loss_falls_in_every_network(name: str, steps: int) -> None:
    """Mean of the last ten losses below the mean of the first ten."""
    run = training(name)
    losses = []
    for _ in range(steps):
        run.step()
        losses.append(run.loss() or 0.0)
    assert sum(losses[-10:]) < sum(losses[:10])


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: "-".join(map(str, mode.values())))
def test_warm_up_leaves_no_trace_in_any_mode(mode: dict[str, object]) -> None:
    """The loss scale and a momentum buffer go back too."""
    ends = []
    for warm_steps in (0, 5):
        run = training(**mode)
        for _ in range(warm_steps):
            run.step()
        run.reset()
        for _ in range(3):
            run.step()
        ends.append(weights(run))
    assert torch.equal(*ends)


def test_channels_last_is_the_same_mathematics() -> None:
    """Same weights, same batch, dropout off: the logits agree to float32's rounding."""
    plain, last = training(), training(layout="nhwc")
    images, _ = plain.draw()
    for run in (plain, last):
        run.network.eval()
    torch.testing.assert_close(
        last.compute_mode.logits(images), plain.compute_mode.logits(images), rtol=1e-4, atol=1e-5
    )
    assert last.network[0].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("name", "format_"), [("fp32", "float32"), ("bf16", "bfloat16"), ("fp16", "float16")])
def test_the_format_is_the_labels(name: str, format_: str) -> None:
    run = training(precision=name)
    images, _ = run.draw()
    assert str(run.compute_mode.logits(images).dtype) == f"torch.{format_}"
    assert {parameter.dtype for parameter in run.network.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
def test_the_rounding_is_measured_and_a_wrong_label_named(name: str) -> None:
    errors = compute_mode.measure_rounding(CPU, name)
    assert compute_mode.find_mislabelling(name, errors) is None
    wrong = "bf16" if name == "fp32" else "fp32"
    assert "not " in (compute_mode.find_mislabelling(wrong, errors) or "")


def test_fp16_scales_the_loss_and_leaves_out_a_step_that_overflows() -> None:
    """The scale begins at 65,536 and is halved by each overflow, weights untouched, until the gradients are finite."""
    run = training(precision="fp16")
    assert run.compute_mode._scaler.get_scale() == 2.0**16
    before = weights(run)
    for _ in range(20):
        scale = run.compute_mode._scaler.get_scale()
        run.step()
        if run.compute_mode._scaler.get_scale() == scale:
            break
        assert torch.equal(weights(run), before)
    assert not torch.equal(weights(run), before)
    assert torch.isfinite(weights(run)).all()
    run.reset()
    assert run.compute_mode._scaler.get_scale() == 2.0**16


def test_inference_is_forward_only() -> None:
    """No gradient, no update, dropout off, batches in order, a loss to compare by."""
    run = Inference(TrainingSetup(job(task="inference", optimizer=None), workloads.get("mnist-cnn"), dataset(), CPU))
    before = [p.detach().clone() for p in run.network.parameters()]
    for _ in range(3):
        run.step()
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, run.network.parameters(), strict=True))
    assert not run.network.training
    assert run.images_drawn == 3 * 32
    first = run.loss()
    run.reset()
    for _ in range(3):
        run.step()
    assert run.loss() == first


def test_inference_gives_evidence_of_equal_work() -> None:
    it = job(task="inference", optimizer=None)
    run = Inference(TrainingSetup(it, workloads.get("mnist-cnn"), dataset(), CPU))
    losses = first_losses(run)
    for _ in range(4):
        run.step()
    done = count_work(it, run, 4, losses, 0)
    assert losses is not None
    assert len(losses) == 5
    assert (done.images, done.optimizer_steps, done.flops) == (4 * 32, 0, 4 * 32 * 17_474_772)


def test_a_compiler_that_fails_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(network: torch.nn.Module) -> object:
        def forward(images: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no C++ compiler was found\nmore lines")

        return forward

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(UnsupportedError, match=r"torch\.compile failed: RuntimeError: no C\+\+ compiler was found$"):
        training(execution="compiled").compile()


def test_the_compiled_network_is_what_steps_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a compiler that only counts: forward goes through it, evaluation does not, and compiling leaves no trace."""
    calls = []

    def counting(network: torch.nn.Module) -> object:
        def forward(images: torch.Tensor) -> torch.Tensor:
            calls.append(len(images))
            return network(images)

        return forward

    monkeypatch.setattr(torch, "compile", counting)
    compiled, plain = training(), training()
    compiled.compile()
    assert calls == [32]
    for run in (compiled, plain):
        run.reset()  # both draw their masks from torch's one generator
        run.step()
    assert calls == [32, 32]
    compiled.count_correct()
    assert len(calls) == 2
    assert torch.equal(weights(compiled), weights(plain))


@pytest.mark.slow("compilers")
@pytest.mark.parametrize("task", ["training", "inference"])
def test_the_real_compiler(task: str) -> None:
    """Compiled and eager agree on a network without dropout."""
    it = job(workload="mlp-1", optimizer="adam", init="normal-0.1", task=task, execution="compiled")
    run = (Training if task == "training" else Inference)(TrainingSetup(it, workloads.get("mlp-1"), dataset(), CPU))
    run.compile()
    images, _ = run.draw()
    torch.testing.assert_close(run.compute_mode.logits(images), run.network(images), rtol=1e-4, atol=1e-5)


def test_a_mode_of_plain_float32_adds_nothing() -> None:
    network = torch.nn.Linear(3, 2)
    mode = ComputeMode(job(), network, CPU)
    images = torch.randn(4, 3)
    assert torch.equal(mode.logits(images), network(images))

"""The counts against the lecture's recomputed figures, torch's own counter, and each other."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cnnbench import workloads
from cnnbench.errors import WorkloadError
from cnnbench.schema import Job
from cnnbench.workloads import explanation, flops
from cnnbench.workloads.base import INITS, NORMAL, NORMAL_UNIT, OPTIMIZERS, TRUNCATED, XAVIER, Band

CNN = workloads.get("mnist-cnn")
TRAINING = [w for w in map(workloads.get, workloads.names()) if w.kind == "training"]


@pytest.mark.parametrize(
    ("i", "f", "s", "p", "o"), [(4, 3, 1, 0, 2), (5, 3, 2, 0, 2), (5, 4, 1, 2, 6), (5, 3, 1, 0, 3)]
)
def test_output_side_is_the_slides_formula(i: int, f: int, s: int, p: int, o: int) -> None:
    """Four worked examples of the lecture's output-size slide."""
    assert explanation.padded_side(i, f, s, p).output == o


def test_same_pooling_halves_upwards() -> None:
    """28 -> 14 -> 7 -> 4."""
    assert [flops.same_side(i, 2) for i in (28, 14, 7)] == [14, 7, 4]


def test_mnist_cnn_has_the_lectures_counts() -> None:
    """Recomputed by hand from the architecture slide."""
    assert [c.parameters for c in flops.count_layers(CNN.layers, CNN.input_shape) if c.parameters] == [
        288,
        18_432,
        73_728,
        1_280_000,
        6_250,
    ]
    assert CNN.parameters == 1_378_698
    assert CNN.flops_forward_per_image == 17_474_772
    assert CNN.flops_training_per_image == 51_972_732
    assert CNN.activation_bytes_per_image == 227_116


@pytest.mark.parametrize("workload", TRAINING, ids=lambda w: w.name)
def test_training_is_three_forwards_minus_the_first_input_gradient(workload: workloads.Workload) -> None:
    """The first layer with weights needs no gradient of its input."""
    first = next(c for c in flops.count_layers(workload.layers, workload.input_shape) if c.parameters)
    assert workload.flops_training_per_image == 3 * workload.flops_forward_per_image - first.forward_flops


@pytest.mark.parametrize("workload", TRAINING, ids=lambda w: w.name)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_count_equals_torchs_counter(workload: workloads.Workload, batch: int) -> None:
    """FlopCounterMode on a separate network, forward and backward."""
    with torch.device("meta"):
        net = workloads.base.build_network(workload.layers, workload.input_shape)
    assert sum(p.numel() for p in net.parameters()) == workload.parameters
    images = torch.empty(batch, *workload.input_shape, device="meta")
    with FlopCounterMode(display=False) as counter:
        logits = net(images)
    assert logits.shape == (batch, workload.outputs)
    assert counter.get_total_flops() == batch * workload.flops_forward_per_image
    with FlopCounterMode(display=False) as counter:
        net(images).logsumexp(1).sum().backward()
    assert counter.get_total_flops() == batch * workload.flops_training_per_image


@pytest.mark.parametrize(
    ("name", "parameters", "forward", "training"),
    [
        ("softmax", 7_850, 15_680, 31_360),
        ("mlp-1", 203_530, 406_528, 818_176),
        ("mlp-5", 400_906, 799_744, 1_997_824),
        ("mlp-5-xavier-dropout", 400_906, 799_744, 1_997_824),
        ("mlp-5-pretrained", 400_906, 799_744, 1_997_824),
        ("mnist-cnn", 1_378_698, 17_474_772, 51_972_732),
        ("mnist-cnn-2048", 4_307_232, 23_331_840, 69_543_936),
        ("vgg16", 138_357_544, 30_940_528_640, 92_648_177_664),
    ],
)
def test_every_network_has_the_lectures_counts(name: str, parameters: int, forward: int, training: int) -> None:
    """Recomputed by hand from the lecture and the VGG paper."""
    workload = workloads.get(name)
    counts = (workload.parameters, workload.flops_forward_per_image, workload.flops_training_per_image)
    assert counts == (parameters, forward, training)


def test_pretraining_counts_what_torch_counts() -> None:
    """One step of each layer's autoencoder, the layers below without gradient, under FlopCounterMode."""
    workload = workloads.get("mlp-5-pretrained")
    net = workload.build(XAVIER, 0)
    images = torch.randn(3, 1, 28, 28)
    found = []
    for index in [i for i, module in enumerate(net) if isinstance(module, torch.nn.Linear)][:-1]:
        decoder = torch.nn.Linear(net[index].out_features, net[index].in_features)
        with FlopCounterMode(display=False) as counter:
            with torch.no_grad():
                given = net[:index](images)
            torch.nn.functional.mse_loss(decoder(net[index : index + 2](given)), given).backward()
        found.append(counter.get_total_flops() // 3)
    assert tuple(found) == workload.flops_pretraining_per_image
    assert found[0] == 2_007_040


def test_a_job_with_pretraining_counts_both_phases() -> None:
    """Four hidden layers, two epochs each, of 550 batches of 100."""
    job = Job(workload="mlp-5-pretrained", workload_version=1, batch_size=100, split="train-55000")
    assert workloads.pretraining_steps(job) == 4 * 2 * 550
    per_image = sum(workloads.get("mlp-5-pretrained").flops_pretraining_per_image)
    assert workloads.pretraining_flops(job) == 100 * 2 * 550 * per_image
    plain = job.model_copy(update={"workload": "mlp-5"})
    assert (workloads.pretraining_steps(plain), workloads.pretraining_flops(plain)) == (0, 0)


def test_inference_is_one_forward() -> None:
    job = Job(workload="mnist-cnn", workload_version=1, batch_size=128, task="inference")
    assert workloads.flops_per_step(job) == 128 * 17_474_772


@pytest.mark.parametrize("pool", ["max", "average"])
@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_another_pooling_or_activation_keeps_every_count(pool: str, activation: str) -> None:
    varied = CNN.with_variant(pool, activation)
    assert (varied.pool, varied.activation) == (pool, activation)
    for name in ("parameters", "flops_training_per_image", "activation_bytes_per_image"):
        assert getattr(varied, name) == getattr(CNN, name)
    net = varied.build(TRUNCATED, 0)
    assert net(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_average_pooling_at_an_odd_edge_is_the_mean_of_what_is_there() -> None:
    """SAME padding of 7 in TensorFlow: zeros are neither added nor counted."""
    net = workloads.base.build_network((workloads.flops.AvgPool2d(),), (1, 7, 7))
    out = net(torch.ones(1, 1, 7, 7))
    assert out.shape == (1, 1, 4, 4)
    assert torch.equal(out, torch.ones_like(out))


def test_every_workload_names_only_rules_there_are() -> None:
    for workload in TRAINING:
        assert set(workload.optimizers) <= set(OPTIMIZERS)
        assert set(workload.inits) <= set(INITS)
        assert all(workload.learning_rate(name) > 0 for name in workload.optimizers)


def test_a_band_holds_for_its_recipe() -> None:
    exact, longer = Band(100, 128, 0.9, 1.0, order="shuffled"), Band(100, 128, 0.9, 1.0, at_least=True)
    assert [exact.holds_for(steps, 128, "shuffled") for steps in (99, 100, 101)] == [False, True, False]
    assert [longer.holds_for(steps, 128, "shuffled") for steps in (99, 100, 101)] == [False, True, True]
    assert not longer.holds_for(100, 64, "shuffled")
    assert longer.holds_for(100, 128, "sequential")
    assert not exact.holds_for(100, 128, "sequential")


def test_the_batch_that_fits_shrinks_with_the_memory() -> None:
    """VGG-16: a power of two, never below 1, and its closed form within half the memory."""
    job = Job(workload="vgg16", workload_version=1, batch_size=1, data="random")
    fits = {gib: workloads.batch_that_fits(job, gib * 2**30) for gib in (1, 8, 16, 80)}
    assert fits[1] == 1
    assert fits[8] < fits[16] < fits[80] <= 4096
    for gib, batch in fits.items():
        needed = workloads.step_bytes(job.model_copy(update={"batch_size": batch}))
        assert batch == 1 or needed <= gib * 2**29
        twice = workloads.step_bytes(job.model_copy(update={"batch_size": 2 * batch}))
        assert twice > gib * 2**29


def test_twice_the_batch_is_twice_the_flops() -> None:
    """A step's FLOPs are proportional to its batch; each extra forward adds one forward."""
    job = Job(workload="mnist-cnn", workload_version=1, batch_size=128)
    once = workloads.flops_per_step(job)
    assert once == 128 * 51_972_732
    assert workloads.flops_per_step(job.model_copy(update={"batch_size": 256})) == 2 * once
    assert workloads.flops_per_step(job.model_copy(update={"extra_forwards": 2})) == once + 2 * 128 * 17_474_772


def test_a_gemm_counts_two_flops_a_multiply_accumulate() -> None:
    """2 x side^3, and a GEMM without a side is an error."""
    job = Job(workload="gemm", workload_version=1, size=1024)
    assert workloads.flops_per_step(job) == 2_147_483_648
    with pytest.raises(WorkloadError, match="needs a size"):
        workloads.flops_per_step(job.model_copy(update={"size": None}))


def test_inits_have_the_stated_spread() -> None:
    """Truncated normal never leaves two sigma and loses the tails' variance; plain normal does leave it."""
    truncated = torch.cat([p.detach().flatten() for p in CNN.build(TRUNCATED, 1).parameters()])
    assert truncated.abs().max() <= 0.2
    # Variance of a standard normal cut at +-2: 1 - 4 phi(2) / (2 Phi(2) - 1) = 0.7737
    assert truncated.std().item() == pytest.approx(0.1 * 0.7737**0.5, rel=0.01)
    normal = torch.cat([p.detach().flatten() for p in CNN.build(NORMAL, 1).parameters()])
    assert normal.std().item() == pytest.approx(0.01, rel=0.01)
    assert normal.abs().max() > 0.02


def test_xavier_draws_within_its_limit_and_leaves_biases_at_zero() -> None:
    """sqrt(6 / (784 + 256)) for the first layer."""
    net = workloads.get("mlp-1").build(XAVIER, 1)
    weight, limit = net[1].weight, (6 / (784 + 256)) ** 0.5
    assert 0.99 * limit < weight.abs().max() <= limit
    assert weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.01)
    assert not net[1].bias.any()


def test_the_unit_normal_has_spread_one() -> None:
    net = workloads.get("mlp-1").build(NORMAL_UNIT, 1)
    assert net[1].weight.std().item() == pytest.approx(1.0, rel=0.01)


def test_unknown_names_list_the_choices() -> None:
    """A wrong workload or init names what there is."""
    with pytest.raises(WorkloadError, match="gemm, linear-regression, logistic-regression, mlp-1, mlp-5"):
        workloads.get("resnet")
    with pytest.raises(WorkloadError, match=r"truncated-0\.1"):
        CNN.build("he", 0)

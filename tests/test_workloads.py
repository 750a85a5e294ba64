"""The counts against the lecture's recomputed figures, torch's own counter, and each other."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cnnbench import workloads
from cnnbench.errors import WorkloadError
from cnnbench.schema import Job
from cnnbench.workloads import flops
from cnnbench.workloads.base import NORMAL, TRUNCATED

CNN = workloads.get("mnist-cnn")
TRAINING = [w for w in map(workloads.get, workloads.names()) if w.kind == "training"]


@pytest.mark.parametrize(
    ("i", "f", "s", "p", "o"), [(4, 3, 1, 0, 2), (5, 3, 2, 0, 2), (5, 4, 1, 2, 6), (5, 3, 1, 0, 3)]
)
def test_output_side_is_the_slides_formula(i: int, f: int, s: int, p: int, o: int) -> None:
    """Four worked examples of the lecture's output-size slide."""
    assert flops.output_side(i, f, s, p) == o


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
    net = workload.build(workload.default_init or "", torch.Generator().manual_seed(0))
    assert sum(p.numel() for p in net.parameters()) == workload.parameters
    images = torch.randn(batch, *workload.input_shape)
    with FlopCounterMode(display=False) as counter:
        logits = net(images)
    assert logits.shape == (batch, workload.classes)
    assert counter.get_total_flops() == batch * workload.flops_forward_per_image
    with FlopCounterMode(display=False) as counter:
        net(images).logsumexp(1).sum().backward()
    assert counter.get_total_flops() == batch * workload.flops_training_per_image


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
    truncated = torch.cat(
        [p.detach().flatten() for p in CNN.build(TRUNCATED, torch.Generator().manual_seed(1)).parameters()]
    )
    assert truncated.abs().max() <= 0.2
    # Variance of a standard normal cut at +-2: 1 - 4 phi(2) / (2 Phi(2) - 1) = 0.7737
    assert truncated.std().item() == pytest.approx(0.1 * 0.7737**0.5, rel=0.01)
    normal = torch.cat([p.detach().flatten() for p in CNN.build(NORMAL, torch.Generator().manual_seed(1)).parameters()])
    assert normal.std().item() == pytest.approx(0.01, rel=0.01)
    assert normal.abs().max() > 0.02


def test_unknown_names_list_the_choices() -> None:
    """A wrong workload or init names what there is."""
    with pytest.raises(WorkloadError, match="gemm, mnist-cnn"):
        workloads.get("resnet")
    with pytest.raises(WorkloadError, match=r"truncated-0\.1"):
        CNN.build("xavier", torch.Generator())

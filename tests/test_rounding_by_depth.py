"""How far a deep network's gradients are off in bf16 by rounding alone, which is what the gate's tolerance must allow."""

from __future__ import annotations

import pytest
import test_graph_training
import torch
from torch.nn.functional import cross_entropy

from cnnbench import workloads

CPU = torch.device("cpu")


@pytest.mark.parametrize(("name", "factor"), [("mnist-cnn", 1.0), ("softmax", 1.0), ("vgg16", 16 / 5)])
def test_tolerance_grows_with_depth_and_in_short_formats_alone(name: str, factor: float) -> None:
    job = test_graph_training.small_job().model_copy(update={"workload": name})
    assert workloads.tuned_tolerance(job) == workloads.TUNED_TOLERANCE["fp32"]
    for precision in ("tf32", "bf16"):
        short = job.model_copy(update={"precision": precision})
        assert workloads.tuned_tolerance(short) == pytest.approx(factor * workloads.TUNED_TOLERANCE[precision])


@pytest.mark.slow("whole trainings")
def test_vgg16_in_bf16_is_off_by_more_than_a_shallow_network_may_be() -> None:
    """The reference's own gradients of two images against float64."""
    own = workloads.get("vgg16")
    networks = [own.build(own.default_init or "", 5).eval() for _ in range(2)]
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([3, 7])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cross_entropy(networks[0](images), labels).backward()
    cross_entropy(networks[1].double()(images.double()), labels).backward()
    worst = max(
        float((mine.grad.double() - true.grad).norm() / true.grad.norm())
        for mine, true in zip(networks[0].parameters(), networks[1].parameters(), strict=True)
    )
    job = test_graph_training.small_job().model_copy(update={"precision": "bf16"})
    assert workloads.TUNED_TOLERANCE["bf16"] < worst < workloads.tuned_tolerance(job)

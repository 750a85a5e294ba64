"""RMSProp as TensorFlow 1 computed it, against a NumPy oracle; and the reset that makes warm-up traceless."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cnnbench.engine.optim import DECAY, EPSILON, LEARNING_RATE, make_optimizer, reset_state
from cnnbench.errors import WorkloadError


def _gradients(steps: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=(steps, 7)) * np.logspace(-6, 1, 7)


def test_rmsprop_tf1_equals_a_numpy_oracle() -> None:
    """ms starts at 1, epsilon inside the root; float64, 50 steps."""
    weight = torch.nn.Parameter(torch.linspace(-1, 1, 7, dtype=torch.float64))
    optimizer = make_optimizer("rmsprop-tf1", [weight])
    oracle, mean_square = weight.detach().numpy().copy(), np.ones(7)
    for gradient in _gradients(50):
        weight.grad = torch.from_numpy(gradient)
        optimizer.step()
        mean_square = DECAY * mean_square + (1 - DECAY) * gradient**2
        oracle -= LEARNING_RATE * gradient / np.sqrt(mean_square + EPSILON)
    np.testing.assert_allclose(weight.detach().numpy(), oracle, rtol=1e-12)


def test_rmsprop_equals_torchs_definition() -> None:
    """v starts at 0, epsilon outside the root: the two optimisers are not the same and the names keep them apart."""
    weight = torch.nn.Parameter(torch.zeros(7, dtype=torch.float64))
    optimizer = make_optimizer("rmsprop", [weight])
    oracle, square = np.zeros(7), np.zeros(7)
    for gradient in _gradients(50):
        weight.grad = torch.from_numpy(gradient)
        optimizer.step()
        square = DECAY * square + (1 - DECAY) * gradient**2
        oracle -= LEARNING_RATE * gradient / (np.sqrt(square) + EPSILON)
    np.testing.assert_allclose(weight.detach().numpy(), oracle, rtol=1e-12)


@pytest.mark.parametrize("name", ["rmsprop", "rmsprop-tf1"])
def test_a_reset_optimizer_repeats_its_first_steps(name: str) -> None:
    """Same gradients after a reset, same updates as a new optimiser."""
    weight = torch.nn.Parameter(torch.zeros(7, dtype=torch.float64))
    optimizer = make_optimizer(name, [weight])
    paths = []
    for _ in range(2):
        with torch.no_grad():
            weight.zero_()
        for gradient in _gradients(5):
            weight.grad = torch.from_numpy(gradient)
            optimizer.step()
        paths.append(weight.detach().clone())
        reset_state(optimizer)
    assert torch.equal(*paths)


def test_an_unknown_optimizer_names_the_choices() -> None:
    with pytest.raises(WorkloadError, match="rmsprop, rmsprop-tf1"):
        make_optimizer("adamw", [torch.nn.Parameter(torch.zeros(1))])

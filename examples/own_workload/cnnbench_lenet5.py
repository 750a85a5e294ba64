"""LeNet-5 as a workload of cnnbench: a network that its layers cannot say, so it is given as torch modules.

Source: LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document Recognition" (1998), figure 2, in
the form that is common today: full connections between the maps, mean pooling without weights, plain dense layers at the
end. Its second convolution has no padding, and its activation is tanh: neither is among `cnnbench.workloads.flops`.

| layer | output | parameters | FLOPs forward |
| conv 6 of 5x5, padded by 2 | 6x28x28 | 156 | 235,200 |
| mean pool 2x2 | 6x14x14 | | |
| conv 16 of 5x5 | 16x10x10 | 2,416 | 480,000 |
| mean pool 2x2 | 16x5x5 | | |
| dense 120 | 120 | 48,120 | 96,000 |
| dense 84 | 84 | 10,164 | 20,160 |
| dense 10 | 10 | 850 | 1,680 |
| total | | 61,706 | 833,040 |

Training is three forwards less the first convolution's gradient of its input: 3 x 833,040 - 235,200 = 2,263,920 FLOPs.
Activations: 784 + 4,704 + 1,176 + 1,600 + 400 + 120 + 84 + 10 = 8,878 values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnbench.workloads import DEFAULT_INIT, Counts, Workload

if TYPE_CHECKING:
    import torch


def make() -> torch.nn.Module:
    """Make the network; torch is imported here, so that `cnnbench list` need not load it."""
    from torch import nn

    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2)),
        nn.Flatten(),
        *(nn.Linear(400, 120), nn.Tanh()),
        *(nn.Linear(120, 84), nn.Tanh()),
        nn.Linear(84, 10),
    )


WORKLOAD = Workload(
    name="lenet-5",
    version=1,  # raise it whenever the mathematics changes: results of two versions share no row
    title="LeNet-5 on 28x28 digits: conv 6-16, dense 120-84-10",
    kind="training",
    input_shape=(1, 28, 28),
    classes=10,
    optimizers=("rmsprop", "adam", "momentum", "sgd"),  # the first is the default
    inits=(DEFAULT_INIT, "xavier"),
    network=make,
    declared=Counts(parameters=61_706, forward=833_040, training=2_263_920, activations=8_878),
)

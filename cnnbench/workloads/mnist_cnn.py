"""The lecture's CNN: three 3x3 convolutions (32, 64, 128), each with ReLU, 2x2 pooling and dropout, then a dense layer.

No biases. `mnist-cnn` is the architecture slide's, 2048-625-10: 1,378,698 weights, 17,474,772 FLOPs forward and
51,972,732 training per image. `mnist-cnn-2048` is the memory slide's, 2048-2048-10: 4,307,232 weights (the slide prints
4,216,800), 23,331,840 and 69,543,936 FLOPs. Source: "Machine Learning to Deep Learning_3" (2017) and its published
code, RMSProp 0.001, decay 0.9, epsilon 1e-10.
"""

from __future__ import annotations

from dataclasses import replace

from cnnbench.workloads.base import NORMAL, NORMAL_TENTH, TRUNCATED, XAVIER, Band, Workload
from cnnbench.workloads.flops import Conv2d, Dense, Dropout, Flatten, Layer, MaxPool2d, Relu

KEEP_POOL = 0.8


def _layers(hidden: int) -> tuple[Layer, ...]:
    return (
        *(Conv2d(32), Relu(), MaxPool2d(), Dropout(KEEP_POOL)),
        *(Conv2d(64), Relu(), MaxPool2d(), Dropout(KEEP_POOL)),
        *(Conv2d(128), Relu(), MaxPool2d(), Flatten(), Dropout(KEEP_POOL)),
        *(Dense(hidden), Relu(), Dropout(0.5)),
        Dense(10),
    )


WORKLOAD = Workload(
    name="mnist-cnn",
    version=1,
    title="the lecture's CNN on 28x28 digits: conv 32-64-128, dense 625-10",
    kind="training",
    layers=_layers(625),
    input_shape=(1, 28, 28),
    classes=10,
    optimizers=("rmsprop", "rmsprop-tf1", "sgd", "momentum", "adam"),
    inits=(TRUNCATED, NORMAL, NORMAL_TENTH, XAVIER),
    # A judgement around one measured point: the lecture's whole job, 42,900 steps, n=1, ended at 99.31 % of all 10,000
    # (results/, suite lecture).
    bands=(
        Band(2_145, 128, 0.9887, 0.9947, order="shuffled"),
        Band(42_900, 128, 0.985, 0.997, at_least=True),
    ),
)
WORKLOAD_2048 = replace(
    WORKLOAD,
    name="mnist-cnn-2048",
    title="the memory slide's CNN: conv 32-64-128, dense 2048-10",
    layers=_layers(2048),
    bands=(Band(2_145, 128, 0.988, 0.9945, order="shuffled"),),
)

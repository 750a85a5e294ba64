"""The lecture's networks without convolutions: softmax regression, one hidden layer of 256, and five layers.

Source: "Machine Learning to Deep Learning_3" (2017) and the lecturer's published notebook: batch 100, plain SGD 0.01 for
softmax, Adam 0.01 for one hidden layer, Adam 0.001 with Xavier and dropout (keep 0.7) for five layers. All have biases.

| | parameters | FLOPs forward | training |
| softmax | 7,850 | 15,680 | 31,360 |
| mlp-1 | 203,530 | 406,528 | 818,176 |
| mlp-5 | 400,906 | 799,744 | 1,997,824 |
"""

from __future__ import annotations

from cnnbench.workloads.base import NORMAL, NORMAL_TENTH, NORMAL_UNIT, TRUNCATED, XAVIER, Band, Pretraining, Workload
from cnnbench.workloads.flops import Dense, Dropout, Flatten, Layer, Relu

HIDDEN = 256
KEEP = 0.7
_SHAPE = (1, 28, 28)
_INITS = (NORMAL_TENTH, XAVIER, NORMAL, NORMAL_UNIT, TRUNCATED)
_ADAM = ("adam", "sgd", "momentum", "rmsprop", "rmsprop-tf1")


def _mlp(hidden: int, keep: float | None = None) -> tuple[Layer, ...]:
    dropout = () if keep is None else (Dropout(keep),)
    layer = (Dense(HIDDEN, bias=True), Relu(), *dropout)
    return (Flatten(), *(each for _ in range(hidden) for each in layer), Dense(10, bias=True))


SOFTMAX = Workload(
    name="softmax",
    version=1,
    title="softmax regression on 28x28 digits: dense 784-10",
    kind="training",
    layers=(Flatten(), Dense(10, bias=True)),
    input_shape=_SHAPE,
    classes=10,
    optimizers=("sgd", "momentum", "rmsprop", "rmsprop-tf1", "adam"),
    inits=_INITS,
    learning_rates={"sgd": 0.01},
    bands=(Band(8_250, 100, 0.9005, 0.9094, order="shuffled"),),
)
MLP_1 = Workload(
    name="mlp-1",
    version=1,
    title="one hidden layer: dense 784-256-10",
    kind="training",
    layers=_mlp(1),
    input_shape=_SHAPE,
    classes=10,
    optimizers=_ADAM,
    inits=_INITS,
    bands=(Band(8_250, 100, 0.9751, 0.9833, order="shuffled"),),
)
MLP_5 = Workload(
    name="mlp-5",
    version=1,
    title="five layers: dense 784-256-256-256-256-10",
    kind="training",
    layers=_mlp(4),
    input_shape=_SHAPE,
    classes=10,
    optimizers=_ADAM,
    inits=_INITS,
    bands=(Band(8_250, 100, 0.9692, 0.9877, order="shuffled"),),
)
MLP_5_XAVIER_DROPOUT = Workload(
    name="mlp-5-xavier-dropout",
    version=1,
    title="five layers with Xavier's initialisation and dropout (keep 0.7)",
    kind="training",
    layers=_mlp(4, KEEP),
    input_shape=_SHAPE,
    classes=10,
    optimizers=_ADAM,
    inits=(XAVIER, *(init for init in _INITS if init != XAVIER)),
    bands=(Band(8_250, 100, 0.974, 0.9882, order="shuffled"),),
)
MLP_5_PRETRAINED = Workload(
    name="mlp-5-pretrained",
    version=1,
    title="five layers, each hidden one first trained as an autoencoder, then all fine-tuned",
    kind="training",
    layers=_mlp(4),
    input_shape=_SHAPE,
    classes=10,
    optimizers=_ADAM,
    inits=(XAVIER, *(init for init in _INITS if init != XAVIER)),
    pretraining=Pretraining(epochs=2),
    bands=(Band(8_250, 100, 0.9673, 0.9881, order="shuffled"),),
)
WORKLOADS = (SOFTMAX, MLP_1, MLP_5, MLP_5_XAVIER_DROPOUT, MLP_5_PRETRAINED)

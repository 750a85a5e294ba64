"""The lecture's networks without convolutions: softmax regression, one hidden layer of 256, and five layers.

Source: "Machine Learning to Deep Learning_3" (2017) and the lecturer's published notebook: batch 100, plain SGD 0.01 for
softmax, Adam 0.01 for one hidden layer, Adam 0.001 with Xavier and dropout (keep 0.7) for five layers. All have biases.

| | parameters | FLOPs forward | training |
| softmax | 7,850 | 15,680 | 31,360 |
| mlp-1 | 203,530 | 406,528 | 818,176 |
| mlp-5 | 400,906 | 799,744 | 1,997,824 |
"""

from __future__ import annotations

from typing import Any

from cnnbench.workloads.base import NORMAL, NORMAL_TENTH, NORMAL_UNIT, TRUNCATED, XAVIER, Band, Pretraining, Workload
from cnnbench.workloads.flops import Dense, Dropout, Flatten, Layer, Relu

HIDDEN = 256
KEEP = 0.7
_INITS = (NORMAL_TENTH, XAVIER, NORMAL, NORMAL_UNIT, TRUNCATED)
_XAVIER_FIRST = (XAVIER, *(init for init in _INITS if init != XAVIER))
_ADAM = ("adam", "sgd", "momentum", "rmsprop", "rmsprop-tf1")


def _mlp(hidden: int, keep: float | None = None) -> tuple[Layer, ...]:
    dropout = () if keep is None else (Dropout(keep),)
    layer = (Dense(HIDDEN, bias=True), Relu(), *dropout)
    return (Flatten(), *(each for _ in range(hidden) for each in layer), Dense(10, bias=True))


def _digits(name: str, title: str, layers: tuple[Layer, ...], band: Band, **changed: Any) -> Workload:
    """A network for digits; what is not said here is the five-layer one's."""
    usual: dict[str, Any] = {"optimizers": _ADAM, "inits": _INITS}
    return Workload(name, 1, title, "training", layers, (1, 28, 28), 10, bands=(band,), **usual | changed)


def _shuffled(low: float, high: float) -> Band:
    """Of 15 epochs of 550 shuffled batches of 100."""
    return Band(8_250, 100, low, high, order="shuffled")


SOFTMAX = _digits(
    "softmax",
    "softmax regression on 28x28 digits: dense 784-10",
    _mlp(0),
    _shuffled(0.9005, 0.9094),
    optimizers=("sgd", "momentum", "rmsprop", "rmsprop-tf1", "adam"),
    learning_rates={"sgd": 0.01},
)
MLP_1 = _digits("mlp-1", "one hidden layer: dense 784-256-10", _mlp(1), _shuffled(0.9751, 0.9833))
MLP_5 = _digits("mlp-5", "five layers: dense 784-256-256-256-256-10", _mlp(4), _shuffled(0.9692, 0.9877))
MLP_5_XAVIER_DROPOUT = _digits(
    "mlp-5-xavier-dropout",
    "five layers with Xavier's initialisation and dropout (keep 0.7)",
    _mlp(4, KEEP),
    _shuffled(0.974, 0.9882),
    inits=_XAVIER_FIRST,
)
MLP_5_PRETRAINED = _digits(
    "mlp-5-pretrained",
    "five layers, each hidden one first trained as an autoencoder, then all fine-tuned",
    _mlp(4),
    _shuffled(0.9673, 0.9881),
    inits=_XAVIER_FIRST,
    pretraining=Pretraining(epochs=2),
)
WORKLOADS = (SOFTMAX, MLP_1, MLP_5, MLP_5_XAVIER_DROPOUT, MLP_5_PRETRAINED)

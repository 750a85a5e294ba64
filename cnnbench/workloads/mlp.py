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

_INITS = (NORMAL_TENTH, XAVIER, NORMAL, NORMAL_UNIT, TRUNCATED)
_XAVIER_FIRST = (XAVIER, NORMAL_TENTH, NORMAL, NORMAL_UNIT, TRUNCATED)


def _make_mlp(
    name: str, title: str, hidden: int, expected: tuple[float, float], dropout: tuple[Layer, ...] = (), **changed: Any
) -> Workload:
    """Make a network for digits with `hidden` hidden layers; `changed` replaces the five-layer network's fields."""
    layers = (Flatten(), *((Dense(256, bias=True), Relu(), *dropout) * hidden), Dense(10, bias=True))
    usual = {
        "optimizers": ("adam", "sgd", "momentum", "rmsprop", "rmsprop-tf1"),
        "inits": _INITS,
        "bands": (Band(8_250, 100, *expected, order="shuffled"),),  # 15 epochs of 550 shuffled batches of 100
    }
    return Workload(name, 1, title, "training", layers, (1, 28, 28), 10, **usual | changed)


WORKLOADS = (
    _make_mlp(
        "softmax",
        "softmax regression on 28x28 digits: dense 784-10",
        0,
        (0.9005, 0.9094),
        optimizers=("sgd", "momentum", "rmsprop", "rmsprop-tf1", "adam"),
        learning_rates={"sgd": 0.01},
    ),
    _make_mlp("mlp-1", "one hidden layer: dense 784-256-10", 1, (0.9751, 0.9833)),
    _make_mlp("mlp-5", "five layers: dense 784-256-256-256-256-10", 4, (0.9692, 0.9877)),
    _make_mlp(
        "mlp-5-xavier-dropout",
        "five layers with Xavier's initialisation and dropout (keep 0.7)",
        4,
        (0.974, 0.9882),
        dropout=(Dropout(0.7),),
        inits=_XAVIER_FIRST,
    ),
    _make_mlp(
        "mlp-5-pretrained",
        "five layers, each hidden one first trained as an autoencoder, then all fine-tuned",
        4,
        (0.9673, 0.9881),
        inits=_XAVIER_FIRST,
        pretraining=Pretraining(epochs=2),
    ),
)

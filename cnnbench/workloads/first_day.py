"""The lecture's first day: linear regression, logistic regression, and a perceptron with one hidden layer.

All three are trained by gradient descent; on all training points at once (a batch as large as the split) it is the
lecture's, on smaller batches it is stochastic. Their points are drawn from a seed, see `data.points`.

| | parameters | FLOPs forward | training |
| linear-regression: dense 1-1 | 2 | 2 | 4 |
| logistic-regression: dense 2-1 | 3 | 4 | 8 |
| perceptron: dense 2-8-1 | 33 | 48 | 112 |
"""

from __future__ import annotations

from typing import Any

from cnnbench.workloads.base import NORMAL, NORMAL_TENTH, NORMAL_UNIT, XAVIER, Band, Workload
from cnnbench.workloads.flops import Dense, Sigmoid

WHOLE_SPLIT = 55_000
_SMALL = (NORMAL, NORMAL_TENTH, NORMAL_UNIT, XAVIER)
_LARGE = (XAVIER, NORMAL_UNIT)  # hidden neurons that begin equal stay equal under gradient descent


def _make_workload(name: str, title: str, rate: float, band: Band, **fields: Any) -> Workload:
    usual = {"kind": "training", "optimizers": ("sgd",), "inits": _SMALL, "learning_rates": {"sgd": rate}}
    return Workload(name=name, version=1, title=title, bands=(band,), **usual | fields)


def _make_band(steps: int, low: float, high: float) -> Band:
    return Band(steps, WHOLE_SPLIT, low, high, at_least=True)


WORKLOADS = (
    _make_workload(
        "linear-regression",
        "a line through noisy points by gradient descent: dense 1-1, mean squared error",
        0.3,
        _make_band(100, 0.945, 0.954),  # R^2 of the true line: 1 - 0.2^2 / (1.5^2 / 3 + 0.2^2) = 0.9494
        layers=(Dense(1, bias=True),),
        input_shape=(1,),
        dataset="line",
        loss="squared-error",
    ),
    _make_workload(
        "logistic-regression",
        "two classes of points by one neuron: dense 2-1, sigmoid, cross-entropy",
        1.0,
        _make_band(100, 0.953, 0.969),  # no rule is right more often than Phi(sqrt(2) / 0.8) = 0.9615
        layers=(Dense(1, bias=True),),
        input_shape=(2,),
        classes=2,
        dataset="two-classes",
        loss="binary-cross-entropy",
    ),
    _make_workload(
        "perceptron",
        "XOR by a hidden layer and backpropagation: dense 2-8-1, sigmoid, cross-entropy",
        3.0,
        _make_band(1_500, 0.983, 0.992),  # no rule is right more often than 1 - 2 p (1 - p), p = Phi(-1 / 0.4): 0.9877
        layers=(Dense(8, bias=True), Sigmoid(), Dense(1, bias=True)),
        input_shape=(2,),
        classes=2,
        inits=_LARGE,
        dataset="xor",
        loss="binary-cross-entropy",
    ),
)

"""Figures of the lecture's networks as its slides print them, with the reason for each mistake. No figure here is ours.

Source: "Machine Learning to Deep Learning_3" (2017): the memory slide ("Break down the CNN in more detail"), the slide of
accuracies before it, and the concluding slide after it. What is right is computed from the layers, see `explanation`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cnnbench.errors import WorkloadError


@dataclass(frozen=True)
class PrintedFigure:
    """A figure as a slide prints it, and the reason if it is wrong."""

    text: str
    value: int
    """What the text says; `25k` says 25,000."""
    reason: str = ""
    """Empty for a right figure; one shortened to whole thousands counts as right."""


@dataclass(frozen=True)
class PrintedLayer:
    """A slide's row: a layer's activations and parameters, in values."""

    label: str
    activations: PrintedFigure
    parameters: PrintedFigure


@dataclass(frozen=True)
class Slide:
    """A slide's figures of one workload's memory. Its rows are the input and each layer that writes activations."""

    workload: str
    title: str
    counted: Literal["weights", "parameters"]
    """What the slide calls the trainable values."""
    rows: tuple[PrintedLayer, ...]
    activation_bytes: PrintedFigure | None
    """The total; None where the slide leaves it blank."""
    parameters: PrintedFigure
    """The total, in values."""
    also: str | None = None
    """The workload that another slide draws in its place."""


def _exact(value: int, reason: str = "") -> PrintedFigure:
    return PrintedFigure(f"{value:,}", value, reason)


def _thousands(value: int) -> PrintedFigure:
    return PrintedFigure(f"{value}k", 1000 * value)


_NONE = _exact(0)
CNN = Slide(
    workload="mnist-cnn-2048",
    title="the memory slide, the CNN in more detail",
    counted="weights",
    rows=(
        PrintedLayer("input", _exact(784), _NONE),
        PrintedLayer("conv-32", _thousands(25), _exact(288)),
        PrintedLayer("pool", _thousands(6), _NONE),
        PrintedLayer(
            "conv-64",
            _thousands(12),
            _exact(576, "3*3*1*64 forgets the 32 input channels, through all of which a filter reaches: 3*3*32*64"),
        ),
        PrintedLayer("pool", _thousands(3), _NONE),
        PrintedLayer(
            "conv-128",
            _thousands(6),
            _exact(1152, "3*3*1*128 forgets the 64 input channels, through all of which a filter reaches: 3*3*64*128"),
        ),
        PrintedLayer("pool", _thousands(2), _NONE),
        PrintedLayer("FC", _thousands(2), _exact(4_194_304)),
        PrintedLayer("FC", _exact(10), _exact(20_480)),
    ),
    activation_bytes=None,
    parameters=_exact(4_216_800, "the sum of what is printed above, so it lacks what the two convolutions forget"),
    also="mnist-cnn",
)
MLP = Slide(
    workload="mlp-1",
    title="the concluding slide, memory of the MLP",
    counted="parameters",
    rows=(
        PrintedLayer("input", _exact(784), _NONE),
        PrintedLayer(
            "hidden layer",
            PrintedFigure(
                "784*256",
                784 * 256,
                "784*256 is the number of weights between input and hidden layer; its activations are its 256 outputs",
            ),
            PrintedFigure("[256,28x28+1]", 256 * 785),
        ),
        PrintedLayer("output", _exact(10), PrintedFigure("[10,256+1]", 10 * 257)),
    ),
    activation_bytes=_exact(
        805_992,
        "(784 + (784*256) + 10) * 4 bytes counts weights as activations; and the slide shortens it to 804k, which would be "
        "806k",
    ),
    parameters=_exact(203_530),
)
FIRST_DAY = {
    "linear-regression": "Linear Regression: Gradient Descent Algorithm (optimization)",
    "logistic-regression": "Logistic Regression (Single Neuron=Perceptron): Sigmoid (Logistic function), Convexity, Cross "
    "Entropy, Decision Boundary",
    "perceptron": "Multiple Perceptron (Hidden Layer): Backpropagation algorithm",
}
"""The line of the lecture's contents, first day, that each workload is made after; no slide prints figures of them."""
SLIDES = {slide.workload: slide for slide in (MLP, CNN)}

ACCURACIES = {
    "mlp-1": "~92 %",
    "mlp-5": "~97 %",
    "mlp-5-xavier-dropout": "~99 %",
    "mnist-cnn": "100 %",
    "mnist-cnn-2048": "100 %",
}
"""Test accuracy as printed. ~99 % is printed beside "Pre-training and Dropout", which in the lecturer's code is
Xavier's initialisation and dropout."""
CONCLUSION = "accuracy +8 %, memory x5 and enormous computation"
"""The concluding slide on the CNN against the MLP, translated."""
CONCLUSION_WORKLOADS = ("mlp-1", "mnist-cnn-2048")
"""The two workloads it compares: the slide gives the first's memory and the second's parameters."""


@dataclass(frozen=True)
class PrintedStatement:
    """A statement of a slide about a workload that is wrong in words, and the right one with its source."""

    title: str
    text: str
    right: str
    source: str


STATEMENTS = {
    "vgg16": PrintedStatement(
        "the slide of VGGNet 16",
        "ImageNet 2013 winner",
        "ILSVRC 2014: second in classification, first in localisation",
        "Simonyan and Zisserman (2015), abstract; the winner of classification in 2014 was GoogLeNet",
    )
}
"""Wrong statements by workload."""


def slide_of(workload: str) -> Slide:
    """Look up the slide that breaks the workload down. Raises WorkloadError naming those that have one."""
    if workload not in SLIDES:
        raise WorkloadError(
            f"no slide of the lecture breaks {workload} down; there are slides of {', '.join([*SLIDES, *STATEMENTS])}"
        )
    return SLIDES[workload]

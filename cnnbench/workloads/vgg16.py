"""VGG-16 at ImageNet's shape, on random images made on the device: the compute-bound end of the scale.

Thirteen 3x3 convolutions with biases in five blocks, each block ended by 2x2 max pooling, then dense 4096-4096-1000 with
dropout. 138,357,544 parameters; 30,940,528,640 FLOPs forward and 92,648,177,664 training per image of 3x224x224.
Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition" (2015),
configuration D, trained there with momentum 0.9 and learning rate 0.01.
"""

from __future__ import annotations

from cnnbench.workloads.base import NORMAL, XAVIER, Workload
from cnnbench.workloads.flops import Conv2d, Dense, Dropout, Flatten, MaxPool2d, Relu

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""(channels, convolutions) of each block."""

WORKLOAD = Workload(
    name="vgg16",
    version=1,
    title="VGG-16 on random images of 3x224x224, 1000 classes",
    kind="training",
    layers=(
        *(
            layer
            for channels, count in BLOCKS
            for layer in (*(Conv2d(channels, bias=True), Relu()) * count, MaxPool2d())
        ),
        Flatten(),
        *((Dense(4096, bias=True), Relu(), Dropout(0.5)) * 2),
        Dense(1000, bias=True),
    ),
    input_shape=(3, 224, 224),
    classes=1000,
    optimizers=("momentum", "sgd", "rmsprop", "adam"),
    inits=(XAVIER, NORMAL),
    dataset="random",
)

"""A workload in one file: one convolution and one dense layer. The layers make the network and its counts."""

from cnnbench.workloads import Workload
from cnnbench.workloads.flops import Conv2d, Dense, Flatten, MaxPool2d, Relu

WORKLOAD = Workload(
    name="my-net",
    version=1,  # of a file the version is made of its bytes, whatever stands here
    title="one convolution of 8 maps, one dense layer",
    kind="training",
    layers=(Conv2d(8, side=5, bias=True), Relu(), MaxPool2d(), Flatten(), Dense(10, bias=True)),
    input_shape=(1, 28, 28),
    classes=10,
    optimizers=("rmsprop",),
    inits=("xavier",),
)

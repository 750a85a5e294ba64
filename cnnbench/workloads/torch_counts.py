"""Counts of a network by torch itself: what a workload made of torch modules declares is held against these.

Parameters are `sum(p.numel())`, FLOPs those of `torch.utils.flop_counter.FlopCounterMode` over a forward and a backward pass
of two images. The network is made on the meta device, where shapes are computed and no values, so it costs next to nothing;
one that cannot be made there is made on the CPU. Left out, as in the closed forms: everything but convolutions and matrix
products.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any

from cnnbench.errors import WorkloadError, summarize_error
from cnnbench.workloads.flops import Counts, Shape

if TYPE_CHECKING:
    import torch

IMAGES = 2
"""Batch normalisation refuses to train on one."""


def count_network(make: Callable[[], torch.nn.Module], input_shape: Shape, classes: int) -> Counts:
    """What to declare for a network of torch modules, an image.

    Activations are the image and the outputs of modules that have parameters of their own or are pools; what functions
    (`torch.nn.functional`) pool is not seen. Raises WorkloadError where it cannot be made or run, or gives another shape
    than `(batch, classes)`.
    """
    return _count_where_possible(lambda device: make(), input_shape, classes)


def count_copied_network(network: torch.nn.Module, input_shape: Shape, classes: int) -> Counts:
    """The same of a network that is there, which stays as it is. Raises WorkloadError as above."""
    return _count_where_possible(lambda device: _copy(network, device), input_shape, classes)


def _copy(network: torch.nn.Module, device: str) -> torch.nn.Module:
    import torch

    moved: dict[int, Any] = {id(each): each.detach().to(device) for each in network.buffers()}
    for each in network.parameters():
        moved[id(each)] = torch.nn.Parameter(each.detach().to(device), requires_grad=each.requires_grad)
    return copy.deepcopy(network, moved)


def _count_where_possible(make: Callable[[str], torch.nn.Module], input_shape: Shape, classes: int) -> Counts:
    failure: Exception | None = None
    for device in ("meta", "cpu"):  # something in it may have no meta kernel, or want values
        try:
            return _count(make, input_shape, classes, device)
        except WorkloadError:
            raise
        except Exception as error:  # noqa: BLE001  whatever its code does
            failure = error
    assert failure is not None
    raise WorkloadError(f"the network cannot be made or run: {summarize_error(failure)}") from failure


def _count(make: Callable[[str], torch.nn.Module], input_shape: Shape, classes: int, device: str) -> Counts:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device(device):
        network = make(device)
        images = torch.zeros(IMAGES, *input_shape)
    if not isinstance(network, torch.nn.Module):
        raise WorkloadError(f"network made {type(network).__name__}, not a torch.nn.Module")
    network.train()
    kept, convolutions = _watch_activations(network)
    forward, both = (FlopCounterMode(display=False) for _ in range(2))
    with torch.no_grad(), forward:
        output = network(images)
    if not isinstance(output, torch.Tensor) or output.shape != (IMAGES, classes):
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise WorkloadError(
            f"{IMAGES} images of {input_shape} give {shape}, not ({IMAGES}, {classes}): logits, a row an image"
        )
    activations = sum(kept)
    with both:
        network(images).sum().backward()
    return Counts(
        parameters=sum(each.numel() for each in network.parameters()),
        forward=forward.get_total_flops() // IMAGES,
        training=both.get_total_flops() // IMAGES,
        activations=prod(input_shape) + activations // IMAGES,
        convolves=convolutions,
    )


def _watch_activations(network: torch.nn.Module) -> tuple[list[int], bool]:
    """A list that grows by the values that each weighted or pooling module puts out, and whether any module convolves."""
    kept: list[int] = []

    def note(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        kept.append(int(output.numel()))

    convolves = False
    for module in network.modules():
        name = type(module).__name__
        convolves |= "Conv" in name
        if next(module.parameters(recurse=False), None) is not None or "Pool" in name:
            module.register_forward_hook(note)
    return kept, convolves

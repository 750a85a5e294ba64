"""A network's counts by torch itself: the declaration of a workload made of torch modules is checked against these.

Parameters are `sum(p.numel())`, FLOPs those of `torch.utils.flop_counter.FlopCounterMode` over a forward and a backward
pass of two images. The network is made on the meta device, which computes shapes without values, so it costs next to
nothing; one that cannot be made there is made on the CPU. Left out, as in the closed forms: everything but convolutions
and matrix products.
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

    NetworkSource = torch.nn.Module | Callable[[], torch.nn.Module]

IMAGES = 2
"""Batch normalisation refuses to train on one."""


def count_network(network: NetworkSource, input_shape: Shape, outputs: int, device: str = "meta") -> Counts:
    """Count what a network of torch modules has to declare per image; the network is made here or left as it is.

    Activations are the image and the outputs of modules that have parameters or are pools; pooling by functions
    (`torch.nn.functional`) is not seen. Raises WorkloadError for a network that cannot be made or run, or gives another
    shape than `(batch, outputs)`.
    """
    try:
        return _count(network, input_shape, outputs, device)
    except WorkloadError:
        raise
    except Exception as error:
        if device == "meta":  # something in it may have no meta kernel, or want values
            return count_network(network, input_shape, outputs, "cpu")
        raise WorkloadError(f"the network cannot be made or run: {summarize_error(error)}") from error


def _count(source: NetworkSource, input_shape: Shape, outputs: int, device: str) -> Counts:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device(device):
        network = _copy(source, device) if isinstance(source, torch.nn.Module) else source()
        images = torch.zeros(IMAGES, *input_shape)
    if not isinstance(network, torch.nn.Module):
        raise WorkloadError(f"network made {type(network).__name__}, not a torch.nn.Module")
    network.train()
    kept = _watch_activations(network)
    forward, both = (FlopCounterMode(display=False) for _ in range(2))
    with torch.no_grad(), forward:
        output = network(images)
    activations = sum(kept)
    shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    if shape != (IMAGES, outputs):
        raise WorkloadError(
            f"{IMAGES} images of {input_shape} give {shape}, not ({IMAGES}, {outputs}): logits, one row per image"
        )
    with both:
        network(images).sum().backward()
    return Counts(
        parameters=sum(each.numel() for each in network.parameters()),
        forward=forward.get_total_flops() // IMAGES,
        training=both.get_total_flops() // IMAGES,
        activations=prod(input_shape) + activations // IMAGES,
        convolves=any("Conv" in type(module).__name__ for module in network.modules()),
    )


def _copy(network: torch.nn.Module, device: str) -> torch.nn.Module:
    import torch

    moved = {id(each): each.detach().to(device) for each in network.buffers()}
    for each in network.parameters():
        moved[id(each)] = torch.nn.Parameter(each.detach().to(device), requires_grad=each.requires_grad)
    return copy.deepcopy(network, moved)


def _watch_activations(network: torch.nn.Module) -> list[int]:
    """Add hooks to weighted and pooling modules; the returned list grows by the number of values each puts out."""
    kept: list[int] = []

    def note(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        kept.append(int(output.numel()))

    for module in network.modules():
        if [*module.parameters(recurse=False)] or "Pool" in type(module).__name__:
            module.register_forward_hook(note)
    return kept
